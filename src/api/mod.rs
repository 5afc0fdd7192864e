//! The public API, one file a resource, and its OpenAPI document.

mod admin;
mod catalogue;
mod cursor;
mod deliveries;
mod docs;
mod examples;
mod health;
mod hints;
mod metrics;
mod openapi;
mod watch;

use std::sync::Arc;

use axum::{Router, extract::FromRef};
use utoipa_axum::router::OpenApiRouter;

pub use self::{hints::HintRules, openapi::document};
use crate::{
    basiq::BasiqClient,
    clock::Clock,
    config::ServerConfig,
    domain::{CallbackRules, Upstream},
    normalise::Catalogue,
    runtime::Wake,
    store::Store,
    web::{AdminToken, ClientLimits, Gate, with_manners},
};

/// Renders the metrics as Prometheus text.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What the API works with.
#[derive(Clone)]
pub struct ApiParts {
    /// Where watches are kept.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Clock,
    /// The server's settings.
    pub server: ServerConfig,
    /// What is accepted as a callback.
    pub rules: CallbackRules,
    /// Codes and messages.
    pub catalogue: Arc<Catalogue>,
    /// Rung when there is a new job to look at.
    pub tracker_wake: Wake,
    /// Rung when there is a delivery to send.
    pub delivery_wake: Wake,
    /// How Basiq answers, as the calls to it report.
    pub upstream: Upstream,
    /// Passes answers to challenges on.
    pub basiq: BasiqClient,
    /// Lets the operator in.
    pub admin: AdminToken,
    /// What is taken as a hint of Basiq's.
    pub hints: HintRules,
    /// Renders the metrics.
    pub metrics: RenderMetrics,
}

/// What handlers share.
#[derive(Clone)]
pub struct ApiState {
    parts: Arc<ApiParts>,
    gate: Gate,
    docs: Arc<docs::Pages>,
}

impl ApiState {
    fn new(parts: ApiParts) -> Self {
        let limits = ClientLimits::new(parts.server.client_rps);
        Self {
            gate: Gate::new(Arc::clone(&parts.store), limits),
            docs: Arc::new(docs::Pages::new()),
            parts: Arc::new(parts),
        }
    }
}

impl FromRef<ApiState> for Gate {
    fn from_ref(state: &ApiState) -> Self {
        state.gate.clone()
    }
}

impl FromRef<ApiState> for AdminToken {
    fn from_ref(state: &ApiState) -> Self {
        state.parts.admin.clone()
    }
}

/// The whole API, and what is served beside it. `/metrics` is left out where it has an address of its
/// own.
pub fn router(parts: ApiParts, beside: Router) -> Router {
    let mut wanted = routes();
    if parts.server.metrics_listen.is_none() {
        wanted = wanted.merge(metrics::routes());
    }
    let stateless: Router<ApiState> = wanted.into();
    with_manners(stateless.with_state(ApiState::new(parts)).merge(beside))
}

/// `/metrics` alone, for an address of its own.
pub fn metrics_router(render: RenderMetrics) -> Router {
    with_manners(metrics::router(render))
}

/// All but `/metrics`.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .merge(watch::routes())
        .merge(deliveries::routes())
        .merge(catalogue::routes())
        .merge(hints::routes())
        .merge(health::routes())
        .merge(docs::routes())
        .merge(admin::routes())
}

fn all_routes() -> OpenApiRouter<ApiState> {
    routes().merge(metrics::routes())
}

#[cfg(test)]
mod tests;
