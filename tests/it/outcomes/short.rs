//! Jobs with a single event, and the action that each failure advises.

use basiq_sandbox::StepEnd;
use serde_json::json;

use super::{Act, HOUR, MINUTE, Row, SECOND, fails, reads, verifies};
use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn short_jobs_are_told_once() {
    let rows = [
        Row::new("success", reads(StepEnd::Succeeds), vec![Act::Pass(MINUTE)])
            .tells(&["1 success/none - - !"])
            .looks(4..=9),
        Row::new(
            "a step that is not needed",
            reads(StepEnd::Skipped),
            vec![Act::Pass(MINUTE)],
        )
        .tells(&["1 success/none - - !"]),
        Row::new(
            "success up to a step",
            reads(StepEnd::Succeeds),
            vec![Act::Pass(6 * SECOND), Act::Pass(MINUTE)],
        )
        .options(json!({ "until": "retrieve-accounts" }))
        .tells(&["1 success/none - - !"])
        .looks(3..=6),
        Row::new(
            "success up to a step it does not have",
            reads(StepEnd::Succeeds),
            vec![Act::Pass(MINUTE)],
        )
        .options(json!({ "until": "create-report" }))
        .tells(&["1 success/none - - !"])
        .looks(4..=9),
        Row::new(
            "a failure after the step",
            reads(fails("invalid-connection", "")),
            vec![Act::Pass(MINUTE)],
        )
        .options(json!({ "until": "verify-credentials" }))
        .tells(&["1 success/none - - !"]),
        Row::new(
            "an unavailable bank",
            verifies(fails("Service unavailable", "")),
            vec![Act::Pass(MINUTE)],
        )
        .tells(&["1 failed/retry service-unavailable verify-credentials !"]),
        Row {
            max_age: 2 * HOUR,
            ..Row::new(
                "a job that never ends",
                verifies(StepEnd::Hangs),
                vec![Act::Pass(HOUR), Act::Pass(HOUR + MINUTE)],
            )
        }
        .tells(&["1 failed/contact-support watch-expired - !"]),
        Row::new(
            "a job that vanishes",
            verifies(StepEnd::Hangs),
            vec![
                Act::Pass(5 * SECOND),
                Act::Forgets,
                Act::Pass(50 * SECOND),
                Act::Pass(MINUTE),
            ],
        )
        .tells(&["1 failed/fix-request job-not-found - !"]),
    ];
    for row in rows {
        row.play(None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_advice() {
    let table = [
        (
            "invalid-credentials",
            "wrong password",
            "resubmit-credentials",
        ),
        (
            "invalid-credentials",
            "This account is LOCKED.",
            "resolve-at-bank",
        ),
        (
            "invalid-credentials",
            "multi-factor authentication is not supported",
            "resolve-at-bank",
        ),
        (
            "account-not-accessible-requires-user-action",
            "",
            "resolve-at-bank",
        ),
        ("user-action-required", "", "resolve-at-bank"),
        ("authorization-failed", "access_denied", "reauthorise"),
        ("invalid-connection", "", "reauthorise"),
        ("job-timed-out", "", "retry"),
        ("connector-error", "", "retry"),
        ("system-unavailable", "", "retry"),
        ("temporary-unavailable", "", "retry"),
        ("maintenance", "", "retry"),
        ("maintenance-error", "", "retry"),
        ("institution-not-available", "", "retry"),
        ("institution-disabled", "", "retry"),
        ("incomplete-job", "", "retry"),
        ("bank-statement-not-supported", "", "provide-statement"),
        ("empty-file", "", "provide-statement"),
        ("invalid-csv-row", "", "provide-statement"),
        ("row-count-exceeded", "", "provide-statement"),
        ("account-data-differs", "", "provide-statement"),
        ("txn-after-last-updated-date", "", "provide-statement"),
        ("missing-required-field", "", "fix-request"),
        ("invalid-field-value", "", "fix-request"),
        ("institution-not-found", "", "fix-request"),
        ("a-code-nobody-knows", "", "retry"),
    ];
    let mut app = TestApp::new().await;
    for (code, detail, action) in table {
        let id = app.sandbox.seed_job(reads(fails(code, detail)));
        app.watch(&id).await;
        app.skip(8 * SECOND).await;
        let event = app.told().pop().unwrap();
        assert_eq!(event["jobId"], id.as_str(), "{code}");
        assert_eq!(
            (&event["action"], &event["errorCode"]),
            (&json!(action), &json!(code))
        );
        assert_eq!(
            (&event["final"], &event["sequence"]),
            (&json!(true), &json!(1)),
            "{code}"
        );
    }
    let id = app
        .sandbox
        .seed_job(verifies(fails("a-code-nobody-knows", "")));
    app.watch(&id).await;
    app.skip(8 * SECOND).await;
    assert_eq!(app.told().len(), table.len() + 1);
    assert_eq!(app.told().pop().unwrap()["action"], "resubmit-credentials");
}
