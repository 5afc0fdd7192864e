//! Flows that take minutes to days, with and without a restart.

use basiq_sandbox::ScriptChallenge;
use serde_json::{Value, json};

use super::{Act, DAY, HOUR, MINUTE, Row, SECOND, UNAVAILABLE, asks, fails, reads, update};
use crate::support::failure;

/// Returns the long flows: the acts, and the expected events. A restart of the relay changes neither.
fn long_flows() -> Vec<Row> {
    let is_update = || json!({ "operation": "update" });
    let asked_twice =
        ScriptChallenge::token().then(ScriptChallenge::questions(&[("Where?", &["Here"])]));
    vec![
        Row::new("an update that works on the second retry", update(Some(2)), vec![
            Act::Pass(MINUTE), Act::Pass(3 * HOUR), Act::Pass(HOUR), Act::Pass(10 * MINUTE),
        ])
            .options(is_update())
            .tells(&["1 delayed/wait service-unavailable retrieve-accounts", "2 success/none - - !"])
            // At most six looks until the failure, then two for each retry.
            .looks(4..=10),
        Row::new(
            "an update that never works",
            update(None),
            vec![
                Act::Pass(MINUTE),
                Act::Pass(3 * DAY),
                Act::Pass(3 * DAY + 23 * HOUR),
                Act::Pass(2 * HOUR),
            ],
        )
        .options(is_update())
        .tells(&[
            "1 delayed/wait service-unavailable retrieve-accounts",
            "2 failed/contact-support service-unavailable retrieve-accounts !",
        ])
        .looks(80..=2 * 84 + 7),
        Row::new(
            "an update whose retry fails otherwise",
            update(None),
            vec![
                Act::Pass(MINUTE),
                Act::Pass(HOUR),
                Act::Shows(vec![(
                    "verify-credentials",
                    "failed",
                    failure("invalid-credentials"),
                )]),
                Act::Pass(30 * MINUTE),
                Act::Pass(HOUR),
            ],
        )
        .options(is_update())
        .tells(&[
            "1 delayed/wait service-unavailable retrieve-accounts",
            "2 failed/resubmit-credentials invalid-credentials verify-credentials !",
        ])
        .looks(4..=8),
        Row::new(
            "an update whose retry takes four minutes",
            update(None),
            vec![
                Act::Pass(MINUTE),
                Act::Shows(vec![("verify-credentials", "in-progress", Value::Null)]),
                Act::Pass(2 * HOUR + 4 * MINUTE),
                Act::Shows(vec![("verify-credentials", "success", Value::Null)]),
                Act::Pass(2 * MINUTE),
            ],
        )
        .options(is_update())
        .tells(&[
            "1 delayed/wait service-unavailable retrieve-accounts",
            "2 success/none - - !",
        ])
        .looks(6..=80),
        Row::new(
            "an update that shows pending for hours",
            update(None),
            vec![
                Act::Pass(MINUTE),
                Act::Shows(vec![("verify-credentials", "pending", Value::Null)]),
                Act::Pass(5 * HOUR),
                Act::Pass(HOUR / 2),
            ],
        )
        .options(is_update())
        .tells(&["1 delayed/wait service-unavailable retrieve-accounts"])
        .looks(6..=10),
        Row::new(
            "an update that shows pending until it is too old",
            update(None),
            vec![
                Act::Pass(MINUTE),
                Act::Shows(vec![("verify-credentials", "pending", Value::Null)]),
                Act::Pass(7 * DAY),
            ],
        )
        .options(is_update())
        .tells(&[
            "1 delayed/wait service-unavailable retrieve-accounts",
            "2 failed/contact-support service-unavailable - !",
        ]),
        Row::new(
            "an outage that lifts",
            reads(fails(UNAVAILABLE, "down")),
            vec![
                Act::Fault("outage=AU00000"),
                Act::Pass(MINUTE),
                Act::Pass(HOUR),
                Act::Fault(""),
                Act::Pass(15 * MINUTE),
            ],
        )
        .tells(&[
            "1 failed/wait-for-bank service-unavailable retrieve-accounts",
            "2 failed/retry service-unavailable retrieve-accounts !",
        ])
        .looks(1..=6),
        Row::new(
            "an outage that outlives the job",
            reads(fails(UNAVAILABLE, "down")),
            vec![
                Act::Fault("outage=AU00000"),
                Act::Pass(MINUTE),
                Act::Pass(6 * DAY),
                Act::Pass(DAY),
            ],
        )
        .tells(&[
            "1 failed/wait-for-bank service-unavailable retrieve-accounts",
            "2 failed/contact-support service-unavailable retrieve-accounts !",
        ])
        .looks(1..=14),
        Row::new(
            "a challenge that is answered, and another",
            asks(asked_twice),
            vec![
                Act::Pass(20 * SECOND),
                Act::Answer(&["1234"]),
                Act::Pass(20 * SECOND),
                Act::Answer(&["Here"]),
                Act::Pass(20 * SECOND),
            ],
        )
        .tells(&[
            "1 action-required/answer-mfa - -",
            "2 action-required/answer-mfa - -",
            "3 success/none - - !",
        ])
        .looks(15..=40),
        Row::new(
            "a challenge that nobody answers",
            asks(ScriptChallenge::token()),
            vec![Act::Pass(30 * SECOND), Act::Pass(2 * MINUTE)],
        )
        .tells(&[
            "1 action-required/answer-mfa - -",
            "2 failed/retry mfa-failed mfa-challenge !",
        ])
        .looks(50..=75),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn long_flows_are_told_as_they_go() {
    for row in long_flows() {
        row.play(None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_long_flow_changes_nothing() {
    for index in 1..4 {
        let rows = long_flows().into_iter();
        for row in rows.filter(|row| index < row.acts.len()) {
            row.play(Some(index)).await;
        }
    }
}
