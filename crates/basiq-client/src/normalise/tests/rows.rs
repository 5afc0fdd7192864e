//! Tests of each outcome that a job can have.

use relay_domain::{Action, Status};

use super::*;

const STEPS: [&str; 4] = [
    "verify-credentials",
    "mfa-challenge",
    "retrieve-accounts",
    "retrieve-transactions",
];

/// Builds a connection job whose step `at` failed with this result. The steps after it stay pending.
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

pub(super) fn coded(at: &str, code: &str) -> Value {
    failed(
        at,
        &json!({"code": code, "title": "No", "detail": "The bank said no."}),
    )
}

pub(super) fn verdict_of(document: Value, options: &WatchOptions, known: &JobFacts) -> Verdict {
    verdict_in(outcome(document, options, known)).unwrap()
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

pub(super) fn open_challenge() -> Value {
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

/// Codes that lead to the same action on every step.
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
    let old = JobFacts {
        started_at: now() - Duration::from_hours(7 * 24),
        ..usual()
    };
    let young = JobFacts {
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
