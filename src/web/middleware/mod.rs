//! Middleware for every response: a request id, security headers, a time limit, a log line and metrics.

use std::{
    any::Any,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::util::MapRequestLayer;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};
use tracing::{Instrument, debug, error, field, info, info_span, warn};

use crate::{
    telemetry,
    web::{
        head::HeadFault, long_poll::LongPoll, problem::Problem, problem_code::ProblemCode, trace,
    },
};

/// The time limit of a call. After it, the relay responds with a time-out.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The extra time of a call that waits on purpose ([`LongPoll`]).
const LEAVE_LIMIT: Duration = Duration::from_mins(1);

/// The maximum number of requests that are handled at a time. The middleware rejects further requests before they
/// take memory. Each request holds a body of up to [`MAX_BODY`] and an entry in the store's queue.
///
/// [`MAX_BODY`]: crate::web::MAX_BODY
const MAX_IN_HAND: usize = 1024;

/// The maximum number of streams that are opened at a time. Further ones wait for their turn: a browser gives a stream
/// up for good after any status but 200, and after a restart all of them come back at once. An open stream does not
/// count.
const MAX_OPENING: usize = 256;

/// The route of streams.
const STREAM: &str = "/watch/{watchId}/stream";

/// Seconds after which a rejected client may ask again.
const TURNED_AWAY_SECONDS: u64 = 1;
/// Seconds after which a client may ask again when a response took too long.
const RETRY_SECONDS: u64 = 5;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The default headers of every response. A handler may set its own value for each.
static SECURITY_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Wraps the routes of a router in the middleware, and answers unknown routes with a problem.
pub fn with_middleware(router: Router) -> Router {
    with_request_limit(router, RequestPermits::new(MAX_IN_HAND, MAX_OPENING))
}

fn with_request_limit(router: Router, permits: RequestPermits) -> Router {
    // The outermost layer comes first. They form a single layer because a router boxes each layer and clones the
    // box for each request.
    let layers = (
        MapRequestLayer::new(forget_odd_id),
        SetRequestIdLayer::new(REQUEST_ID.clone(), MakeRequestUuid),
        PropagateRequestIdLayer::new(REQUEST_ID.clone()),
        from_fn_with_state(permits, respond),
        CatchPanicLayer::custom(panicked),
    );
    router
        .fallback(async || Problem::not_found("There is no such page or call."))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(layers)
}

/// Limits how many requests are handled at a time.
#[derive(Clone)]
struct RequestPermits {
    requests: Arc<Semaphore>,
    openings: Arc<Semaphore>,
}

impl RequestPermits {
    fn new(requests: usize, openings: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            openings: Arc::new(Semaphore::new(openings)),
        }
    }

    /// Returns a permit if one is free. A request for a stream waits for it for up to a minute.
    async fn acquire(&self, route: &str) -> Option<OwnedSemaphorePermit> {
        if route != STREAM {
            return Arc::clone(&self.requests).try_acquire_owned().ok();
        }
        let opening = Arc::clone(&self.openings).acquire_owned();
        let opening = tokio::time::timeout(LEAVE_LIMIT, opening).await;
        opening.ok().and_then(Result::ok)
    }
}

/// The response to a method that a path does not support.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        ProblemCode::MethodNotAllowed,
        "The `Allow` header tells the methods this path has.",
    )
}

/// Removes the caller's request id unless it is safe for logs and headers.
fn forget_odd_id(mut request: Request) -> Request {
    let sane = |id: &HeaderValue| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-:+/=".contains(byte);
        (1..=128).contains(&id.len()) && id.as_bytes().iter().all(allowed)
    };
    if !request.headers().get(&REQUEST_ID).is_some_and(sane) {
        request.headers_mut().remove(&REQUEST_ID);
    }
    request
}

/// Responds to a panic. The panic's message goes to the log only.
fn panicked(_message: Box<dyn Any + Send>) -> Response {
    Problem::internal("a handler panicked").into_response()
}

