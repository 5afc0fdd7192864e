//! Limits towards Basiq, as the sandbox counts the calls: the budget, faults, a refused key.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use basiq_sandbox::{JobScript, ScriptStep, StepEnd};
use relay_domain::StepFailure;
use serde_json::{Value, json};

use crate::support::{TestApp, job};

const SECOND: Duration = Duration::from_secs(1);
const LOOK: &str = "GET /jobs/{jobId}";
const TOKEN: &str = "POST /token";

fn succeeding(takes: Duration) -> JobScript {
    JobScript::new(vec![ScriptStep::new(
        "verify-credentials",
        takes,
        StepEnd::Succeeds,
    )])
}

fn failing(takes: Duration, code: &str) -> JobScript {
    let failure = StepFailure {
        code: Some(code.to_owned()),
        ..StepFailure::default()
    };
    let end = StepEnd::Fails(Some(failure));
    JobScript::new(vec![ScriptStep::new("retrieve-accounts", takes, end)])
}

// ------------------------------------------------------------------------------- a small budget

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_a_few_calls_serves_each_job_once_and_times_nobody_out() {
    let mut app = TestApp::builder()
        .settings(|settings| {
            settings.basiq.requests_per_second = 2;
            // With this time-out, no call could wait for all the others.
            settings.basiq.timeout = Duration::from_millis(200);
        })
        .build()
        .await;
    for n in 0..24 {
        let id = format!("j-{n}");
        let done = job(&id, app.now(), &[("create-report", "success", Value::Null)]);
        app.sandbox.seed_document(&id, done);
        app.watch(&id).await;
    }
    app.run_due().await;
    assert_eq!(app.told_briefly(), vec!["success/none"; 24]);
    assert_eq!(app.sandbox.calls().count(LOOK), 24);
}

// ---------------------------------------------------------------------------------------- faults

/// The state after a fault of five seconds.
struct Aftermath {
    app: TestApp,
    /// The body of `/readyz` at the end of the fault.
    ready: Value,
    /// The number of looks during the fault.
    looks: u64,
}

/// Runs two hundred jobs, with five seconds of a fault in the middle. Checks that each job ends as it should.
async fn endure(fault: &str, meanwhile: impl Fn(&TestApp)) -> Aftermath {
    let mut app = TestApp::builder()
        .settings(|settings| settings.basiq.timeout = Duration::from_millis(300))
        .build()
        .await;
    let mut expected = HashMap::new();
    for n in 0..200 {
        let takes = (2 + n % 10) * SECOND;
        let (script, end) = match n % 4 {
            0 => (
                failing(takes, "invalid-credentials"),
                "failed/resubmit-credentials",
            ),
            1 => (
                failing(takes, "user-action-required"),
                "failed/resolve-at-bank",
            ),
            _ => (succeeding(takes), "success/none"),
        };
        let job = app.sandbox.seed_job(script);
        app.watch(&job).await;
        expected.insert(job, end.to_owned());
    }
    app.pass(3 * SECOND, SECOND / 2).await;
    let before = app.sandbox.calls().count(LOOK);
    app.sandbox.set_faults(vec![fault.parse().unwrap()]);
    meanwhile(&app);
    app.pass(5 * SECOND, SECOND / 2).await;
    let looks = app.sandbox.calls().count(LOOK) - before;
    let ready = app.get("/readyz").await.body;
    app.sandbox.set_faults(Vec::new());
    let told = app.told().len();
    assert!(told < 200, "{fault}: all ended before it");
    let began = Instant::now();
    while app.told().len() < 200 && began.elapsed() < 30 * SECOND {
        // The pauses that Basiq asks for pass in real time.
        tokio::time::sleep(SECOND / 50).await;
        app.pass(SECOND, SECOND).await;
    }
    let ended: HashMap<_, _> = app
        .told()
        .into_iter()
        .zip(app.told_briefly())
        .map(|(event, brief)| {
            assert_eq!(
                (&event["sequence"], &event["final"]),
                (&json!(1), &json!(true))
            );
            (event["jobId"].as_str().unwrap().to_owned(), brief)
        })
        .collect();
    assert_eq!(app.told().len(), 200, "{fault}: once each");
    assert_eq!(ended, expected, "{fault}");
    let after = app.get("/readyz").await.body;
    assert_eq!(
        (&after["upstream"], &after["breaker"]),
        (&json!("ok"), &json!("closed")),
        "{fault}"
    );
    Aftermath { app, ready, looks }
}

