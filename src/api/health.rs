//! `GET /healthz` and `GET /readyz`.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiState, examples},
    domain::UpstreamHealth,
    store::StoreError,
    web::{Problem, ProblemCode},
};

const TAG: &str = "health";

/// A store that takes longer than this to answer is not ready.
const STORE_TIME_LIMIT: Duration = Duration::from_secs(2);

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(is_alive))
        .routes(routes!(is_ready))
}

/// The process is alive.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Alive {
    /// `ok`
    #[schema(example = "ok")]
    pub status: String,
}

/// The relay can do its work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Ready {
    /// `ready`
    #[schema(example = "ready")]
    pub status: String,
    /// `ok`: the store can be read and written, and its migrations have run.
    #[schema(example = "ok")]
    pub store: String,
    /// How Basiq answers. That alone does not make the relay unready.
    pub upstream: UpstreamHealth,
    /// `open` while calls to Basiq rest because it brought nothing usable; else `closed`. That alone
    /// does not make the relay unready either.
    #[schema(example = "closed")]
    pub breaker: String,
}

/// Is the process alive?
///
/// Asks for nothing beyond: neither the store nor Basiq.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "isAlive",
    tag = TAG,
    responses((status = 200, description = "It is", body = Alive,
        example = json!(examples::alive()))),
)]
async fn is_alive() -> Json<Alive> {
    Json(Alive {
        status: "ok".to_owned(),
    })
}

/// Can the relay do its work?
///
/// 503, and what is missing, if the store cannot be reached. How Basiq answers is told in both cases.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "isReady",
    tag = TAG,
    responses((status = 200, description = "It can", body = Ready,
        example = json!(examples::ready()))),
)]
async fn is_ready(State(state): State<ApiState>) -> Result<Json<Ready>, Problem> {
    let upstream = state.parts.upstream.health();
    let breaker = if state.parts.upstream.is_breaker_open() {
        "open"
    } else {
        "closed"
    };
    let ping = tokio::time::timeout(STORE_TIME_LIMIT, state.parts.store.ping());
    match ping.await {
        Ok(Ok(())) => Ok(Json(Ready {
            status: "ready".to_owned(),
            store: "ok".to_owned(),
            upstream,
            breaker: breaker.to_owned(),
        })),
        Ok(Err(error)) => Err(not_ready((upstream, breaker), error)),
        Err(late) => Err(not_ready(
            (upstream, breaker),
            StoreError::Unavailable(Box::new(late)),
        )),
    }
}

fn not_ready((upstream, breaker): (UpstreamHealth, &'static str), cause: StoreError) -> Problem {
    let store = match cause {
        StoreError::Unavailable(_) => "unreachable",
        StoreError::Refused(_) | StoreError::Inconsistent { .. } => "failing",
    };
    Problem::new(
        ProblemCode::NotReady,
        format!("The store is {store}; the log says why."),
    )
    .member("store", store)
    .member("upstream", upstream.as_str())
    .member("breaker", breaker)
    .caused_by(cause)
}