async fn respond(State(permits): State<RequestPermits>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let path = request.uri().path().to_owned();
    let method = known_method(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let id = request.headers().get(&REQUEST_ID);
    let span = info_span!(
        "request",
        request.id = id.and_then(|id| id.to_str().ok()).unwrap_or_default(),
        http.method = method,
        http.route = route,
        client.name = field::Empty,
        operator.name = field::Empty,
        otel.name = field::Empty,
        otel.kind = field::Empty,
    );
    telemetry::join_as_server(&span, trace::sent(request.headers()), method, &route);
    let permit = permits.acquire(&route).await;
    let is_admitted = permit.is_some() || is_monitoring(&route);
    let long_poll = LongPoll::with_permit(permit);
    let mut response = if let Some(fault) = request.extensions().get::<HeadFault>() {
        fault.answer()
    } else if is_admitted {
        let answering = answer(request, next, long_poll.clone());
        answering.instrument(span.clone()).await
    } else {
        overloaded()
    };
    telemetry::tell_answer(&span, response.status());
    let _entered = span.enter();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        log_cause(&problem);
        // a response with a content type has its own body for people, and keeps it
        if !response.headers().contains_key(header::CONTENT_TYPE) {
            response = with_body(response, &problem, &path);
        }
    }
    for (name, value) in &SECURITY_HEADERS {
        let headers = response.headers_mut().entry(name);
        headers.or_insert(value.clone());
    }
    let (took, has_waited) = (began.elapsed(), long_poll.is_taken());
    measure(&response, &route, method, took, has_waited);
    response
}

/// Returns whether a route is for monitoring. Such a route always responds, however busy the relay is.
fn is_monitoring(route: &str) -> bool {
    matches!(route, "/healthz" | "/readyz" | "/metrics")
}

/// The response to a request for which no permit is free.
fn overloaded() -> Response {
    Problem::new(
        ProblemCode::Overloaded,
        "Nothing was done. Ask again shortly.",
    )
    .retry_after(TURNED_AWAY_SECONDS)
    .into_response()
}

/// Runs the handler. If the handler exceeds the time limit, responds with a problem.
async fn answer(mut request: Request, next: Next, long_poll: LongPoll) -> Response {
    request.extensions_mut().insert(long_poll.clone());
    let mut answering = pin!(next.run(request));
    let mut answered = tokio::time::timeout(TIME_LIMIT, &mut answering).await;
    if answered.is_err() && long_poll.is_taken() {
        answered = tokio::time::timeout(LEAVE_LIMIT, &mut answering).await;
    }
    long_poll.release_permit();
    answered.unwrap_or_else(|_elapsed| {
        Problem::new(
            ProblemCode::TimedOut,
            "The relay is busy; what was asked may have been done. Ask again shortly.",
        )
        .retry_after(RETRY_SECONDS)
        .into_response()
    })
}

/// Returns the method as a metric label. Clients can invent methods, so all unknown ones share the label `other`.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn log_cause(problem: &Problem) {
    let Some(cause) = problem.cause_chain() else {
        return;
    };
    let code = problem.code().as_str();
    match problem.code() {
        ProblemCode::StoreUnavailable | ProblemCode::NotReady => {
            warn!(problem.code = code, cause, "the relay cannot answer now");
        }
        _ => error!(problem.code = code, cause, "the relay made an error"),
    }
}

fn with_body(response: Response, problem: &Problem, path: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    let body = serde_json::to_vec(&problem.document(path)).unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    Response::from_parts(parts, body.into())
}

/// Records the request in the metrics and the log. The histogram leaves out calls that waited on purpose, because
/// their duration does not show how busy the relay is.
fn measure(
    response: &Response,
    route: &str,
    method: &'static str,
    took: Duration,
    has_waited: bool,
) {
    let status = response.status();
    let labels = [
        ("route", route.to_owned()),
        ("method", method.to_owned()),
        ("status", status.as_str().to_owned()),
    ];
    metrics::counter!("relay_http_requests_total", &labels).increment(1);
    if !has_waited {
        metrics::histogram!("relay_http_request_seconds", &labels).record(took.as_secs_f64());
    }
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let status = status.as_u16();
    if is_monitoring(route) {
        debug!(http.status = status, duration_ms, "answered");
    } else {
        info!(http.status = status, duration_ms, "answered");
    }
}

#[cfg(test)]
mod tests;
