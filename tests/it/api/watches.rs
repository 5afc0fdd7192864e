//! Watches: a client reads, lists, cancels and redelivers them.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::TestApp;

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn watches_are_listed_in_pages_and_by_job_and_state() {
    let app = TestApp::new().await;
    let mut made = Vec::new();
    for index in 0..5 {
        app.clock.advance(std::time::Duration::from_millis(5));
        made.insert(0, app.watch(&format!("j-{index}")).await);
    }
    let mut seen = Vec::new();
    let mut path = "/watch?limit=2".to_owned();
    loop {
        let page = app.get(&path).await.body;
        seen.extend(ids(&page));
        let Some(cursor) = page["nextCursor"].as_str() else {
            break;
        };
        path = format!("/watch?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, made);

    let cancelled = &made[4];
    app.delete(&format!("/watch/{cancelled}")).await;
    for (query, expected) in [
        ("jobId=j-3", &made[1..2]),
        ("state=cancelled", &made[4..]),
        ("state=watching", &made[..4]),
        ("jobId=j-3&state=settled", &[]),
    ] {
        let page = app.get(&format!("/watch?{query}")).await.body;
        assert_eq!(ids(&page), expected, "{query}");
    }
}

#[tokio::test]
async fn another_clients_watch_is_not_there() {
    let app = TestApp::new().await;
    let path = format!("/watch/{}", app.watch("j-1").await);
    let other = app.add_client("other").await;
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/redeliver")),
    ] {
        let answer = app.call_as(&other, method, &path, None).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let page = app.call_as(&other, Method::GET, "/watch", None).await;
    assert_eq!(page.body, json!({ "items": [], "nextCursor": null }));
    assert_eq!(app.get(&path).await.body["state"], "watching");
}

#[tokio::test]
async fn a_watch_is_cancelled_as_often_as_one_likes_and_not_redelivered() {
    let app = TestApp::new().await;
    let path = format!("/watch/{}", app.watch("j-1").await);
    let redeliver = format!("{path}/redeliver");
    let early = app
        .call_as(&app.client, Method::POST, &redeliver, None)
        .await;
    assert_eq!(early.status, 409);
    assert_eq!(early.body["type"], "/problems/nothing-to-redeliver");
    for _ in 0..2 {
        let answer = app.delete(&path).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    assert_eq!(app.get(&path).await.body["state"], "cancelled");
    let late = app
        .call_as(&app.client, Method::POST, &redeliver, None)
        .await;
    assert_eq!(late.status, 409);
    assert_eq!(late.body["type"], "/problems/watch-cancelled");
}
