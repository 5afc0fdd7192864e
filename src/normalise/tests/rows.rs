//! The contract's table from job to event, row by row.

use super::*;
use crate::domain::{Action, Status};

const STEPS: [&str; 4] = [
    "verify-credentials",
    "mfa-challenge",
    "retrieve-accounts",
    "retrieve-transactions",
];

/// A connection whose step `at` failed with this result; those after it stay pending.
fn failed(at: &str, result: &Value) -> Value {
    let position = STEPS.iter().position(|step| *step == at).unwrap();
    let steps: Vec<Value> = STEPS
        .iter()
        .enumerate()
        .map(|(index, title)| match index.cmp(&position) {
            std::cmp::Ordering::Less => {
                json!({"title": title, "status": "success", "result": null})
            }
            std::cmp::Ordering::Equal => {
                json!({"title": title, "status": "failed", "result": result})
            }
            std::cmp::Ordering::Greater => {
                json!({"title": title, "status": "pending", "result": null})
            }
        })
        .collect();
    json!({"type": "job", "jobType": "connection", "steps": steps})
}

fn coded(at: &str, code: &str) -> Value {
    failed(
        at,
        &json!({"code": code, "title": "No", "detail": "The bank said no."}),
    )
}

fn verdict_of(document: Value, options: &WatchOptions, known: &Known) -> Verdict {
    told(outcome(document, options, known)).unwrap()
}

fn plainly(document: Value) -> Verdict {
    verdict_of(document, &WatchOptions::default(), &usual())
}

#[test]
fn success_is_told_finally() {
    let done = json!({"steps": [
        {"title": "verify-credentials", "status": "success"},
        {"title": "mfa-challenge", "status": "skipped"},
    ]});
    let verdict = plainly(done);
    assert_eq!(
        (verdict.status, verdict.action),
        (Status::Success, Action::None)
    );
    assert!(verdict.is_final);
    assert_eq!((verdict.error_code, verdict.failed_step), (None, None));
}

fn open_challenge() -> Value {
    json!({"steps": [
        {"title": "verify-credentials", "status": "success"},
        {"title": "mfa-challenge", "status": "in-progress", "result": {
            "type": "mfa", "method": "token", "description": "A code was sent.",
            "input": ["Code"], "expiryMs": 120_000, "links": {"response": "/jobs/1/mfa"}}},
        {"title": "retrieve-accounts", "status": "pending"},
    ]})
}

#[test]
fn an_open_challenge_asks_for_its_answer() {
    let verdict = plainly(open_challenge());
    assert_eq!(
        (verdict.status, verdict.action),
        (Status::ActionRequired, Action::AnswerMfa)
    );
    assert!(!verdict.is_final);
    let challenge = verdict.challenge.unwrap();
    assert_eq!(
        (challenge.method.as_str(), challenge.expiry_ms),
        ("token", Some(120_000))
    );
    let mut answered = open_challenge();
    answered["steps"][1]["result"] = Value::Null;
    assert_eq!(
        outcome(answered, &WatchOptions::default(), &usual()),
        Outcome::Running
    );
}

#[test]
fn a_failed_challenge_is_worth_another_try() {
    for result in [
        json!(null),
        json!([]),
        json!({"type": "mfa", "method": "token"}),
    ] {
        let verdict = plainly(failed("mfa-challenge", &result));
        assert_eq!(
            (verdict.status, verdict.action),
            (Status::Failed, Action::Retry)
        );
        assert_eq!(verdict.error_code.as_deref(), Some("mfa-failed"));
        assert_eq!(verdict.failed_step.as_deref(), Some("mfa-challenge"));
        assert!(verdict.is_final);
    }
}

/// Codes that lead to the same action on whatever step.
const BY_CODE: &[(Action, &str)] = &[
    (
        Action::ResubmitCredentials,
        "invalid-credentials invalid-username-or-password",
    ),
    (Action::ResolveAtBank, "locked-account multifactor-required"),
    (
        Action::ResolveAtBank,
        "account-not-accessible-requires-user-action user-action-required",
    ),
    (
        Action::Reauthorise,
        "authorization-failed invalid-connection authorisation-failed",
    ),
    (
        Action::ProvideStatement,
        "bank-statement-invalid bank-statement-not-supported",
    ),
    (
        Action::ProvideStatement,
        "bank-statement-parsing-error bank-statement-new-product",
    ),
    (
        Action::ProvideStatement,
        "bank-statement-brand-new empty-file invalid-csv-row",
    ),
    (
        Action::ProvideStatement,
        "row-count-exceeded account-data-differs",
    ),
    (Action::ProvideStatement, "txn-after-last-updated-date"),
    (
        Action::FixRequest,
        "missing-required-field missing-required-field-value",
    ),
    (
        Action::FixRequest,
        "invalid-field-value institution-not-found institution-not-supported",
    ),
    (
        Action::FixRequest,
        "forbidden-access unauthorised-access no-production-access",
    ),
    (Action::ContactSupport, "too-many-sandbox-connections"),
    (Action::Retry, "too-many-requests internal-server-error"),
];

