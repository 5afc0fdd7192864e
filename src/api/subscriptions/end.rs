//! `DELETE /subscriptions/{subscriptionId}`.

use axum::extract::State;
use http::StatusCode;
use relay_domain::{Requester, SubscriptionId};
use tracing::info;

use crate::{
    api::{
        ApiState, examples,
        subscriptions::{NO_SUCH_SUBSCRIPTION, TAG},
    },
    web::{AuthenticatedClient, PathId, Problem},
};

/// End a subscription
///
/// The relay posts nothing more for this subscription, and cancels its open watches. Ending it again changes nothing.
#[utoipa::path(
    delete,
    path = "/subscriptions/{subscriptionId}",
    operation_id = "endSubscription",
    tag = TAG,
    params(("subscriptionId" = String, Path, description = "The subscription",
        example = json!(examples::SUBSCRIPTION_ID))),
    responses((status = 204, description = "The subscription has ended, now or earlier")),
    security(("apiKey" = [])),
)]
pub(super) async fn end_subscription(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<SubscriptionId>,
) -> Result<StatusCode, Problem> {
    let (store, now) = (&state.parts.store, state.parts.clock.now());
    if !store
        .end_subscription(&Requester::Client(client.id), id, now)
        .await?
    {
        return Err(Problem::not_found(NO_SUCH_SUBSCRIPTION));
    }
    // its watches may have followers
    state.parts.follows.notify_any();
    info!(subscription.id = %id, "subscription ended by its client");
    Ok(StatusCode::NO_CONTENT)
}
