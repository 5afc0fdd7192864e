//! Basiq's webhooks: verified, accepted once, and only a hint.

use std::time::Duration;

use axum::{body::Body, http::Request};
use basiq_sandbox::{JobScript, SandboxWebhook, ScriptRetries, ScriptStep, StepEnd};
use jiff::Timestamp;
use relay_domain::{SigningSecret, StepFailure, signing};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, failure, job, live::Live};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const LOOK: &str = "GET /jobs/{jobId}";

/// Starts a relay that accepts hints. Returns it with the secret that signs them.
async fn hinted() -> (TestApp, SigningSecret) {
    let secret = SigningSecret::generate();
    let written = secret.expose().to_owned();
    let app = TestApp::builder()
        .settings(|settings| settings.basiq.webhook_secret = Some(written.into()))
        .build()
        .await;
    (app, secret)
}

fn webhook(kind: &str, entity: &str) -> String {
    let links = json!({ "event": "https://b.example/events/e-1", "eventEntity": entity });
    json!({ "eventTypeId": kind, "eventId": "e-1", "links": links }).to_string()
}

/// Returns the body of a hint about the connection that `job` of the support module links to.
fn of_the_connection() -> String {
    webhook(
        "transactions.updated",
        "https://b.example/users/u-7/transactions?filter=connection.id.eq('c-9')",
    )
}

