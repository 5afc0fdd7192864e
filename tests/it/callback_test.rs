//! `POST /callback-test`: what a callback did with a signed test event, and what to do about it.

use std::time::{Duration, Instant};

use axum::http::Method;
use relay_store::HostLimits;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;

use crate::support::{Answer, TestApp, actor};

async fn test(app: &TestApp, url: &str) -> Answer {
    app.post("/callback-test", &json!({ "callbackUrl": url }))
        .await
}

/// Tests a callback that may be tested. Returns the result.
async fn tested(app: &TestApp, url: &str) -> Value {
    let answer = test(app, url).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

#[tokio::test]
async fn a_test_event_arrives_signed_and_nothing_is_stored() {
    let app = TestApp::new().await;
    let result = tested(&app, &app.callback("/hook")).await;
    assert_eq!(result["status"], 204);
    assert_eq!(result["error"], Value::Null);
    assert_eq!(result["address"], "127.0.0.1");
    assert!(
        result["durationMs"]
            .as_u64()
            .is_some_and(|millis| millis < 15_000)
    );
    assert!(result["advice"].as_str().unwrap().starts_with("Nothing"));
    let received = app.receiver.received();
    assert_eq!(received.len(), 1);
    let one = &received[0];
    assert_eq!(
        (one.path.as_str(), &one.body["type"]),
        ("/hook", &json!("relay.test"))
    );
    let official = Webhook::new(app.client.secret.expose()).unwrap();
    official.verify(one.raw.as_bytes(), &one.headers).unwrap();
    assert!(one.header("webhook-id").starts_with("evt_"));

    let limits = HostLimits {
        per_host: 9,
        ..HostLimits::default()
    };
    let due = app.store.next_delivery_due(&limits).await.unwrap();
    assert_eq!(due, None, "nothing waits to be sent");
    for state in ["delivered", "dead", "pending"] {
        let listed = app.get(&format!("/deliveries?state={state}")).await;
        assert_eq!(listed.body["items"], json!([]), "{state}");
    }
    app.post(
        "/watch/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q/redeliver",
        &json!({}),
    )
    .await;
    assert_eq!(app.receiver.received().len(), 1);
}

#[tokio::test]
async fn each_answer_has_its_error_and_its_advice() {
    let app = TestApp::new().await;
    for (status, error, advice) in [
        (302, "redirected", "redirect"),
        (401, "refused", "signing secret"),
        (404, "refused", "path"),
        (405, "refused", "POST"),
        (410, "refused", "410"),
        (415, "refused", "application/json"),
        (429, "refused", "more requests"),
        (503, "refused", "log"),
    ] {
        app.receiver.answer(1, status);
        let result = tested(&app, &app.callback("/hook")).await;
        assert_eq!(
            (&result["status"], &result["error"]),
            (&json!(status), &json!(error))
        );
        assert!(
            result["advice"].as_str().unwrap().contains(advice),
            "{result}"
        );
    }
    assert_eq!(app.receiver.received().len(), 8, "each was sent once");
}

#[tokio::test]
async fn a_callback_that_cannot_be_reached_is_told_with_why() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}/", silent.local_addr().unwrap());
    let app = TestApp::builder()
        .settings(|settings| settings.delivery.timeout = Duration::from_millis(300))
        .build()
        .await;
    let tls = app.callback("/").replace("http:", "https:");
    for (url, error, address) in [
        (silent.as_str(), "timed-out", json!("127.0.0.1")),
        ("http://127.0.0.1:9/", "connect", json!("127.0.0.1")),
        (&tls, "tls", json!("127.0.0.1")),
    ] {
        let result = tested(&app, url).await;
        let told = (&result["status"], &result["error"], &result["address"]);
        assert_eq!(told, (&Value::Null, &json!(error), &address), "{url}");
    }
    let through = TestApp::builder()
        .settings(|settings| {
            let proxy = basiq_relay::config::EgressProxy::parse("http://127.0.0.1:9");
            settings.delivery.proxy = proxy;
        })
        .build()
        .await;
    let result = tested(&through, &through.callback("/hook")).await;
    assert_eq!(result["error"], "proxy");
    assert!(through.receiver.received().is_empty());
}

#[tokio::test]
async fn only_the_address_itself_is_refused() {
    let app = TestApp::new().await;
    for url in [
        "",
        "app.example",
        "https://10.0.0.1/",
        "https://a:b@app.example/",
        "ftp://a/",
    ] {
        let answer = test(&app, url).await;
        assert_eq!(answer.status, 422, "{url}");
        assert_eq!(answer.body["errors"][0]["pointer"], "/callbackUrl");
    }
    let answer = app.post("/callback-test", &json!({ "url": "x" })).await;
    assert_eq!(answer.status, 422);
    let nobody = crate::support::Identity {
        key: relay_domain::ApiKey::generate(),
        ..app.client.clone()
    };
    let body = json!({ "callbackUrl": app.callback("/hook") });
    let answer = app
        .call_as(&nobody, Method::POST, "/callback-test", Some(&body))
        .await;
    assert_eq!(answer.status, 401);
    assert!(app.receiver.received().is_empty());
}

#[tokio::test]
async fn a_client_may_make_sixty_tests_at_once_and_no_more() {
    let app = TestApp::new().await;
    let other = app.add_client("other").await;
    let hook = app.callback("/hook");
    // one more is free with each second
    let began = Instant::now();
    let (mut accepted, mut answer) = (0, test(&app, &hook).await);
    while answer.status == 200 {
        accepted += 1;
        answer = test(&app, &hook).await;
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!((60..=61 + seconds).contains(&accepted), "{accepted}");
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(app.receiver.received().len(), accepted);
    let body = json!({ "callbackUrl": hook });
    let answer = app
        .call_as(&other, Method::POST, "/callback-test", Some(&body))
        .await;
    assert_eq!(answer.status, 200, "clients do not share the limit");
}

#[tokio::test]
async fn a_host_that_is_full_gets_no_test() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let app = TestApp::builder()
        .settings(|settings| {
            settings.delivery.concurrency_per_host = 1;
            settings.delivery.timeout = Duration::from_secs(1);
        })
        .build()
        .await;
    let (one, two) = tokio::join!(tested(&app, &url), tested(&app, &url));
    let mut errors = [one["error"].clone(), two["error"].clone()];
    errors.sort_by_key(ToString::to_string);
    assert_eq!(errors, [json!("busy"), json!("timed-out")]);
    assert_eq!(tested(&app, &app.callback("/hook")).await["status"], 204);
}

#[tokio::test]
async fn both_secrets_sign_while_a_rotation_lasts() {
    let app = TestApp::new().await;
    let new = relay_domain::SigningSecret::generate();
    let until = app.now() + Duration::from_hours(1);
    let name = app.client.name.parse().unwrap();
    let rotated = app
        .store
        .rotate_secret(&name, &new, until, actor(), app.now());
    assert!(rotated.await.unwrap());
    tested(&app, &app.callback("/hook")).await;
    let one = &app.receiver.received()[0];
    for secret in [&app.client.secret, &new] {
        let official = Webhook::new(secret.expose()).unwrap();
        official.verify(one.raw.as_bytes(), &one.headers).unwrap();
    }
}

#[tokio::test]
async fn a_callback_that_hangs_is_told_of_although_other_calls_may_not_take_as_long() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let app = TestApp::builder()
        .settings(|settings| settings.delivery.timeout = Duration::from_secs(11))
        .build()
        .await;
    let told = tested(&app, &url).await;
    assert_eq!(told["error"], "timed-out", "{told}");
}
