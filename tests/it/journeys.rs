//! Whole flows with all details, from the registration of a watch to the last event.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{TestApp, failure, job};

const SECOND: Duration = Duration::from_secs(1);

fn steps(verify: (&str, Value), accounts: (&str, Value)) -> Vec<(&'static str, String, Value)> {
    vec![
        ("verify-credentials", verify.0.to_owned(), verify.1),
        ("retrieve-accounts", accounts.0.to_owned(), accounts.1),
        ("retrieve-transactions", "pending".to_owned(), Value::Null),
    ]
}

fn document(app: &TestApp, id: &str, steps: &[(&'static str, String, Value)]) -> Value {
    let steps: Vec<_> = steps
        .iter()
        .map(|(t, s, r)| (*t, s.as_str(), r.clone()))
        .collect();
    job(id, app.now(), &steps)
}

fn challenge(description: &str) -> Value {
    json!({
        "type": "mfa", "method": "token", "description": description, "input": ["Code"],
        "expiryMs": 120_000, "links": { "response": "/jobs/j-1/mfa" },
    })
}

fn mfa_job(app: &TestApp, mfa: &str, result: &Value, rest: &str) -> Value {
    job(
        "j-1",
        app.now(),
        &[
            ("verify-credentials", "success", Value::Null),
            ("mfa-challenge", mfa, result.clone()),
            ("retrieve-accounts", rest, Value::Null),
        ],
    )
}

#[tokio::test]
async fn a_job_that_succeeds_is_told_once_and_settles() {
    let mut app = TestApp::new().await;
    let running = steps(("in-progress", Value::Null), ("pending", Value::Null));
    app.sandbox
        .seed_document("j-1", document(&app, "j-1", &running));
    let watch = app
        .watch_with("j-1", json!({ "metadata": { "order": 7 } }))
        .await;
    app.pass(3 * SECOND, SECOND).await;
    assert!(app.told().is_empty());
    assert_eq!(app.story(&watch).await["steps"][0]["status"], "in-progress");

    let link = |url: &str| json!({ "type": "link", "url": url });
    let done = job(
        "j-1",
        app.now(),
        &[
            (
                "verify-credentials",
                "success",
                link("/users/u-7/connections/c-9"),
            ),
            (
                "retrieve-accounts",
                "success",
                link("/users/u-7/accounts?filter=institution.id.eq('AU00601')"),
            ),
            ("retrieve-transactions", "skipped", Value::Null),
        ],
    );
    app.sandbox.seed_document("j-1", done);
    app.pass(10 * SECOND, SECOND).await;

    let told = app.told();
    assert_eq!(told.len(), 1, "{told:?}");
    let event = &told[0];
    assert_eq!(event["type"], "job.success");
    assert_eq!(
        (&event["sequence"], &event["final"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(event["metadata"], json!({ "order": 7 }));
    assert_eq!(event["resources"].as_array().unwrap().len(), 2);
    assert_eq!(
        event["context"],
        json!({
            "jobType": "connection",
            "userId": "u-7",
            "connectionId": "c-9",
            "institutionId": "AU00601",
            "subscriptionId": null,
        })
    );
    let story = app.story(&watch).await;
    assert_eq!(story["state"], "settled");
    assert_eq!(story["context"], event["context"]);
    assert_eq!(story["nextPollAt"], Value::Null);
    assert_eq!(story["events"][0]["deliveries"][0]["state"], "delivered");
    app.pass(120 * SECOND, 20 * SECOND).await;
    assert_eq!(app.told().len(), 1, "a settled watch tells nothing more");
}

#[tokio::test]
async fn every_key_of_an_event_is_always_there() {
    let mut app = TestApp::new().await;
    let failed = steps(
        ("failed", failure("invalid-credentials")),
        ("pending", Value::Null),
    );
    app.sandbox
        .seed_document("j-1", document(&app, "j-1", &failed));
    app.watch("j-1").await;
    app.run_due().await;
    let event = app.told().remove(0);
    insta::assert_json_snapshot!(event, {
        ".timestamp" => "[time]", ".watchId" => "[watch]",
    });
    let keys: Vec<_> = event.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys.len(), 17, "{keys:?}");
}

#[tokio::test]
async fn a_challenge_is_told_once_and_again_when_it_is_another_one() {
    let mut app = TestApp::new().await;
    app.sandbox
        .seed_document("j-1", mfa_job(&app, "pending", &Value::Null, "pending"));
    let watch = app.watch("j-1").await;
    app.run_due().await;
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "in-progress", &challenge("first"), "pending"),
    );
    app.pass(6 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), ["action-required/answer-mfa"]);
    let event = &app.told()[0];
    assert_eq!(event["final"], false);
    assert_eq!(event["challenge"]["inputs"], json!(["Code"]));
    let link = event["challenge"]["respondTo"].as_str().unwrap();
    assert!(
        link.ends_with("/jobs/j-1/mfa") && link.starts_with("http://127.0.0.1"),
        "{link}"
    );
    assert_eq!(app.story(&watch).await["state"], "awaiting-user");

    // The challenge is answered: there is no event, and the watch continues.
    app.sandbox
        .seed_document("j-1", mfa_job(&app, "in-progress", &Value::Null, "pending"));
    app.pass(4 * SECOND, 2 * SECOND).await;
    assert_eq!(app.story(&watch).await["state"], "watching");
    // The bank asks the same question again: that is a new challenge.
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "in-progress", &challenge("first"), "pending"),
    );
    app.pass(4 * SECOND, 2 * SECOND).await;
    // A different question is one more challenge.
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "in-progress", &challenge("second"), "pending"),
    );
    app.pass(4 * SECOND, 2 * SECOND).await;
    // The step succeeds, but its result still contains the old challenge.
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "success", &challenge("second"), "success"),
    );
    app.pass(4 * SECOND, 2 * SECOND).await;
    let mfa = "action-required/answer-mfa";
    assert_eq!(app.told_briefly(), [mfa, mfa, mfa, "success/none"]);
    let sequence: Vec<_> = app
        .told()
        .iter()
        .map(|event| event["sequence"].clone())
        .collect();
    assert_eq!(sequence, [1, 2, 3, 4].map(Value::from));
}

