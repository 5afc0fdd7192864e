//! Tests of outcomes when the bank is unavailable.

use relay_domain::{Action, Status};

use super::{
    rows::{coded, open_challenge, verdict_of},
    *,
};

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
    let known = JobFacts {
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
        let known = JobFacts {
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
        let known = JobFacts {
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
    let is_unavailable =
        |document| find(&read_job(&JobDocument(document), Timestamp::MAX), None).is_unavailable();
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
