//! The operator's API.

use std::time::Duration;

use axum::http::Method;
use relay_domain::{ApiKey, SigningSecret};
use serde_json::{Value, json};

use crate::support::{Answer, Identity, TestApp, job};

const TOKEN: &str = "the operator's token";

async fn app() -> TestApp {
    let builder = TestApp::builder();
    let builder = builder.settings(|s| s.server.admin_token = Some(TOKEN.to_owned().into()));
    builder.build().await
}

async fn ask(app: &TestApp, call: &str, body: Option<Value>) -> Answer {
    let operator = Identity {
        name: "operator".to_owned(),
        key: ApiKey::presented(TOKEN),
        secret: SigningSecret::generate(),
    };
    let (method, path) = call.split_once(' ').unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    app.call_as(&operator, method, path, body.as_ref()).await
}

fn identity(name: &str, key: &Value, secret: &Value) -> Identity {
    Identity {
        name: name.to_owned(),
        key: ApiKey::presented(key.as_str().unwrap()),
        secret: SigningSecret::parse(secret.as_str().unwrap()).unwrap(),
    }
}

#[tokio::test]
async fn a_client_is_added_rotated_and_revoked() {
    let app = app().await;
    let added = ask(&app, "POST /admin/clients", Some(json!({"name": "shop"}))).await;
    assert_eq!(added.status, 201);
    assert_eq!(added.header("cache-control"), "no-store");
    let shop = identity("shop", &added.body["apiKey"], &added.body["signingSecret"]);
    let list = async |who: &Identity| {
        let answer = app.call_as(who, Method::GET, "/watch", None).await;
        answer.status
    };
    assert_eq!(list(&shop).await, 200);

    let rotated = ask(&app, "POST /admin/clients/shop/rotate-secret", None).await;
    assert_eq!(rotated.status, 200);
    assert_ne!(rotated.body["signingSecret"], added.body["signingSecret"]);
    app.add_callback_header("shop", "X-Key").await;
    let clients = ask(&app, "GET /admin/clients", None).await;
    let seen = &clients.body["items"][0];
    assert_eq!(seen["name"], "shop");
    assert_eq!(
        seen["previousSecretUntil"],
        rotated.body["previousSecretUntil"]
    );
    let shown = json!({ "certificateExpiresAt": null, "headers": ["x-key"], "unreadable": [] });
    assert_eq!(seen["callbackAuth"], shown);
    assert_eq!(clients.body["items"][1]["callbackAuth"], Value::Null);
    for word in ["brk_", "whsec_", "\"***\"", "header-word"] {
        assert!(!clients.text.contains(word), "{}", clients.text);
    }
    for retired in [true, false] {
        let answer = ask(&app, "POST /admin/clients/shop/retire-secret", None).await;
        assert_eq!(answer.body, json!({"name": "shop", "retired": retired}));
    }
    let clients = ask(&app, "GET /admin/clients", None).await;
    assert_eq!(clients.body["items"][0]["previousSecretUntil"], Value::Null);

    let renewed = ask(&app, "POST /admin/clients/shop/rotate-key", None).await;
    let renewed = identity(
        "shop",
        &renewed.body["apiKey"],
        &rotated.body["signingSecret"],
    );
    assert_eq!((list(&shop).await, list(&renewed).await), (401, 200));

    let revoked = ask(&app, "DELETE /admin/clients/shop", None).await;
    assert_eq!(revoked.body, json!({"name": "shop", "cancelledWatches": 0}));
    assert_eq!(list(&renewed).await, 401);
}