#[tokio::test]
async fn a_challenge_that_cannot_be_delivered_expires_and_the_newer_event_takes_its_place() {
    let mut app = TestApp::new().await;
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "in-progress", &challenge("one"), "pending"),
    );
    let watch = app.watch("j-1").await;
    app.receiver.answer(1000, 503);
    app.pass(Duration::from_secs(130), SECOND).await;
    let attempts = app.receiver.received().len();
    assert!(
        (14..=20).contains(&attempts),
        "1, 2, 4, 8, 8 … s for two minutes: {attempts}"
    );
    let story = app.story(&watch).await;
    assert_eq!(story["events"][0]["deliveries"][0]["state"], "expired");

    app.sandbox
        .seed_document("j-1", mfa_job(&app, "failed", &Value::Null, "pending"));
    app.pass(20 * SECOND, SECOND).await;
    let last = app.told().pop().unwrap();
    assert_eq!(last["errorCode"], "mfa-failed");
    assert_eq!(
        (&last["action"], &last["sequence"]),
        (&json!("retry"), &json!(2))
    );
    app.leave_work();
}

#[tokio::test]
async fn an_event_that_was_never_accepted_is_superseded_by_a_newer_one() {
    let mut app = TestApp::new().await;
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "in-progress", &challenge("one"), "pending"),
    );
    let watch = app.watch("j-1").await;
    app.receiver.answer(1, 500);
    app.run_due().await;
    app.sandbox
        .seed_document("j-1", mfa_job(&app, "success", &Value::Null, "success"));
    app.pass(6 * SECOND, 2 * SECOND).await;
    let sequence: Vec<_> = app
        .told()
        .iter()
        .map(|event| event["sequence"].as_u64())
        .collect();
    assert!(sequence.is_sorted(), "{sequence:?}");
    assert_eq!(app.told().pop().unwrap()["status"], "success");
    assert_eq!(app.story(&watch).await["state"], "settled");
}

#[tokio::test]
async fn a_watch_until_a_step_is_told_as_soon_as_that_step_succeeded() {
    let mut app = TestApp::new().await;
    let ready = steps(("success", Value::Null), ("success", Value::Null));
    app.sandbox
        .seed_document("j-1", document(&app, "j-1", &ready));
    app.watch_with("j-1", json!({ "until": "retrieve-accounts" }))
        .await;
    app.run_due().await;
    assert_eq!(app.told_briefly(), ["success/none"]);
}

#[tokio::test]
async fn what_is_filtered_out_takes_no_number_and_the_watch_settles_all_the_same() {
    let mut app = TestApp::new().await;
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "in-progress", &challenge("one"), "pending"),
    );
    let watch = app
        .watch_with("j-1", json!({ "events": ["success"] }))
        .await;
    app.run_due().await;
    assert_eq!(app.story(&watch).await["state"], "awaiting-user");
    app.sandbox
        .seed_document("j-1", mfa_job(&app, "success", &Value::Null, "success"));
    app.pass(4 * SECOND, 2 * SECOND).await;
    let told = app.told();
    assert_eq!((told.len(), &told[0]["sequence"]), (1, &json!(1)));

    let failed = steps(
        ("failed", failure("invalid-credentials")),
        ("pending", Value::Null),
    );
    app.sandbox
        .seed_document("j-2", document(&app, "j-2", &failed));
    let quiet = app
        .watch_with("j-2", json!({ "events": ["success"] }))
        .await;
    app.run_due().await;
    assert_eq!(app.told().len(), 1);
    assert_eq!(app.story(&quiet).await["state"], "settled");
}

#[tokio::test]
async fn one_job_is_looked_at_once_however_many_watch_it() {
    let mut app = TestApp::new().await;
    let failed = steps(
        ("failed", failure("user_action required")),
        ("pending", Value::Null),
    );
    app.sandbox
        .seed_document("j-1", document(&app, "j-1", &failed));
    for index in 0..10 {
        let body =
            json!({ "jobId": "j-1", "callbackUrl": app.callback(&format!("/hook/{index}")) });
        assert_eq!(app.post("/watch", &body).await.status, 202);
    }
    app.run_due().await;
    assert_eq!(app.told().len(), 10);
    assert!(
        app.told()
            .iter()
            .all(|event| event["action"] == "resolve-at-bank")
    );
    let looks = app.sandbox.calls().count("GET /jobs/{jobId}");
    assert_eq!(looks, 1);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_challenge_changes_nothing() {
    let mut app = TestApp::new().await;
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "in-progress", &challenge("one"), "pending"),
    );
    app.watch("j-1").await;
    app.run_due().await;
    app.restart().await;
    app.pass(6 * SECOND, 2 * SECOND).await;
    assert_eq!(app.told_briefly(), ["action-required/answer-mfa"]);
    app.restart().await;
    app.sandbox.seed_document(
        "j-1",
        mfa_job(&app, "success", &challenge("one"), "success"),
    );
    app.pass(4 * SECOND, 2 * SECOND).await;
    assert_eq!(
        app.told_briefly(),
        ["action-required/answer-mfa", "success/none"]
    );
}
