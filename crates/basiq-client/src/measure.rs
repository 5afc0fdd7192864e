//! Counts and traces each request that is sent to Basiq.

use async_trait::async_trait;
use http::{Extensions, StatusCode};
use relay_domain::Upstream;
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};
use tokio::time::Instant;
use tracing::{Instrument, field::Empty, info_span};

/// The endpoint of a request, as metrics and spans name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Token,
    Job,
    Connection,
    Connector,
    Mfa,
    UserJobs,
}

impl Endpoint {
    fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Job => "job",
            Self::Connection => "connection",
            Self::Connector => "connector",
            Self::Mfa => "mfa",
            Self::UserJobs => "user-jobs",
        }
    }
}

/// The middleware that measures requests. It runs inside the admission layer, so that the wait for admission is
/// not measured.
pub(super) struct MeasureCalls(pub(super) Upstream);

#[async_trait]
impl Middleware for MeasureCalls {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let endpoint = extensions
            .get::<Endpoint>()
            .map_or("other", |endpoint| endpoint.word());
        let span = info_span!("basiq", endpoint, http.status = Empty, duration_ms = Empty);
        let began = Instant::now();
        let result = next.run(request, extensions).instrument(span.clone()).await;
        let failed = result.as_ref().map_or(true, |response| {
            let status = response.status();
            status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
        });
        self.0.count_call(failed);
        let status = match &result {
            Ok(response) => response.status().as_u16().to_string(),
            Err(_) => "error".to_owned(),
        };
        span.record("http.status", status.as_str());
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        span.record("duration_ms", millis);
        metrics::counter!("relay_upstream_requests_total", "endpoint" => endpoint, "status" => status)
            .increment(1);
        result
    }
}
