//! `POST /watch`: the requests it refuses, the problems it answers, and the response to a good request.

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::{Value, json};

use crate::support::{Answer, Builder, TestApp};

/// Returns a valid registration, except for one field.
fn with(app: &TestApp, field: &str, value: Value) -> Value {
    let mut body = json!({ "jobId": "j-1", "callbackUrl": app.callback("/hook") });
    body[field] = value;
    body
}

fn pointers(answer: &Answer) -> Vec<&str> {
    let faults = answer.body["errors"].as_array().unwrap();
    faults
        .iter()
        .map(|fault| fault["pointer"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn each_rule_that_is_broken_is_named_by_its_field() {
    let app = TestApp::new().await;
    let long_url = format!("https://app.example/{}", "x".repeat(2048));
    for (field, value, pointer) in [
        ("jobId", Value::Null, "/jobId"),
        ("jobId", json!(""), "/jobId"),
        ("jobId", json!(".."), "/jobId"),
        ("jobId", json!("a/b"), "/jobId"),
        ("jobId", json!("x".repeat(129)), "/jobId"),
        ("jobId", json!(7), "/jobId"),
        ("callbackUrl", Value::Null, "/callbackUrl"),
        ("callbackUrl", json!("/hook"), "/callbackUrl"),
        ("callbackUrl", json!("ftp://app.example/"), "/callbackUrl"),
        (
            "callbackUrl",
            json!("https://a:b@app.example/"),
            "/callbackUrl",
        ),
        (
            "callbackUrl",
            json!("https://app.example/#x"),
            "/callbackUrl",
        ),
        ("callbackUrl", json!(long_url), "/callbackUrl"),
        ("callbackUrl", json!("https://10.0.0.1/"), "/callbackUrl"),
        (
            "callbackUrl",
            json!("https://169.254.169.254/"),
            "/callbackUrl",
        ),
        ("callbackUrl", json!("https://[::1]/"), "/callbackUrl"),
        ("operation", json!("dance"), "/operation"),
        ("events", json!("success"), "/events"),
        ("events", json!([]), "/events"),
        ("events", json!(["success", "x"]), "/events/1"),
        ("until", json!(""), "/until"),
        ("locale", json!("_"), "/locale"),
        ("metadata", json!([]), "/metadata"),
        ("metadata", json!({ "a": "x".repeat(4096) }), "/metadata"),
        ("surplus", json!(1), "/surplus"),
    ] {
        let answer = app.post("/watch", &with(&app, field, value.clone())).await;
        assert_eq!(answer.status, 422, "{field}: {value}");
        assert_eq!(answer.body["type"], "/problems/invalid-field");
        assert_eq!(pointers(&answer), [pointer], "{field}: {value}");
    }
}

#[tokio::test]
async fn each_way_to_ask_wrongly_has_its_status_and_a_request_id() {
    let app = TestApp::new().await;
    let bearer = format!("Bearer {}", app.client.key.expose());
    let (json, big) = ("application/json", "x".repeat(16 * 1024 + 1));
    for (method, path, key, kind, body, expected) in [
        ("POST", "/watch", "", json, "{}", 401),
        ("POST", "/watch", "Bearer brk_x", json, "{}", 401),
        ("POST", "/watch", &bearer, json, "{", 400),
        ("POST", "/watch", &bearer, json, "[]", 422),
        ("POST", "/watch", &bearer, json, &big, 413),
        ("POST", "/watch", &bearer, "text/plain", "{}", 415),
        ("POST", "/watch", &bearer, "", "{}", 415),
        ("PUT", "/watch", &bearer, json, "{}", 405),
        ("POST", "/watches", &bearer, json, "{}", 404),
    ] {
        let request = Request::builder().method(method).uri(path);
        let given = [("authorization", key), ("content-type", kind)].into_iter();
        let request = given
            .filter(|(_, value)| !value.is_empty())
            .fold(request, |request, (name, value)| {
                request.header(name, value)
            });
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = app.send(request).await;
        assert_eq!(answer.status, expected, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.headers.contains_key("x-request-id"));
        assert_eq!(answer.headers.contains_key("allow"), expected == 405);
    }
}

#[tokio::test]
async fn a_watch_is_accepted_once_and_found_the_second_time() {
    let app = TestApp::new().await;
    let body = with(&app, "metadata", json!({ "order": 7 }));
    let first = app.post("/watch", &body).await;
    assert_eq!(first.status, 202, "{}", first.text);
    let id = first.body["id"].as_str().unwrap();
    assert_eq!(first.header("location"), format!("/watch/{id}"));
    assert_eq!(first.body["state"], "watching");
    assert_eq!(first.body["metadata"], json!({ "order": 7 }));
    assert_eq!(app.story(id).await, first.body);
    let again = app.post("/watch", &body).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(again.header("location"), first.header("location"));
    let path = format!("/watch/{id}");
    assert_eq!(app.delete(&path).await.status, 204);
}

async fn refused(builder: Builder, callback: &str) -> Answer {
    let app = builder.build().await;
    let body = json!({ "jobId": "j-1", "callbackUrl": callback });
    app.post("/watch", &body).await
}

#[tokio::test]
async fn plain_http_and_private_hosts_are_refused_unless_allowed() {
    let strict = || {
        TestApp::builder().settings(|settings| {
            settings.delivery.allow_http = false;
            settings.delivery.allow_networks.clear();
        })
    };
    for callback in ["http://app.example/", "https://127.0.0.1/"] {
        let answer = refused(strict(), callback).await;
        assert_eq!(
            (answer.status, pointers(&answer)),
            (422, vec!["/callbackUrl"])
        );
    }
}

#[tokio::test]
async fn a_client_over_its_limits_is_told_when_to_come_back() {
    let builder = TestApp::builder().settings(|settings| {
        settings.server.client_max_open_watches = 1;
    });
    let app = builder.build().await;
    let id = app.watch("j-1").await;
    let capped = app.post("/watch", &with(&app, "jobId", json!("j-2"))).await;
    assert_eq!((capped.status, capped.header("retry-after")), (429, "60"));
    assert_eq!(capped.body["type"], "/problems/too-many-open-watches");
    app.delete(&format!("/watch/{id}")).await;

    let app = TestApp::builder()
        .settings(|settings| settings.server.client_rps = 1)
        .build()
        .await;
    assert_eq!(app.get("/watch").await.status, 200);
    let early = app.call_as(&app.client, Method::GET, "/watch", None).await;
    assert_eq!((early.status, early.header("retry-after")), (429, "1"));
    assert_eq!(early.body["type"], "/problems/too-many-requests");
}
