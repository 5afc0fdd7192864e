//! `DELETE /watch/{watchId}`.

use axum::extract::State;
use http::StatusCode;
use relay_domain::WatchId;
use tracing::info;

use crate::{
    api::{
        ApiState, examples,
        watch::{NO_SUCH_WATCH, TAG},
    },
    web::{AuthenticatedClient, PathId, Problem},
};

/// Cancel a watch
///
/// The relay posts nothing more for this watch. Cancelling it again changes nothing.
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
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<WatchId>,
) -> Result<StatusCode, Problem> {
    let now = state.parts.clock.now();
    if !state
        .parts
        .store
        .cancel_watch(Some(client.id), id, now)
        .await?
    {
        return Err(Problem::not_found(NO_SUCH_WATCH));
    }
    state.parts.follows.notify_watch(id);
    info!(watch.id = %id, "watch cancelled by its client");
    Ok(StatusCode::NO_CONTENT)
}
