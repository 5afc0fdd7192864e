//! `POST /subscriptions`.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use relay_domain::SubscriptionId;
use relay_store::{NewSubscription, SubscriptionDetails, SubscriptionResult};
use tracing::info;

use crate::{
    api::{
        ApiState, examples,
        subscriptions::{
            TAG,
            request::{SubscriptionRequestBody, parse},
            view::SubscriptionView,
        },
    },
    web::{AuthenticatedClient, JsonObject, Problem, ProblemCode},
};

/// Seconds after which a client at its limit of subscriptions may try again.
const CAP_RETRY_SECONDS: u64 = 60;

/// Subscribe to a user
///
/// The relay lists the user's jobs now, after each Basiq webhook about the user, and every
/// `RELAY_DISCOVERY_INTERVAL`. Each new job becomes a watch with this callback. Basiq's webhooks about the user's
/// consents and connections become notices. If the client already has an active subscription to the same user and
/// connection with the same callback, the response is that subscription.
#[utoipa::path(
    post,
    path = "/subscriptions",
    operation_id = "createSubscription",
    tag = TAG,
    request_body(content = SubscriptionRequestBody, description = "The user, and the callback for events and notices",
        example = json!(examples::subscription_request())),
    responses(
        (status = 201, description = "The subscription is stored", body = SubscriptionView,
            headers(("location" = String, description = "The subscription's path")),
            example = json!(examples::new_subscription())),
        (status = 200, description = "An equal subscription is already active, and this is it", body = SubscriptionView,
            headers(("location" = String, description = "The subscription's path")),
            example = json!(examples::subscription())),
    ),
    security(("apiKey" = [])),
)]
pub(super) async fn create_subscription(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let parts = &state.parts;
    let now = parts.clock.now();
    let max_active = parts.server.client_max_open_watches;
    let new = NewSubscription {
        id: SubscriptionId::new(now),
        client_id: client.id,
        request: parse(body, &parts.rules)?,
        max_active,
        now,
    };
    match parts.store.subscribe(new).await? {
        SubscriptionResult::Created(details) => {
            parts.discovery_wake.notify();
            let subscription = &details.subscription;
            info!(
                subscription.id = %subscription.id, user.id = %subscription.request.user_id,
                "subscription registered"
            );
            Ok(answer(StatusCode::CREATED, *details))
        }
        SubscriptionResult::Existing(details) => {
            // The request that stored it may have been cancelled before it could wake the worker.
            parts.discovery_wake.notify();
            Ok(answer(StatusCode::OK, *details))
        }
        SubscriptionResult::Revoked => Err(Problem::unauthorized()),
        SubscriptionResult::AtCap => {
            let detail = format!("At most {max_active} subscriptions may be active; end some.");
            let problem = Problem::new(ProblemCode::TooManySubscriptions, detail);
            Err(problem.retry_after(CAP_RETRY_SECONDS))
        }
    }
}

fn answer(status: StatusCode, details: SubscriptionDetails) -> Response {
    let path = format!("/subscriptions/{}", details.subscription.id);
    let view = SubscriptionView::from(details);
    (status, [(header::LOCATION, path)], Json(view)).into_response()
}
