//! Estimates how much longer a job will take, for a person who waits. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::{DurationLikelihood, JobMemory, KnownDurations, Phase, StageStats, StepView};

/// The minimum number of observations for an estimate. Fewer are likely to be chance.
const ENOUGH: f64 = 3.0;

/// A job that took longer than all but this share of its kind gets no estimate: it is probably another kind of job.
const OUTLIVED: f64 = 0.05;

/// Returns the title of the first step that is not done; empty before Basiq lists the steps.
#[must_use]
pub fn stage_of(steps: &[StepView]) -> &str {
    let mut steps = steps.iter();
    steps
        .find(|step| !matches!(step.status.as_str(), "success" | "skipped"))
        .map_or("", |step| step.title.as_str())
}

/// An estimate of how long a job takes from its present stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Eta {
    since: Timestamp,
    likely: Box<DurationLikelihood>,
}

impl Eta {
    /// Estimates a running job's duration from the durations of jobs like it. Returns none if there are too few
    /// observations. Also returns none if the job waits for something whose time nobody knows.
    #[must_use]
    pub fn of(memory: &JobMemory, known: &KnownDurations) -> Option<Self> {
        let is_absent = memory.missing_since.is_some() || memory.forbidden_since.is_some();
        if memory.phase != Phase::Running || memory.challenges.open.is_some() || is_absent {
            return None;
        }
        let stage = stage_of(&memory.steps);
        let begun = memory.stages.last().filter(|begun| begun.title == stage)?;
        let seen = known.observed.from_stage(stage).map(StageStats::ended);
        let mut likely = DurationLikelihood::of(seen);
        let average = known.averages.and_then(|known| known.left_from(stage));
        if let Some(average) = average {
            likely.add_average(average);
        }
        (likely.total() >= ENOUGH).then(|| Self {
            since: begun.since,
            likely: Box::new(likely),
        })
    }

    /// Returns the median remaining time of jobs like this one, in whole seconds. Returns none once the job has taken
    /// longer than nearly all of them.
    #[must_use]
    pub fn seconds_left(&self, now: Timestamp) -> Option<u64> {
        let elapsed = Duration::try_from(now.duration_since(self.since)).unwrap_or(Duration::ZERO);
        let elapsed = elapsed.as_secs_f64();
        if self.likely.beyond(elapsed) < OUTLIVED {
            return None;
        }
        let left = Duration::try_from_secs_f64(self.likely.median_left(elapsed)?).ok()?;
        Some((left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Bank, BasiqAverages, Challenge, ChallengeMemory, DurationStats, EndDetection, JobEnd,
        OpenChallenge, StageSeen, TimeFromStage,
    };

    const STAGE: &str = "retrieve-accounts";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// A job that has finished the login and starts with the accounts.
    fn running() -> JobMemory {
        let step = |title: &str, status: &str| StepView {
            title: title.to_owned(),
            status: status.to_owned(),
        };
        JobMemory {
            steps: vec![
                step("verify-credentials", "success"),
                step(STAGE, "in-progress"),
            ],
            stages: vec![StageSeen {
                title: STAGE.to_owned(),
                since: at(0),
            }],
            ..JobMemory::default()
        }
    }

    /// The durations of this many jobs, each of which took twenty seconds from that stage.
    fn seen(jobs: usize) -> KnownDurations {
        let mut observed = DurationStats::default();
        for _ in 0..jobs {
            let stage = TimeFromStage {
                title: STAGE.to_owned(),
                to_end: Duration::from_secs(20),
            };
            observed.add(&JobEnd {
                stages: vec![stage],
                detection: EndDetection::Hint {
                    after: Duration::from_secs(1),
                },
            });
        }
        KnownDurations {
            observed,
            averages: None,
        }
    }

    fn left(known: &KnownDurations, seconds: i64) -> Option<u64> {
        Eta::of(&running(), known)?.seconds_left(at(seconds))
    }

    #[test]
    fn what_is_left_shrinks_as_time_passes_and_ends_where_nearly_all_have_ended() {
        let known = seen(50);
        let begin = left(&known, 0).unwrap();
        assert!((17..=23).contains(&begin), "{begin}");
        let later = left(&known, 10).unwrap();
        assert!((7..=13).contains(&later), "{later}");
        assert_eq!(left(&known, 120), None);
        assert_eq!(left(&known, -5), Some(begin), "a clock that went back");
    }

    #[test]
    fn too_little_is_nothing_but_basiqs_average_is_enough() {
        assert_eq!(left(&KnownDurations::default(), 0), None);
        assert_eq!(left(&seen(2), 0), None);
        let told = KnownDurations {
            averages: Some(BasiqAverages {
                verify_credentials: Some(10_000.0),
                retrieve_accounts: None,
                total: Some(40_000.0),
            }),
            ..KnownDurations::default()
        };
        let left = left(&told, 0).unwrap();
        assert!((25..=35).contains(&left), "{left}");
    }

    #[test]
    fn nothing_is_said_of_a_job_that_waits_or_whose_stage_nobody_saw_begin() {
        let challenge = Challenge {
            method: "token".into(),
            description: String::new(),
            inputs: vec![],
            expiry_ms: None,
            respond_to: None,
        };
        let open = OpenChallenge {
            challenge,
            first_seen_at: at(0),
        };
        let outage = Phase::Outage {
            bank: Bank {
                institution_id: "AU00000".into(),
                method: "web".into(),
            },
            error_code: "service-unavailable".into(),
        };
        let challenges = ChallengeMemory {
            count: 1,
            open: Some(open),
        };
        for odd in [
            JobMemory {
                stages: Vec::new(),
                ..running()
            },
            JobMemory {
                phase: outage,
                ..running()
            },
            JobMemory {
                challenges,
                ..running()
            },
            JobMemory {
                missing_since: Some(at(0)),
                ..running()
            },
        ] {
            assert_eq!(Eta::of(&odd, &seen(50)), None, "{odd:?}");
        }
    }
}
