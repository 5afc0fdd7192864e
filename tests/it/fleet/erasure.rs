//! A person is erased while three relays work on two hundred watches of theirs.

use std::{collections::BTreeSet, time::Duration};

use basiq_sandbox::{JobScript, ScriptStep, StepEnd};
use serde_json::{Value, json};

use super::crew::Crew;

const TOKEN: &str = "the-operator's-own-token";
const WATCHES: usize = 200;
const OTHERS: usize = 60;
const FRESH: usize = 40;

fn start(crew: &Crew, user: &str, number: usize) -> String {
    let millis = u64::try_from(1_500 + number % 50 * 100).unwrap();
    let takes = Duration::from_millis(millis);
    let step = ScriptStep::new("verify-credentials", takes, StepEnd::Succeeds);
    let mut script = JobScript::new(vec![step]);
    script.user_id = Some(user.to_owned());
    script.connection_id = Some(format!("{user}-c{}", number % 3));
    crew.sandbox.seed_job(script)
}

/// Starts jobs of a user, and watches each at one of the relays. Returns the jobs.
async fn watch(crew: &Crew, user: &str, numbers: std::ops::Range<usize>) -> BTreeSet<String> {
    let mut jobs = BTreeSet::new();
    for number in numbers {
        let job = start(crew, user, number);
        let (status, _, body) = crew.try_watch(number % 3, &job).await.unwrap();
        assert_eq!(status, 202, "{body}");
        jobs.insert(job);
    }
    jobs
}

/// Returns the jobs that were told about since the first `skipped` events.
fn told(crew: &Crew, skipped: usize) -> BTreeSet<String> {
    let received = crew.receiver.received();
    let told = received.iter().skip(skipped);
    told.map(|told| told.body["jobId"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_erased_person_comes_back_at_any_relay() {
    let mut crew = Crew::gather(|settings| {
        settings.server.admin_token = Some(TOKEN.to_owned().into());
        settings.basiq.requests_per_second = 200;
        settings.server.client_rps = 100_000;
        settings.tracking.poll_min_interval = Duration::from_millis(200);
    })
    .await;
    for _ in 0..3 {
        crew.join().await;
    }
    let mut erased = watch(&crew, "erased", 0..WATCHES).await;
    let others = watch(&crew, "other", 0..OTHERS).await;
    // nobody has looked at the last ones yet, so their person is not known
    erased.extend(watch(&crew, "erased", WATCHES..WATCHES + FRESH).await);

    let call = crew
        .http
        .post(format!("{}/admin/erase", crew.relays[0].base));
    let call = call.bearer_auth(TOKEN).json(&json!({ "userId": "erased" }));
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let counts: Value = answer.json().await.unwrap();
    println!("{counts}");
    assert!(counts["watches"].as_u64().unwrap() >= 150, "{counts}");

    // what was on its way arrives
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = crew.receiver.received().len();
    crew.until(Duration::from_mins(1), |crew| {
        told(crew, 0).is_superset(&others)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let later = told(&crew, before);
    assert!(later.is_disjoint(&erased), "told after the erasure");
    for table in ["watches", "jobs", "due_jobs", "unsettled_watches"] {
        let named = erased.iter().map(|job| format!("'{job}'"));
        let named = named.collect::<Vec<_>>().join(",");
        let left = format!("SELECT 1 FROM {table} WHERE job_id IN ({named})");
        assert_eq!(crew.database.define(&left).await, 0, "{table}");
    }
    let kept = crew.database.define("SELECT 1 FROM watches").await;
    assert_eq!(kept, u64::try_from(OTHERS).unwrap());
    let stored = crew.database.stored().await;
    for (table, row) in &stored {
        let names = crate::support::database::holds(row, "erased-c");
        assert!(!names, "{table}: {}", String::from_utf8_lossy(row));
    }
    crew.stop().await;
}
