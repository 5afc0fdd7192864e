//! Lists of jobs are the least urgent calls: they do not delay the first looks at jobs that clients register.

use std::time::Duration;

use basiq_sandbox::{Call, JobScript, ScriptStep, StepEnd};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{job, live::Live};

const SECOND: Duration = Duration::from_secs(1);
const SUBSCRIPTIONS: usize = 300;
const LIST: &str = "GET /users/{userId}/jobs";

/// Returns a job of a user that has ended already.
fn ended(user: usize) -> JobScript {
    let step = ScriptStep::new("verify-credentials", Duration::ZERO, StepEnd::Succeeds);
    let mut script = JobScript::new(vec![step]);
    script.user_id = Some(format!("u-{user}"));
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_subscriptions_delay_no_first_look_by_a_second() {
    let live = Live::start(|settings| {
        settings.basiq.requests_per_second = 20;
        // every list is always due
        settings.subscriptions.discovery_interval = SECOND;
        settings.server.client_rps = 100_000;
    })
    .await;
    for n in 0..3 * SUBSCRIPTIONS {
        let _id = live.sandbox.seed_job(ended(n % SUBSCRIPTIONS));
    }
    // Basiq's times are whole seconds
    tokio::time::sleep(SECOND).await;
    for n in 0..SUBSCRIPTIONS {
        let callback = format!("{}/hook", live.receiver.url());
        let body = json!({ "userId": format!("u-{n}"), "callbackUrl": callback });
        let call = live.call(Method::POST, "subscriptions").json(&body);
        assert_eq!(call.send().await.unwrap().status(), 201);
    }
    let began = live.now();
    let mut waits = Vec::new();
    for n in 0..20 {
        let id = format!("j-{n}");
        let done = job(
            &id,
            live.now(),
            &[("create-report", "success", Value::Null)],
        );
        live.sandbox.seed_document(&id, done);
        let asked = live.now();
        live.register(&id).await;
        live.until(5 * SECOND, || live.receiver.received().len() == n + 1)
            .await;
        let calls = live.sandbox.calls();
        let path = format!("/jobs/{id}");
        let look = calls.recent().find(|call| call.path == path).unwrap().at;
        waits.push(Duration::try_from(look.duration_since(asked)).unwrap_or_default());
        tokio::time::sleep(SECOND / 2).await;
    }
    let calls = live.sandbox.calls();
    let seconds = live.now().duration_since(began).as_secs_f64();
    let is_list = |call: &&Call| call.endpoint == LIST && call.at >= began;
    let lists = calls.recent().filter(is_list).count();
    let rate = f64::from(u32::try_from(lists).unwrap()) / seconds;
    println!("{rate:.1} lists a second; first looks after {waits:?}");
    assert!(waits.iter().all(|wait| *wait < SECOND), "{waits:?}");
    assert!((3.0..=5.5).contains(&rate), "a quarter of 20: {rate}");
    assert!(calls.busiest_second(None) <= 20);
    live.stop().await;
}
