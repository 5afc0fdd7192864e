//! Tests the whole API without a socket, on a store that keeps watches in a list.

mod examples;
mod list_store;
mod no_operator;
mod no_subscriptions;
mod streams;
mod two_clients;

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use jiff::Timestamp;
use relay_domain::UpstreamHealth;
use relay_runtime::Reloadable;
use serde_json::{Value, json};
use tower::ServiceExt;

use self::list_store::{KEY, ListStore, OTHER_KEY};
use super::*;
use crate::config::Settings;

const ADMIN: &str = "open sesame";

struct App(Router);

impl App {
    fn new(change: impl FnOnce(&mut ApiParts)) -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let upstream = Upstream::default();
        let basiq = BasiqClient::new(&Settings::default().basiq, clock.clone(), upstream.clone());
        let store = Arc::new(ListStore::default());
        let mut parts = ApiParts {
            follows: FollowRegistry::new(4096),
            store,
            clock,
            server: Settings::default().server,
            rules: CallbackRules::default(),
            catalogue: Arc::new(Catalogue::builtin()),
            tracker_wake: Wake::new(),
            discovery_wake: Wake::new(),
            delivery_wake: Wake::new(),
            upstream,
            basiq: basiq.unwrap(),
            admin: OperatorTokens::new(&Settings::default().server),
            hints: HintRules {
                secret: Reloadable::new(None),
                interval: std::time::Duration::from_secs(1),
                forward: None,
            },
            metrics: Arc::new(|| "relay_watches 1\n".to_owned()),
        };
        change(&mut parts);
        let delivery = Settings::default().delivery;
        let tester = CallbackTester::alone(&delivery, parts.clock.clone()).unwrap();
        Self(router(parts, tester, Router::new()))
    }

    async fn send(&self, request: Request<Body>) -> (http::response::Parts, Value) {
        let answer = self.0.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (parts, value)
    }

    async fn ask(&self, call: &str, key: &str, body: Option<&str>) -> (StatusCode, Value) {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| body.to_owned().into());
        let (parts, value) = self.send(request.body(body).unwrap()).await;
        (parts.status, value)
    }

    async fn register(&self, job: &str) -> (StatusCode, Value) {
        let body = json!({"jobId": job, "callbackUrl": "https://app.example/hook"}).to_string();
        self.ask("POST /watch", KEY, Some(&body)).await
    }
}

#[tokio::test]
async fn a_watch_is_registered_once_read_listed_and_cancelled() {
    let wake = Wake::new();
    let app = App::new(|parts| parts.tracker_wake = wake.clone());
    let (status, watch) = app.register("job-1").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    wake.notified().await;
    assert_eq!(watch["nextPollAt"], "2027-01-15T08:00:00Z");
    let (status, again) = app.register("job-1").await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &watch["id"]));
    let path = format!("/watch/{}", watch["id"].as_str().unwrap());
    let (status, read) = app.ask(&format!("GET {path}"), KEY, None).await;
    assert_eq!((status, read), (StatusCode::OK, watch));
    for (call, key, expected) in [
        (format!("GET {path}"), OTHER_KEY, 404),
        (format!("DELETE {path}"), OTHER_KEY, 404),
        (format!("POST {path}/redeliver"), OTHER_KEY, 404),
        (format!("POST {path}/redeliver"), KEY, 409),
        (format!("DELETE {path}"), KEY, 204),
    ] {
        let (status, _) = app.ask(&call, key, None).await;
        assert_eq!(status, expected, "{call}");
    }
}

async fn assert_problem(call: &str, key: &str, body: Option<&str>, expected: (u16, &str)) {
    let (status, kind) = expected;
    let (answered, problem) = App::new(|_| ()).ask(call, key, body).await;
    assert_eq!(answered, status, "{call}");
    assert_eq!(problem["type"], format!("/problems/{kind}"), "{call}");
    assert_eq!(problem["status"], status, "{call}");
}

#[tokio::test]
async fn each_fault_of_a_body_has_its_status_and_problem() {
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(17_000));
    let unauthorized = (401, "unauthorized");
    for (call, key, body, expected) in [
        ("POST /watch", "", Some("{}"), unauthorized),
        ("POST /watch", "brk_x", Some("{}"), unauthorized),
        ("POST /watch", KEY, None, (415, "unsupported-media-type")),
        ("POST /watch", KEY, Some("{"), (400, "not-json")),
        ("POST /watch", KEY, Some("[]"), (422, "not-an-object")),
        ("POST /watch", KEY, Some("{}"), (422, "invalid-field")),
        ("POST /watch", KEY, Some(&huge), (413, "body-too-large")),
        (
            "POST /deliveries/redeliver",
            KEY,
            Some("{}"),
            (422, "invalid-field"),
        ),
    ] {
        assert_problem(call, key, body, expected).await;
    }
}

