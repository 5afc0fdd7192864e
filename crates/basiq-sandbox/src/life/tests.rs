//! Tests of a job's state at each moment.

use super::*;
use crate::script::ScriptRetries;

const START: i64 = 1_800_000_000_000;

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(START + millis).unwrap()
}

fn job(speed: f64, middle: ScriptStep) -> ScriptedJob {
    let step = |title: &str, millis| {
        ScriptStep::new(title, Duration::from_millis(millis), StepEnd::Succeeds)
    };
    let steps = vec![step("first", 2000), middle, step("last", 3000)];
    ScriptedJob {
        id: "j".to_owned(),
        user_id: "u".to_owned(),
        connection_id: None,
        created: ms(0),
        speed,
        script: JobScript {
            queued: Duration::from_millis(300),
            ..JobScript::new(steps)
        },
        answers: BTreeMap::new(),
    }
}

fn middle(end: StepEnd) -> ScriptStep {
    ScriptStep::new("middle", Duration::from_secs(1), end)
}

/// Describes the job at one time: `updated` in milliseconds, and the words of the steps. A `?` marks an open
/// challenge.
fn told(job: &ScriptedJob, millis: i64) -> (i64, String) {
    let seen = job.at(ms(millis));
    let word = |state: &StepState| match state {
        StepState::Asking => "?",
        other => other.as_str(),
    };
    let words: Vec<_> = seen.steps.iter().map(word).collect();
    (seen.updated.as_millisecond() - START, words.join(" "))
}

fn check(job: &ScriptedJob, table: &[(i64, i64, &str)]) {
    for &(millis, updated, words) in table {
        let expected = (updated, words.to_owned());
        assert_eq!(told(job, millis), expected, "at {millis} ms");
    }
}

#[test]
fn a_job_goes_through_its_steps_as_time_passes() {
    let plain = job(1.0, middle(StepEnd::Succeeds));
    let table = [
        (0, 0, "pending pending pending"),
        (299, 0, "pending pending pending"),
        (300, 300, "in-progress pending pending"),
        (2299, 300, "in-progress pending pending"),
        (2300, 2300, "success in-progress pending"),
        (3300, 3300, "success success in-progress"),
        (6299, 3300, "success success in-progress"),
        (6300, 6300, "success success success"),
        (9_000_000, 6300, "success success success"),
    ];
    check(&plain, &table);
    assert_eq!(plain.settles_at(), Some(ms(6300)));
    assert!(plain.is_running(ms(6299)) && !plain.is_running(ms(6300)));
}

#[test]
fn a_faster_clock_only_shortens_the_waits() {
    let fast = job(10.0, middle(StepEnd::Succeeds));
    check(
        &fast,
        &[
            (30, 30, "in-progress pending pending"),
            (230, 230, "success in-progress pending"),
            (630, 630, "success success success"),
        ],
    );
}

#[test]
fn what_follows_a_failed_or_hanging_step_stays_pending() {
    let failing = job(1.0, middle(StepEnd::Fails(None)));
    check(&failing, &[(90_000, 3300, "success failed pending")]);
    assert_eq!(failing.settles_at(), Some(ms(3300)));
    let hanging = job(1.0, middle(StepEnd::Hangs));
    check(&hanging, &[(90_000, 2300, "success in-progress pending")]);
    assert_eq!(hanging.settles_at(), None);
}

#[test]
fn a_step_that_is_not_needed_is_skipped() {
    let skipping = job(1.0, middle(StepEnd::Skipped));
    check(
        &skipping,
        &[
            (2300, 2300, "success pending pending"),
            (3300, 3300, "success skipped in-progress"),
        ],
    );
    assert_eq!(skipping.settles_at(), Some(ms(6300)));
}

#[test]
fn a_challenge_waits_for_its_answer_and_expires_without() {
    let asking = job(1.0, middle(StepEnd::Asks(ScriptChallenge::token())));
    check(
        &asking,
        &[
            (3299, 2300, "success pending pending"),
            (3300, 3300, "success ? pending"),
            (123_299, 3300, "success ? pending"),
            (123_300, 123_300, "success failed pending"),
        ],
    );
    assert!(asking.open_challenge(ms(3300)).is_some());
    assert!(asking.open_challenge(ms(123_300)).is_none());
}

#[test]
fn a_right_answer_lets_the_job_go_on_and_a_wrong_one_ends_it() {
    let mut asking = job(1.0, middle(StepEnd::Asks(ScriptChallenge::token())));
    let at = ms(10_000);
    asking
        .answers
        .insert(1, vec![GivenAnswer { at, right: true }]);
    check(
        &asking,
        &[
            (9999, 3300, "success ? pending"),
            (10_000, 10_000, "success in-progress pending"),
            (11_000, 11_000, "success success in-progress"),
            (14_000, 14_000, "success success success"),
        ],
    );
    asking
        .answers
        .insert(1, vec![GivenAnswer { at, right: false }]);
    check(&asking, &[(10_000, 10_000, "success failed pending")]);
    assert_eq!(asking.settles_at(), Some(at));
}

#[test]
fn an_update_is_tried_again_at_intervals_until_it_works_or_is_a_week_old() {
    let mut queued = job(1.0, middle(StepEnd::Fails(None)));
    queued.script.retries = Some(ScriptRetries {
        interval: Duration::from_hours(2),
        succeeds_on: Some(2),
    });
    let (failed, hours) = (3300, 7_200_000);
    let second = failed + 2 * hours + 3000;
    check(
        &queued,
        &[
            (failed, failed, "success failed pending"),
            (failed + hours - 1, failed, "success failed pending"),
            (
                failed + hours,
                failed + hours,
                "in-progress pending pending",
            ),
            (
                failed + hours + 3000,
                failed + hours + 3000,
                "success failed pending",
            ),
            (second, second - 3000 + 3000, "in-progress pending pending"),
            (second + 6000, second + 6000, "success success success"),
        ],
    );
    let settled = queued.settles_at().unwrap();
    assert_eq!(settled, ms(second + 6000));
    queued.script.retries = queued.script.retries.map(|retries| ScriptRetries {
        succeeds_on: None,
        ..retries
    });
    let settled = queued.settles_at().unwrap().as_millisecond() - START;
    let week = 7 * 24 * 3_600_000;
    assert!(
        (week - hours..week + 10_000).contains(&settled),
        "{settled}"
    );
    assert!(queued.is_running(ms(week - hours)));
}

#[test]
fn a_duration_too_long_for_a_clock_ends_with_time_itself() {
    assert_eq!(later(ms(0), Duration::MAX), Timestamp::MAX);
    assert_eq!(scaled(Duration::MAX, 0.001), Duration::MAX);
}
