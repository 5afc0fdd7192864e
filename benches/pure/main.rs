//! Measures the relay's computations for each look and each delivery, without a store or a network:
//! `cargo bench --bench pure`.

use std::{hint::black_box, time::Duration};

use basiq_client::{
    normalise::{self, Finding, JobFacts, JudgeSettings},
    wire::JobDocument,
};
use basiq_relay::{
    config::Settings,
    tracker::{memory, schedule},
};
use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use relay_domain::{
    Action, EndDetection, Event, EventBody, EventContext, EventId, JobEnd, JobMemory, JobSnapshot,
    KnownDurations, Metadata, SigningSecret, Status, TimeFromStage, WatchId, WatchOptions, signing,
};
use serde_json::{Value, json};

/// The jobs: one succeeded, one runs, one asks the person, and one failed. Each has the status of its last step.
const JOBS: [(&str, &str); 4] = [
    ("succeeded", "success"),
    ("running", "in-progress"),
    ("asks", "in-progress"),
    ("failed", "failed"),
];

/// Reads a document, whatever its age.
fn read(document: &JobDocument) -> JobSnapshot {
    normalise::read_job(document, Timestamp::MAX)
}

fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Returns a job's document whose last of three steps has this kind and status.
fn document(kind: &str, status: &str) -> Vec<u8> {
    let link = json!({ "type": "link", "url": "/users/u-1/connections/c-1/accounts" });
    let result = match kind {
        "succeeded" => link.clone(),
        "failed" => json!({ "code": "account-not-accessible-requires-user-action",
            "title": "Account not accessible", "detail": "The bank asks for something first." }),
        "asks" => json!({ "type": "mfa-challenge" }),
        _ => Value::Null,
    };
    let title = if kind == "asks" {
        "mfa-challenge"
    } else {
        "retrieve-transactions"
    };
    let steps = [
        json!({ "title": "verify-credentials", "status": "success", "result": link }),
        json!({ "title": "retrieve-accounts", "status": "success", "result": link }),
        json!({ "title": title, "status": status, "result": result }),
    ];
    let document = json!({
        "type": "job", "id": "j-1", "created": now(), "updated": now(), "jobType": "connection",
        "institution": { "type": "institution", "id": "AU00000" }, "steps": steps,
        "links": { "self": "/jobs/j-1", "source": "/users/u-1/connections/c-1" },
    });
    document.to_string().into_bytes()
}

fn parse(bytes: &[u8]) -> Option<JobDocument> {
    serde_json::from_slice(bytes).ok().map(JobDocument)
}

/// Measures the way from the bytes of an answer to the judgement.
fn normalise(bench: &mut Criterion) {
    let tracking = Settings::default().tracking;
    let settings = JudgeSettings {
        bank_retry_after: tracking.bank_retry_after,
        update_retry_interval: tracking.update_retry_interval,
        job_max_age: tracking.job_max_age,
        support_after_failures: tracking.support_after_failures,
    };
    let known = JobFacts {
        major_outage: false,
        failures_in_a_row: 0,
        started_at: now(),
        next_retry_at: None,
    };
    let options = WatchOptions::default();
    for (kind, status) in JOBS {
        let bytes = document(kind, status);
        bench.bench_function(&format!("normalise/{kind}"), |bencher| {
            bencher.iter(|| {
                let document = parse(black_box(&bytes));
                let finding = document.map(|document| normalise::find(&read(&document), None));
                finding
                    .map(|finding| normalise::judge(&finding, &options, &known, &settings, now()))
            });
        });
    }
}

/// Measures how to choose the next look at a job of a known bank.
fn next_look(bench: &mut Criterion) {
    let document = parse(&document("running", "in-progress"));
    let snapshot = document.as_ref().map(read).unwrap_or_default();
    let memory = memory::observe(&JobMemory::default(), &snapshot, &Finding::Running, now());
    let mut known = KnownDurations::default();
    for seconds in 1..60 {
        let stage = TimeFromStage {
            title: "retrieve-transactions".to_owned(),
            to_end: Duration::from_secs(seconds),
        };
        known.observed.add(&JobEnd {
            stages: vec![stage],
            detection: EndDetection::Hint {
                after: Duration::from_secs(1),
            },
        });
    }
    let config = Settings::default().tracking;
    bench.bench_function("schedule/next look", |bencher| {
        bencher
            .iter(|| schedule::next_look(black_box(&memory), &known, false, now(), &config, 0.5));
    });
}

fn event() -> Event {
    let watch_id = WatchId::new(now());
    Event {
        id: EventId::derive(watch_id, 1),
        body: EventBody {
            event_type: "job.failed".to_owned(),
            timestamp: now(),
            sequence: 1,
            is_final: true,
            watch_id: Some(watch_id),
            job_id: Some("j-1".to_owned()),
            status: Status::Failed,
            failed_step: Some("verify-credentials".to_owned()),
            error_code: Some("invalid-credentials".to_owned()),
            user_message:
                "Your bank did not accept these login details. Check them and enter them again."
                    .to_owned(),
            action: Action::ResubmitCredentials,
            retry_at: None,
            detail: Some("The credentials are wrong.".to_owned()),
            challenge: None,
            context: EventContext::default(),
            resources: Vec::new(),
            metadata: Metadata::default(),
        },
        deadline: None,
    }
}

/// Measures writing an event's body, and signing it.
fn deliver(bench: &mut Criterion) {
    let (event, secret) = (event(), SigningSecret::generate());
    bench.bench_function("event/JSON", |bencher| {
        bencher.iter(|| black_box(&event).to_json());
    });
    let body = event.to_json().unwrap_or_default();
    let id = event.id.to_string();
    for (name, secrets) in [
        ("one secret", vec![&secret]),
        ("two secrets", vec![&secret, &secret]),
    ] {
        bench.bench_function(&format!("sign/{name}"), |bencher| {
            bencher.iter(|| signing::sign(&id, now(), black_box(&body), &secrets));
        });
    }
}

criterion_group!(pure, normalise, next_look, deliver);
criterion_main!(pure);