#[tokio::test]
async fn each_fault_of_an_address_has_its_status_and_problem() {
    let (nothing, invalid) = ((404, "not-found"), (422, "invalid-parameter"));
    for (call, key, expected) in [
        ("GET /watch", "", (401, "unauthorized")),
        ("PUT /watch", "", (405, "method-not-allowed")),
        ("GET /watches", "", nothing),
        ("GET /watch/wch_1", KEY, nothing),
        ("GET /watch/%ff", KEY, nothing),
        ("GET /admin/watches", KEY, nothing),
        ("GET /watch?limit=0&x=1", KEY, invalid),
        ("GET /watch?cursor=x", KEY, invalid),
        ("GET /watch?state=open", KEY, invalid),
        ("GET /deliveries?limit=201", KEY, invalid),
        ("GET /catalogue?locale=_", "", invalid),
    ] {
        assert_problem(call, key, None, expected).await;
    }
}

#[tokio::test]
async fn answers_carry_the_headers_of_the_contract() {
    let app = App::new(|_| ());
    let request = Request::get("/watch").body(Body::empty()).unwrap();
    let (parts, _) = app.send(request).await;
    assert_eq!(parts.headers["content-type"], "application/problem+json");
    assert!(
        parts.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Bearer")
    );
    let request = Request::put("/watch").body(Body::empty()).unwrap();
    let (parts, _) = app.send(request).await;
    assert_eq!(parts.headers["allow"], "POST,GET,HEAD");
}

#[tokio::test]
async fn a_client_stays_within_its_limits() {
    let app = App::new(|parts| parts.server.client_max_open_watches = 1);
    assert_eq!(app.register("job-1").await.0, StatusCode::ACCEPTED);
    let (status, problem) = app.register("job-2").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(problem["type"], "/problems/too-many-open-watches");
    let app = App::new(|parts| parts.server.client_rps = 1);
    assert_eq!(app.ask("GET /watch", KEY, None).await.0, StatusCode::OK);
    let request = Request::get("/watch").header("authorization", format!("Bearer {KEY}"));
    let (parts, _) = app.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(parts.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(parts.headers["retry-after"], "1");
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let app = App::new(|_| ());
    // ids created within one millisecond have no defined order, so the test does not check the order of the pages
    for job in ["job-1", "job-2", "job-3"] {
        app.register(job).await;
    }
    let (_, page) = app.ask("GET /watch?limit=2", KEY, None).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let last = page["items"][1]["id"].as_str().unwrap();
    let cursor = page["nextCursor"].as_str().unwrap();
    assert!(!cursor.contains(last));
    let (status, _) = app
        .ask(&format!("GET /watch?cursor={cursor}"), KEY, None)
        .await;
    assert_eq!(status, StatusCode::OK);
    let (_, page) = app.ask("GET /watch?limit=3", KEY, None).await;
    assert_eq!(page["nextCursor"], Value::Null);
}

#[tokio::test]
async fn a_store_that_is_away_makes_the_relay_unready_but_not_dead() {
    let store = ListStore {
        away: true,
        ..ListStore::default()
    };
    let app = App::new(|parts| {
        parts.store = Arc::new(store);
        parts.upstream.report(UpstreamHealth::KeyRefused);
    });
    assert_eq!(app.ask("GET /healthz", "", None).await.0, StatusCode::OK);
    let (status, body) = app.ask("GET /readyz", "", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (&body["store"], &body["upstream"]),
        (&json!("unreachable"), &json!("key-refused"))
    );
    let (status, problem) = app.register("job-1").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!problem.to_string().contains("disk"), "{problem}");
}

#[tokio::test]
async fn basiq_alone_does_not_make_the_relay_unready() {
    let app = App::new(|parts| {
        parts.upstream.report(UpstreamHealth::Failing);
        parts.upstream.set_breaker_open(true);
    });
    let (status, body) = app.ask("GET /readyz", "", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body,
        json!({"status": "ready", "store": "ok", "upstream": "failing", "breaker": "open"})
    );
}

#[tokio::test]
async fn open_pages_need_no_key() {
    let app = App::new(|_| ());
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/catalogue",
        "/docs",
        "/openapi.json",
    ] {
        let (status, _) = app.ask(&format!("GET {path}"), "", None).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn metrics_move_to_their_own_address() {
    let app = App::new(|parts| parts.server.metrics_listen = Some(parts.server.listen));
    assert_eq!(
        app.ask("GET /metrics", "", None).await.0,
        StatusCode::NOT_FOUND
    );
    let app = App(metrics_router(Arc::new(|| "relay_watches 1\n".to_owned())));
    let (status, body) = app.ask("GET /metrics", "", None).await;
    assert_eq!((status, body), (StatusCode::OK, json!("relay_watches 1\n")));
}

#[tokio::test]
async fn the_operator_sees_the_watches_of_all_clients() {
    let app = App::new(|parts| {
        parts.server.admin_token = Some(ADMIN.into());
        parts.admin = OperatorTokens::new(&parts.server);
    });
    let (_, watch) = app.register("job-1").await;
    for key in ["", KEY] {
        let (status, _) = app.ask("GET /admin/watches", key, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let (_, page) = app.ask("GET /admin/watches?limit=5", ADMIN, None).await;
    assert_eq!(page["items"][0]["client"], "a");
    let one = format!("GET /admin/watches/{}", watch["id"].as_str().unwrap());
    assert_eq!(app.ask(&one, ADMIN, None).await.1, page["items"][0]);
}