/// Tests a fault during which Basiq gives no usable answer. The breaker opens, and a few looks check whether the
/// fault is over.
async fn breaks(fault: &str, tokens: u64) {
    let after = endure(fault, |_| ()).await;
    assert_eq!(after.ready["status"], "ready", "{fault}");
    assert_eq!(after.ready["breaker"], "open", "{fault}");
    // Calls in flight when the breaker opens, each sent twice if its token is in doubt, and the probes.
    assert!(after.looks <= 75, "{fault}: {} looks", after.looks);
    let asked = after.app.sandbox.calls().count(TOKEN);
    assert!(asked <= tokens, "{fault}: {asked} tokens");
}

/// Tests a fault by which Basiq asks for fewer calls.
async fn slows(fault: &str) {
    let after = endure(fault, |_| ()).await;
    assert_eq!(after.ready["upstream"], "throttled", "{fault}");
    assert!(after.looks <= 200, "{fault}: {} looks", after.looks);
    assert_eq!(after.app.sandbox.calls().count(TOKEN), 1, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_should_through_429() {
    slows("429=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_should_through_403_for_a_limit() {
    slows("403-limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_should_through_errors_of_the_server() {
    breaks("500", 1).await;
    breaks("503", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_should_through_answers_that_do_not_come() {
    breaks("hang", 1).await;
    breaks("drip=100", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_should_through_answers_that_cannot_be_read() {
    breaks("broken", 1).await;
    breaks("oversize", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_should_through_tokens_that_are_refused() {
    breaks("expired", 4).await;
    breaks("revoked", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_should_through_some_bad_answers_among_good_ones() {
    for fault in ["500:0.3", "broken:0.3"] {
        let after = endure(fault, |_| ()).await;
        assert_eq!(after.app.sandbox.calls().count(TOKEN), 1, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_as_they_should_through_a_key_that_is_refused_for_a_while() {
    let after = endure("wrong-key", |app| app.sandbox.expire_tokens()).await;
    assert_eq!(after.ready["upstream"], "key-refused");
    assert_eq!(
        after.app.sandbox.calls().count(TOKEN),
        3,
        "one that expired, one that was refused, one after half a minute"
    );
}

#[tokio::test]
async fn a_refused_key_is_tried_every_half_minute_until_it_is_accepted() {
    let mut app = TestApp::new().await;
    app.sandbox.set_faults(vec!["wrong-key".parse().unwrap()]);
    for n in 0..20 {
        let id = format!("j-{n}");
        let done = job(&id, app.now(), &[("create-report", "success", Value::Null)]);
        app.sandbox.seed_document(&id, done);
        app.watch(&id).await;
    }
    app.run_due().await;
    for tries in 1..4 {
        assert_eq!(app.get("/readyz").await.body["upstream"], "key-refused");
        app.pass(28 * SECOND, SECOND).await;
        assert_eq!(app.sandbox.calls().count(TOKEN), tries);
        app.pass(2 * SECOND, SECOND).await;
        assert_eq!(app.sandbox.calls().count(TOKEN), tries + 1);
    }
    assert_eq!(app.sandbox.calls().count(LOOK), 0);
    assert!(app.told().is_empty());
    app.sandbox.set_faults(Vec::new());
    app.pass(35 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), vec!["success/none"; 20]);
    assert_eq!(app.sandbox.calls().count(TOKEN), 5);
    assert_eq!(app.get("/readyz").await.body["upstream"], "ok");
}

#[tokio::test]
async fn the_metrics_tell_how_basiq_answers() {
    let mut app = TestApp::new().await;
    let odd = job(
        "j-1",
        app.now(),
        &[(
            "create-report",
            "failed",
            json!({ "code": "never-seen-before" }),
        )],
    );
    app.sandbox.seed_document("j-1", odd);
    app.watch("j-1").await;
    app.run_due().await;
    app.upkeep().await;
    let metrics = app.get("/metrics").await.text;
    for name in [
        "relay_upstream_throttled ",
        "relay_upstream_key_refused ",
        "relay_upstream_breaker_open ",
        "relay_upstream_requests_total{endpoint=\"job\",status=\"200\"}",
        "relay_unknown_error_codes_total ",
        "relay_queue_depth{queue=\"deliveries-dead\"}",
        "relay_polls_total{result=\"ok\"}",
        "relay_poll_lag_seconds",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
}
