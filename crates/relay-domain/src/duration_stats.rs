//! How jobs of one kind at one bank end: how long they take, and for which ends Basiq sends a hint. Pure.
//!
//! Survival analysis calls what the schedule needs a cause-specific hazard: how likely a job is to end in the next
//! second without a hint. An announced end is a censored observation. The job leaves the risk set, but no look was
//! needed to find its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    DurationHistogram, TimeFromStage, bucket_of, durations::rounded, hint_delay::HintDelay,
};

/// The number of ends after which a bank counts as learned. Until then, its jobs are looked at as without hints.
const LEARNED: u32 = 30;

/// The maximum number of stages. Basiq has five.
const MAX_STAGES: usize = 8;

/// The weight of a stage's share of announced ends, in observations, when a bucket's own share is estimated.
const SHARE_WEIGHT: f64 = 0.5;

/// The prior odds that hints have stopped. If `n` hints in a row are missing, the odds grow by a factor of `exp(n)`.
const STOPPED: f64 = 0.001;

/// The maximum number of missing hints that is counted, in thousandths.
const MAX_MISSING: u32 = 12_000;

/// How the relay noticed that a job had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndDetection {
    /// A look that followed a hint found the end.
    Hint {
        /// The time from the job's end to the hint.
        after: Duration,
    },
    /// A look found the end before any hint came. The relay would have heard a hint for this long.
    Look {
        /// The time from the job's end to the look, or zero if the relay could not match hints to the job then.
        unannounced_for: Duration,
    },
}

/// The end of a job, and what the relay learns from it about jobs like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// How long the job took from each stage that the relay saw; not empty.
    pub stages: Vec<TimeFromStage>,
    /// How the relay noticed the end.
    pub detection: EndDetection,
}

/// How long jobs take from one stage to their end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StageStats {
    title: String,
    ended: DurationHistogram,
    #[serde(skip_serializing_if = "DurationHistogram::is_empty")]
    announced: DurationHistogram,
}

impl StageStats {
    /// Returns the durations of all jobs.
    #[must_use]
    pub fn ended(&self) -> &DurationHistogram {
        &self.ended
    }

    /// Returns the durations of the jobs whose end Basiq announced. They are a part of [`StageStats::ended`].
    #[must_use]
    pub fn announced(&self) -> &DurationHistogram {
        &self.announced
    }

    /// Returns the share of announced ends.
    #[must_use]
    pub fn announced_share(&self) -> f64 {
        (self.announced.total() / self.ended.total().max(f64::MIN_POSITIVE)).min(1.0)
    }

    /// Estimates the share of announced ends among jobs that take about this long.
    fn announced_share_at(&self, left: Duration) -> f64 {
        let bucket = bucket_of(left.as_secs_f64());
        let announced = self.announced.count(bucket) + SHARE_WEIGHT * self.announced_share();
        (announced / (self.ended.count(bucket) + SHARE_WEIGHT)).min(1.0)
    }

    fn add(&mut self, left: Duration, announced: f64) {
        self.ended.add(left);
        self.announced.add_part(left, announced);
    }
}

/// How jobs of one kind at one bank end, seen from each of their stages. A stage is the title of the first step that
/// is not done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DurationStats {
    /// The number of ends, at most [`LEARNED`].
    ends: u32,
    /// How many hints were expected since the last one came, in thousandths.
    missing: u32,
    hint_delay: HintDelay,
    stages: Vec<StageStats>,
}

impl DurationStats {
    /// Adds the end of a job.
    pub fn add(&mut self, end: &JobEnd) {
        let (trust, hint_delay) = (self.trust(), self.hint_delay);
        self.count_missing(end);
        self.learn_hint_delay(end);
        for seen in &end.stages {
            let Some(stage) = self.stage_mut(&seen.title) else {
                continue;
            };
            let share = trust * stage.announced_share_at(seen.to_end);
            stage.add(
                seen.to_end,
                announced_part(share, hint_delay, end.detection),
            );
        }
        self.ends = (self.ends + 1).min(LEARNED);
    }

    /// Returns how jobs end from this stage; none if the stage was never seen.
    #[must_use]
    pub fn from_stage(&self, title: &str) -> Option<&StageStats> {
        self.stages.iter().find(|stage| stage.title == title)
    }

    /// Returns how far hints are relied on, from 0 to 1. The value is 0 until enough ends were seen, and falls towards
    /// 0 when hints stop.
    #[must_use]
    pub fn hint_reliance(&self) -> f64 {
        if self.ends < LEARNED {
            0.0
        } else {
            self.trust()
        }
    }

