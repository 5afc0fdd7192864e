//! `DELETE /watch/{watchId}` and `POST /watch/{watchId}/redeliver`.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Serialize;
use tracing::info;

use crate::{
    api::{
        ApiState, examples,
        watch::{NO_SUCH_WATCH, TAG},
    },
    domain::{EventId, WatchId},
    store::Redelivery,
    web::{Authenticated, PathId, Problem, ProblemCode},
};

/// Cancel a watch
///
/// Nothing more is posted for it. To cancel it once more changes nothing.
#[utoipa::path(
    delete,
    path = "/watch/{watchId}",
    operation_id = "cancelWatch",
    tag = TAG,
    params(("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID))),
    responses((status = 204, description = "Cancelled, or ended before")),
    security(("apiKey" = [])),
)]
pub(super) async fn cancel_watch(
    State(state): State<ApiState>,
    Authenticated(client): Authenticated,
    PathId(id): PathId<WatchId>,
) -> Result<StatusCode, Problem> {
    let now = state.parts.clock.now();
    if !state.parts.store.cancel_watch(client.id, id, now).await? {
        return Err(Problem::not_found(NO_SUCH_WATCH));
    }
    info!(watch.id = %id, "watch cancelled by its client");
    Ok(StatusCode::NO_CONTENT)
}

/// The event that was queued.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Redelivery)]
pub(crate) struct RedeliveryView {
    /// The event, whose `webhook-id` stays the same.
    #[schema(value_type = String, example = "evt_01KAR2D3CV000G0V4Y8Q2M5T7R")]
    pub event_id: EventId,
}

/// Deliver a watch's latest event once more
///
/// With the same `webhook-id`. An event that is still being tried is tried now; there is no second
/// copy.
#[utoipa::path(
    post,
    path = "/watch/{watchId}/redeliver",
    operation_id = "redeliverWatch",
    tag = TAG,
    params(("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID))),
    responses((status = 202, description = "Queued", body = RedeliveryView,
        example = json!(examples::redelivery()))),
    security(("apiKey" = [])),
)]
pub(super) async fn redeliver_watch(
    State(state): State<ApiState>,
    Authenticated(client): Authenticated,
    PathId(id): PathId<WatchId>,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    let parts = &state.parts;
    let now = parts.clock.now();
    match parts.store.redeliver_watch(client.id, id, now).await? {
        Redelivery::Queued(event_id) => {
            parts.delivery_wake.ring();
            info!(watch.id = %id, event.id = %event_id, "event queued once more");
            Ok((StatusCode::ACCEPTED, Json(RedeliveryView { event_id })))
        }
        Redelivery::NoSuchWatch => Err(Problem::not_found(NO_SUCH_WATCH)),
        Redelivery::NoEvent => Err(Problem::new(
            ProblemCode::NothingToRedeliver,
            "Nothing was told yet, so there is nothing to deliver once more.",
        )),
        Redelivery::Cancelled => Err(Problem::new(
            ProblemCode::WatchCancelled,
            "Nothing is posted for a cancelled watch.",
        )),
    }
}
