//! `/sandbox`: the controls. They need no token, meet no fault and are not in the call log.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::post,
};
use serde_json::{Value, json};

use crate::{
    ConsentChange, ControlError, Sandbox, SandboxEventType, SentWebhook, UnknownEventType,
    WebhookToSend,
    error::ApiError,
    http::{
        consents,
        extract::{BaseUrl, JsonBody},
    },
};

/// The word that stands for the id of a user's latest consent.
const LATEST: &str = "latest";

pub(super) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/sandbox/webhooks", post(send_webhook))
        .route(
            "/sandbox/users/{userId}/consents/{consentId}/{change}",
            post(change_consent),
        )
}

/// Sends a webhook. Without `eventTypeId`, sends the webhook of the event `eventId` again.
async fn send_webhook(
    State(sandbox): State<Sandbox>,
    body: JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let copies = number(&body, "copies")?.unwrap_or(1);
    let delay = Duration::from_millis(number(&body, "delayMs")?.unwrap_or(0).into());
    let event_id = body.text("eventId")?;
    let sent = match (body.text("eventTypeId")?, event_id) {
        (None, None) => return Err(ApiError::not_supplied("eventTypeId")),
        (None, Some(event_id)) => sandbox.send_webhook_again(&event_id, copies, delay),
        (Some(event_type), event_id) => {
            let order = WebhookToSend {
                connection_id: body.text("connectionId")?,
                consent_id: body.text("consentId")?,
                event_id,
                webhook_id: body.text("webhookId")?,
                copies,
                delay,
                ..WebhookToSend::new(known(&event_type)?, &body.required_text("userId")?)
            };
            sandbox.send_webhook(&order)
        }
    };
    let SentWebhook {
        event_id,
        webhook_id,
    } = sent.map_err(refused)?;
    let answer = json!({"eventId": event_id, "webhookId": webhook_id, "copies": copies});
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Changes a consent at once. The change is the second word of its event's type.
async fn change_consent(
    State(sandbox): State<Sandbox>,
    BaseUrl(base): BaseUrl,
    Path((user_id, consent_id, change)): Path<(String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    let allowed = "Allowed are reminder, warning, expired, revoked and updated.";
    let change = ConsentChange::named(&change);
    let change = change.ok_or_else(|| ApiError::not_valid("change", allowed))?;
    sandbox.memory().run_due(sandbox.now());
    let latest = sandbox.latest_consent(&user_id);
    let id = match consent_id.as_str() {
        LATEST => latest.ok_or_else(|| refused(ControlError::UnknownConsent))?,
        _ => consent_id,
    };
    sandbox.change_consent(&id, change).map_err(refused)?;
    let memory = sandbox.memory();
    let consent = memory.consents.get(&id);
    let view = consent.map(|consent| consents::view(consent, &base));
    Ok(Json(view.unwrap_or_default()))
}

fn known(event_type: &str) -> Result<SandboxEventType, ApiError> {
    let unknown = |error: UnknownEventType| ApiError::not_valid("eventTypeId", &error.to_string());
    event_type.parse().map_err(unknown)
}

fn number(body: &JsonBody, name: &str) -> Result<Option<u32>, ApiError> {
    let Some(value) = body.get(name) else {
        return Ok(None);
    };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let misfit = || ApiError::not_valid(name, &format!("{name} must be a whole number."));
    number.map(Some).ok_or_else(misfit)
}

fn refused(error: ControlError) -> ApiError {
    let detail = error.to_string();
    match error {
        ControlError::UnknownEvent | ControlError::UnknownConsent => ApiError::not_found(&detail),
        ControlError::NoReceiver => ApiError::not_valid("webhook", &detail),
        ControlError::NoConnection => ApiError::not_valid("connectionId", &detail),
        ControlError::NoConsent => ApiError::not_valid("consentId", &detail),
        ControlError::Copies => ApiError::not_valid("copies", &detail),
        ControlError::ConsentOver => ApiError::not_valid("change", &detail),
    }
}