#[test]
fn each_code_has_its_action_on_whatever_step_it_comes() {
    for (action, codes) in BY_CODE {
        for code in codes.split_whitespace() {
            for step in STEPS {
                let verdict = plainly(coded(step, code));
                assert_eq!(verdict.status, Status::Failed, "{code}");
                assert_eq!(verdict.action, *action, "{code}");
                assert!(verdict.is_final, "{code}");
                assert_eq!(verdict.failed_step.as_deref(), Some(step));
                assert_eq!(verdict.detail.as_deref(), Some("The bank said no."));
            }
        }
    }
}

#[test]
fn a_code_is_told_in_its_canonical_spelling() {
    for written in [
        "Service unavailable",
        "service_unavailable",
        "SERVICE-UNAVAILABLE",
    ] {
        let verdict = plainly(coded("retrieve-accounts", written));
        assert_eq!(
            verdict.error_code.as_deref(),
            Some("service-unavailable"),
            "{written}"
        );
    }
}

#[test]
fn the_text_of_refused_credentials_tells_what_must_be_resolved_at_the_bank() {
    for (text, action) in [
        (
            "Check your credentials and try again.",
            Action::ResubmitCredentials,
        ),
        (
            "This account is LOCKED. Please contact your bank.",
            Action::ResolveAtBank,
        ),
        ("Account locked", Action::ResolveAtBank),
        (
            "Your browser blocked the page.",
            Action::ResubmitCredentials,
        ),
        (
            "Multi-Factor Authentication is not supported.",
            Action::ResolveAtBank,
        ),
        ("MFA isn't supported for this login", Action::ResolveAtBank),
        (
            "MFA code not right, please contact support",
            Action::ResubmitCredentials,
        ),
        ("This browser is not supported", Action::ResubmitCredentials),
    ] {
        for result in [
            json!({"code": "invalid-credentials", "title": text}),
            json!({"code": "invalid-credentials", "detail": text}),
            json!([{"code": "invalid-credentials", "title": "No", "details": text}]),
        ] {
            let verdict = plainly(failed("verify-credentials", &result));
            assert_eq!(verdict.action, action, "{text}");
            assert_eq!(verdict.error_code.as_deref(), Some("invalid-credentials"));
        }
    }
}

const UNAVAILABLE: [&str; 10] = [
    "service-unavailable",
    "job-timed-out",
    "connector-error",
    "system-unavailable",
    "temporary-unavailable",
    "maintenance",
    "maintenance-error",
    "institution-not-available",
    "institution-disabled",
    "incomplete-job",
];

#[test]
fn an_update_that_finds_the_bank_unavailable_is_delayed() {
    let known = Known {
        major_outage: true,
        failures_in_a_row: 9,
        ..usual()
    };
    for code in UNAVAILABLE {
        let verdict = verdict_of(
            coded("retrieve-accounts", code),
            &operation(Operation::Update),
            &known,
        );
        assert_eq!(
            (verdict.status, verdict.action),
            (Status::Delayed, Action::Wait),
            "{code}"
        );
        assert!(!verdict.is_final);
        assert_eq!(verdict.retry_at, Some(now() + Duration::from_hours(2)));
        assert_eq!(verdict.error_code.as_deref(), Some(code));
    }
}

#[test]
fn an_update_is_given_up_when_its_job_is_too_old() {
    for (seconds, status) in [
        (-1, Status::Delayed),
        (0, Status::Failed),
        (1, Status::Failed),
    ] {
        let age =
            jiff::SignedDuration::from_hours(7 * 24) + jiff::SignedDuration::from_secs(seconds);
        let known = Known {
            started_at: now() - age,
            ..usual()
        };
        let document = coded("retrieve-accounts", "service-unavailable");
        let verdict = verdict_of(document, &operation(Operation::Update), &known);
        assert_eq!(verdict.status, status, "{seconds}");
        assert_eq!(verdict.error_code.as_deref(), Some("service-unavailable"));
        if status == Status::Failed {
            assert_eq!(verdict.action, Action::ContactSupport);
            assert!(verdict.is_final && verdict.retry_at.is_none());
        }
    }
}

