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
const COMMON: &str = "The relay posts this event to the callback of each watch or subscription that asked for it. It \
    signs `webhook-id`, `webhook-timestamp` and the exact body after the Standard Webhooks specification, whose \
    libraries can verify it. Delivery is at least once: a duplicate has the same `webhook-id`. `sequence` counts the \
    events of a watch, or the notices of a subscription.";

/// A header of a callback, as the description documents it.
#[derive(Clone, Copy)]
struct CallbackHeader {
    name: &'static str,
    is_always_present: bool,
    description: &'static str,
    example: &'static str,
}

/// The headers of a callback.
const HEADERS: [CallbackHeader; 4] = [
    CallbackHeader {
        name: "webhook-id",
        is_always_present: true,
        description: "The id of the event, the same on every attempt; process each id once",
        example: examples::EVENT_ID,
    },
    CallbackHeader {
        name: "webhook-timestamp",
        is_always_present: true,
        description: "When the relay signed this attempt, in Unix seconds; refuse webhooks older than five minutes",
        example: "1795425268",
    },
    CallbackHeader {
        name: "webhook-signature",
        is_always_present: true,
        description: "`v1,` and the HMAC-SHA256 in base64. For 24 hours after a rotation of the secret there are two, \
            separated by a space",
        example: examples::WEBHOOK_SIGNATURE,
    },
    CallbackHeader {
        name: "traceparent",
        is_always_present: false,
        description: "The W3C trace of the registration; absent if the registration had none",
        example: examples::TRACEPARENT,
    },
];

/// How the relay treats each response of a callback.
const ANSWERS: [(&str, &str); 6] = [
    (
        "2XX",
        "The callback accepted the event. The relay ignores the body.",
    ),
    (
        "3XX",
        "A failure, because the relay follows no redirects. It tries again by the schedule.",
    ),
    (
        "410",
        "The callback is gone for good. The relay cancels the watch or ends the subscription, and posts nothing more \
         for it.",
    ),
    (
        "429",
        "The relay tries again after `Retry-After`: never earlier, and after 24 hours at the latest. Without \
         `Retry-After` it tries again by the schedule.",
    ),
    ("503", "The same as 429."),
    (
        "default",
        "Any other answer, or no answer in time, is a failure. The relay tries again by the schedule until that is \
         used up. Then the event is dead. The relay keeps it, and `POST /watch/{watchId}/redeliver` sends it once \
         more. A newer event of the same watch replaces an event that was not accepted yet.",
    ),
];

const TEST_TEXTS: OperationTexts = OperationTexts {
    id: "relayTest",
    summary: "Somebody tests the callback",
    description: "Only `POST /callback-test`, the command `test-callback` and the console post this event. It is about \
        no job and no person. It has no `sequence`.",
};

const TEST_COMMON: &str = "The relay signs it as all events, and posts it once.";

/// How the relay treats each response to a test.
const TEST_ANSWERS: [(&str, &str); 3] = [
    (
        "2XX",
        "The callback accepted the event. The result of the test says so.",
    ),
    (
        "4XX",
        "The result of the test has the status, and says what to do about it. There is no other effect, not even \
         from 410.",
    ),
    ("default", "The same as 4XX."),
];

/// Returns all webhooks.
pub(super) fn webhooks() -> Paths {
    let mut webhooks = Paths::new();
    for (status, example) in examples::events() {
        let operation = operation(event_texts(status), COMMON, "EventBody", example, &ANSWERS);
        let item = PathItem::new(HttpMethod::Post, operation);
        webhooks.paths.insert(format!("job.{status}"), item);
    }
    for (kind, example) in examples::notices() {
        let operation = operation(notice_texts(kind), COMMON, "EventBody", example, &ANSWERS);
        let item = PathItem::new(HttpMethod::Post, operation);
        webhooks.paths.insert(kind.event_type(), item);
    }
    let example = examples::test_event();
    let operation = operation(
        TEST_TEXTS,
        TEST_COMMON,
        "TestEventBody",
        example,
        &TEST_ANSWERS,
    );
    let item = PathItem::new(HttpMethod::Post, operation);
    webhooks.paths.insert(TEST_EVENT.to_owned(), item);
    webhooks
}

