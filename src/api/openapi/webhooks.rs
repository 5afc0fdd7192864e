//! The events that the relay posts to callbacks, by type.

use relay_domain::{NoticeKind, Status};
use serde_json::{Value, json};
use utoipa::openapi::{
    PathItem, Paths, Ref, RefOr, Required, Response, Responses, ResponsesBuilder,
    content::ContentBuilder,
    extensions::Extensions,
    header::HeaderBuilder,
    path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::{RequestBody, RequestBodyBuilder},
    response::ResponseBuilder,
    schema::{ObjectBuilder, Type},
};

use crate::{api::examples, callback_test::TEST_EVENT};

const TAG: &str = "events";

/// The description that all events share.
const COMMON: &str = "Posted to the callback of each watch or subscription that asked for such events, and signed \
    after the Standard Webhooks specification over `webhook-id`, `webhook-timestamp` and the exact body; any of its \
    libraries verifies it. Delivery is at least once: a duplicate has the same `webhook-id`. `sequence` counts the \
    events of a watch, or the notices of a subscription.";

/// The headers of a callback: name, whether it is always present, description, and an example.
const HEADERS: [(&str, bool, &str, &str); 4] = [
    (
        "webhook-id",
        true,
        "The event, the same on every attempt; take it once",
        examples::EVENT_ID,
    ),
    (
        "webhook-timestamp",
        true,
        "When this attempt was signed, in Unix seconds; refuse what is older than five minutes",
        "1795425268",
    ),
    (
        "webhook-signature",
        true,
        "`v1,` and the HMAC-SHA256 in base64; two of them, with a space between, for 24 hours after a secret \
         was rotated",
        examples::WEBHOOK_SIGNATURE,
    ),
    (
        "traceparent",
        false,
        "The W3C trace that the watch was registered in; not there if it was in none",
        examples::TRACEPARENT,
    ),
];

/// How the relay treats each response of a callback.
const ANSWERS: [(&str, &str); 6] = [
    ("2XX", "It is accepted. What the body says does not matter."),
    (
        "3XX",
        "It is not followed, and taken for a failure: tried again by the schedule.",
    ),
    (
        "410",
        "The callback is gone for good: the watch is cancelled or the subscription ends, and nothing more is posted \
         for it.",
    ),
    (
        "429",
        "Not now: it is tried again after `Retry-After`, never earlier and after 24 hours at the latest; without \
         one by the schedule.",
    ),
    ("503", "The same as 429."),
    (
        "default",
        "Anything else, and no answer in time, is a failure: tried again by the schedule until that is used up. \
         Then the event is dead; it is kept, and `POST /watch/{watchId}/redeliver` sends it once more. A newer \
         event of the same watch takes the place of one that was not accepted yet.",
    ),
];

const TEST_WORDS: Words = (
    "relayTest",
    "Somebody tests the callback",
    "Posted by `POST /callback-test`, by the command `test-callback` and by the console, and by nothing else. It means \
     no job and no person. It has no `sequence`.",
);

const TEST_COMMON: &str = "Signed as all events are. Posted once, and not again.";

/// How the relay treats each response to a test.
const TEST_ANSWERS: [(&str, &str); 3] = [
    ("2XX", "It is accepted, and whoever tests is told so."),
    (
        "4XX",
        "Whoever tests is told the status, and what to do about it. Nothing else follows, not even from 410.",
    ),
    ("default", "The same as 4XX."),
];

/// Returns all webhooks.
pub(super) fn webhooks() -> Paths {
    let mut webhooks = Paths::new();
    for (status, example) in examples::events() {
        let operation = operation(words(status), COMMON, ("EventBody", example), &ANSWERS);
        let item = PathItem::new(HttpMethod::Post, operation);
        webhooks.paths.insert(format!("job.{status}"), item);
    }
    for (kind, example) in examples::notices() {
        let operation = operation(notice_words(kind), COMMON, ("EventBody", example), &ANSWERS);
        let item = PathItem::new(HttpMethod::Post, operation);
        webhooks.paths.insert(kind.event_type(), item);
    }
    let body = ("TestEventBody", examples::test_event());
    let operation = operation(TEST_WORDS, TEST_COMMON, body, &TEST_ANSWERS);
    let item = PathItem::new(HttpMethod::Post, operation);
    webhooks.paths.insert(TEST_EVENT.to_owned(), item);
    webhooks
}

