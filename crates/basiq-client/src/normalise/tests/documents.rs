//! Property tests: every document leads to an outcome.

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value, json};

use super::*;

const WORDS: &[&str] = &[
    "type",
    "job",
    "id",
    "steps",
    "title",
    "status",
    "result",
    "code",
    "detail",
    "details",
    "error",
    "url",
    "links",
    "self",
    "source",
    "response",
    "method",
    "description",
    "input",
    "expiryMs",
    "created",
    "createdDate",
    "updated",
    "jobType",
    "institution",
    "pending",
    "in-progress",
    "success",
    "failed",
    "skipped",
    "mfa",
    "mfa-challenge",
    "verify-credentials",
    "retrieve-accounts",
    "service-unavailable",
    "invalid-credentials",
    "account is locked",
    "2024-09-25T04:15:59Z",
    "/users/u/connections/c",
    "?filter=institution.id.eq('AU00000')",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => proptest::sample::select(WORDS).prop_map(ToOwned::to_owned),
        1 => "(?s).{0,40}",
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => word().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
    ]
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    vec((word(), value), 0..6)
        .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>()))
}

fn any_json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            object(inner)
        ]
    })
}

/// Generates a document with the outline of a job and arbitrary contents.
fn job_like() -> impl Strategy<Value = Value> {
    let step = (leaf(), leaf(), any_json()).prop_map(
        |(title, status, result)| json!({"title": title, "status": status, "result": result}),
    );
    (vec(step, 0..6), option::of(word()), any_json(), leaf()).prop_map(
        |(steps, status, links, created)| {
            json!({"steps": steps, "status": status, "links": links, "created": created})
        },
    )
}

proptest! {
    #[test]
    fn an_arbitrary_document_gives_an_outcome(
        document in prop_oneof![any_json(), job_like()],
        operation in option::of(proptest::sample::select(Operation::ALL)),
        until in option::of(word()),
        major_outage: bool,
        failures_in_a_row: u32,
        started in -1_000_000_000_000_i64..10_000_000_000_000,
    ) {
        let known = JobFacts {
            major_outage,
            failures_in_a_row,
            started_at: Timestamp::from_millisecond(started).unwrap(),
            next_retry_at: None,
        };
        let options = WatchOptions { operation, until, ..WatchOptions::default() };
        let snapshot = read_job(&JobDocument(document.clone()), Timestamp::MAX);
        let _ = (expects_challenge(&snapshot), resources(&snapshot));
        if let Some(verdict) = verdict_in(outcome(document, &options, &known)) {
            let failed = verdict.status == relay_domain::Status::Failed;
            let delayed = verdict.status == relay_domain::Status::Delayed;
            prop_assert_eq!(failed || delayed, verdict.error_code.is_some());
            prop_assert!(verdict.error_code.is_none_or(|code| code.chars().count() <= 128));
            prop_assert!(verdict.detail.is_none_or(|detail| detail.chars().count() <= 1000));
            let text = Catalogue::builtin();
            let words = text.user_message(&verdict.message, &options.locale).to_owned();
            prop_assert!(!words.is_empty());
        }
    }

    #[test]
    fn a_judgement_depends_on_its_arguments_alone(document in job_like()) {
        let judged = || outcome(document.clone(), &WatchOptions::default(), &usual());
        prop_assert_eq!(judged(), judged());
    }
}
