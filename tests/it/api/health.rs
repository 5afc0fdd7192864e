//! The calls that need no key: health, metrics and the catalogue.

use serde_json::{Value, json};

use crate::support::{TestApp, job};

#[tokio::test]
async fn a_relay_is_alive_and_ready() {
    let app = TestApp::new().await;
    assert_eq!(app.get("/healthz").await.body, json!({ "status": "ok" }));
    let ready = app.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["store"]), (200, &json!("ok")));
}

#[tokio::test]
async fn a_refused_key_is_told_but_does_not_make_the_relay_unready() {
    let mut app = TestApp::builder()
        .sandbox(|options| options.api_key = Some("another-key".to_owned().into()))
        .build()
        .await;
    app.watch("j-1").await;
    app.run_due().await;
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.body["upstream"], "key-refused");
    app.leave_work();
}

#[tokio::test]
async fn the_metrics_of_a_journey_are_there() {
    let mut app = TestApp::new().await;
    let done = job(
        "j-1",
        app.now(),
        &[("create-report", "success", Value::Null)],
    );
    app.sandbox.seed_document("j-1", done);
    app.watch("j-1").await;
    app.run_due().await;
    app.upkeep().await;
    let text = app.get("/metrics").await.text;
    for name in [
        "relay_watches{state=",
        "relay_polls_total{result=",
        "relay_poll_lag_seconds",
        "relay_upstream_requests_total{",
        "relay_events_total{",
        "relay_deliveries_total{result=",
        "relay_delivery_attempt_seconds",
        "relay_settle_to_delivery_seconds",
        "relay_detection_seconds",
        "relay_queue_depth{queue=",
        "relay_client_deliveries_total{client=\"test\",result=\"delivered\"}",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_start_time_seconds ",
    ] {
        assert!(text.contains(name), "{name}");
    }
}

#[tokio::test]
async fn metrics_with_an_address_of_their_own_are_not_in_the_api() {
    let builder = TestApp::builder()
        .settings(|settings| settings.server.metrics_listen = Some(settings.server.listen));
    let app = builder.build().await;
    assert_eq!(app.get("/metrics").await.status, 404);
}

#[tokio::test]
async fn the_catalogue_falls_back_to_a_language_it_has() {
    let app = TestApp::new().await;
    let english = app.get("/catalogue").await.body;
    assert_eq!(english["locale"], "en");
    assert!(!english["items"].as_array().unwrap().is_empty());
    let fallback = app.get("/catalogue?locale=xx-YY").await;
    assert_eq!((fallback.status, fallback.body), (200, english));
}