/// The id, the summary and the description of an operation.
type Words = (&'static str, &'static str, &'static str);

fn operation(
    (id, summary, description): Words,
    common: &str,
    (schema, example): (&str, Value),
    answers: &[(&str, &str)],
) -> Operation {
    OperationBuilder::new()
        .tag(TAG)
        .securities(Some([]))
        // the relay makes this call, so generators must leave it out of clients
        .extensions(Some(Extensions::builder().add("x-internal", true).build()))
        .operation_id(Some(id))
        .summary(Some(summary))
        .description(Some(format!("{description}\n\n{common}")))
        .parameters(Some(HEADERS.map(header)))
        .request_body(Some(body(schema, example)))
        .responses(responses(answers))
        .build()
}

fn notice_words(kind: NoticeKind) -> Words {
    match kind {
        NoticeKind::ConsentExpiring => (
            "noticeConsentExpiring",
            "A consent is about to end",
            "The person has to renew the consent. Basiq may warn several times.",
        ),
        NoticeKind::ConsentExpired => (
            "noticeConsentExpired",
            "A consent has ended",
            "The person has to give the consent again before data can be fetched.",
        ),
        NoticeKind::ConsentRevoked => (
            "noticeConsentRevoked",
            "A consent was withdrawn",
            "The person withdrew the consent. No more data can be fetched.",
        ),
        NoticeKind::ConnectionInvalid => (
            "noticeConnectionInvalid",
            "A connection stopped working",
            "The bank no longer accepts the connection. `action` is `resubmit-credentials`, or `reauthorise` for a \
             connection by open banking.",
        ),
        NoticeKind::ConnectionRemoved => (
            "noticeConnectionRemoved",
            "A connection was deleted",
            "The connection was deleted at Basiq.",
        ),
        NoticeKind::UserRemoved => (
            "noticeUserRemoved",
            "A user was deleted",
            "The user was deleted at Basiq, or Basiq does not know the user. The subscription ends with this event.",
        ),
    }
}

fn words(status: Status) -> Words {
    match status {
        Status::Success => (
            "jobSuccess",
            "A job has succeeded",
            "Every step succeeded, or every step up to the watch's `until`. The watch's last event.",
        ),
        Status::Failed => (
            "jobFailed",
            "A job has failed",
            "A step failed, and Basiq will not try again by itself; `action` says what to do. The watch's last \
             event, unless `action` is `wait-for-bank`: then another one comes when the bank is back.",
        ),
        Status::ActionRequired => (
            "jobActionRequired",
            "A job waits for the person",
            "The person has to answer `challenge` before it expires. It is tried again every few seconds until \
             then, and not after. More events follow.",
        ),
        Status::Delayed => (
            "jobDelayed",
            "A job takes longer",
            "It failed for now, and Basiq will try again by itself. More events follow.",
        ),
    }
}

fn header((name, is_required, description, example): (&str, bool, &str, &str)) -> Parameter {
    let required = if is_required {
        Required::True
    } else {
        Required::False
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .example(Some(json!(example)))
        .build()
}

fn body(schema: &str, example: Value) -> RequestBody {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .example(Some(example))
        .build();
    RequestBodyBuilder::new()
        .description(Some("What happened, and what to do about it"))
        .content("application/json", content)
        .required(Some(Required::True))
        .build()
}

fn responses(answers: &[(&str, &str)]) -> Responses {
    let mut responses = ResponsesBuilder::new();
    for (status, description) in answers {
        responses = responses.response(*status, RefOr::T(answer(status, description)));
    }
    responses.build()
}

fn answer(status: &str, description: &str) -> Response {
    let answer = ResponseBuilder::new().description(description);
    if !matches!(status, "429" | "503") {
        return answer.build();
    }
    let header = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some("Seconds, or an HTTP date"))
        .build();
    answer.header("retry-after", header).build()
}
