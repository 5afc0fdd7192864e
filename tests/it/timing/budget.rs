//! The budget of calls to Basiq in real time, as the sandbox counts the calls.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use basiq_sandbox::{Call, JobScript, ScriptStep, StepEnd};
use serde_json::Value;

use crate::support::{job, live::Live};

const SECOND: Duration = Duration::from_secs(1);
const LOOK: &str = "GET /jobs/{jobId}";
const TOKEN: &str = "POST /token";

/// Returns the looks at each job, in order.
fn looks_by_job(calls: impl Iterator<Item = Call>) -> BTreeMap<String, Vec<Call>> {
    let mut looks = BTreeMap::<_, Vec<_>>::new();
    for call in calls.filter(|call| call.endpoint == LOOK) {
        looks.entry(call.path.clone()).or_default().push(call);
    }
    for looks in looks.values_mut() {
        looks.sort_by_key(|look| look.at);
    }
    looks
}

fn succeeding(takes: Duration) -> JobScript {
    JobScript::new(vec![ScriptStep::new(
        "verify-credentials",
        takes,
        StepEnd::Succeeds,
    )])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watches_on_a_hundred_jobs_stay_within_the_budget() {
    let live = Live::start(|settings| {
        settings.basiq.requests_per_second = 20;
        settings.server.client_rps = 100_000;
    })
    .await;
    live.sandbox.set_faults(vec!["slow=150".parse().unwrap()]);
    let jobs: Vec<_> = (0..100)
        .map(|n| live.sandbox.seed_job(succeeding((4 + n % 8) * SECOND)))
        .collect();
    let began = Instant::now();
    for job in &jobs {
        live.watch_by(job, 10).await;
    }
    live.until(Duration::from_secs(45), || {
        live.receiver.received().len() >= 1000
    })
    .await;
    let took = began.elapsed();
    let calls = live.sandbox.calls();
    assert!(
        calls.busiest_second(None) <= 20,
        "{} calls in a second",
        calls.busiest_second(None)
    );
    assert_eq!(calls.count(TOKEN), 1);
    let looks = looks_by_job(calls.recent().cloned());
    assert_eq!(looks.len(), 100, "each job is looked at");
    for (path, looks) in &looks {
        for pair in looks.windows(2) {
            assert!(pair[1].at >= pair[0].ended, "{path} twice at once");
        }
    }
    let rate = f64::from(u32::try_from(calls.total()).unwrap()) / took.as_secs_f64();
    assert!(rate > 10.0, "{rate} calls a second leave the budget unused");
    assert_eq!(live.receiver.received().len(), 1000);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_challenges_and_young_jobs_share_a_short_budget_and_a_new_job_is_looked_at_at_once() {
    let live = Live::start(|settings| settings.basiq.requests_per_second = 10).await;
    let now = live.now();
    let mut paths = HashMap::new();
    for n in 0..60 {
        let (id, step) = match n {
            0..40 => (format!("mfa-{n}"), "mfa-challenge"),
            _ => (format!("young-{n}"), "retrieve-accounts"),
        };
        let steps = [
            ("verify-credentials", "success", Value::Null),
            (step, "pending", Value::Null),
        ];
        live.sandbox.seed_document(&id, job(&id, now, &steps));
        live.watch_by(&id, 1).await;
        paths.insert(format!("/jobs/{id}"), id);
    }
    // No job starves: each gets a second look. This takes 60 first looks, and young jobs get only a fifth of the
    // calls after them.
    let is_seen_again = |live: &Live| {
        let looks = looks_by_job(live.sandbox.calls().recent().cloned());
        let again = |path: &String| looks.get(path).is_some_and(|looks| looks.len() >= 2);
        paths.keys().all(again)
    };
    live.until(45 * SECOND, || is_seen_again(&live)).await;
    let done = job("new", now, &[("create-report", "success", Value::Null)]);
    live.sandbox.seed_document("new", done);
    let asked = live.now();
    live.watch_by("new", 1).await;
    live.until(5 * SECOND, || live.receiver.received().len() == 1)
        .await;
    let calls = live.sandbox.calls();
    assert!(calls.busiest_second(None) <= 10);
    let looks = looks_by_job(calls.recent().cloned());
    let first = looks["/jobs/new"][0].at;
    let waited = Duration::try_from(first.duration_since(asked)).unwrap();
    assert!(waited < Duration::from_millis(1800), "{waited:?}");
    let of = |kind: &str| {
        let of_kind = looks.iter().filter(|(path, _)| path.contains(kind));
        of_kind.map(|(_, looks)| looks.len() - 1).sum::<usize>()
    };
    assert!(of("mfa") > of("young"), "{} {}", of("mfa"), of("young"));
    live.stop().await;
}
