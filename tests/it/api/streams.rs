//! Who may follow a watch in a browser, and from which origin.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request},
};
use relay_domain::SigningSecret;
use serde_json::Value;

use crate::support::actor;
use crate::support::{Answer, TestApp, job};

const OURS: &str = "https://app.example";

/// Registers a watch that has settled, so that its stream ends without a further change.
async fn settled(app: &mut TestApp) -> (String, String) {
    let done = job(
        "j-1",
        app.now(),
        &[("create-report", "success", Value::Null)],
    );
    app.sandbox.seed_document("j-1", done);
    let id = app.watch("j-1").await;
    app.run_due().await;
    let url = app.story(&id).await["streamUrl"].clone();
    (id, url.as_str().unwrap().to_owned())
}

/// Sends a request without a key, as a page of this origin would.
async fn ask(app: &TestApp, method: Method, path: &str, origin: Option<&str>) -> Answer {
    let mut request = Request::builder().uri(path);
    if method == Method::OPTIONS {
        request = request
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "last-event-id");
    }
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    app.send(request.method(method).body(Body::empty()).unwrap())
        .await
}

async fn get(app: &TestApp, path: &str) -> u16 {
    ask(app, Method::GET, path, None).await.status
}

#[tokio::test]
async fn an_address_of_a_stream_is_good_for_a_quarter_of_an_hour_and_for_its_watch() {
    let mut app = TestApp::new().await;
    let (id, url) = settled(&mut app).await;
    let answer = ask(&app, Method::GET, &url, None).await;
    assert_eq!(answer.status, 200);
    let names: Vec<_> = answer
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(names, ["progress", "job.success", "end"]);
    let by_key = app.get(&format!("/watch/{id}/stream")).await;
    assert_eq!(by_key.status, 200);
    // each stream has a wait of its own
    let told = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("retry: "));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(&by_key.text), told(&answer.text));

    let other = app.watch("j-2").await;
    assert_eq!(get(&app, &url.replace(&id, &other)).await, 401);
    let stranger = app.add_client("stranger").await;
    let path = format!("/watch/{id}/stream");
    let foreign = app.call_as(&stranger, Method::GET, &path, None).await;
    assert_eq!(foreign.status, 404);
    app.clock.advance(Duration::from_secs(899));
    assert_eq!(get(&app, &url).await, 200);
    app.clock.advance(Duration::from_secs(1));
    let expired = ask(&app, Method::GET, &url, None).await;
    assert_eq!(expired.status, 401);
    assert_eq!(expired.body["type"], "/problems/unauthorized");
    let fresh = app.story(&id).await["streamUrl"].clone();
    assert_eq!(get(&app, fresh.as_str().unwrap()).await, 200);
    app.leave_work();
}

#[tokio::test]
async fn an_address_outlives_a_restart_and_a_rotation_but_not_its_client() {
    let mut app = TestApp::new().await;
    let (_, url) = settled(&mut app).await;
    app.restart().await;
    assert_eq!(get(&app, &url).await, 200);
    let name = app.client.name.parse().unwrap();
    let until = app.now() + Duration::from_mins(1);
    let (secret, store) = (SigningSecret::generate(), app.store.clone());
    let rotated = store.rotate_secret(&name, &secret, until, actor(), app.now());
    assert!(rotated.await.unwrap());
    assert_eq!(get(&app, &url).await, 200, "both secrets sign");
    app.clock.advance(Duration::from_mins(1));
    assert_eq!(get(&app, &url).await, 401, "the old one signs no more");
    let (_, url) = settled(&mut app).await;
    assert_eq!(get(&app, &url).await, 200);
    app.store
        .revoke_client(&name, actor(), app.now())
        .await
        .unwrap();
    assert_eq!(get(&app, &url).await, 401);
}

/// Returns the headers that let a page in a browser read a response.
fn grants(answer: &Answer) -> Vec<String> {
    let names = answer.headers.keys().map(ToString::to_string);
    names
        .filter(|name| name.starts_with("access-control") || name == "vary")
        .collect()
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_streams_and_the_catalogue_and_nothing_else() {
    let builder = TestApp::builder().settings(|s| s.server.allow_origins = vec![OURS.to_owned()]);
    let mut app = builder.build().await;
    let (id, url) = settled(&mut app).await;
    for path in [&*url, "/catalogue", &format!("/watch/{id}/stream")] {
        for method in [Method::GET, Method::OPTIONS] {
            let ours = ask(&app, method.clone(), path, Some(OURS)).await;
            let granted = ours.header("access-control-allow-origin");
            assert_eq!(granted, OURS, "{method} {path}");
            assert_eq!(ours.header("vary"), "origin", "{method} {path}");
            let theirs = ask(
                &app,
                method.clone(),
                path,
                Some("https://elsewhere.example"),
            )
            .await;
            let granted = theirs.header("access-control-allow-origin");
            assert_eq!(granted, "", "{method} {path}");
        }
    }
    let asked = ask(&app, Method::OPTIONS, &url, Some(OURS)).await;
    assert_eq!(asked.status, 200);
    let allowed = asked.header("access-control-allow-headers");
    assert!(allowed.contains("last-event-id"), "{allowed}");
    assert!(!allowed.contains("authorization"), "{allowed}");
    for path in [
        "/watch",
        &format!("/watch/{id}"),
        "/healthz",
        "/admin/watches",
    ] {
        for method in [Method::GET, Method::OPTIONS] {
            let answer = ask(&app, method, path, Some(OURS)).await;
            assert_eq!(grants(&answer), Vec::<String>::new(), "{path}");
        }
    }
}

#[tokio::test]
async fn without_listed_origins_no_page_may_read_anything() {
    let mut app = TestApp::new().await;
    let (_, url) = settled(&mut app).await;
    for path in [&*url, "/catalogue"] {
        let answer = ask(&app, Method::GET, path, Some(OURS)).await;
        assert_eq!((answer.status, grants(&answer)), (200, vec![]), "{path}");
        let asked = ask(&app, Method::OPTIONS, path, Some(OURS)).await;
        assert_eq!((asked.status, grants(&asked)), (405, vec![]), "{path}");
    }
}
