//! The tracker against the sandbox: when it looks at which job, and how it handles unusual answers.

use std::time::Duration;

use basiq_sandbox::{Fault, JobScript, ScriptStep, StepEnd};
use relay_domain::StepFailure;
use serde_json::{Value, json};

use crate::support::{TestApp, failure, job};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

fn unavailable(app: &TestApp, id: &str) -> Value {
    job(
        id,
        app.now(),
        &[
            ("verify-credentials", "success", Value::Null),
            (
                "retrieve-accounts",
                "failed",
                failure("service-unavailable"),
            ),
        ],
    )
}

fn done(app: &TestApp, id: &str) -> Value {
    job(
        id,
        app.now(),
        &[("verify-credentials", "success", Value::Null)],
    )
}

fn running(app: &TestApp, id: &str) -> Value {
    job(
        id,
        app.now(),
        &[("verify-credentials", "in-progress", Value::Null)],
    )
}

#[tokio::test]
async fn a_queued_update_is_told_as_delayed_once_and_looked_at_after_each_retry() {
    let mut app = TestApp::new().await;
    app.sandbox.seed_document("j-1", unavailable(&app, "j-1"));
    let watch = app
        .watch_with("j-1", json!({ "operation": "update" }))
        .await;
    app.run_due().await;
    assert_eq!(app.told_briefly(), ["delayed/wait"]);
    let event = &app.told()[0];
    assert_eq!(
        (&event["final"], &event["errorCode"]),
        (&json!(false), &json!("service-unavailable"))
    );
    assert!(event["retryAt"].is_string());
    assert_eq!(app.story(&watch).await["state"], "delayed");

    let before = app.sandbox.calls().count("GET /jobs/{jobId}");
    app.pass(5 * HOUR, Duration::from_mins(1)).await;
    let looks = app.sandbox.calls().count("GET /jobs/{jobId}") - before;
    assert_eq!(
        looks, 4,
        "two looks after each of two retries that do not begin"
    );
    assert_eq!(app.told().len(), 1);

    app.sandbox.seed_document("j-1", done(&app, "j-1"));
    app.pass(2 * HOUR, Duration::from_mins(1)).await;
    assert_eq!(app.told_briefly(), ["delayed/wait", "success/none"]);
}

#[tokio::test]
async fn a_queued_update_that_never_succeeds_ends_when_the_job_is_too_old() {
    let mut app = TestApp::new().await;
    app.sandbox.seed_document("j-1", unavailable(&app, "j-1"));
    app.watch_with("j-1", json!({ "operation": "update" }))
        .await;
    app.pass(8 * 24 * HOUR, HOUR / 2).await;
    assert_eq!(
        app.told_briefly(),
        ["delayed/wait", "failed/contact-support"]
    );
    assert_eq!(app.told()[1]["errorCode"], "service-unavailable");
}

#[tokio::test]
async fn an_unavailable_bank_means_retry_and_support_from_the_third_job_in_a_row() {
    let mut app = TestApp::new().await;
    for id in ["j-1", "j-2", "j-3"] {
        app.sandbox.seed_document(id, unavailable(&app, id));
        app.watch(id).await;
        app.run_due().await;
    }
    assert_eq!(
        app.told_briefly(),
        ["failed/retry", "failed/retry", "failed/contact-support"]
    );
    app.sandbox.seed_document("j-4", done(&app, "j-4"));
    app.watch("j-4").await;
    app.run_due().await;
    app.sandbox.seed_document("j-5", unavailable(&app, "j-5"));
    app.watch("j-5").await;
    app.run_due().await;
    assert_eq!(
        app.told_briefly()[3..],
        ["success/none", "failed/retry"],
        "a success resets"
    );
}

#[tokio::test]
async fn a_job_that_does_not_exist_ends_its_watch_after_the_grace_and_not_before() {
    let mut app = TestApp::new().await;
    app.watch("j-nowhere").await;
    app.pass(55 * SECOND, SECOND).await;
    assert!(app.told().is_empty());
    app.pass(15 * SECOND, SECOND).await;
    let event = app.told().remove(0);
    assert_eq!(
        (&event["errorCode"], &event["action"]),
        (&json!("job-not-found"), &json!("fix-request"))
    );
    assert_eq!(event["final"], true);
}