#[test]
fn a_bank_that_is_unavailable_is_waited_for_tried_again_or_reported() {
    let operations = [None, Some(Operation::Create), Some(Operation::Refresh)];
    for (outage, in_a_row, action, is_final, minutes) in [
        (false, 0, Action::Retry, true, Some(10)),
        (false, 1, Action::Retry, true, Some(10)),
        (false, 2, Action::Retry, true, Some(10)),
        (false, 3, Action::ContactSupport, true, None),
        (false, 4, Action::ContactSupport, true, None),
        (true, 1, Action::WaitForBank, false, None),
        (true, 3, Action::WaitForBank, false, None),
    ] {
        let known = Known {
            major_outage: outage,
            failures_in_a_row: in_a_row,
            ..usual()
        };
        for (code, operation) in UNAVAILABLE.iter().zip(operations.iter().cycle()) {
            let options = WatchOptions {
                operation: *operation,
                ..WatchOptions::default()
            };
            let verdict = verdict_of(coded("verify-credentials", code), &options, &known);
            assert_eq!(
                (verdict.status, verdict.action),
                (Status::Failed, action),
                "{code}"
            );
            assert_eq!(verdict.is_final, is_final, "{code}");
            let retry_at = minutes.map(|minutes| now() + Duration::from_mins(minutes));
            assert_eq!(verdict.retry_at, retry_at, "{code}");
            assert_eq!(verdict.error_code.as_deref(), Some(*code));
        }
    }
}

#[test]
fn only_an_unavailable_bank_is_found_unavailable() {
    let is_unavailable = |document| find(&read_job(&JobDocument(document)), None).is_unavailable();
    for code in UNAVAILABLE {
        assert!(is_unavailable(coded("retrieve-accounts", code)), "{code}");
    }
    for code in [
        "invalid-credentials",
        "unknown-error",
        "too-many-requests",
        "never-heard-of",
    ] {
        assert!(!is_unavailable(coded("retrieve-accounts", code)), "{code}");
    }
    assert!(!is_unavailable(open_challenge()));
}

#[test]
fn what_nobody_knows_is_judged_by_its_step() {
    for (result, code) in [
        (json!({"code": "Never heard of"}), "never-heard-of"),
        (json!({"code": "unknown-error"}), "unknown-error"),
        (json!({"code": "success"}), "unknown-error"),
        (json!({"title": "No code"}), "unknown-error"),
        (json!(null), "unknown-error"),
        (json!("oops"), "unknown-error"),
    ] {
        for (step, action) in [
            ("verify-credentials", Action::ResubmitCredentials),
            ("retrieve-accounts", Action::Retry),
        ] {
            let verdict = plainly(failed(step, &result));
            assert_eq!(
                (verdict.status, verdict.action),
                (Status::Failed, action),
                "{result}"
            );
            assert_eq!(verdict.error_code.as_deref(), Some(code), "{result}");
            assert!(verdict.is_final && verdict.retry_at.is_none());
        }
    }
    let long = json!({"code": "x".repeat(500), "detail": "é".repeat(5000)});
    let verdict = plainly(failed("retrieve-accounts", &long));
    assert_eq!(verdict.error_code.unwrap().chars().count(), 128);
    assert_eq!(verdict.detail.unwrap().chars().count(), 1000);
}

#[test]
fn what_never_settles_expires_and_what_settled_is_told_as_what_it_is() {
    let old = Known {
        started_at: now() - Duration::from_hours(7 * 24),
        ..usual()
    };
    let young = Known {
        started_at: old.started_at + Duration::from_secs(1),
        ..usual()
    };
    let options = WatchOptions::default();
    let running = json!({"steps": [{"title": "verify-credentials", "status": "in-progress"}]});
    assert_eq!(outcome(running.clone(), &options, &young), Outcome::Running);
    for open in [running, json!({}), open_challenge()] {
        let verdict = verdict_of(open, &options, &old);
        assert_eq!(
            (verdict.status, verdict.action),
            (Status::Failed, Action::ContactSupport)
        );
        assert_eq!(verdict.error_code.as_deref(), Some("watch-expired"));
        assert!(verdict.is_final);
    }
    let done = json!({"steps": [{"title": "verify-credentials", "status": "success"}]});
    assert_eq!(verdict_of(done, &options, &old).status, Status::Success);
    let refused = coded("verify-credentials", "invalid-credentials");
    assert_eq!(
        verdict_of(refused, &options, &old).action,
        Action::ResubmitCredentials
    );
}
