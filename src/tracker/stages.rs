//! Derives from a job's looks how long jobs of this kind take. Pure.

use std::time::Duration;

use basiq_client::normalise::Finding;
use jiff::Timestamp;
use relay_domain::{
    EndDetection, JobEnd, JobMemory, JobSnapshot, StageSeen, StepView, TimeFromStage,
    clock::{between, later},
    stage_of,
};

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
    finding: &Finding,
    steps: &[StepView],
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

/// Returns what the relay learns from a settled job about jobs like it, if anything. `hinted_at` is when the latest
/// look that follows from a hint was due.
#[must_use]
pub fn end(
    before: &JobMemory,
    snapshot: &JobSnapshot,
    hinted_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<JobEnd> {
    let earliest = before.seen_at.or(snapshot.created);
    let ended = changed_between(earliest, snapshot.updated, now)?;
    let mut begun = before.stages.clone();
    if let (None, Some(step), Some(created)) =
        (before.seen_at, snapshot.steps.first(), snapshot.created)
    {
        begun.push(StageSeen {
            title: step.title.clone(),
            since: created,
        });
    }
    let stages = begun.into_iter().map(|stage| TimeFromStage {
        to_end: between(stage.since, ended),
        title: stage.title,
    });
    let stages: Vec<_> = stages
        .filter(|stage| !stage.to_end.is_zero() && stage.to_end < LONGEST)
        .collect();
    (!stages.is_empty()).then(|| JobEnd {
        stages,
        detection: EndTimes {
            seen_running_at: before.seen_at,
            ended_at: ended,
            hinted_at,
            found_at: now,
        }
        .detection(),
    })
}

/// When a job ended, and what the relay knew of it by then.
#[derive(Debug, Clone, Copy)]
pub struct EndTimes {
    /// The previous look, which found the job running.
    pub seen_running_at: Option<Timestamp>,
    /// When the job ended, as far as the relay knows.
    pub ended_at: Timestamp,
    /// The latest hint.
    pub hinted_at: Option<Timestamp>,
    /// The look that found the job ended.
    pub found_at: Timestamp,
}

impl EndTimes {
    /// Returns how the relay noticed the end. A hint can only be matched to a job whose document was seen. If another
    /// look came between the hint and this one, that look found the job running.
    #[must_use]
    pub fn detection(self) -> EndDetection {
        match (self.seen_running_at, self.hinted_at) {
            (Some(seen), Some(hinted)) if seen < hinted && hinted <= self.found_at => {
                EndDetection::Hint {
                    after: between(self.ended_at.max(seen), hinted),
                }
            }
            (Some(seen), _) => EndDetection::Look {
                unannounced_for: between(self.ended_at.max(seen), self.found_at),
            },
            (None, _) => EndDetection::Look {
                unannounced_for: Duration::ZERO,
            },
        }
    }
}

/// Returns whether the job had ended when these steps were seen.
#[must_use]
pub fn had_ended(steps: &[StepView]) -> bool {
    let mut statuses = steps.iter().map(|step| step.status.as_str());
    let is_done = |status: &str| matches!(status, "success" | "skipped");
    statuses.clone().any(|status| status == "failed")
        || (!steps.is_empty() && statuses.all(is_done))
}

/// Returns when a change between two looks happened: the time that Basiq reports, or else the middle.
fn changed_between(
    earlier: Option<Timestamp>,
    updated: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let earlier = earlier.filter(|earlier| *earlier <= now)?;
    let reported = updated.filter(|updated| (earlier..=now).contains(updated));
    Some(reported.unwrap_or_else(|| later(earlier, between(earlier, now) / 2)))
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
            stages: observe(before, snapshot, &Finding::Running, &steps, at(now)),
            steps,
            seen_at: Some(at(now)),
            ..before.clone()
        }
    }

    use StepStatus::{InProgress, Pending, Skipped, Success};

    /// Returns the end of a job that no hint is about.
    fn end_of(before: &JobMemory, snapshot: &JobSnapshot, now: i64) -> Option<JobEnd> {
        end(before, snapshot, None, at(now))
    }

    fn told(end: Option<&JobEnd>) -> Vec<(&str, u64)> {
        let stages = end.iter().flat_map(|end| &end.stages);
        stages
            .map(|stage| (stage.title.as_str(), stage.to_end.as_secs()))
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
            told(end_of(&second, &done, 22).as_ref()),
            [("verify-credentials", 20), ("retrieve-accounts", 15)]
        );
        let untold = snapshot([Success, Skipped, Success], None);
        let middle = end_of(&second, &untold, 22);
        assert_eq!(
            told(middle.as_ref()),
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
            told(end_of(&goes_on, &done, 101).as_ref()),
            [("retrieve-accounts", 10)]
        );
    }

    #[test]
    fn a_job_that_is_seen_once_tells_how_long_it_took_if_it_says_so() {
        let done = snapshot([Success, Skipped, Success], Some(30));
        let once = end_of(&JobMemory::default(), &done, 500);
        assert_eq!(told(once.as_ref()), [("verify-credentials", 30)]);
        let late = snapshot([Success, Skipped, InProgress], None);
        assert!(see(&JobMemory::default(), &late, 5000).stages.is_empty());
        let odd = snapshot([Success, Skipped, Success], Some(90_000));
        assert_eq!(end_of(&JobMemory::default(), &odd, 100_000), None);
    }

    fn found_after(seconds: u64) -> EndDetection {
        EndDetection::Look {
            unannounced_for: Duration::from_secs(seconds),
        }
    }

    /// Returns the times of a job that ended at 20 and was found ended at 25.
    fn end_times(seen_running: Option<i64>, hinted: Option<i64>) -> EndTimes {
        EndTimes {
            seen_running_at: seen_running.map(at),
            ended_at: at(20),
            hinted_at: hinted.map(at),
            found_at: at(25),
        }
    }

    #[test]
    fn only_a_hint_since_the_latest_look_announced_the_end() {
        let detection = |hinted: Option<i64>| end_times(Some(10), hinted).detection();
        assert_eq!(detection(None), found_after(5));
        assert_eq!(
            detection(Some(9)),
            found_after(5),
            "it found the job running"
        );
        assert_eq!(
            detection(Some(10)),
            found_after(5),
            "it found the job running"
        );
        let hinted_after = |seconds| EndDetection::Hint {
            after: Duration::from_secs(seconds),
        };
        assert_eq!(detection(Some(11)), hinted_after(0), "the clocks differ");
        assert_eq!(detection(Some(22)), hinted_after(2));
        assert_eq!(detection(Some(25)), hinted_after(5));
        assert_eq!(
            detection(Some(26)),
            found_after(5),
            "its look is still to come"
        );
    }

    #[test]
    fn a_job_that_ended_before_it_was_seen_tells_nothing_about_hints() {
        let first = end_times(None, Some(24)).detection();
        assert_eq!(first, found_after(0));
        let earlier = EndTimes {
            seen_running_at: Some(at(10)),
            ended_at: at(5),
            hinted_at: None,
            found_at: at(12),
        };
        let earlier = earlier.detection();
        assert_eq!(earlier, found_after(2), "since it was seen");
    }

    #[test]
    fn a_job_has_ended_when_a_step_failed_or_all_are_done() {
        let steps = |statuses: &[&str]| -> Vec<StepView> {
            let step = |status: &&str| StepView {
                title: "a".to_owned(),
                status: (*status).to_owned(),
            };
            statuses.iter().map(step).collect()
        };
        for (statuses, expected) in [
            (&[][..], false),
            (&["success", "in-progress"], false),
            (&["success", "pending"], false),
            (&["success", "skipped"], true),
            (&["failed", "pending"], true),
        ] {
            assert_eq!(had_ended(&steps(statuses)), expected, "{statuses:?}");
        }
    }
}
