//! `POST /basiq/webhook`: accepts Basiq's own webhooks. They are hints to look at jobs at once, some are notices, and
//! all may be passed on.

use std::time::Duration;

use axum::extract::State;
use basiq_client::{BasiqEventType, WebhookContents, WebhookReading, read_webhook};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use metrics::counter;
use relay_domain::{
    CallbackUrl, NoticeKind, SigningSecret, UserNotice,
    signing::{self, SignatureHeaders},
};
use relay_runtime::Reloadable;
use relay_store::{ForwardedMessage, Hint, HintOutcome, HintSubject, NewNotice, RemovedUser};
use serde::Serialize;
use tracing::{debug, info, warn};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiParts, ApiState, examples},
    web::{Problem, ProblemCode, RawBody},
};

const TAG: &str = "hints";

/// The maximum length of a message's id, in bytes. Basiq's ids are UUIDs or shorter.
const LONGEST_ID: usize = 256;

/// How long Basiq is asked how an invalid connection can be mended, before the webhook is taken without that.
const CONNECTION_TIME_LIMIT: Duration = Duration::from_secs(4);

/// The problems of this call in addition to those of every call.
pub(super) const HINT_PROBLEMS: &[ProblemCode] = &[
    ProblemCode::BadRequest,
    ProblemCode::Unauthorized,
    ProblemCode::NotFound,
    ProblemCode::BodyTooLarge,
    ProblemCode::StoreUnavailable,
];

/// Which hints are accepted, and how often they cause looks.
#[derive(Debug, Clone)]
pub struct HintRules {
    /// The secret that verifies hints. Without a secret, the relay accepts none.
    pub secret: Reloadable<Option<SigningSecret>>,
    /// The minimum time between two looks at one job that follow from hints.
    pub interval: Duration,
    /// Where the webhooks are passed on.
    pub forward: Option<CallbackUrl>,
}

/// A webhook of Basiq, as Basiq documents it. It contains no job id.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BasiqWebhook {
    /// The type of the event, such as `transactions.updated`.
    #[schema(required = false)]
    pub event_type_id: String,
    /// The id of the event.
    #[schema(required = false)]
    pub event_id: String,
    /// The links to further details.
    #[schema(required = false)]
    pub links: BasiqWebhookLinks,
}

/// The links of Basiq's webhook.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BasiqWebhookLinks {
    /// The link to the event at Basiq.
    #[schema(required = false)]
    pub event: String,
    /// The link to what the event is about. It contains the id of a connection or a user.
    #[schema(required = false)]
    pub event_entity: String,
}

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(receive_hint))
}