    /// Returns the mean time in seconds from the end of a job to its hint.
    #[must_use]
    pub fn hint_delay(&self) -> f64 {
        self.hint_delay.mean()
    }

    /// Returns these durations as if Basiq had announced no end.
    #[must_use]
    pub fn without_hints(&self) -> Self {
        let stages = self.stages.iter().map(|stage| StageStats {
            announced: DurationHistogram::default(),
            ..stage.clone()
        });
        Self {
            missing: 0,
            stages: stages.collect(),
            ..*self
        }
    }

    /// Returns the probability that Basiq still sends hints.
    fn trust(&self) -> f64 {
        let missing = f64::from(self.missing) / 1000.0;
        1.0 / (1.0 + STOPPED * missing.exp())
    }

    /// Counts the hint of this end if it is missing. One hint halves the count, so that a single hint does not restore
    /// the trust in hints that had stopped.
    fn count_missing(&mut self, end: &JobEnd) {
        self.missing = match end.detection {
            EndDetection::Hint { .. } => self.missing / 2,
            EndDetection::Look { unannounced_for } => {
                let has_come = 1.0 - self.hint_delay.still_to_come(unannounced_for);
                let expected = self.announced_share_of(end) * has_come;
                (self.missing + rounded(1000.0 * expected)).min(MAX_MISSING)
            }
        };
    }

    /// Learns how long hints take. A look that found the end of a job first counts as far as a hint was still to come.
    fn learn_hint_delay(&mut self, end: &JobEnd) {
        match end.detection {
            EndDetection::Hint { after } => self.hint_delay.add(1, after),
            EndDetection::Look { unannounced_for } => {
                let share = self.trust() * self.announced_share_of(end);
                let part = announced_part(share, self.hint_delay, end.detection);
                self.hint_delay.add(0, unannounced_for.mul_f64(part));
            }
        }
    }

    /// Estimates the share of announced ends among jobs like this one.
    fn announced_share_of(&self, end: &JobEnd) -> f64 {
        let last = end.stages.last();
        let share = last.and_then(|seen| {
            let stage = self.from_stage(&seen.title)?;
            Some(stage.announced_share_at(seen.to_end))
        });
        share.unwrap_or(0.0)
    }

    /// Returns the statistics of a stage. Adds the stage if there is room.
    fn stage_mut(&mut self, title: &str) -> Option<&mut StageStats> {
        let known = self.stages.iter().position(|stage| stage.title == title);
        if known.is_none() && self.stages.len() == MAX_STAGES {
            return None;
        }
        let index = known.unwrap_or(self.stages.len());
        if known.is_none() {
            self.stages.push(StageStats {
                title: title.to_owned(),
                ..StageStats::default()
            });
        }
        self.stages.get_mut(index)
    }
}

