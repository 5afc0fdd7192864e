//! The public API, with one file for each resource, and its OpenAPI document.

mod admin;
mod callback_test;
mod catalogue;
mod cursor;
mod deliveries;
mod docs;
mod examples;
mod fields;
mod health;
mod hints;
mod metrics;
mod openapi;
mod redeliver;
mod stream;
mod stream_url;
mod subscriptions;
mod watch;

use std::sync::Arc;

use axum::{Router, extract::FromRef};
use basiq_client::{BasiqClient, normalise::Catalogue};
use relay_domain::{CallbackRules, Upstream, clock::Clock};
use relay_runtime::Wake;
use relay_store::Store;
use utoipa_axum::router::OpenApiRouter;

pub use self::{hints::HintRules, openapi::document};
use crate::{
    callback_test::CallbackTester,
    config::ServerConfig,
    follow::FollowRegistry,
    web::{ClientAuth, ClientLimits, OperatorTokens, open_to_browsers, with_middleware},
};

/// Renders the metrics as Prometheus text.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// The dependencies of the API.
#[derive(Clone)]
pub struct ApiParts {
    /// Stores clients, watches, subscriptions and deliveries.
    pub store: Arc<dyn Store>,
    /// Returns the time.
    pub clock: Clock,
    /// The server's settings.
    pub server: ServerConfig,
    /// The rules for callback URLs.
    pub rules: CallbackRules,
    /// The error codes and their messages.
    pub catalogue: Arc<Catalogue>,
    /// Wakes the tracker when there is a new job to look at.
    pub tracker_wake: Wake,
    /// Wakes the discovery worker when a list of a user's jobs is due.
    pub discovery_wake: Wake,
    /// Wakes the delivery worker when there is a delivery to send.
    pub delivery_wake: Wake,
    /// The watches that have followers.
    pub follows: FollowRegistry,
    /// The health of Basiq, as its calls report it.
    pub upstream: Upstream,
    /// Passes answers to challenges to Basiq.
    pub basiq: BasiqClient,
    /// Authenticates operators.
    pub admin: OperatorTokens,
    /// The rules for Basiq's hints.
    pub hints: HintRules,
    /// Renders the metrics.
    pub metrics: RenderMetrics,
}

/// The state that handlers share.
#[derive(Clone)]
pub struct ApiState {
    parts: Arc<ApiParts>,
    gate: ClientAuth,
    batches: watch::BatchLimit,
    tester: CallbackTester,
    docs: Arc<docs::DocPages>,
    pings: health::PingCache,
}

impl ApiState {
    fn new(parts: ApiParts, tester: CallbackTester) -> Self {
        let limits = ClientLimits::new(parts.server.client_rps);
        Self {
            gate: ClientAuth::new(Arc::clone(&parts.store), limits),
            batches: watch::BatchLimit::new(),
            tester,
            docs: Arc::new(docs::DocPages::new()),
            pings: health::PingCache::default(),
            parts: Arc::new(parts),
        }
    }
}

impl FromRef<ApiState> for ClientAuth {
    fn from_ref(state: &ApiState) -> Self {
        state.gate.clone()
    }
}

impl FromRef<ApiState> for OperatorTokens {
    fn from_ref(state: &ApiState) -> Self {
        state.parts.admin.clone()
    }
}

/// Creates the whole API, which tests callbacks by `tester`, and merges the router `beside`. `/metrics` is left out if
/// it has its own address.
pub fn router(parts: ApiParts, tester: CallbackTester, beside: Router) -> Router {
    let mut wanted = routes();
    if parts.server.metrics_listen.is_none() {
        wanted = wanted.merge(metrics::routes());
    }
    let origins = &parts.server.allow_origins;
    let for_browsers = open_to_browsers(browser_routes().into(), origins);
    let stateless = Router::<ApiState>::from(wanted).merge(for_browsers);
    with_middleware(
        stateless
            .with_state(ApiState::new(parts, tester))
            .merge(beside),
    )
}

/// Creates `/metrics` alone, for its own address.
pub fn metrics_router(render: RenderMetrics) -> Router {
    with_middleware(metrics::router(render))
}

/// The routes that pages of allowed origins may read.
fn browser_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .merge(stream::routes())
        .merge(catalogue::routes())
}

/// All other routes except `/metrics`.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .merge(watch::routes())
        .merge(subscriptions::routes())
        .merge(deliveries::routes())
        .merge(redeliver::routes())
        .merge(callback_test::routes())
        .merge(hints::routes())
        .merge(health::routes())
        .merge(docs::routes())
        .merge(admin::routes())
}

fn all_routes() -> OpenApiRouter<ApiState> {
    routes().merge(browser_routes()).merge(metrics::routes())
}

#[cfg(test)]
mod tests;