/// The texts of an operation.
#[derive(Clone, Copy)]
struct OperationTexts {
    id: &'static str,
    summary: &'static str,
    description: &'static str,
}

fn operation(
    texts: OperationTexts,
    common: &str,
    schema: &str,
    example: Value,
    answers: &[(&str, &str)],
) -> Operation {
    OperationBuilder::new()
        .tag(TAG)
        .securities(Some([]))
        // the relay makes this call, so generators must leave it out of clients
        .extensions(Some(Extensions::builder().add("x-internal", true).build()))
        .operation_id(Some(texts.id))
        .summary(Some(texts.summary))
        .description(Some(format!("{}\n\n{common}", texts.description)))
        .parameters(Some(HEADERS.map(header)))
        .request_body(Some(body(schema, example)))
        .responses(responses(answers))
        .build()
}

fn notice_texts(kind: NoticeKind) -> OperationTexts {
    match kind {
        NoticeKind::ConsentExpiring => OperationTexts {
            id: "noticeConsentExpiring",
            summary: "A consent is about to end",
            description: "The person must renew the consent. Basiq may warn several times.",
        },
        NoticeKind::ConsentExpired => OperationTexts {
            id: "noticeConsentExpired",
            summary: "A consent has ended",
            description: "The person must give the consent again before Basiq can fetch data.",
        },
        NoticeKind::ConsentRevoked => OperationTexts {
            id: "noticeConsentRevoked",
            summary: "A consent was withdrawn",
            description: "The person withdrew the consent. Basiq can fetch no more data.",
        },
        NoticeKind::ConnectionInvalid => OperationTexts {
            id: "noticeConnectionInvalid",
            summary: "A connection stopped working",
            description: "The bank no longer accepts the connection. `action` is `resubmit-credentials`, or \
                `reauthorise` for a connection by open banking.",
        },
        NoticeKind::ConnectionRemoved => OperationTexts {
            id: "noticeConnectionRemoved",
            summary: "A connection was deleted",
            description: "The connection was deleted at Basiq.",
        },
        NoticeKind::UserRemoved => OperationTexts {
            id: "noticeUserRemoved",
            summary: "A user was deleted",
            description: "The user was deleted at Basiq, or Basiq does not know the user. The subscription ends with \
                this event.",
        },
    }
}

fn event_texts(status: Status) -> OperationTexts {
    match status {
        Status::Success => OperationTexts {
            id: "jobSuccess",
            summary: "A job has succeeded",
            description: "Every step succeeded, or every step up to the watch's `until`. This is the watch's last \
                event.",
        },
        Status::Failed => OperationTexts {
            id: "jobFailed",
            summary: "A job has failed",
            description: "A step failed, and Basiq will not try again by itself. `action` says what to do. This is the \
                watch's last event, unless `action` is `wait-for-bank`. Then another event follows when the bank is \
                back.",
        },
        Status::ActionRequired => OperationTexts {
            id: "jobActionRequired",
            summary: "A job waits for the person",
            description: "The person must answer `challenge` before it expires. Until then the relay tries to deliver \
                the event every few seconds, and not after. More events follow.",
        },
        Status::Delayed => OperationTexts {
            id: "jobDelayed",
            summary: "A job takes longer",
            description: "The job failed for now, and Basiq will try again by itself. More events follow.",
        },
    }
}

fn header(header: CallbackHeader) -> Parameter {
    let required = if header.is_always_present {
        Required::True
    } else {
        Required::False
    };
    ParameterBuilder::new()
        .name(header.name)
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some(header.description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .example(Some(json!(header.example)))
        .build()
}

fn body(schema: &str, example: Value) -> RequestBody {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .example(Some(example))
        .build();
    RequestBodyBuilder::new()
        .description(Some(
            "The result of the job or the content of the notice, and what to do next",
        ))
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
