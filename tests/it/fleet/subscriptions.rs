//! Three relays are killed fifty times while jobs of subscribed users begin. Each job becomes exactly one watch, whoever
//! finds it first: a list, a webhook, an explicit registration, or two relays at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use basiq_sandbox::{JobScript, ScriptStep, StepEnd};
use relay_domain::{SigningSecret, clock::Clock, signing};
use serde_json::json;

use super::crew::Crew;

const KILLS: usize = 50;
const USERS: usize = 10;
const JOBS_A_ROUND: usize = 6;

/// Starts a job of a user that takes half a second.
fn start(crew: &Crew, user: usize) -> String {
    let takes = Duration::from_millis(500);
    let step = ScriptStep::new("verify-credentials", takes, StepEnd::Succeeds);
    let mut script = JobScript::new(vec![step]);
    script.user_id = Some(format!("u-{user}"));
    script.connection_id = Some(format!("c-{user}"));
    crew.sandbox.seed_job(script)
}

/// Subscribes to all users, each at another relay.
async fn subscribe_to_all(crew: &Crew) {
    let callback = format!("{}/hook", crew.receiver.url());
    for user in 0..USERS {
        let url = format!("{}/subscriptions", crew.relays[user % 3].base);
        let body = json!({ "userId": format!("u-{user}"), "callbackUrl": callback });
        let call = crew.http.post(url).bearer_auth(crew.key.expose());
        let answer = call.json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
    }
}

/// Sends the same webhook about a user to two relays at once.
async fn send_twice(crew: &Crew, secret: &SigningSecret, (id, user): (usize, usize)) {
    let links = json!({
        "event": format!("https://b.example/events/e-{id}"),
        "eventEntity": format!("https://b.example/users/u-{user}/connections/c-{user}"),
    });
    let body = json!({ "eventTypeId": "transactions.updated", "eventId": format!("e-{id}"), "links": links });
    let body = body.to_string();
    let signed = signing::sign(&format!("m-{id}"), Clock::system().now(), &body, &[secret]);
    let signed = signed.unwrap();
    let sends = crew.relays.iter().take(2).map(|relay| {
        let mut call = crew.http.post(format!("{}/basiq/webhook", relay.base));
        for (name, value) in signed.entries() {
            call = call.header(name, value);
        }
        call.body(body.clone()).send()
    });
    for answer in futures_util::future::join_all(sends).await {
        assert_eq!(answer.unwrap().status(), 204);
    }
}

/// Starts a job. One of three is registered by the client too, and one of three is hinted at.
async fn begin(crew: &Crew, secret: &SigningSecret, number: usize) -> String {
    let user = number % USERS;
    let job = start(crew, user);
    match number % 3 {
        // with the callback of the subscription: 202, or 200 if a list was faster
        0 => {
            let (status, _, body) = crew.try_watch(number % 2, &job).await.unwrap();
            assert!(status.is_success(), "{body}");
        }
        1 => send_twice(crew, secret, (number, user)).await,
        _ => {}
    }
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_of_a_subscribed_user_becomes_one_watch_through_fifty_kills() {
    let secret = SigningSecret::generate();
    let written = secret.expose().to_owned();
    let mut crew = Crew::gather(|settings| {
        settings.basiq.webhook_secret = Some(written.into());
        settings.basiq.requests_per_second = 200;
        // what a killed relay had claimed is free again after a second or two
        settings.basiq.timeout = Duration::from_secs(1);
        settings.delivery.timeout = Duration::from_secs(1);
        settings.subscriptions.discovery_interval = Duration::from_secs(1);
        settings.tracking.poll_min_interval = Duration::from_millis(100);
        settings.server.client_rps = 100_000;
    })
    .await;
    for _ in 0..3 {
        crew.join().await;
    }
    subscribe_to_all(&crew).await;
    let mut jobs = BTreeSet::new();
    for round in 0..KILLS {
        for n in 0..JOBS_A_ROUND {
            let number = round * JOBS_A_ROUND + n;
            jobs.insert(begin(&crew, &secret, number).await);
        }
        crew.kill(0).await;
        crew.join().await;
    }
    let expected = jobs.len();
    assert_eq!(expected, KILLS * JOBS_A_ROUND);
    crew.until(Duration::from_mins(2), |crew| {
        watches_by_job(crew).len() == expected
    })
    .await;
    // what would be found a second time has time to be told
    tokio::time::sleep(Duration::from_secs(5)).await;
    let told = watches_by_job(&crew);
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), jobs);
    for (job, watches) in &told {
        assert_eq!(watches.len(), 1, "{job}: {watches:?}");
    }
    let doubled = "SELECT job_id FROM watches GROUP BY job_id HAVING count(*) > 1";
    assert_eq!(crew.database.define(doubled).await, 0, "no job has two");
    crew.stop().await;
}

/// Returns the watches that were told about, by job.
fn watches_by_job(crew: &Crew) -> BTreeMap<String, BTreeSet<String>> {
    let mut watches: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for told in crew.receiver.received() {
        let text = |name: &str| told.body[name].as_str().unwrap().to_owned();
        watches
            .entry(text("jobId"))
            .or_default()
            .insert(text("watchId"));
    }
    watches
}
