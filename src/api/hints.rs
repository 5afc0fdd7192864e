//! `POST /basiq/webhook`: accepts Basiq's own webhooks as hints to look at jobs at once.

use std::time::Duration;

use axum::extract::State;
use basiq_client::{normalise, parse_leniently};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use metrics::counter;
use relay_domain::{
    SigningSecret,
    signing::{self, SignatureHeaders},
};
use relay_runtime::Reloadable;
use relay_store::{Hint, HintOutcome, HintSubject};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tracing::{debug, info, warn};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiParts, ApiState, examples},
    web::{Problem, ProblemCode, RawBody},
};

const TAG: &str = "hints";

/// The maximum length of a message's id, in bytes. Basiq's ids are UUIDs or shorter.
const LONGEST_ID: usize = 256;

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

/// The parts of Basiq's webhook that the relay reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadWebhook {
    #[serde(default, deserialize_with = "as_far_as_it_fits")]
    event_type_id: String,
    #[serde(default, deserialize_with = "as_far_as_it_fits")]
    links: ReadLinks,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ReadLinks {
    #[serde(default, deserialize_with = "as_far_as_it_fits")]
    event_entity: String,
}

/// Reads a value that has another form than Basiq documents as absent, so that the rest can still be read.
fn as_far_as_it_fits<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(receive_hint))
}

/// Receive a webhook of Basiq's
///
/// Subscribe to Basiq's webhooks with this address, and put the secret that Basiq returns into
/// `RELAY_BASIQ_WEBHOOK_SECRET`. The relay verifies each webhook by the Standard Webhooks specification and accepts
/// it once. A webhook is only a hint: the relay looks at once at the watched jobs of that connection or user.
/// Without the setting, the relay responds with 404.
#[utoipa::path(
    post,
    path = "/basiq/webhook",
    operation_id = "receiveHint",
    tag = TAG,
    params(
        ("webhook-id" = String, Header, description = "The message, the same however often it is sent",
            example = json!("5c9a1f0e")),
        ("webhook-timestamp" = String, Header, description = "When it was signed, in Unix seconds",
            example = json!("1795425268")),
        ("webhook-signature" = String, Header, description = "`v1,` and the signature in base64; may be several",
            example = json!(examples::WEBHOOK_SIGNATURE)),
    ),
    request_body(content = BasiqWebhook, description = "The message as Basiq signed it",
        example = json!(examples::basiq_webhook())),
    responses((status = 204, description = "Taken, whether a watched job is concerned or not")),
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
    let id = verify(&headers, &body, &secret, now).inspect_err(|_| count("refused"))?;
    let Some((event, subject)) = read(&body) else {
        warn!(
            hint.id = id,
            "a webhook from Basiq names no connection and no user"
        );
        count("unreadable");
        return Ok(StatusCode::NO_CONTENT);
    };
    take(parts, (&id, &event), subject, now).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Verifies that Basiq signed a message, and returns its id.
fn verify(
    headers: &HeaderMap,
    body: &[u8],
    secret: &SigningSecret,
    now: Timestamp,
) -> Result<String, Problem> {
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
    Ok(signed.id)
}

/// Reads the type of the event and its subject. Returns `None` if the message names neither a connection nor a
/// user.
fn read(body: &[u8]) -> Option<(String, HintSubject)> {
    let webhook: ReadWebhook = serde_json::from_value(parse_leniently(body).ok()?).ok()?;
    let ids = normalise::ids_of_link(&webhook.links.event_entity);
    let subject = match (ids.connection_id, ids.user_id) {
        (Some(connection_id), user_id) => HintSubject::Connection {
            connection_id,
            user_id,
        },
        (None, Some(user_id)) => HintSubject::User(user_id),
        (None, None) => return None,
    };
    Some((webhook.event_type_id, subject))
}

async fn take(
    parts: &ApiParts,
    (id, event): (&str, &str),
    subject: HintSubject,
    now: Timestamp,
) -> Result<(), Problem> {
    let hint = Hint {
        id: id.to_owned(),
        subject,
        at: now,
        interval: parts.hints.interval,
    };
    match parts.store.take_hint(hint).await? {
        HintOutcome::Again => count("again"),
        HintOutcome::Due(0) => count("nobody-watches"),
        HintOutcome::Due(jobs) => {
            count("look");
            info!(
                hint.id = id,
                hint.event = event,
                jobs,
                "a webhook from Basiq made watched jobs due"
            );
            parts.tracker_wake.notify();
        }
    }
    Ok(())
}

fn count(result: &'static str) {
    counter!("relay_hints_total", "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_basiq_leaves_out_or_writes_otherwise_hides_nothing_else() {
        let connection = "/users/u-1/connections/c-1";
        for body in [
            format!(r#"{{"eventTypeId":"x.y","links":{{"eventEntity":"{connection}"}}}}"#),
            format!(r#"{{"eventTypeId":null,"links":{{"eventEntity":"{connection}"}}}}"#),
            format!(r#"{{"links":{{"event":null,"more":[1],"eventEntity":"{connection}"}}}}"#),
        ] {
            let (_, subject) = read(body.as_bytes()).unwrap();
            let expected = HintSubject::Connection {
                connection_id: "c-1".to_owned(),
                user_id: Some("u-1".to_owned()),
            };
            assert_eq!(subject, expected, "{body}");
        }
    }

    #[test]
    fn faults_of_encoding_and_keys_that_stand_twice_hide_nothing() {
        let documents: [&[u8]; 4] = [
            b"\xef\xbb\xbf{\"links\":{\"eventEntity\":\"/users/u-1\"}}",
            b"{\"note\":\"caf\xe9\",\"links\":{\"eventEntity\":\"/users/u-1\"}}",
            br#"{"eventTypeId":"\ud83d","links":{"eventEntity":"/users/u-1"}}"#,
            br#"{"links":{},"links":{"eventEntity":"/users/u-1"}}"#,
        ];
        for document in documents {
            let shown = String::from_utf8_lossy(document);
            let (_, subject) = read(document).unwrap_or_else(|| panic!("{shown}"));
            assert_eq!(subject, HintSubject::User("u-1".to_owned()), "{shown}");
        }
    }

    #[test]
    fn what_names_nobody_is_no_hint() {
        for body in [
            "",
            "no json",
            "[]",
            "null",
            "{}",
            r#"{"eventTypeId":"user.updated"}"#,
            r#"{"links":null}"#,
            r#"{"links":"/users/u-1"}"#,
            r#"{"links":{"eventEntity":null}}"#,
            r#"{"links":{"eventEntity":7}}"#,
            r#"{"links":{"eventEntity":"/institutions/AU00000"}}"#,
        ] {
            assert!(read(body.as_bytes()).is_none(), "{body}");
        }
    }
}
