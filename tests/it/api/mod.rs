//! The HTTP API on the real store.

mod admin;
mod audit;
mod batch;
mod docs;
mod health;
mod register;
mod streams;
mod watches;

use serde_json::{Value, json};

use crate::support::{TestApp, job};

#[tokio::test]
async fn fifty_identical_registrations_at_once_make_one_watch() {
    let mut app = TestApp::new().await;
    let body = json!({ "jobId": "j-1", "callbackUrl": app.callback("/hook") });
    let calls = (0..50).map(|_| app.post("/watch", &body));
    let answers = futures_util::future::join_all(calls).await;
    let created = answers.iter().filter(|answer| answer.status == 202).count();
    let existing = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((created, existing), (1, 49));
    assert!(
        answers
            .iter()
            .all(|answer| answer.body["id"] == answers[0].body["id"])
    );
    assert!(
        answers
            .iter()
            .all(|answer| !answer.header("x-request-id").is_empty())
    );
    app.leave_work();
}

#[tokio::test]
async fn all_faults_of_a_registration_are_told_at_once_and_nothing_is_stored() {
    let app = TestApp::new().await;
    let body = json!({
        "jobId": "../x", "callbackUrl": "https://10.0.0.1/", "operation": "dance", "events": [],
        "until": "", "locale": "!", "metadata": 7, "surplus": true,
    });
    let answer = app.post("/watch", &body).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let faults = answer.body["errors"].as_array().unwrap();
    let pointers: Vec<_> = faults
        .iter()
        .map(|fault| fault["pointer"].as_str().unwrap())
        .collect();
    for field in body.as_object().unwrap().keys() {
        assert!(
            pointers.contains(&format!("/{field}").as_str()),
            "{field}: {pointers:?}"
        );
    }
    assert_eq!(app.get("/watch").await.body["items"], json!([]));
}

#[tokio::test]
async fn what_settled_longer_ago_than_the_retention_is_deleted() {
    let mut app = TestApp::new().await;
    let done = job(
        "j-1",
        app.now(),
        &[("create-report", "success", Value::Null)],
    );
    app.sandbox.seed_document("j-1", done);
    let watch = app.watch("j-1").await;
    app.run_due().await;
    app.upkeep().await;
    assert_eq!(app.get(&format!("/watch/{watch}")).await.status, 200);
    app.clock.advance(app.settings.store.retention * 2);
    app.upkeep().await;
    assert_eq!(app.get(&format!("/watch/{watch}")).await.status, 404);
}
