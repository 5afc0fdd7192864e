//! Streams, and calls that wait for a change, over real HTTP.

mod journeys;
mod waits;

use std::time::Duration;

use basiq_relay::config::Settings;
use serde_json::{Value, json};

use crate::support::{job, live::Live};

/// Sets short intervals between looks.
fn quick(settings: &mut Settings) {
    settings.tracking.poll_min_interval = Duration::from_millis(50);
    settings.tracking.poll_max_interval = Duration::from_millis(100);
    settings.basiq.requests_per_second = 10_000;
    settings.server.client_rps = 100_000;
}

/// Makes Basiq show the job with these statuses of its three steps.
fn see(live: &Live, id: &str, statuses: [&str; 3]) {
    let titles = [
        "verify-credentials",
        "retrieve-accounts",
        "retrieve-transactions",
    ];
    let steps: Vec<_> = titles
        .into_iter()
        .zip(statuses)
        .map(|(title, status)| (title, status, Value::Null))
        .collect();
    live.sandbox.seed_document(id, job(id, live.now(), &steps));
}

const BEGUN: [&str; 3] = ["in-progress", "pending", "pending"];
const HALF: [&str; 3] = ["success", "in-progress", "pending"];
const DONE: [&str; 3] = ["success", "success", "success"];

/// Makes Basiq show the job with an open challenge.
fn ask(live: &Live, id: &str) {
    let challenge = json!({
        "type": "mfa", "method": "token", "description": "Enter the code", "input": ["Code"],
        "expiryMs": 120_000, "links": { "response": format!("/jobs/{id}/mfa") },
    });
    let steps = [
        ("verify-credentials", "success", Value::Null),
        ("mfa-challenge", "in-progress", challenge),
        ("retrieve-accounts", "pending", Value::Null),
    ];
    live.sandbox.seed_document(id, job(id, live.now(), &steps));
}