#[tokio::test]
async fn a_job_that_appears_within_the_grace_is_tracked() {
    let mut app = TestApp::new().await;
    app.watch("j-late").await;
    app.pass(20 * SECOND, SECOND).await;
    app.sandbox.seed_document("j-late", done(&app, "j-late"));
    app.pass(15 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), ["success/none"]);
}

#[tokio::test]
async fn a_job_that_never_settles_ends_as_expired() {
    let mut app = TestApp::builder()
        .settings(|settings| settings.tracking.job_max_age = HOUR)
        .build()
        .await;
    app.sandbox.seed_document("j-1", running(&app, "j-1"));
    app.watch("j-1").await;
    app.pass(HOUR.checked_sub(20 * SECOND).unwrap(), 20 * SECOND)
        .await;
    assert!(app.told().is_empty());
    app.pass(60 * SECOND, 20 * SECOND).await;
    let event = app.told().remove(0);
    assert_eq!(
        (&event["errorCode"], &event["action"]),
        (&json!("watch-expired"), &json!("contact-support"))
    );
}

#[tokio::test]
async fn faults_of_basiq_delay_a_watch_and_never_end_it() {
    for fault in ["500", "broken", "429=1"] {
        let mut app = TestApp::new().await;
        app.sandbox.seed_document("j-1", done(&app, "j-1"));
        app.sandbox
            .set_faults(vec![fault.parse::<Fault>().unwrap()]);
        let watch = app.watch("j-1").await;
        app.pass(5 * SECOND, SECOND).await;
        assert!(app.told().is_empty(), "{fault}");
        assert_eq!(app.story(&watch).await["state"], "watching", "{fault}");
        app.sandbox.set_faults(Vec::new());
        // The pause that Basiq asked for passes in real time.
        tokio::time::sleep(SECOND + SECOND / 5).await;
        app.pass(Duration::from_mins(3), 5 * SECOND).await;
        assert_eq!(app.told_briefly(), ["success/none"], "{fault}");
    }
}

#[tokio::test]
async fn a_watch_that_joins_later_is_told_what_is_open() {
    let mut app = TestApp::new().await;
    let challenge =
        json!({ "type": "mfa", "method": "token", "input": ["Code"], "expiryMs": 120_000 });
    let asks = job(
        "j-1",
        app.now(),
        &[("mfa-challenge", "in-progress", json!([challenge]))],
    );
    app.sandbox.seed_document("j-1", asks);
    app.watch("j-1").await;
    app.run_due().await;
    let body = json!({ "jobId": "j-1", "callbackUrl": app.callback("/second") });
    assert_eq!(app.post("/watch", &body).await.status, 202);
    app.run_due().await;
    let paths: Vec<_> = app
        .receiver
        .received()
        .into_iter()
        .map(|event| event.path)
        .collect();
    assert_eq!(paths, ["/hook", "/second"]);
    let (first, second) = (&app.told()[0], &app.told()[1]);
    assert_eq!(
        first["challenge"]["expiresAt"],
        second["challenge"]["expiresAt"]
    );
    app.leave_work();
}

#[tokio::test]
async fn a_running_job_is_looked_at_less_often_as_it_ages() {
    let mut app = TestApp::new().await;
    app.sandbox.seed_document("j-1", running(&app, "j-1"));
    app.watch("j-1").await;
    app.pass(Duration::from_mins(1), SECOND).await;
    let young = app.sandbox.calls().count("GET /jobs/{jobId}");
    app.pass(Duration::from_hours(1), SECOND).await;
    let old = app.sandbox.calls().count("GET /jobs/{jobId}") - young;
    assert!(
        (15..=40).contains(&young),
        "{young} looks in the first minute"
    );
    assert!((55..=110).contains(&old), "{old} looks in the hour after");
    app.leave_work();
}

