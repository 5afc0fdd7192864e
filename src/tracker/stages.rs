//! Derives from a job's looks how long jobs of this kind take. Pure.

use std::time::Duration;

use basiq_client::normalise::Finding;
use jiff::Timestamp;
use relay_domain::{
    JobMemory, JobSnapshot, StageDuration, StageSeen, StepView, clock::later, stage_of,
};

use crate::tracker::schedule::between;

/// The longest duration that counts. A job that took longer waited in a queue, which says nothing about the
/// bank's speed.
const LONGEST: Duration = Duration::from_hours(1);

/// The oldest start of a stage that counts. A job that is first seen later may have spent any time in any
/// stage.
const FOUND_LATE: Duration = Duration::from_mins(10);

/// The maximum number of stages that are remembered of one job. Basiq has five.
const MOST: usize = 8;

/// Returns the stages that the job was seen in, including this look. A wait for the person clears the list.
#[must_use]
pub fn observe(
    before: &JobMemory,
    snapshot: &JobSnapshot,
    (finding, steps): (&Finding, &[StepView]),
    now: Timestamp,
) -> Vec<StageSeen> {
    let stage = stage_of(steps);
    match finding {
        Finding::Succeeded => return before.stages.clone(),
        Finding::Challenge(_) | Finding::Failed(_) => return Vec::new(),
        Finding::Running if stage.starts_with("mfa-") => return Vec::new(),
        Finding::Running => {}
    }
    let mut stages = before.stages.clone();
    let is_known = stages.last().is_some_and(|seen| seen.title == stage);
    if is_known || stages.len() >= MOST {
        return stages;
    }
    let is_first = steps.first().is_none_or(|step| step.title == stage);
    let since = match (before.seen_at, snapshot.created) {
        (None, Some(created)) if is_first => Some(created),
        (None, None) => Some(now),
        (earlier, created) => changed_between(earlier.or(created), snapshot.updated, now),
    };
    let since = since.filter(|since| between(*since, now) < FOUND_LATE);
    stages.extend(since.map(|since| StageSeen {
        title: stage.to_owned(),
        since,
    }));
    stages
}

/// Returns how much time a settled job took from the start of each stage to its end.
#[must_use]
pub fn left(before: &JobMemory, snapshot: &JobSnapshot, now: Timestamp) -> Vec<StageDuration> {
    let earliest = before.seen_at.or(snapshot.created);
    let Some(ended) = changed_between(earliest, snapshot.updated, now) else {
        return Vec::new();
    };
    let mut begun = before.stages.clone();
    if let (None, Some(step), Some(created)) =
        (before.seen_at, snapshot.steps.first(), snapshot.created)
    {
        begun.push(StageSeen {
            title: step.title.clone(),
            since: created,
        });
    }
    let left = begun.into_iter().map(|stage| StageDuration {
        left: between(stage.since, ended),
        title: stage.title,
    });
    left.filter(|stage| !stage.left.is_zero() && stage.left < LONGEST)
        .collect()
}

/// Returns when a change between two looks happened: the time that Basiq reports, or else the middle.
fn changed_between(
    earlier: Option<Timestamp>,
    updated: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let earlier = earlier.filter(|earlier| *earlier <= now)?;
    let told = updated.filter(|updated| (earlier..=now).contains(updated));
    Some(told.unwrap_or_else(|| later(earlier, between(earlier, now) / 2)))
}

#[cfg(test)]
mod tests {
    use relay_domain::{Step, StepStatus};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn snapshot(statuses: [StepStatus; 3], updated: Option<i64>) -> JobSnapshot {
        let titles = ["verify-credentials", "mfa-challenge", "retrieve-accounts"];
        let steps = titles.into_iter().zip(statuses);
        let step = |(title, status): (&str, StepStatus)| Step {
            title: title.to_owned(),
            status,
            failure: None,
            challenge: None,
            url: None,
        };
        JobSnapshot {
            steps: steps.map(step).collect(),
            created: Some(at(0)),
            updated: updated.map(at),
            ..JobSnapshot::default()
        }
    }

    fn see(before: &JobMemory, snapshot: &JobSnapshot, now: i64) -> JobMemory {
        let steps: Vec<_> = snapshot
            .steps
            .iter()
            .map(|step| StepView {
                title: step.title.clone(),
                status: step.status.as_str().to_owned(),
            })
            .collect();
        JobMemory {
            stages: observe(before, snapshot, (&Finding::Running, &steps), at(now)),
            steps,
            seen_at: Some(at(now)),
            ..before.clone()
        }
    }

    use StepStatus::{InProgress, Pending, Skipped, Success};

    fn told(left: &[StageDuration]) -> Vec<(&str, u64)> {
        left.iter()
            .map(|stage| (stage.title.as_str(), stage.left.as_secs()))
            .collect()
    }

    #[test]
    fn each_stage_is_measured_from_its_begin_to_the_end_of_the_job() {
        let first = see(
            &JobMemory::default(),
            &snapshot([InProgress, Pending, Pending], Some(1)),
            2,
        );
        let second = see(
            &first,
            &snapshot([Success, Skipped, InProgress], Some(5)),
            8,
        );
        let done = snapshot([Success, Skipped, Success], Some(20));
        assert_eq!(
            told(&left(&second, &done, at(22))),
            [("verify-credentials", 20), ("retrieve-accounts", 15)]
        );
        let untold = snapshot([Success, Skipped, Success], None);
        let middle = left(&second, &untold, at(22));
        assert_eq!(
            told(&middle),
            [("verify-credentials", 15), ("retrieve-accounts", 10)]
        );
    }

    #[test]
    fn the_time_a_person_took_is_not_the_banks() {
        let first = see(
            &JobMemory::default(),
            &snapshot([InProgress, Pending, Pending], Some(1)),
            2,
        );
        let asked = see(
            &first,
            &snapshot([Success, InProgress, Pending], Some(4)),
            5,
        );
        assert!(asked.stages.is_empty());
        let goes_on = see(
            &asked,
            &snapshot([Success, Success, InProgress], Some(90)),
            91,
        );
        let done = snapshot([Success, Success, Success], Some(100));
        assert_eq!(
            told(&left(&goes_on, &done, at(101))),
            [("retrieve-accounts", 10)]
        );
    }

    #[test]
    fn a_job_that_is_seen_once_tells_how_long_it_took_if_it_says_so() {
        let done = snapshot([Success, Skipped, Success], Some(30));
        let once = left(&JobMemory::default(), &done, at(500));
        assert_eq!(told(&once), [("verify-credentials", 30)]);
        let late = snapshot([Success, Skipped, InProgress], None);
        assert!(see(&JobMemory::default(), &late, 5000).stages.is_empty());
        let odd = snapshot([Success, Skipped, Success], Some(90_000));
        assert!(left(&JobMemory::default(), &odd, at(100_000)).is_empty());
    }
}