#[tokio::test]
async fn what_cannot_be_done_to_a_client_is_told() {
    let app = app().await;
    let long = "x".repeat(65);
    for (body, kind) in [
        (json!({"name": "test"}), "name-taken"),
        (json!({}), "invalid-field"),
        (json!({"name": "a b"}), "invalid-field"),
        (json!({"name": long}), "invalid-field"),
        (json!({"name": "a", "key": "brk_mine"}), "invalid-field"),
        (json!([]), "not-an-object"),
    ] {
        let answer = ask(&app, "POST /admin/clients", Some(body.clone())).await;
        assert_eq!(answer.body["type"], format!("/problems/{kind}"), "{body}");
    }
    for call in [
        "DELETE /admin/clients/nobody",
        "POST /admin/clients/nobody/rotate-secret",
        "POST /admin/clients/nobody/retire-secret",
        "POST /admin/clients/nobody/rotate-key",
        "POST /admin/clients/a%20b/rotate-key",
    ] {
        assert_eq!(ask(&app, call, None).await.status, 404, "{call}");
    }
    let clients = ask(&app, "GET /admin/clients", None).await;
    assert_eq!(clients.body["items"].as_array().unwrap().len(), 1);
}

const CALLS: &[&str] = &[
    "GET /admin/watches",
    "DELETE /admin/watches/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q",
    "GET /admin/audit",
    "GET /admin/deliveries",
    "POST /admin/deliveries/redeliver",
    "GET /admin/clients",
    "POST /admin/clients",
    "DELETE /admin/clients/test",
    "POST /admin/clients/test/rotate-secret",
    "POST /admin/clients/test/retire-secret",
    "POST /admin/clients/test/rotate-key",
    "POST /admin/erase",
];

#[tokio::test]
async fn a_clients_key_opens_none_of_them_and_without_a_token_there_are_none() {
    let (open, closed) = (app().await, TestApp::new().await);
    for call in CALLS {
        let (method, path) = call.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = open.call_as(&open.client, method, path, None).await;
        assert_eq!(answer.status, 401, "{call}");
        assert_eq!(ask(&closed, call, None).await.status, 404, "{call}");
    }
    assert_eq!(open.get("/watch").await.status, 200);
}

#[tokio::test]
async fn deliveries_of_all_clients_are_listed_and_queued_again() {
    let builder = TestApp::builder().settings(|settings| {
        settings.server.admin_token = Some(TOKEN.to_owned().into());
        settings.delivery.retry_schedule = vec![Duration::from_secs(1)];
    });
    let mut app = builder.build().await;
    let other = app.add_client("other").await;
    app.receiver.answer(4, 500);
    for who in [&app.client, &other] {
        let done = job(
            "j-1",
            app.now(),
            &[("create-report", "success", Value::Null)],
        );
        app.sandbox.seed_document("j-1", done);
        let body = json!({"jobId": "j-1", "callbackUrl": app.callback("/hook")});
        let answer = app.call_as(who, Method::POST, "/watch", Some(&body)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
    app.pass(Duration::from_secs(10), Duration::from_secs(1))
        .await;
    let dead = ask(&app, "GET /admin/deliveries", None).await;
    let dead = dead.body["items"].as_array().unwrap().clone();
    let mut owners: Vec<_> = dead
        .iter()
        .map(|item| item["client"].as_str().unwrap())
        .collect();
    owners.sort_unstable();
    assert_eq!(owners, ["other", "test"]);

    let one = format!("/deliveries/{}/redeliver", dead[0]["id"].as_str().unwrap());
    let strangers = app.add_client("stranger").await;
    let refused = app.call_as(&strangers, Method::POST, &one, None).await;
    assert_eq!(refused.status, 404);
    let queued = ask(&app, &format!("POST /admin{one}"), None).await;
    assert_eq!(
        (queued.status, &queued.body["eventId"]),
        (202, &dead[0]["event"]["id"])
    );
    app.run_due().await;
    let since = json!({"since": "2020-01-01T00:00:00Z"});
    let queued = ask(&app, "POST /admin/deliveries/redeliver", Some(since)).await;
    assert_eq!(queued.body, json!({"queued": 1}));
    app.run_due().await;
    let received = app.receiver.received();
    assert_eq!(received.len(), 6);
    let delivered = ask(&app, "GET /admin/deliveries?state=delivered", None).await;
    assert_eq!(
        delivered.body["items"][0]["attempts"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let latest = dead[0]["watchId"].as_str().unwrap();
    let queued = ask(
        &app,
        &format!("POST /admin/watches/{latest}/redeliver"),
        None,
    )
    .await;
    assert_eq!(queued.status, 202);
    app.run_due().await;
    assert_eq!(app.receiver.received().len(), 7);
}