/// Returns the probability that an end is one that Basiq announces, if `share` of such ends are.
///
/// A look that finds the end first may only have been faster than the hint. The less time the hint had, the more
/// likely that is.
fn announced_part(share: f64, hint_delay: HintDelay, detection: EndDetection) -> f64 {
    match detection {
        EndDetection::Hint { .. } => 1.0,
        EndDetection::Look { unannounced_for } => {
            let late = share * hint_delay.still_to_come(unannounced_for);
            late / (late + 1.0 - share).max(f64::MIN_POSITIVE)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::BUCKETS;

    const STAGE: &str = "retrieve-transactions";

    const HINT: EndDetection = EndDetection::Hint {
        after: Duration::from_secs(1),
    };

    const FOUND_LATE: EndDetection = EndDetection::Look {
        unannounced_for: Duration::from_secs(4),
    };

    fn end(seconds: u64, detection: EndDetection) -> JobEnd {
        let stage = TimeFromStage {
            title: STAGE.to_owned(),
            to_end: Duration::from_secs(seconds),
        };
        JobEnd {
            stages: vec![stage],
            detection,
        }
    }

    fn taught(ends: impl IntoIterator<Item = JobEnd>) -> DurationStats {
        let mut stats = DurationStats::default();
        for end in ends {
            stats.add(&end);
        }
        stats
    }

    fn share(stats: &DurationStats) -> f64 {
        stats.hint_reliance() * stats.from_stage(STAGE).unwrap().announced_share()
    }

    #[test]
    fn an_announced_end_counts_as_a_duration_too() {
        let announced = taught((20..60).map(|seconds| end(seconds, HINT)));
        let found = taught((20..60).map(|seconds| end(seconds, FOUND_LATE)));
        let ended = |stats: &DurationStats| stats.from_stage(STAGE).unwrap().ended().clone();
        assert_eq!(ended(&announced), ended(&found));
        assert!(share(&announced) > 0.98, "{}", share(&announced));
        assert!(share(&found) < 1e-9, "{}", share(&found));
    }

    #[test]
    fn hints_count_only_after_thirty_ends() {
        let few = taught((0..29).map(|_| end(30, HINT)));
        assert!(share(&few) < 1e-9);
        let enough = taught((0..30).map(|_| end(30, HINT)));
        assert!(share(&enough) > 0.98);
    }

    #[test]
    fn a_look_that_is_a_moment_faster_than_the_hint_changes_little() {
        let one_in_five = |detection| {
            taught((0..200).map(move |n| end(30, if n % 5 == 0 { detection } else { HINT })))
        };
        let fast = EndDetection::Look {
            unannounced_for: Duration::ZERO,
        };
        let (fast, late) = (share(&one_in_five(fast)), share(&one_in_five(FOUND_LATE)));
        assert!(fast > 0.98, "{fast}");
        assert!((0.75..0.85).contains(&late), "{late}");
    }

    #[test]
    fn hints_that_stop_are_not_relied_on_any_more_after_a_few_tens_of_jobs() {
        let mut stats = taught((0..200).map(|_| end(30, HINT)));
        for _ in 0..25 {
            stats.add(&end(30, FOUND_LATE));
        }
        assert!(share(&stats) < 0.05, "{}", share(&stats));
        stats.add(&end(30, HINT));
        assert!(share(&stats) < 0.7, "{}", share(&stats));
        for _ in 0..5 {
            stats.add(&end(30, HINT));
        }
        assert!(share(&stats) > 0.5, "{}", share(&stats));
    }

    #[test]
    fn the_delay_of_hints_is_learned_and_looks_that_are_faster_do_not_hide_it() {
        let after = |millis| EndDetection::Hint {
            after: Duration::from_millis(millis),
        };
        let quick = taught((0..200).map(|_| end(30, after(100))));
        assert!(
            (0.1..0.2).contains(&quick.hint_delay()),
            "{}",
            quick.hint_delay()
        );
        // Of hints that come after 1 to 8 s, a look after 4 s finds half of the ends first.
        let found = EndDetection::Look {
            unannounced_for: Duration::from_secs(4),
        };
        let notices = [after(1000), found, after(2000), found, after(3000), found];
        let slow = taught(
            notices
                .into_iter()
                .cycle()
                .take(200)
                .map(|one| end(30, one)),
        );
        assert!(
            (2.2..6.0).contains(&slow.hint_delay()),
            "{}",
            slow.hint_delay()
        );
        let unknown = DurationStats::default();
        assert!((unknown.hint_delay() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn without_hints_only_the_durations_stay() {
        let stats = taught((0..50).map(|_| end(30, HINT)));
        let without = stats.without_hints();
        assert!(share(&without) < 1e-9);
        let ended = |stats: &DurationStats| stats.from_stage(STAGE).unwrap().ended().clone();
        assert_eq!(ended(&without), ended(&stats));
    }

    proptest! {
        #[test]
        fn statistics_stay_small_and_read_back_as_they_were_written(
            jobs in prop::collection::vec(("[a-z]{1,2}", 0_u64..10_000_000, 0_u64..20_000), 0..200),
        ) {
            let mut stats = DurationStats::default();
            for (title, millis, found_after) in jobs {
                let stages = vec![TimeFromStage { title, to_end: Duration::from_millis(millis) }];
                let unannounced_for = Duration::from_millis(found_after);
                let detection = if found_after < 10_000 {
                    HINT
                } else {
                    EndDetection::Look { unannounced_for }
                };
                stats.add(&JobEnd { stages, detection });
            }
            let text = serde_json::to_string(&stats).unwrap();
            prop_assert!(text.len() < 8_000, "{}", text.len());
            prop_assert_eq!(&serde_json::from_str::<DurationStats>(&text).unwrap(), &stats);
            for stage in &stats.stages {
                for bucket in 0..BUCKETS {
                    prop_assert!(stage.announced.count(bucket) <= stage.ended.count(bucket) + 0.2);
                }
            }
        }
    }
}
