//! The database's clock goes back by an hour while two relays run.

use std::time::{Duration, Instant};

use relay_domain::clock::Clock;
use serde_json::{Value, json};

use super::crew::Crew;
use crate::support::{
    job,
    process::{RelayProcess, RelaySetup},
    scene::ask,
};

const SECOND: Duration = Duration::from_secs(1);

/// After a step back by an hour, all stored times lie an hour further ahead. A relay that died before seems alive.
const STEP_BACK: &str = "BEGIN;
    UPDATE upstream SET next_turn_at = next_turn_at + 3600000000, paused_until = paused_until + 3600000000;
    UPDATE upstream_tokens SET renew_at = renew_at + 3600000, expires_at = expires_at + 3600000,
        fetching_until = fetching_until + 3600000;
    UPDATE relays SET seen_at = seen_at + 3600000;
    INSERT INTO relays SELECT 'dead', max(seen_at) FROM relays;
    UPDATE due_jobs SET next_look_at = next_look_at + 3600000, lease_until = lease_until + 3600000,
        hinted_at = hinted_at + 3600000;
    UPDATE outbox SET next_attempt_at = next_attempt_at + 3600000, lease_until = lease_until + 3600000;
    UPDATE clock SET noted_at = noted_at + 3600000;
    COMMIT";

const MESSAGE: &str = "the database's clock was set back: due times and leases moved with it";

fn seed(crew: &Crew, id: &str, status: &str) {
    let steps = [("verify-credentials", status, Value::Null)];
    crew.sandbox
        .seed_document(id, job(id, Clock::system().now(), &steps));
}

/// Registers a watch of a job at a relay.
async fn watch(crew: &Crew, relay: &RelayProcess, key: &str, id: &str) {
    let body = json!({ "jobId": id, "callbackUrl": format!("{}/hook", crew.receiver.url()) });
    let call = crew.http.post(format!("{}/watch", relay.url));
    let answer = call.bearer_auth(key).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
}

fn warnings(log: &[String]) -> Vec<Value> {
    let lines = log
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == MESSAGE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_clock_that_goes_back_holds_up_nothing_and_one_relay_says_so() {
    let crew = Crew::gather(|_| ()).await;
    let mut setup = RelaySetup::new(&crew.database, crew.settings.basiq.url.as_str());
    setup.environment = vec![("RELAY_DELIVERY_RETRY_SCHEDULE", ["3s"; 10].join(","))];
    let client = setup.add_client("backend").await;
    let key = client["apiKey"].as_str().unwrap();
    let relays = [setup.start().await, setup.start().await];

    seed(&crew, "running", "in-progress");
    watch(&crew, &relays[0], key, "running").await;
    crew.receiver.answer(1, 500);
    seed(&crew, "retried", "success");
    watch(&crew, &relays[1], key, "retried").await;
    crew.until(10 * SECOND, |crew| crew.told() == 1).await;
    // the attempt is recorded, and the relays have noted the time
    tokio::time::sleep(SECOND).await;
    crew.database.define(STEP_BACK).await;
    let began = Instant::now();
    seed(&crew, "running", "success");
    seed(&crew, "new", "success");
    watch(&crew, &relays[0], key, "new").await;
    crew.until(10 * SECOND, |crew| crew.told() == 4).await;
    println!("all was told after {:?}", began.elapsed());
    for relay in &relays {
        let ready = ask(&relay.url, "GET /readyz", "", None).await;
        assert_eq!(ready.status, 200, "{}", ready.text);
    }
    let dead = "DELETE FROM relays WHERE relay_id = 'dead' \
        AND seen_at <= extract(epoch FROM clock_timestamp()) * 1000";
    crew.database.execute(dead).await;
    let mut told = Vec::new();
    for relay in relays {
        told.extend(warnings(&relay.kill().await));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["level"], "WARN");
    let time =
        |field: &str| -> jiff::Timestamp { told[0][field].as_str().unwrap().parse().unwrap() };
    let step = time("from").duration_since(time("to")).as_secs();
    assert!((3590..=3600).contains(&step), "{:?}", told[0]);
}