/// Receive a webhook of Basiq's
///
/// Subscribe to Basiq's webhooks with this address, and put the secret that Basiq returns into
/// `RELAY_BASIQ_WEBHOOK_SECRET`. Without the secret, the relay responds with 404.
///
/// The relay verifies each webhook by the Standard Webhooks specification and accepts it once. It then looks at the
/// watched jobs of that connection or user at once. If somebody subscribed to the user, it also lists the user's jobs.
/// Webhooks about consents, invalid connections and removals become notices of these subscriptions. With
/// `RELAY_BASIQ_WEBHOOK_FORWARD_URL` the relay passes each webhook on unchanged.
#[utoipa::path(
    post,
    path = "/basiq/webhook",
    operation_id = "receiveHint",
    tag = TAG,
    params(
        ("webhook-id" = String, Header, description = "The id of the message, the same each time Basiq sends it",
            example = json!("5c9a1f0e")),
        ("webhook-timestamp" = String, Header, description = "When Basiq signed the message, in Unix seconds",
            example = json!("1795425268")),
        ("webhook-signature" = String, Header, description = "`v1,` and the signature in base64; there may be several, separated by spaces",
            example = json!(examples::WEBHOOK_SIGNATURE)),
    ),
    request_body(content = BasiqWebhook, description = "The exact message that Basiq signed",
        example = json!(examples::basiq_webhook())),
    responses((status = 204, description = "The relay accepted the message, whether or not it concerns a watched job")),
)]
async fn receive_hint(
    State(state): State<ApiState>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<StatusCode, Problem> {
    let parts = &state.parts;
    let Some(secret) = parts.hints.secret.get() else {
        return Err(Problem::not_found(
            "Basiq's webhooks are not received here.",
        ));
    };
    let now = parts.clock.now();
    let signed = verify(&headers, &body, &secret, now).inspect_err(|_| count("refused"))?;
    let contents = match read_webhook(&body) {
        WebhookReading::Says(contents) => Some(contents),
        WebhookReading::SaysNothing(reason) => {
            let reason = reason.as_str();
            warn!(
                hint.id = signed.id,
                reason, "a webhook from Basiq cannot be used"
            );
            count("unreadable");
            None
        }
    };
    take(parts, signed, &body, contents, now).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Verifies that Basiq signed a message, and returns the headers of the signature.
fn verify(
    headers: &HeaderMap,
    body: &[u8],
    secret: &SigningSecret,
    now: Timestamp,
) -> Result<SignatureHeaders, Problem> {
    let unsigned = |error: signing::VerifyError| {
        debug!(%error, "a webhook is refused");
        Problem::new(
            ProblemCode::Unauthorized,
            "The message is not signed with the secret in RELAY_BASIQ_WEBHOOK_SECRET, or not now.",
        )
    };
    let signed = SignatureHeaders::read(headers).map_err(unsigned)?;
    signing::verify(&signed, body, secret, now).map_err(unsigned)?;
    if signed.id.is_empty() || signed.id.len() > LONGEST_ID {
        let detail = format!("`webhook-id` has 1 to {LONGEST_ID} characters.");
        return Err(Problem::new(ProblemCode::BadRequest, detail));
    }
    Ok(signed)
}

/// Stores what a webhook says, and wakes the workers that have something to do because of it.
async fn take(
    parts: &ApiParts,
    signed: SignatureHeaders,
    body: &[u8],
    contents: Option<WebhookContents>,
    now: Timestamp,
) -> Result<(), Problem> {
    let event = contents.as_ref().map(|contents| &contents.event_type);
    let event = event.map_or("", BasiqEventType::as_str).to_owned();
    let id = signed.id.clone();
    let forward = passed_on(parts, signed, body, &event);
    if contents.is_none() && forward.is_none() {
        return Ok(());
    }
    let (passes_on, is_read) = (forward.is_some(), contents.is_some());
    let notice = contents.as_ref().and_then(WebhookContents::notice);
    let kind = notice.as_ref().map(|notice| notice.kind);
    let hint = Hint {
        forward,
        ..hint(parts, &id, contents, notice, now).await?
    };
    let (jobs, notices, lists) = match parts.store.take_hint(hint).await? {
        HintOutcome::Taken {
            jobs,
            notices,
            lists,
        } => (jobs, notices, lists),
        HintOutcome::Erased => {
            info!(
                hint.id = id,
                "a webhook from Basiq is dropped: its person was erased just now"
            );
            count("nobody-watches");
            return Ok(());
        }
        HintOutcome::Again if is_read => {
            count("again");
            return Ok(());
        }
        HintOutcome::Again => return Ok(()),
    };
    info!(
        hint.id = id,
        hint.event = event,
        jobs,
        lists,
        notices,
        forwarded = passes_on,
        "a webhook from Basiq was taken"
    );
    if is_read {
        measure(jobs, lists, kind.map(|kind| (kind, notices)));
    }
    wake(parts, jobs > 0, lists, notices > 0 || passes_on);
    Ok(())
}

/// Returns the message to pass on, if Basiq's messages are passed on.
fn passed_on(
    parts: &ApiParts,
    signed: SignatureHeaders,
    body: &[u8],
    event: &str,
) -> Option<ForwardedMessage> {
    let callback_url = parts.hints.forward.clone()?;
    Some(ForwardedMessage {
        callback_url,
        headers: signed,
        body: body.to_vec(),
        event_type: event.to_owned(),
    })
}

/// Builds the hint that a webhook is: its subject, and its notices.
async fn hint(
    parts: &ApiParts,
    id: &str,
    contents: Option<WebhookContents>,
    notice: Option<UserNotice>,
    now: Timestamp,
) -> Result<Hint, Problem> {
    let subject = contents.as_ref().and_then(subject);
    let (notices, removed_user) = match notice {
        Some(notice) => notices_of(parts, notice).await?,
        None => (Vec::new(), None),
    };
    Ok(Hint {
        id: id.to_owned(),
        subject,
        at: now,
        interval: parts.hints.interval,
        fact: contents.and_then(|contents| contents.event_id.map(|id| id.to_string())),
        notices,
        removed_user,
        forward: None,
    })
}

/// Counts what a webhook led to.
fn measure(jobs: u64, lists: bool, notices: Option<(NoticeKind, u64)>) {
    count(match (jobs, lists) {
        (0, false) => "nobody-watches",
        (0, true) => "list",
        _ => "look",
    });
    if let Some((kind, notices)) = notices.filter(|(_, notices)| *notices > 0) {
        counter!("relay_notices_total", "type" => kind.as_str()).increment(notices);
    }
}

fn wake(parts: &ApiParts, jobs: bool, lists: bool, deliveries: bool) {
    if jobs {
        parts.tracker_wake.notify();
    }
    if lists {
        parts.discovery_wake.notify();
    }
    if deliveries {
        parts.delivery_wake.notify();
    }
}

/// Returns the subject of a webhook's hint.
fn subject(contents: &WebhookContents) -> Option<HintSubject> {
    let user_id = contents.user_id.as_ref().map(ToString::to_string);
    match &contents.connection_id {
        Some(connection_id) => Some(HintSubject::Connection {
            connection_id: connection_id.to_string(),
            user_id,
        }),
        None => user_id.map(HintSubject::User),
    }
}

/// Makes the notices for the subscriptions that want this one. Asks Basiq how an invalid connection can be mended, if
/// somebody wants to know. A final notice ends the subscriptions that are active now.
async fn notices_of(
    parts: &ApiParts,
    mut notice: UserNotice,
) -> Result<(Vec<NewNotice>, Option<RemovedUser>), Problem> {
    let mut subscriptions = parts.store.subscriptions_to(&notice.user_id).await?;
    let removed_user = notice.kind.is_final().then(|| RemovedUser {
        user_id: notice.user_id.clone(),
        subscriptions: subscriptions.iter().map(|one| one.id).collect(),
    });
    subscriptions.retain(|subscription| subscription.wants(&notice));
    if !subscriptions.is_empty() && notice.kind == NoticeKind::ConnectionInvalid {
        ask_for_connection(parts, &mut notice).await;
    }
    let notices = NewNotice::for_each(&notice, subscriptions, |locale| {
        parts.catalogue.notice_message(&notice, locale).to_owned()
    });
    Ok((notices, removed_user))
}

/// Completes a notice about an invalid connection. Without a response in time, the usual action stays.
async fn ask_for_connection(parts: &ApiParts, notice: &mut UserNotice) {
    let Some(connection_id) = &notice.connection_id else {
        return;
    };
    let (user, connection) = (notice.user_id.as_str(), connection_id.as_str());
    let asked = parts.basiq.connection(user, connection);
    match tokio::time::timeout(CONNECTION_TIME_LIMIT, asked).await {
        Ok(Ok(connection)) => {
            notice.action = connection.action_if_invalid();
            notice.institution_id = connection.institution_id;
        }
        Ok(Err(error)) => {
            debug!(connection.id = connection, %error, "Basiq does not tell the method of a connection");
        }
        Err(_) => {
            debug!(
                connection.id = connection,
                "Basiq does not tell the method of a connection in time"
            );
        }
    }
}

fn count(result: &'static str) {
    counter!("relay_hints_total", "result" => result).increment(1);
}
