//! `GET /healthz` and `GET /readyz`.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use relay_domain::UpstreamHealth;
use relay_store::{Store, StoreError};
use serde::Serialize;
use tokio::{sync::Mutex, time::Instant};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiState, examples},
    web::{Problem, ProblemCode},
};

const TAG: &str = "health";

/// The time limit of the store's ping. A slower store is not ready.
const STORE_TIME_LIMIT: Duration = Duration::from_secs(2);

/// Seconds after which a client may ask again whether the relay is ready.
const RETRY_SECONDS: u64 = 5;

/// How long the result of a ping is reused. A ping writes to the store, so frequent requests must not cause a
/// commit each.
const FRESH: Duration = Duration::from_secs(1);

/// Pings the store for all readiness requests, and caches the result.
#[derive(Clone, Default)]
pub(super) struct PingCache(Arc<Mutex<Option<(Instant, Pinged)>>>);

/// The result of a ping.
type Pinged = Result<(), StoreError>;

impl PingCache {
    /// Returns the cached result or pings the store. Concurrent requests wait for the same ping.
    async fn ask(&self, store: &dyn Store) -> Pinged {
        let mut latest = self.0.lock().await;
        if let Some((at, pinged)) = &*latest
            && at.elapsed() < FRESH
        {
            return pinged.clone();
        }
        let pinged = match tokio::time::timeout(STORE_TIME_LIMIT, store.ping()).await {
            Ok(pinged) => pinged,
            Err(late) => Err(StoreError::unavailable(late)),
        };
        *latest = Some((Instant::now(), pinged.clone()));
        pinged
    }
}

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(is_alive))
        .routes(routes!(is_ready))
}

/// The process is alive.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Alive {
    /// Always `ok`.
    #[schema(example = "ok")]
    pub status: String,
}

/// The relay can do its work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Ready {
    /// Always `ready`.
    #[schema(example = "ready")]
    pub status: String,
    /// Always `ok`: the store can be read and written, and its migrations have run.
    #[schema(example = "ok")]
    pub store: String,
    /// How Basiq responds. A failing Basiq alone does not make the relay unready.
    pub upstream: UpstreamHealth,
    /// `open` while the relay makes no calls to Basiq because earlier ones returned nothing usable, `closed`
    /// otherwise. An open breaker alone does not make the relay unready.
    #[schema(example = "closed")]
    pub breaker: String,
}

/// Is the process alive?
///
/// Checks the process alone, and contacts neither the store nor Basiq.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "isAlive",
    tag = TAG,
    responses((status = 200, description = "The process is alive", body = Alive,
        example = json!(examples::alive()))),
)]
async fn is_alive() -> Json<Alive> {
    Json(Alive {
        status: "ok".to_owned(),
    })
}

/// Can the relay do its work?
///
/// Responds with 503 and the reason if the store does not accept writes or is damaged. Both responses include how
/// Basiq responds.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "isReady",
    tag = TAG,
    responses((status = 200, description = "The relay can do its work", body = Ready,
        example = json!(examples::ready()))),
)]
async fn is_ready(State(state): State<ApiState>) -> Result<Json<Ready>, Problem> {
    let upstream = state.parts.upstream.health();
    let breaker = if state.parts.upstream.is_breaker_open() {
        "open"
    } else {
        "closed"
    };
    match state.pings.ask(&*state.parts.store).await {
        Ok(()) => Ok(Json(Ready {
            status: "ready".to_owned(),
            store: "ok".to_owned(),
            upstream,
            breaker: breaker.to_owned(),
        })),
        Err(error) => Err(not_ready(upstream, breaker, error)),
    }
}

fn not_ready(upstream: UpstreamHealth, breaker: &'static str, cause: StoreError) -> Problem {
    let store = match &cause {
        StoreError::Unavailable(_) => "unreachable",
        StoreError::Damaged(_) | StoreError::Inconsistent { .. } => "damaged",
        StoreError::Refused(_) => "failing",
    };
    Problem::new(
        ProblemCode::NotReady,
        format!("The store is {store}; the log says why."),
    )
    .retry_after(RETRY_SECONDS)
    .member("store", store)
    .member("upstream", upstream.as_str())
    .member("breaker", breaker)
    .caused_by(cause)
}
