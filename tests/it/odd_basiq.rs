//! The tracker against a Basiq that answers as the sandbox never does.

use std::time::{Duration, Instant};

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{TestApp, failure, job};

const SECOND: Duration = Duration::from_secs(1);

/// Starts a Basiq with these routes that also grants tokens. It ends when the tasks are dropped.
pub(crate) async fn basiq_of(routes: Router) -> (url::Url, JoinSet<()>) {
    let mut tasks = JoinSet::new();
    let url = basiq(&mut tasks, routes).await;
    (url, tasks)
}

/// Starts a Basiq with these routes that also grants tokens.
async fn basiq(tasks: &mut JoinSet<()>, routes: Router) -> url::Url {
    let token = json!({ "access_token": "t", "expires_in": 3600, "token_type": "Bearer" });
    let whole = routes.route("/token", post(move || async move { Json(token) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(async move { axum::serve(listener, whole).await.unwrap() });
    url.parse().unwrap()
}

/// A status and a body.
type Told = (u16, &'static str);

/// Answers requests for a job with the first answer, and all others with the second.
fn refusing(job: Told, other: Told) -> Router {
    let status = |code| StatusCode::from_u16(code).unwrap();
    Router::new()
        .route(
            "/jobs/{id}",
            get(move || async move { (status(job.0), job.1) }),
        )
        .fallback(move || async move { (status(other.0), other.1) })
}

const FORBIDDEN: &str = r#"{"type":"list","data":[{"code":"forbidden-access","title":"No"}]}"#;
const UNKNOWN: &str = r#"{"type":"list","data":[{"code":"resource-not-found","title":"No"}]}"#;
const NO_USER: &str = r#"{"type":"list","data":[{"code":"user-not-found","title":"No"}]}"#;
const ROUTE: &str =
    r#"{"type":"list","data":[{"code":"resource-not-found","title":"Route not found"}]}"#;
const INVALID: &str = r#"{"type":"list","data":[{"code":"parameter-not-valid","title":"No"}]}"#;
const SCOPE: &str = r#"{"type":"list","data":[{"code":"unsupported-accept","title":"No"}]}"#;
const PAGE: &str = "<html><h1>404 Not Found</h1></html>";
/// Answers to other requests: a list, an unknown resource, a refusal, a web page.
const WORKS: Told = (200, r#"{"type":"list","data":[]}"#);
const EMPTY: Told = (404, UNKNOWN);
const CLOSED: Told = (403, FORBIDDEN);
const GATEWAY: Told = (404, PAGE);

#[tokio::test]
async fn a_job_that_is_unknown_or_not_ours_ends_its_watch_only_while_other_calls_are_answered() {
    let table = [
        (403, FORBIDDEN, WORKS, vec!["job-not-accessible"]),
        (403, FORBIDDEN, EMPTY, vec!["job-not-accessible"]),
        (403, FORBIDDEN, CLOSED, vec![]),
        (403, FORBIDDEN, GATEWAY, vec![]),
        (403, r#"{"message":"Forbidden"}"#, WORKS, vec![]),
        (404, UNKNOWN, WORKS, vec!["job-not-found"]),
        (404, UNKNOWN, CLOSED, vec!["job-not-found"]),
        (400, UNKNOWN, WORKS, vec!["job-not-found"]),
        (400, INVALID, WORKS, vec!["job-not-found"]),
        (400, INVALID, EMPTY, vec![]),
        (404, NO_USER, WORKS, vec![]),
        (404, UNKNOWN, EMPTY, vec![]),
        (404, UNKNOWN, GATEWAY, vec![]),
        (404, "", WORKS, vec![]),
        (404, ROUTE, WORKS, vec![]),
        (400, "{}", WORKS, vec![]),
    ];
    for (status, body, other, expected) in table {
        let mut tasks = JoinSet::new();
        let url = basiq(&mut tasks, refusing((status, body), other)).await;
        let mut app = TestApp::builder().basiq(url).build().await;
        app.watch("j-1").await;
        app.skip(50 * SECOND).await;
        assert!(
            app.told().is_empty(),
            "not within the grace: {status} {body}"
        );
        app.skip(Duration::from_mins(2)).await;
        let told = app.told();
        let codes: Vec<_> = told
            .iter()
            .map(|event| event["errorCode"].clone())
            .collect();
        assert_eq!(codes, expected, "{status} {body} {other:?}");
        assert!(told.iter().all(|event| event["action"] == "fix-request"));
        app.leave_work();
    }
}

#[tokio::test]
async fn a_job_that_basiq_refuses_for_another_reason_is_given_up_when_it_is_too_old() {
    for (status, body, other) in [
        (400, SCOPE, WORKS),
        (404, NO_USER, WORKS),
        (405, INVALID, WORKS),
        (422, INVALID, WORKS),
        // If Basiq answers every request as unknown, the answer says nothing about the job.
        (404, UNKNOWN, EMPTY),
    ] {
        let mut tasks = JoinSet::new();
        let url = basiq(&mut tasks, refusing((status, body), other)).await;
        let mut app = TestApp::builder()
            .basiq(url)
            .settings(|settings| settings.tracking.job_max_age = Duration::from_mins(20))
            .build()
            .await;
        app.watch("j-1").await;
        app.skip(Duration::from_mins(18)).await;
        assert!(app.told().is_empty(), "{status}");
        app.skip(Duration::from_mins(4)).await;
        assert_eq!(app.told_briefly(), ["failed/contact-support"], "{status}");
        assert_eq!(app.told()[0]["errorCode"], "watch-expired", "{status}");
    }
}

#[tokio::test]
async fn a_page_in_place_of_a_refusal_gives_no_job_up_however_old() {
    for status in [400, 404] {
        let mut tasks = JoinSet::new();
        let url = basiq(&mut tasks, refusing((status, PAGE), WORKS)).await;
        let mut app = TestApp::builder()
            .basiq(url)
            .settings(|settings| settings.tracking.job_max_age = Duration::from_mins(20))
            .build()
            .await;
        app.watch("j-1").await;
        app.skip(Duration::from_mins(30)).await;
        assert!(app.told().is_empty(), "{status}");
        app.leave_work();
    }
}

/// A function that creates the route for requests about a bank.
type LookUp = fn() -> axum::routing::MethodRouter;

/// Returns routes for a job whose bank is unavailable. `look_up` answers the requests about the bank.
fn unavailable(now: jiff::Timestamp, look_up: LookUp) -> Router {
    let failed = failure("service-unavailable");
    let document = job("j-1", now, &[("verify-credentials", "failed", failed)]);
    let connection = json!({ "type": "connection", "id": "c-9", "institution": { "id": "AU1" } });
    Router::new()
        .route("/jobs/{id}", get(move || async move { Json(document) }))
        .route(
            "/users/{user}/connections/{id}",
            get(move || async move { Json(connection) }),
        )
        .route("/connectors/{id}/{method}", look_up())
}

#[tokio::test]
async fn a_bank_that_cannot_be_looked_up_never_delays_the_event_by_more_than_five_seconds() {
    let hangs = || get(|| async { std::future::pending::<Json<Value>>().await });
    let fails = || get(|| async { StatusCode::INTERNAL_SERVER_ERROR });
    let unknown = || get(|| async { StatusCode::NOT_FOUND });
    let garbage = || get(|| async { "no json" });
    let degraded = || get(|| async { Json(json!({ "status": "degraded-performance" })) });
    let look_ups: [(&str, LookUp); 5] = [
        ("hangs", hangs),
        ("fails", fails),
        ("unknown", unknown),
        ("garbage", garbage),
        ("degraded", degraded),
    ];
    for (name, look_up) in look_ups {
        let mut tasks = JoinSet::new();
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let url = basiq(&mut tasks, unavailable(now, look_up)).await;
        let mut app = TestApp::builder().basiq(url).build().await;
        app.watch("j-1").await;
        let began = Instant::now();
        app.run_due().await;
        let took = began.elapsed();
        assert!(took < Duration::from_millis(5800), "{name}: {took:?}");
        assert_eq!(app.told_briefly(), ["failed/retry"], "{name}");
        assert!(app.told()[0]["retryAt"].is_string(), "{name}");
    }
}

#[tokio::test]
async fn a_bank_in_major_outage_is_waited_for() {
    let out = || get(|| async { Json(json!({ "status": "major-outage" })) });
    let mut tasks = JoinSet::new();
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let url = basiq(&mut tasks, unavailable(now, out)).await;
    let mut app = TestApp::builder().basiq(url).build().await;
    app.watch("j-1").await;
    app.run_due().await;
    assert_eq!(app.told_briefly(), ["failed/wait-for-bank"]);
}
