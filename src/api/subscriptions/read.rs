//! `GET /subscriptions/{subscriptionId}` and `GET /subscriptions`.

use axum::{Json, extract::State};
use relay_domain::SubscriptionId;
use relay_store::{SubscriptionDetails, SubscriptionQuery};

use crate::{
    api::{
        ApiState,
        cursor::{page, take_cursor, take_limit},
        examples,
        subscriptions::{
            NO_SUCH_SUBSCRIPTION, TAG,
            view::{SubscriptionPage, SubscriptionView},
        },
    },
    web::{AuthenticatedClient, PathId, Problem, QueryParams},
};

/// Read a subscription
///
/// Returns the subscription, when the user's jobs are listed, and the number of its open watches.
#[utoipa::path(
    get,
    path = "/subscriptions/{subscriptionId}",
    operation_id = "getSubscription",
    tag = TAG,
    params(("subscriptionId" = String, Path, description = "The subscription",
        example = json!(examples::SUBSCRIPTION_ID))),
    responses((status = 200, description = "The subscription", body = SubscriptionView,
        example = json!(examples::subscription()))),
    security(("apiKey" = [])),
)]
pub(super) async fn get_subscription(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<SubscriptionId>,
) -> Result<Json<SubscriptionView>, Problem> {
    let found = state.parts.store.find_subscription(Some(client.id), id);
    let found = found.await?;
    let details = found.ok_or_else(|| Problem::not_found(NO_SUCH_SUBSCRIPTION))?;
    Ok(Json(details.into()))
}

/// List subscriptions
///
/// Returns pages of subscriptions, newest first.
#[utoipa::path(
    get,
    path = "/subscriptions",
    operation_id = "listSubscriptions",
    tag = TAG,
    params(
        ("userId" = Option<String>, Query, description = "Only subscriptions to this user",
            min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._-]+$", example = json!(examples::USER_ID)),
        ("limit" = Option<u16>, Query, description = "Maximum number of entries on a page; 50 by default", minimum = 1, maximum = 200, example = json!(20)),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page",
            min_length = 1, pattern = "^[A-Za-z0-9_-]+$", example = json!(examples::SUBSCRIPTION_CURSOR)),
    ),
    responses((status = 200, description = "A page of subscriptions", body = SubscriptionPage,
        example = json!(examples::subscription_page()))),
    security(("apiKey" = [])),
)]
pub(super) async fn list_subscriptions(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    mut params: QueryParams,
) -> Result<Json<SubscriptionPage>, Problem> {
    let limit = take_limit(&mut params);
    let user_id = "1 to 128 of `A-Z a-z 0-9 . _ -`";
    let query = SubscriptionQuery {
        owner: Some(client.id),
        user_id: params.take("userId", user_id, |text| text.parse().ok()),
        before: take_cursor(&mut params),
        limit: limit + 1,
    };
    params.finish()?;
    let found = state.parts.store.list_subscriptions(&query).await?;
    let (found, next_cursor) = page(found, limit, mark);
    let items = found.into_iter().map(SubscriptionView::from).collect();
    Ok(Json(SubscriptionPage { items, next_cursor }))
}

/// Returns the cursor of a page that ends with this subscription.
fn mark(details: &SubscriptionDetails) -> String {
    details.subscription.id.to_string()
}
