//! Looks that Basiq's webhooks save: the relay learns for which ends a hint comes, and looks rarely where one does.

use std::time::Duration;

use basiq_sandbox::{JobScript, SandboxWebhook, ScriptStep, StepEnd};
use jiff::Timestamp;
use relay_domain::SigningSecret;
use reqwest::Method;

use crate::support::live::Live;

const SECOND: Duration = Duration::from_secs(1);

/// Starts a relay and a sandbox that sends webhooks to it, or none.
async fn start(sends_webhooks: bool) -> Live {
    let secret = SigningSecret::generate();
    let written = secret.expose().to_owned();
    Live::start_with(
        |settings| settings.basiq.webhook_secret = Some(written.into()),
        |sandbox, relay| {
            let url = relay.join("basiq/webhook").unwrap();
            sandbox.webhook = sends_webhooks.then_some(SandboxWebhook { url, secret });
        },
    )
    .await
}

/// Returns a refresh that takes about this long: a quarter for the login and an eighth for the accounts.
fn refresh(n: u64, millis: u64) -> JobScript {
    let whole = millis * (90 + n * 37 % 21) / 100;
    let step = |title: &str, millis| {
        ScriptStep::new(title, Duration::from_millis(millis), StepEnd::Succeeds)
    };
    JobScript::new(vec![
        step("verify-credentials", whole / 4),
        step("retrieve-accounts", whole / 8),
        step("retrieve-transactions", whole * 5 / 8),
    ])
}

/// Watches jobs that start together, until each has told its end. Returns their ids.
async fn watch_all(live: &Live, jobs: std::ops::Range<u64>, millis: u64) -> Vec<String> {
    let expected = live.receiver.received().len() + jobs.clone().count();
    let scripts = jobs.map(|n| refresh(n, millis));
    let ids: Vec<_> = scripts
        .map(|script| live.sandbox.seed_job(script))
        .collect();
    for id in &ids {
        live.register(id).await;
    }
    live.until(60 * SECOND, || live.receiver.received().len() == expected)
        .await;
    ids
}

/// Returns the calls that read these jobs.
fn looks(live: &Live, ids: &[String]) -> usize {
    let paths: Vec<_> = ids.iter().map(|id| format!("/jobs/{id}")).collect();
    let calls = live.sandbox.calls();
    calls
        .recent()
        .filter(|call| paths.contains(&call.path))
        .count()
}

/// Returns the mean time from the end of a job to the look that found it, in seconds.
fn mean_delay(live: &Live) -> f64 {
    let told = live.receiver.received();
    let delays = told.iter().map(|told| {
        let job = told.body["jobId"].as_str().unwrap();
        let seen: Timestamp = told.body["timestamp"].as_str().unwrap().parse().unwrap();
        let settled = live.sandbox.settled_at(job).unwrap();
        seen.duration_since(settled).as_secs_f64()
    });
    let delays: Vec<f64> = delays.collect();
    delays.iter().sum::<f64>() / f64::from(u32::try_from(delays.len()).unwrap())
}

/// Watches two hundred jobs. Returns the looks at the last 160 of them for each job, and the mean delay of all.
async fn two_hundred_jobs(sends_webhooks: bool) -> (f64, f64) {
    let live = start(sends_webhooks).await;
    watch_all(&live, 0..40, 14_000).await;
    let ids = watch_all(&live, 40..200, 14_000).await;
    assert_eq!(live.receiver.received().len(), 200);
    let looks = f64::from(u32::try_from(looks(&live, &ids)).unwrap()) / 160.0;
    let delay = mean_delay(&live);
    live.stop().await;
    (looks, delay)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_jobs_take_far_fewer_looks_with_basiqs_webhooks_and_are_told_no_later() {
    let (with, without) = tokio::join!(two_hundred_jobs(true), two_hundred_jobs(false));
    println!("looks a job and mean delay: {with:?} with webhooks, {without:?} without");
    // It is 0.4 on a quiet machine, and 0.57 was seen where webhooks came late for lack of CPU time.
    assert!(with.0 <= 0.65 * without.0, "{with:?}, {without:?}");
    assert!(with.1 <= without.1, "{with:?}, {without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_job_is_looked_at_as_without_webhooks() {
    let live = start(true).await;
    watch_all(&live, 0..40, 14_000).await;
    let (mut followed, mut others) = (Vec::new(), Vec::new());
    let mut streams = Vec::new();
    for _ in 0..8 {
        let [job, other] = [0, 1].map(|_| live.sandbox.seed_job(refresh(100, 14_000)));
        streams.push(live.listen(&live.register(&job).await).await);
        live.register(&other).await;
        followed.push(job);
        others.push(other);
    }
    for stream in &mut streams {
        stream.next_named("job.success").await;
    }
    live.until(10 * SECOND, || live.receiver.received().len() == 56)
        .await;
    let [followed, others] = [followed, others].map(|jobs| looks(&live, &jobs));
    println!("{followed} looks at eight followed jobs, {others} at eight others");
    // It is 33 to 16 on a quiet machine. Webhooks that come late for lack of CPU time cost the others more looks.
    assert!(4 * followed >= 5 * others, "{followed}, {others}");
    let metrics = live.bare(Method::GET, "metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for counted in [
        "relay_job_looks_total{job_type=\"connection\"}",
        "relay_job_ends_total{job_type=\"connection\",noticed_by=\"hint\"}",
        "relay_institution_job_ends_total{institution=\"AU00000\",result=\"success\"}",
    ] {
        assert!(metrics.contains(counted), "{counted} in {metrics}");
    }
    live.stop().await;
}
