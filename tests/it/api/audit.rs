//! The audit log, and operators with names.

use axum::http::Method;
use relay_domain::{ApiKey, SigningSecret};
use serde_json::{Value, json};

use crate::support::{Answer, Identity, TestApp, job, named};

const TOKENS: [(&str, &str); 3] = [
    ("admin", "the token of the admin"),
    ("alice", "the token of alice alone"),
    ("bob", "the token of bob alone"),
];

async fn app() -> TestApp {
    let builder = TestApp::builder();
    let [(_, admin), alice, bob] = TOKENS;
    let builder = builder.settings(|settings| {
        settings.server.admin_token = Some(admin.to_owned().into());
        settings.server.operators = [alice, bob].map(named).into();
    });
    builder.build().await
}

/// Sends a call as the operator of this name, a millisecond after the call before.
async fn ask(app: &TestApp, name: &str, call: &str, body: Option<Value>) -> Answer {
    app.clock.advance(std::time::Duration::from_millis(1));
    let token = TOKENS.iter().find(|(operator, _)| *operator == name);
    let operator = Identity {
        name: name.to_owned(),
        key: ApiKey::presented(token.map_or("another token", |(_, token)| token)),
        secret: SigningSecret::generate(),
    };
    let (method, path) = call.split_once(' ').unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    app.call_as(&operator, method, path, body.as_ref()).await
}

/// Returns operator, act and subject of each entry on a page, newest first.
fn entries(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.text);
    let items = page.body["items"].as_array().unwrap();
    let words = items.iter().map(|item| {
        let words = ["operator", "act", "subject"].map(|key| item[key].as_str().unwrap());
        words.join(" ")
    });
    words.collect()
}

#[tokio::test]
async fn an_operator_cancels_a_watch_of_any_client_and_nothing_more_is_posted() {
    let mut app = app().await;
    let running = job(
        "j-1",
        app.now(),
        &[("verify-credentials", "in-progress", Value::Null)],
    );
    app.sandbox.seed_document("j-1", running);
    let watch = app.watch("j-1").await;
    app.run_due().await;
    let cancel = format!("DELETE /admin/watches/{watch}");
    for _ in 0..2 {
        let cancelled = ask(&app, "alice", &cancel, None).await;
        assert_eq!((cancelled.status, cancelled.text.as_str()), (204, ""));
    }
    assert_eq!(app.story(&watch).await["state"], "cancelled");
    let gone = "DELETE /admin/watches/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q";
    let gone = ask(&app, "alice", gone, None).await;
    assert_eq!(
        (gone.status, &gone.body["type"]),
        (404, &json!("/problems/not-found"))
    );
    let refused = ask(&app, "mallory", &cancel, None).await;
    assert_eq!(refused.status, 401);
    let done = job(
        "j-1",
        app.now(),
        &[("verify-credentials", "success", Value::Null)],
    );
    app.sandbox.seed_document("j-1", done);
    app.skip(std::time::Duration::from_mins(5)).await;
    assert!(app.told().is_empty());
    let page = ask(&app, "bob", "GET /admin/audit", None).await;
    // the second time changed nothing
    let cancelled = format!("alice watch-cancelled {watch}");
    let expected = [&cancelled, "tester client-added test"];
    assert_eq!(entries(&page), expected);
    assert_eq!(page.body["items"][0]["from"], Value::Null);
}

#[tokio::test]
async fn each_act_is_listed_once_with_who_did_it() {
    let app = app().await;
    for (who, call, body) in [
        (
            "admin",
            "POST /admin/clients",
            Some(json!({"name": "shop"})),
        ),
        (
            "alice",
            "POST /admin/clients",
            Some(json!({"name": "shop"})),
        ),
        ("bob", "POST /admin/clients/shop/rotate-secret", None),
        ("bob", "POST /admin/clients/shop/retire-secret", None),
        ("bob", "POST /admin/clients/shop/retire-secret", None),
        ("alice", "POST /admin/clients/shop/rotate-key", None),
        (
            "alice",
            "POST /admin/deliveries/redeliver",
            Some(json!({"since": "2026-01-01T00:00:00Z"})),
        ),
        ("mallory", "POST /admin/clients/shop/rotate-key", None),
        ("alice", "POST /admin/clients/nobody/rotate-key", None),
        ("alice", "DELETE /admin/clients/shop", None),
        ("alice", "DELETE /admin/clients/shop", None),
    ] {
        let answer = ask(&app, who, call, body).await;
        assert!(answer.status < 500, "{}", answer.text);
    }
    let all = [
        "alice client-revoked shop",
        "alice dead-redelivered 2026-01-01T00:00:00Z",
        "alice key-rotated shop",
        "bob secret-retired shop",
        "bob secret-rotated shop",
        "admin client-added shop",
        "tester client-added test",
    ];
    let page = ask(&app, "admin", "GET /admin/audit", None).await;
    assert_eq!(entries(&page), all);
    for (query, expected) in [
        ("operator=bob", &all[3..5]),
        ("act=client-added", &all[5..]),
        ("operator=alice&act=key-rotated", &all[2..3]),
        ("operator=mallory", &[]),
        ("operator=%00", &[]),
    ] {
        let call = format!("GET /admin/audit?{query}");
        let page = ask(&app, "admin", &call, None).await;
        assert_eq!(entries(&page), expected, "{query}");
    }
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let call = format!("GET /admin/audit?limit=3{cursor}");
        let page = ask(&app, "admin", &call, None).await;
        found.extend(entries(&page));
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, all);
    for query in [
        "act=nothing",
        "operator=",
        "cursor=x",
        "limit=0",
        "since=x",
        "act=erased&act=x",
    ] {
        let call = format!("GET /admin/audit?{query}");
        let refused = ask(&app, "admin", &call, None).await;
        assert_eq!(refused.status, 422, "{query}: {}", refused.text);
    }
}

#[tokio::test]
async fn entries_are_deleted_after_their_retention() {
    let mut app = app().await;
    let day = std::time::Duration::from_hours(24);
    app.clock.advance(day);
    ask(
        &app,
        "alice",
        "POST /admin/clients",
        Some(json!({"name": "shop"})),
    )
    .await;
    app.clock.advance(day * 399);
    app.upkeep().await;
    let page = ask(&app, "alice", "GET /admin/audit", None).await;
    assert_eq!(entries(&page), ["alice client-added shop"]);
    app.clock.advance(day);
    app.upkeep().await;
    let page = ask(&app, "alice", "GET /admin/audit", None).await;
    assert_eq!(entries(&page), Vec::<String>::new());
}
