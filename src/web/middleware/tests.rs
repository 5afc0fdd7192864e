//! Tests that each call gets a request id, a time limit, a log line and a permit.

use axum::{
    body::{Body, to_bytes},
    routing::get,
};
use http::StatusCode;
use serde_json::Value;
use tower::ServiceExt;

use super::*;

fn app() -> Router {
    let router = Router::new()
        .route("/fine", get(async || "fine"))
        .route("/slow", get(std::future::pending::<()>))
        .route("/panic", get(boom));
    with_middleware(router)
}

async fn boom() -> &'static str {
    panic!("a secret the client must not see")
}

async fn ask(method: &str, path: &str, id: Option<&str>) -> (http::response::Parts, Value) {
    let mut request = http::Request::builder().method(method).uri(path);
    if let Some(id) = id {
        request = request.header("x-request-id", id);
    }
    let request = request.body(Body::empty()).unwrap();
    let (parts, body) = app().oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn every_answer_has_an_id_and_security_headers() {
    for path in ["/fine", "/nothing", "/panic"] {
        let (parts, _) = ask("GET", path, None).await;
        assert_eq!(parts.headers["x-request-id"].len(), 36, "{path}");
        assert_eq!(parts.headers["x-content-type-options"], "nosniff");
        assert_eq!(parts.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn a_sane_id_is_kept_and_another_replaced() {
    let (parts, _) = ask("GET", "/fine", Some("trace-1.a_b:c")).await;
    assert_eq!(parts.headers["x-request-id"], "trace-1.a_b:c");
    for odd in ["", "a b", "<script>", &"x".repeat(129)] {
        let (parts, _) = ask("GET", "/fine", Some(odd)).await;
        assert_eq!(parts.headers["x-request-id"].len(), 36, "{odd}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let (parts, body) = ask("GET", "/nothing", None).await;
    assert_eq!(parts.status, StatusCode::NOT_FOUND);
    assert_eq!(parts.headers["content-type"], "application/problem+json");
    assert_eq!(body["instance"], "/nothing");
    let (parts, body) = ask("POST", "/fine", None).await;
    assert_eq!(parts.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(parts.headers["allow"], "GET,HEAD");
    assert_eq!(body["type"], "/problems/method-not-allowed");
}

#[tokio::test]
async fn a_panic_is_an_error_that_tells_nothing() {
    let (parts, body) = ask("GET", "/panic", None).await;
    assert_eq!(parts.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!body.to_string().contains("secret"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_turned_away_but_monitoring_is_not() {
    let router = Router::new()
        .route("/healthz", get(async || "alive"))
        .route("/slow", get(std::future::pending::<()>))
        .route("/fine", get(async || "fine"));
    let router = with_request_limit(router, RequestPermits::new(1, 1));
    let send = async |path: &str| {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let (slow, ()) = tokio::join!(send("/slow"), async {
        let overloaded = send("/fine").await;
        assert_eq!(overloaded.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(overloaded.headers()["retry-after"], "1");
        assert_eq!(send("/healthz").await.status(), StatusCode::OK);
    });
    assert_eq!(slow.headers()["retry-after"], "5", "it took too long");
    assert_eq!(send("/fine").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn streams_wait_for_their_turn_and_take_no_place_of_other_calls() {
    let open = get(async || tokio::time::sleep(Duration::from_secs(1)).await);
    let router = Router::new()
        .route(STREAM, open)
        .route("/slow", get(std::future::pending::<()>))
        .route("/fine", get(async || "fine"));
    let router = with_request_limit(router, RequestPermits::new(1, 1));
    let send = async |path: &str| {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    };
    let stream = || send("/watch/wch_1/stream");
    let (first, second, fine) = tokio::join!(stream(), stream(), send("/fine"));
    assert_eq!([first, second, fine], [StatusCode::OK; 3]);
    let (slow, third) = tokio::join!(send("/slow"), stream());
    assert_eq!(slow, StatusCode::SERVICE_UNAVAILABLE, "it took too long");
    assert_eq!(third, StatusCode::OK);
    let many = futures_util::future::join_all((0..80).map(|_| stream())).await;
    let opened = many.iter().filter(|status| **status == StatusCode::OK);
    assert!((60..=61).contains(&opened.count()), "{many:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_on_purpose_has_its_time_and_takes_no_place() {
    async fn wait(long_poll: LongPoll, seconds: u64) -> &'static str {
        long_poll.take();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        "waited"
    }
    let router = Router::new()
        .route(
            "/minute",
            get(async |long_poll: LongPoll| wait(long_poll, 60).await),
        )
        .route(
            "/hour",
            get(async |long_poll: LongPoll| wait(long_poll, 3600).await),
        )
        .route("/fine", get(async || "fine"));
    let router = with_request_limit(router, RequestPermits::new(1, 1));
    let send = async |path: &str| {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    };
    let (minute, hour, fine) = tokio::join!(send("/minute"), send("/hour"), send("/fine"));
    assert_eq!((minute, fine), (StatusCode::OK, StatusCode::OK));
    assert_eq!(hour, StatusCode::SERVICE_UNAVAILABLE, "it took too long");
}

#[tokio::test]
async fn no_other_site_may_ask_with_a_browser() {
    let request = http::Request::options("/fine")
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", "POST");
    let request = request.body(Body::empty()).unwrap();
    let answer = app().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    let headers = answer.headers().keys();
    let grants = headers.filter(|name| name.as_str().starts_with("access-control"));
    assert_eq!(grants.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_too_long_is_given_up() {
    let (parts, body) = ask("GET", "/slow", None).await;
    assert_eq!(parts.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(parts.headers["retry-after"], "5");
    assert_eq!(body["type"], "/problems/timed-out");
}
