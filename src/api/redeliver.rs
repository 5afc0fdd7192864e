//! Queues deliveries again: one delivery, the latest of a watch, or all dead ones.

use axum::{Json, extract::State};
use http::StatusCode;
use jiff::Timestamp;
use relay_domain::{DeliveryId, EventId, Requester, WatchId};
use relay_store::Redelivery;
use serde::Serialize;
use tracing::info;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiParts, ApiState, deliveries, examples, watch},
    web::{AuthenticatedClient, BodyFields, JsonObject, PathId, Problem, ProblemCode, RawObject},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(redeliver_dead))
        .routes(routes!(redeliver_delivery))
        .routes(routes!(redeliver_watch))
}

/// Selects the dead deliveries to queue again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedeliverRequest {
    /// Selects deliveries that became dead at or after this time.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// How many deliveries were queued again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Queued {
    /// The number of deliveries.
    pub queued: u64,
}

/// The event that was queued.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Redelivery)]
pub(crate) struct RedeliveryView {
    /// The event's id. The repeated delivery has the same `webhook-id`.
    #[schema(value_type = String, example = "evt_01KAR2D3CV000G0V4Y8Q2M5T7R")]
    pub event_id: EventId,
}

/// Queue dead deliveries again
///
/// Queues all deliveries that became dead since the given time: the latest event of each watch, and notices.
/// Deliveries of cancelled watches stay as they are.
#[utoipa::path(
    post,
    path = "/deliveries/redeliver",
    operation_id = "redeliverDead",
    tag = deliveries::TAG,
    request_body(content = RedeliverRequest, description = "The dead deliveries to queue again",
        example = json!(examples::redeliver_request())),
    responses((status = 202, description = "The deliveries are queued", body = Queued,
        example = json!(examples::queued()))),
    security(("apiKey" = [])),
)]
async fn redeliver_dead(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    let queued = queue_dead(&state.parts, &Requester::Client(client.id), body).await?;
    Ok((StatusCode::ACCEPTED, Json(queued)))
}

/// Queues the deliveries again that became dead since the time in a body.
pub(super) async fn queue_dead(
    parts: &ApiParts,
    by: &Requester,
    body: RawObject,
) -> Result<Queued, Problem> {
    let since = parse_since(body)?;
    let now = parts.clock.now();
    let queued = parts.store.redeliver_dead(by, since, now).await?;
    if queued > 0 {
        parts.delivery_wake.notify();
        parts.follows.notify_any();
    }
    info!(queued, "dead deliveries queued again");
    Ok(Queued { queued })
}

/// Deliver once more
///
/// Queues a new attempt with the same `webhook-id`. If the delivery is still pending, the relay attempts it at once.
/// If an operator paused the host, the attempt waits until the host is resumed.
/// Only the latest event of a watch can be delivered again, so that the receiver never gets an older state after a
/// newer one.
#[utoipa::path(
    post,
    path = "/deliveries/{deliveryId}/redeliver",
    operation_id = "redeliverDelivery",
    tag = deliveries::TAG,
    params(("deliveryId" = String, Path, description = "The delivery", example = json!(examples::DELIVERY_ID))),
    responses((status = 202, description = "The event is queued", body = RedeliveryView,
        example = json!(examples::redelivery()))),
    security(("apiKey" = [])),
)]
async fn redeliver_delivery(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<DeliveryId>,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    queue_one(&state.parts, &Requester::Client(client.id), id).await
}

/// Deliver a watch's latest event once more
///
/// The delivery has the same `webhook-id`. If the event is still pending, the relay attempts it at once, and queues
/// no second copy. If an operator paused the host, the attempt waits until the host is resumed.
#[utoipa::path(
    post,
    path = "/watch/{watchId}/redeliver",
    operation_id = "redeliverWatch",
    tag = watch::TAG,
    params(("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID))),
    responses((status = 202, description = "The event is queued", body = RedeliveryView,
        example = json!(examples::redelivery()))),
    security(("apiKey" = [])),
)]
async fn redeliver_watch(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<WatchId>,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    queue_latest(&state.parts, &Requester::Client(client.id), id).await
}

/// Queues one delivery again.
pub(super) async fn queue_one(
    parts: &ApiParts,
    by: &Requester,
    id: DeliveryId,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    let now = parts.clock.now();
    let redelivery = parts.store.redeliver_one(by, id, now).await?;
    queued(parts, redelivery, "There is no such delivery.")
}

/// Queues the latest event of a watch again.
pub(super) async fn queue_latest(
    parts: &ApiParts,
    by: &Requester,
    id: WatchId,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    let now = parts.clock.now();
    let redelivery = parts.store.redeliver_watch(by, id, now).await?;
    queued(parts, redelivery, watch::NO_SUCH_WATCH)
}

fn queued(
    parts: &ApiParts,
    redelivery: Redelivery,
    nothing: &'static str,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    match redelivery {
        Redelivery::Queued(event_id) => {
            parts.delivery_wake.notify();
            parts.follows.notify_any();
            info!(event.id = %event_id, "event queued once more");
            Ok((StatusCode::ACCEPTED, Json(RedeliveryView { event_id })))
        }
        Redelivery::NotFound => Err(Problem::not_found(nothing)),
        Redelivery::NoEvent => Err(Problem::new(
            ProblemCode::NothingToRedeliver,
            "Nothing was told yet, so there is nothing to deliver once more.",
        )),
        Redelivery::Superseded(newer) => Err(Problem::new(
            ProblemCode::NewerEvent,
            format!("The latest event of its watch is {newer}; deliver that one."),
        )),
        Redelivery::Cancelled => Err(Problem::new(
            ProblemCode::WatchCancelled,
            "Nothing is posted for a cancelled watch, nor for a revoked client.",
        )),
    }
}

fn parse_since(body: RawObject) -> Result<Timestamp, Problem> {
    let mut fields = BodyFields::new(body);
    let text = fields.required_text("since");
    let since = text.as_ref().and_then(|text| text.parse().ok());
    if let (Some(text), None) = (text, since) {
        let allowed = "must be an RFC 3339 time such as `2026-11-23T09:14:28Z`";
        fields.invalid("since", allowed, &text.into());
    }
    fields.finish(&["since"])?;
    since.ok_or_else(|| Problem::internal("a field is missing although no fault was found"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::web::FieldCode;

    #[test]
    fn since_is_a_time_and_required() {
        let parse = |value: serde_json::Value| {
            parse_since(value.as_object().cloned().unwrap_or_default().into())
        };
        assert!(parse(json!({"since": "2026-11-23T20:14:28+11:00"})).is_ok());
        for (body, code) in [
            (json!({}), FieldCode::Required),
            (json!({"since": null}), FieldCode::Required),
            (json!({"since": 5}), FieldCode::WrongType),
            (json!({"since": "yesterday"}), FieldCode::InvalidValue),
            (
                json!({"since": "2026-11-23T09:14:28Z", "x": 1}),
                FieldCode::UnknownField,
            ),
        ] {
            let problem = parse(body.clone()).unwrap_err();
            assert_eq!(problem.errors()[0].code, code, "{body}");
            assert_eq!(problem.errors().len(), 1);
        }
    }
}
