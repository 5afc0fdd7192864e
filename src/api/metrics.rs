//! `GET /metrics`: Prometheus text.

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::header;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::api::{ApiState, RenderMetrics, examples};

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(read_metrics))
}

/// Creates the route alone, without the rest of the API.
pub(super) fn router(render: RenderMetrics) -> Router {
    Router::new()
        .route("/metrics", get(async |State(render)| text(&render)))
        .with_state(render)
}

/// Read the metrics
///
/// If `RELAY_METRICS_LISTEN` is set, the metrics are served at that address instead.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "readMetrics",
    tag = "health",
    responses((status = 200, description = "Prometheus text", body = String,
        content_type = "text/plain", example = json!(examples::METRICS))),
)]
async fn read_metrics(State(state): State<ApiState>) -> impl IntoResponse {
    text(&state.parts.metrics)
}

fn text(render: &RenderMetrics) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], render())
}
