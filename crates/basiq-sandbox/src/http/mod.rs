//! The routes of the sandbox, and the middleware of every call.

mod connections;
mod connectors;
mod consents;
mod controls;
mod data;
mod events;
mod extract;
mod filter;
mod jobs;
mod reports;
mod tokens;
mod users;
mod watchful;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware,
    routing::{delete, get, post},
};

use crate::{Sandbox, error::ApiError};

/// The maximum size of an uploaded statement, in bytes.
const LARGEST_UPLOAD: usize = 10 * 1024 * 1024;

/// Returns every route. Those of Basiq are behind the middleware for faults and the call log.
pub(super) fn router(sandbox: Sandbox) -> Router {
    Router::new()
        .route("/token", post(tokens::issue))
        .route("/users", post(users::create).get(users::list))
        .route(
            "/users/{userId}",
            get(users::show).post(users::update).delete(users::delete),
        )
        .route("/users/{userId}/jobs", get(jobs::list))
        .merge(connection_routes())
        .merge(consent_and_event_routes())
        .route("/users/{userId}/accounts", get(data::accounts))
        .route("/users/{userId}/transactions", get(data::transactions))
        .route("/users/{userId}/statements", upload_route())
        .route("/jobs/{jobId}", get(jobs::show))
        .route("/jobs/{jobId}/mfa", post(jobs::answer))
        .route("/connectors", get(connectors::list))
        .route("/connectors/{connectorId}/{method}", get(connectors::show))
        .route("/reports", post(reports::create))
        .route("/reports/{reportId}", get(reports::show))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(middleware::from_fn_with_state(
            sandbox.clone(),
            watchful::watch,
        ))
        .merge(controls::routes())
        .with_state(sandbox)
}

fn connection_routes() -> Router<Sandbox> {
    Router::new()
        .route(
            "/users/{userId}/connections",
            get(connections::list).post(connections::create),
        )
        .route(
            "/users/{userId}/connections/refresh",
            post(connections::refresh_all),
        )
        .route(
            "/users/{userId}/connections/{connectionId}",
            get(connections::show)
                .post(connections::update)
                .delete(connections::delete),
        )
        .route(
            "/users/{userId}/connections/{connectionId}/refresh",
            post(connections::refresh),
        )
}

fn consent_and_event_routes() -> Router<Sandbox> {
    Router::new()
        .route("/users/{userId}/consents", get(consents::list))
        .route(
            "/users/{userId}/consents/{consentId}",
            delete(consents::delete),
        )
        .route("/events", get(events::list))
        .route("/events/types", get(events::types))
        .route("/events/types/{eventTypeId}", get(events::show_type))
        .route("/events/{eventId}", get(events::show))
}

fn upload_route() -> axum::routing::MethodRouter<Sandbox> {
    get(data::statements)
        .post(reports::upload)
        .layer(DefaultBodyLimit::max(LARGEST_UPLOAD))
}

async fn no_route(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::not_found(&format!("The sandbox has no {method} {path}."))
}

#[cfg(test)]
mod tests;