async fn send(
    app: &TestApp,
    id: &str,
    body: &str,
    (secret, at): (&SigningSecret, Timestamp),
) -> Answer {
    let signed = signing::sign(id, at, body, &[secret]).unwrap();
    let mut request = Request::post("/basiq/webhook").header("content-type", "application/json");
    for (name, value) in signed.entries() {
        request = request.header(name, value);
    }
    app.send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

fn unavailable(app: &TestApp, id: &str) -> Value {
    let failed = failure("service-unavailable");
    job(id, app.now(), &[("retrieve-accounts", "failed", failed)])
}

fn done(app: &TestApp, id: &str) -> Value {
    job(
        id,
        app.now(),
        &[("retrieve-accounts", "success", Value::Null)],
    )
}

#[tokio::test]
async fn only_what_basiq_signed_just_now_is_taken() {
    let (app, secret) = hinted().await;
    let (body, now) = (of_the_connection(), app.now());
    let other = SigningSecret::generate();
    let old = now.checked_sub(Duration::from_mins(6)).unwrap();
    let ok = send(&app, "m-1", &body, (&secret, now)).await;
    assert_eq!((ok.status, ok.text.as_str()), (204, ""));
    for (secret, at) in [(&other, now), (&secret, old)] {
        let refused = send(&app, "m-2", &body, (secret, at)).await;
        assert_eq!(refused.status, 401, "{}", refused.body);
        assert!(refused.text.contains("RELAY_BASIQ_WEBHOOK_SECRET"));
    }
    let signed = signing::sign("m-3", now, &body, &[&secret]).unwrap();
    for left_out in [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "none",
    ] {
        let mut request = Request::post("/basiq/webhook");
        for (name, value) in signed
            .entries()
            .iter()
            .filter(|(name, _)| *name != left_out)
        {
            request = request.header(*name, *value);
        }
        let altered = body.replace("c-9", "c-8");
        let answer = app.send(request.body(Body::from(altered)).unwrap()).await;
        assert_eq!(answer.status, 401, "{left_out}");
    }
    let large = " ".repeat(17 * 1024);
    assert_eq!(send(&app, "m-4", &large, (&secret, now)).await.status, 413);
    for odd in [
        "no json",
        "[]",
        "{}",
        r#"{"links":{"eventEntity":"/nobody"}}"#,
    ] {
        assert_eq!(
            send(&app, odd, odd, (&secret, now)).await.status,
            204,
            "{odd}"
        );
    }
    let plain = TestApp::new().await;
    assert_eq!(send(&plain, "m-1", &body, (&secret, now)).await.status, 404);
}

#[tokio::test]
async fn a_queued_update_that_works_is_told_by_a_hint_and_waits_on_after_a_vain_one() {
    let (mut app, secret) = hinted().await;
    app.sandbox.seed_document("j-1", unavailable(&app, "j-1"));
    app.watch_with("j-1", json!({ "operation": "update" }))
        .await;
    app.run_due().await;
    app.skip(HOUR).await;
    let body = of_the_connection();
    let before = app.sandbox.calls().count(LOOK);
    assert_eq!(
        send(&app, "m-1", &body, (&secret, app.now())).await.status,
        204
    );
    app.skip(HOUR / 2).await;
    assert_eq!(
        app.sandbox.calls().count(LOOK),
        before + 1,
        "a vain hint, then the retry"
    );
    assert_eq!(app.told_briefly(), ["delayed/wait"]);

    app.sandbox.seed_document("j-1", done(&app, "j-1"));
    app.restart().await;
    for _ in 0..3 {
        assert_eq!(
            send(&app, "m-2", &body, (&secret, app.now())).await.status,
            204
        );
    }
    app.restart().await;
    app.skip(SECOND).await;
    assert_eq!(app.told_briefly(), ["delayed/wait", "success/none"]);
    assert_eq!(app.sandbox.calls().count(LOOK), before + 2, "taken once");
}

#[tokio::test]
async fn a_job_whose_bank_is_out_is_looked_at_upon_a_hint() {
    let (mut app, secret) = hinted().await;
    app.sandbox
        .set_faults(vec!["outage=AU00000".parse().unwrap()]);
    let script = JobScript {
        user_id: Some("u-7".to_owned()),
        connection_id: Some("c-9".to_owned()),
        ..JobScript::new(vec![ScriptStep::new(
            "verify-credentials",
            SECOND,
            StepEnd::Succeeds,
        )])
    };
    let id = app.sandbox.seed_job(script);
    app.sandbox.seed_document(&id, unavailable(&app, &id));
    app.watch(&id).await;
    app.run_due().await;
    assert_eq!(app.told_briefly(), ["failed/wait-for-bank"]);
    app.skip(HOUR).await;
    app.sandbox.seed_document(&id, done(&app, &id));
    send(&app, "m-1", &of_the_connection(), (&secret, app.now())).await;
    app.skip(SECOND).await;
    assert_eq!(app.told_briefly(), ["failed/wait-for-bank", "success/none"]);
}

#[tokio::test]
async fn a_hint_is_never_more_than_a_hint() {
    let (mut app, secret) = hinted().await;
    let running = job(
        "j-1",
        app.now(),
        &[("retrieve-accounts", "in-progress", Value::Null)],
    );
    app.sandbox.seed_document("j-1", running);
    app.watch("j-1").await;
    app.skip(HOUR).await;
    let looks = app.sandbox.calls().count(LOOK);
    let invalid = webhook("connection.invalidated", "/users/u-7/connections/c-9");
    let others = webhook("connection.invalidated", "/users/u-8/connections/c-8");
    send(&app, "m-1", &others, (&secret, app.now())).await;
    app.run_due().await;
    assert_eq!(app.sandbox.calls().count(LOOK), looks);
    send(&app, "m-2", &invalid, (&secret, app.now())).await;
    app.run_due().await;
    assert_eq!(app.sandbox.calls().count(LOOK), looks + 1);
    assert!(app.told().is_empty());
    // A thousand hints at once cause one look per second, the maximum for any job.
    for n in 0..1000 {
        send(&app, &format!("flood-{n}"), &invalid, (&secret, app.now())).await;
    }
    app.skip(5 * SECOND).await;
    let flooded = app.sandbox.calls().count(LOOK) - looks - 1;
    assert!((1..=3).contains(&flooded), "{flooded}");
    let metrics = app.get("/metrics").await.text;
    for result in ["look", "nobody-watches"] {
        assert!(
            metrics.contains(&format!("relay_hints_total{{result=\"{result}\"}}")),
            "{metrics}"
        );
    }
    app.leave_work();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_basiqs_webhooks_a_job_that_idles_for_hours_is_reported_within_a_second() {
    let secret = SigningSecret::generate();
    let written = secret.expose().to_owned();
    let live = Live::start_with(
        |settings| settings.basiq.webhook_secret = Some(written.into()),
        |sandbox, relay| {
            let url = relay.join("basiq/webhook").unwrap();
            sandbox.webhook = Some(SandboxWebhook { url, secret });
        },
    )
    .await;
    // The job fails at once and succeeds four seconds later, but the relay's next look is in two hours.
    let unavailable = StepFailure {
        code: Some("service-unavailable".to_owned()),
        ..StepFailure::default()
    };
    let script = JobScript {
        retries: Some(ScriptRetries {
            interval: 4 * SECOND,
            succeeds_on: Some(1),
        }),
        ..JobScript::new(vec![
            ScriptStep::new("verify-credentials", Duration::ZERO, StepEnd::Succeeds),
            ScriptStep::new(
                "retrieve-transactions",
                Duration::ZERO,
                StepEnd::Fails(Some(unavailable)),
            ),
        ])
    };
    let job = live.sandbox.seed_job(script);
    live.watch_update(&job).await;
    live.until(20 * SECOND, || live.receiver.received().len() == 2)
        .await;
    let told_at = live.now();
    let settled_at = live.sandbox.settled_at(&job).unwrap();
    let events = live.receiver.received();
    assert_eq!(events[0].body["status"], "delayed");
    assert_eq!(events[1].body["status"], "success");
    let took = Duration::try_from(told_at.duration_since(settled_at)).unwrap();
    assert!(took < SECOND, "{took:?}");
    live.stop().await;
}