/// Returns a job to which the bank is unavailable.
fn unavailable_script() -> JobScript {
    let failure = StepFailure {
        code: Some("service-unavailable".into()),
        ..Default::default()
    };
    let step = ScriptStep::new("verify-credentials", SECOND, StepEnd::Fails(Some(failure)));
    JobScript::new(vec![step])
}

#[tokio::test]
async fn a_bank_in_major_outage_is_waited_for_and_its_return_is_told() {
    let mut app = TestApp::new().await;
    app.sandbox
        .set_faults(vec!["outage=AU00000".parse().unwrap()]);
    let job = app.sandbox.seed_job(unavailable_script());
    let watch = app.watch(&job).await;
    app.pass(5 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), ["failed/wait-for-bank"]);
    assert_eq!(app.told()[0]["final"], false);
    assert_eq!(app.story(&watch).await["state"], "delayed");
    app.pass(HOUR, Duration::from_mins(1)).await;
    assert_eq!(app.told().len(), 1);

    // A second watch joins while the bank's status cannot be read. The first watch must not get a wrong event.
    app.sandbox.set_faults(vec![
        "outage=AU00000".parse().unwrap(),
        "500".parse().unwrap(),
    ]);
    let body = json!({ "jobId": job, "callbackUrl": app.callback("/second") });
    assert_eq!(app.post("/watch", &body).await.status, 202);
    app.pass(5 * SECOND, SECOND).await;
    assert_eq!(app.told().len(), 1);
    app.restart().await;

    app.sandbox.set_faults(Vec::new());
    app.pass(HOUR, Duration::from_mins(1)).await;
    let first: Vec<_> = app
        .told()
        .into_iter()
        .filter(|event| event["watchId"] == watch)
        .collect();
    assert_eq!(first.len(), 2, "{first:?}");
    assert_eq!(
        (&first[1]["action"], &first[1]["final"]),
        (&json!("retry"), &json!(true))
    );
    assert_eq!(first[1]["retryAt"], Value::Null);
    assert_eq!(first[1]["errorCode"], "service-unavailable");
    let words = first[1]["userMessage"].as_str().unwrap();
    assert!(words.contains("back") || words.contains("again"), "{words}");
}

/// Registers a second watch of a job, for the update that started it.
async fn watch_update(app: &TestApp, job: &str) {
    let second = app.callback("/second");
    let body = json!({ "jobId": job, "callbackUrl": second, "operation": "update" });
    assert_eq!(app.post("/watch", &body).await.status, 202);
}

#[tokio::test]
async fn an_update_is_left_alone_between_its_retries_although_another_watch_waits_for_the_bank() {
    let mut app = TestApp::new().await;
    let outage = || vec!["outage=AU00000".parse::<Fault>().unwrap()];
    app.sandbox.set_faults(outage());
    let job_id = app.sandbox.seed_job(unavailable_script());
    app.watch(&job_id).await;
    watch_update(&app, &job_id).await;
    app.skip(10 * SECOND).await;
    let mut told = app.told_briefly();
    told.sort_unstable();
    assert_eq!(told, ["delayed/wait", "failed/wait-for-bank"]);
    let waits = job(
        &job_id,
        app.now(),
        &[("verify-credentials", "pending", Value::Null)],
    );
    app.sandbox.seed_document(&job_id, waits);
    let before = app.sandbox.calls().count("GET /jobs/{jobId}");
    app.skip(5 * HOUR).await;
    let looks = app.sandbox.calls().count("GET /jobs/{jobId}") - before;
    assert!((1..=6).contains(&looks), "{looks} looks");

    app.sandbox.set_faults(Vec::new());
    app.skip(HOUR / 2).await;
    assert_eq!(app.told_briefly()[2..], ["failed/retry"]);
    assert_eq!(app.told()[2]["errorCode"], "service-unavailable");
    let before = app.sandbox.calls().count("GET /jobs/{jobId}");
    app.skip(5 * HOUR).await;
    let looks = app.sandbox.calls().count("GET /jobs/{jobId}") - before;
    assert!((1..=6).contains(&looks), "{looks} looks");
    app.leave_work();
}
