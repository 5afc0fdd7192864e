//! Responses that are not Basiq's, or not about the requested thing. Examples: a gateway's page, another job's
//! document, text in no valid encoding, impossible times.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{TestApp, failure, job};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// The response of every path, if it is set.
type Page = Option<(u16, String)>;

/// A Basiq with set responses: one page for every path, or documents by path.
#[derive(Clone, Default)]
struct Basiq(Arc<Mutex<Desk>>);

#[derive(Default)]
struct Desk {
    page: Page,
    documents: Vec<(String, Vec<u8>)>,
}

impl Basiq {
    async fn start(tasks: &mut JoinSet<()>) -> (Self, url::Url) {
        let basiq = Self::default();
        basiq.put(
            "/token",
            &json!({ "access_token": "t", "expires_in": 3600 }),
        );
        let answering = basiq.clone();
        let router = Router::new().fallback(move |request: Request| {
            let answer = answering.answer(request.uri().path());
            async move { answer }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (basiq, url.parse().unwrap())
    }

    fn answer(&self, path: &str) -> Response {
        let desk = self.0.lock().unwrap();
        if let Some((status, body)) = &desk.page {
            return (StatusCode::from_u16(*status).unwrap(), body.clone()).into_response();
        }
        let found = desk.documents.iter().rfind(|(known, _)| known == path);
        let unknown = json!({ "type": "list", "data": [{ "code": "resource-not-found" }] });
        match found {
            Some((_, body)) => body.clone().into_response(),
            None => (StatusCode::NOT_FOUND, unknown.to_string()).into_response(),
        }
    }

    fn put(&self, path: &str, document: &Value) {
        self.put_bytes(path, document.to_string().into_bytes());
    }

    fn put_bytes(&self, path: &str, body: Vec<u8>) {
        let mut desk = self.0.lock().unwrap();
        desk.documents.push((path.to_owned(), body));
    }

    fn answer_all(&self, page: Page) {
        self.0.lock().unwrap().page = page;
    }
}

async fn app(tasks: &mut JoinSet<()>) -> (TestApp, Basiq) {
    let (basiq, url) = Basiq::start(tasks).await;
    (TestApp::builder().basiq(url).build().await, basiq)
}

fn running(app: &TestApp, id: &str) -> Value {
    job(
        id,
        app.now(),
        &[("verify-credentials", "in-progress", Value::Null)],
    )
}

fn done(app: &TestApp, id: &str) -> Value {
    job(
        id,
        app.now(),
        &[("verify-credentials", "success", Value::Null)],
    )
}

/// Returns what other servers answer in front of Basiq for a while. They are a web server, a cluster without a
/// backend, an empty answer, and Basiq's own gateway.
fn pages() -> Vec<(u16, String)> {
    let route = json!({ "type": "list", "data": [{
        "type": "error", "code": "resource-not-found", "title": "Route not found",
        "detail": "Route not found for this API version.",
    }] });
    let html = "<html><head><title>404 Not Found</title></head><body>nginx</body></html>";
    vec![
        (404, html.to_owned()),
        (404, "default backend - 404".to_owned()),
        (404, String::new()),
        (404, route.to_string()),
        (400, html.to_owned()),
        (403, html.to_owned()),
        (401, html.to_owned()),
        (200, html.to_owned()),
        (
            200,
            r#"{"status":"success","message":"It works"}"#.to_owned(),
        ),
        (302, String::new()),
    ]
}

#[tokio::test]
async fn pages_of_a_gateway_end_no_watch_and_show_in_the_health() {
    for page in pages() {
        let mut tasks = JoinSet::new();
        let (mut app, basiq) = app(&mut tasks).await;
        for n in 0..8 {
            let id = format!("j-{n}");
            basiq.put(&format!("/jobs/{id}"), &running(&app, &id));
            app.watch(&id).await;
        }
        app.run_due().await;
        assert_eq!(app.get("/readyz").await.body["upstream"], "ok");
        basiq.answer_all(Some(page.clone()));
        for n in 8..10 {
            app.watch(&format!("j-{n}")).await;
        }
        app.pass(10 * SECOND, SECOND).await;
        for _ in 0..13 {
            let ready = app.get("/readyz").await.body;
            let told = (&ready["status"], &ready["upstream"], &ready["breaker"]);
            assert_eq!(
                told,
                (&json!("ready"), &json!("failing"), &json!("open")),
                "{page:?}"
            );
            app.pass(5 * SECOND, SECOND).await;
        }
        assert!(app.told().is_empty(), "{page:?}: {:?}", app.told());
        basiq.answer_all(None);
        for n in 0..10 {
            let id = format!("j-{n}");
            basiq.put(&format!("/jobs/{id}"), &done(&app, &id));
        }
        app.pass(2 * MINUTE, SECOND).await;
        assert_eq!(app.told_briefly(), vec!["success/none"; 10], "{page:?}");
        assert_eq!(app.get("/readyz").await.body["upstream"], "ok", "{page:?}");
    }
}

#[tokio::test]
async fn a_page_in_place_of_a_connector_ends_no_outage() {
    let mut tasks = JoinSet::new();
    let (mut app, basiq) = app(&mut tasks).await;
    let failed = failure("service-unavailable");
    let document = job(
        "j-1",
        app.now(),
        &[("verify-credentials", "failed", failed)],
    );
    basiq.put("/jobs/j-1", &document);
    let connection = json!({ "type": "connection", "id": "c-9", "institution": { "id": "AU1" } });
    basiq.put("/users/u-7/connections/c-9", &connection);
    let connector = |status: &str| json!({ "type": "connector", "id": "AU1", "status": status });
    basiq.put("/connectors/AU1/web", &connector("major-outage"));
    app.watch("j-1").await;
    app.run_due().await;
    assert_eq!(app.told_briefly(), ["failed/wait-for-bank"]);
    for odd in [
        json!({ "status": "UP" }),
        json!({ "type": "list", "data": [] }),
        json!({ "type": "connector", "id": "AU2", "status": "operational" }),
        json!({ "type": "connector", "id": "AU1" }),
        json!("<html>"),
    ] {
        basiq.put("/connectors/AU1/web", &odd);
        app.skip(30 * MINUTE).await;
        assert_eq!(app.told().len(), 1, "{odd}");
    }
    basiq.answer_all(Some((404, "<html>".to_owned())));
    app.skip(30 * MINUTE).await;
    assert_eq!(app.told().len(), 1);
    basiq.answer_all(None);
    basiq.put("/connectors/AU1/web", &connector("operational"));
    app.skip(30 * MINUTE).await;
    assert_eq!(app.told_briefly()[1..], ["failed/retry"]);
}

#[tokio::test]
async fn the_end_of_an_outage_is_told_with_the_jobs_code_although_the_job_moved_meanwhile() {
    let mut tasks = JoinSet::new();
    let (mut app, basiq) = app(&mut tasks).await;
    let failed = |app: &TestApp| {
        let failed = failure("service-unavailable");
        job(
            "j-1",
            app.now(),
            &[("verify-credentials", "failed", failed)],
        )
    };
    basiq.put("/jobs/j-1", &failed(&app));
    let connection = json!({ "type": "connection", "id": "c-9", "institution": { "id": "AU1" } });
    basiq.put("/users/u-7/connections/c-9", &connection);
    let connector = |status: &str| json!({ "type": "connector", "id": "AU1", "status": status });
    basiq.put("/connectors/AU1/web", &connector("major-outage"));
    app.watch("j-1").await;
    app.run_due().await;
    assert_eq!(app.told_briefly(), ["failed/wait-for-bank"]);
    basiq.put("/jobs/j-1", &running(&app, "j-1"));
    basiq.put("/connectors/AU1/web", &connector("operational"));
    let second = app.callback("/second");
    let body = json!({ "jobId": "j-1", "callbackUrl": second, "events": ["success"] });
    assert_eq!(app.post("/watch", &body).await.status, 202);
    app.skip(20 * MINUTE).await;
    basiq.put("/jobs/j-1", &failed(&app));
    app.skip(5 * MINUTE).await;
    assert_eq!(app.told_briefly()[1..], ["failed/retry"]);
    assert_eq!(app.told()[1]["errorCode"], "service-unavailable");
}

#[tokio::test]
async fn another_jobs_document_is_not_read_and_nothing_of_it_is_kept() {
    let whole = |app: &TestApp, id: Value| {
        let refused = failure("invalid-credentials");
        let mut document = job(
            "j-2",
            app.now(),
            &[("verify-credentials", "failed", refused)],
        );
        document["id"] = id;
        document["links"] = json!({ "self": "/jobs/j-2", "source": "/users/u-2/connections/c-2" });
        document
    };
    let mut tasks = JoinSet::new();
    let (mut app, basiq) = app(&mut tasks).await;
    let watch = app.watch("j-1").await;
    let list = json!({ "type": "list", "data": [whole(&app, json!("j-1"))] });
    for odd in [
        whole(&app, json!("j-2")),
        whole(&app, json!(2)),
        whole(&app, Value::Null),
        list,
    ] {
        basiq.put("/jobs/j-1", &odd);
        app.skip(5 * MINUTE).await;
        assert!(app.told().is_empty(), "{odd}");
        let seen = app.story(&watch).await;
        assert_eq!(
            (&seen["state"], &seen["steps"]),
            (&json!("watching"), &json!([])),
            "{odd}"
        );
    }
    basiq.put("/jobs/j-1", &done(&app, "J-1"));
    app.skip(5 * MINUTE).await;
    assert_eq!(app.told_briefly(), ["success/none"]);
    assert_eq!(app.told()[0]["context"]["userId"], "u-7");
}

#[tokio::test]
async fn text_that_no_encoding_holds_hides_nothing_that_a_bank_says() {
    let detail = |detail: &[u8]| {
        let mut body = br#"{"id":"j-1","steps":[{"title":"verify-credentials","status":"failed",
            "result":{"code":"invalid-credentials","detail":""#
            .to_vec();
        body.extend(detail);
        body.extend(br#""}}]}"#);
        body
    };
    let with_mark = [b"\xef\xbb\xbf".to_vec(), detail(b"whole")].concat();
    for (body, told) in [
        (detail(br"smile \ud83d"), "smile \u{fffd}"),
        (detail(b"caf\xe9"), "caf\u{fffd}"),
        (with_mark, "whole"),
    ] {
        let mut tasks = JoinSet::new();
        let (mut app, basiq) = app(&mut tasks).await;
        basiq.put_bytes("/jobs/j-1", body);
        app.watch("j-1").await;
        app.run_due().await;
        assert_eq!(app.told_briefly(), ["failed/resubmit-credentials"]);
        assert_eq!(app.told()[0]["detail"], told);
    }
}

#[tokio::test]
async fn a_time_that_stands_for_none_expires_no_watch() {
    for created in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
        let mut tasks = JoinSet::new();
        let (mut app, basiq) = app(&mut tasks).await;
        for field in ["created", "createdDate"] {
            let id = format!("j-{field}");
            let mut document = running(&app, &id);
            document["created"] = Value::Null;
            document["updated"] = json!(created);
            document[field] = json!(created);
            basiq.put(&format!("/jobs/{id}"), &document);
            app.watch(&id).await;
        }
        app.skip(2 * MINUTE).await;
        assert!(app.told().is_empty(), "{created}: {:?}", app.told());
        for field in ["created", "createdDate"] {
            let id = format!("j-{field}");
            basiq.put(&format!("/jobs/{id}"), &done(&app, &id));
        }
        app.skip(2 * MINUTE).await;
        assert_eq!(app.told_briefly(), vec!["success/none"; 2], "{created}");
    }
}

#[tokio::test]
async fn a_queued_update_without_a_time_is_tried_again_when_it_is_due() {
    let mut tasks = JoinSet::new();
    let (mut app, basiq) = app(&mut tasks).await;
    let failed = failure("service-unavailable");
    let mut document = job("j-1", app.now(), &[("retrieve-accounts", "failed", failed)]);
    document["created"] = json!("0001-01-01T00:00:00Z");
    document["updated"] = json!("0001-01-01T00:00:00Z");
    basiq.put("/jobs/j-1", &document);
    app.watch_with("j-1", json!({ "operation": "update" }))
        .await;
    app.run_due().await;
    assert_eq!(app.told_briefly(), ["delayed/wait"]);
    let retry_at: jiff::Timestamp = app.told()[0]["retryAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(retry_at.duration_since(app.now()).as_secs(), 2 * 3600);
    app.leave_work();
}

#[tokio::test]
async fn a_banks_own_word_for_a_refusal_is_not_basiqs_for_a_key_that_may_not() {
    let coded = |code: &str| json!({ "code": code, "title": "No", "detail": "The bank said no." });
    let said = json!({ "error": "access_denied", "error_description": "No" });
    let detailed = |code: Value| json!({ "code": code, "detail": "access_denied" });
    for (result, code, brief) in [
        (
            coded("access_denied"),
            "access_denied",
            "failed/reauthorise",
        ),
        (
            coded("access-denied"),
            "access-denied",
            "failed/fix-request",
        ),
        (
            coded("Access denied"),
            "access-denied",
            "failed/fix-request",
        ),
        (
            coded("consent_required"),
            "consent_required",
            "failed/reauthorise",
        ),
        (coded("server_error"), "server_error", "failed/retry"),
        (
            coded("invalid_scope"),
            "invalid_scope",
            "failed/contact-support",
        ),
        (said, "access_denied", "failed/reauthorise"),
        (
            detailed(json!("authorization-failed")),
            "authorization-failed",
            "failed/reauthorise",
        ),
        (
            detailed(json!("unknown-error")),
            "unknown-error",
            "failed/reauthorise",
        ),
        (detailed(Value::Null), "unknown-error", "failed/reauthorise"),
        (
            detailed(json!("invalid-credentials")),
            "invalid-credentials",
            "failed/resubmit-credentials",
        ),
    ] {
        let mut tasks = JoinSet::new();
        let (mut app, basiq) = app(&mut tasks).await;
        let document = job(
            "j-1",
            app.now(),
            &[("verify-credentials", "failed", result.clone())],
        );
        basiq.put("/jobs/j-1", &document);
        app.watch("j-1").await;
        app.run_due().await;
        assert_eq!(app.told_briefly(), [brief], "{result}");
        assert_eq!(app.told()[0]["errorCode"], code, "{result}");
    }
}
