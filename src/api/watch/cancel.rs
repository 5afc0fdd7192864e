//! `DELETE /watch/{watchId}`.

use axum::extract::State;
use http::StatusCode;
use relay_domain::{Requester, WatchId};
use tracing::info;

use crate::{
    api::{
        ApiParts, ApiState, examples,
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
    responses((status = 204, description = "The watch is cancelled, or had already ended")),
    security(("apiKey" = [])),
)]
pub(super) async fn cancel_watch(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<WatchId>,
) -> Result<StatusCode, Problem> {
    cancel(&state.parts, &Requester::Client(client.id), id).await?;
    info!(watch.id = %id, "watch cancelled by its client");
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels a watch, and notifies its followers.
pub(in crate::api) async fn cancel(
    parts: &ApiParts,
    by: &Requester,
    id: WatchId,
) -> Result<(), Problem> {
    let now = parts.clock.now();
    if !parts.store.cancel_watch(by, id, now).await? {
        return Err(Problem::not_found(NO_SUCH_WATCH));
    }
    parts.follows.notify_watch(id);
    Ok(())
}
