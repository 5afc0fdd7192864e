//! Tests of the whole path from a job document to an outcome.

mod documents;
mod fixtures;
mod rows;
mod unavailable;

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{Operation, Outcome, Verdict, WatchOptions};
use serde_json::{Value, json};

use super::*;
use crate::wire::JobDocument;

const TIMINGS: JudgeSettings = JudgeSettings {
    bank_retry_after: Duration::from_mins(10),
    update_retry_interval: Duration::from_hours(2),
    job_max_age: Duration::from_hours(7 * 24),
    support_after_failures: 3,
};

fn now() -> Timestamp {
    "2026-03-02T10:00:00Z".parse().unwrap()
}

/// The facts of a first failure. The job began a minute ago, and the bank is not in outage.
fn usual() -> JobFacts {
    JobFacts {
        major_outage: false,
        failures_in_a_row: 1,
        started_at: now() - Duration::from_mins(1),
        next_retry_at: None,
    }
}

fn outcome(document: Value, options: &WatchOptions, known: &JobFacts) -> Outcome {
    let snapshot = read_job(&JobDocument(document), Timestamp::MAX);
    let finding = find(&snapshot, options.until.as_deref());
    judge(&finding, options, known, &TIMINGS, now())
}

fn verdict_in(outcome: Outcome) -> Option<Verdict> {
    match outcome {
        Outcome::Running | Outcome::Unknown => None,
        Outcome::Tell(verdict) => Some(*verdict),
    }
}

fn operation(operation: Operation) -> WatchOptions {
    WatchOptions {
        operation: Some(operation),
        ..WatchOptions::default()
    }
}

/// Returns a verdict with its text, as JSON.
fn as_json(outcome: Outcome) -> Value {
    let Some(verdict) = verdict_in(outcome) else {
        return json!("running");
    };
    let catalogue = Catalogue::builtin();
    let locale = relay_domain::Locale::default();
    json!({
        "status": verdict.status,
        "action": verdict.action,
        "final": verdict.is_final,
        "failedStep": verdict.failed_step,
        "errorCode": verdict.error_code,
        "message": verdict.message,
        "userMessage": catalogue.user_message(&verdict.message, &locale),
        "retryAt": verdict.retry_at,
        "detail": verdict.detail,
        "challenge": verdict.challenge,
    })
}
