//! How long jobs of one kind at one bank take: small histograms that fade. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets of a histogram: from [`SHORTEST`] on, four to a doubling, up to about two hours.
pub const BUCKETS: usize = 56;

/// The upper bound of the first bucket, in seconds.
const SHORTEST: f64 = 0.5;

/// Buckets to a doubling.
const PER_DOUBLING: f64 = 4.0;

/// What one observation weighs, spread over its bucket and the two beside it.
const WEIGHT: [u32; 3] = [250, 500, 250];

/// Each observation takes this part of all earlier ones: about so many are remembered.
const MEMORY: u32 = 48;

/// The most stages that are told apart; Basiq has five.
const MAX_STAGES: usize = 8;

/// Durations in logarithmic buckets. The latest count most, so that a bank that changes is
/// followed. Holds no more than [`BUCKETS`] numbers however much is added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Durations {
    counts: Vec<u32>,
}

impl Durations {
    /// Adds what was seen.
    pub fn add(&mut self, duration: Duration) {
        for count in &mut self.counts {
            *count -= count.div_ceil(MEMORY);
        }
        let bucket = bucket_of(duration.as_secs_f64());
        let first = bucket.saturating_sub(1);
        let last = (bucket + 1).min(BUCKETS - 1);
        if self.counts.len() <= last {
            self.counts.resize(last + 1, 0);
        }
        for (count, weight) in self.counts.iter_mut().skip(first).zip(WEIGHT) {
            *count = count.saturating_add(weight);
        }
    }

    /// What lies in a bucket, in observations.
    #[must_use]
    pub fn count(&self, bucket: usize) -> f64 {
        let whole = f64::from(WEIGHT.iter().sum::<u32>());
        f64::from(self.counts.get(bucket).copied().unwrap_or(0)) / whole
    }
}

/// The bucket that a duration in seconds falls into.
#[must_use]
pub fn bucket_of(seconds: f64) -> usize {
    (0..BUCKETS - 1)
        .find(|bucket| seconds < bucket_end(*bucket))
        .unwrap_or(BUCKETS - 1)
}

/// Where a bucket ends, in seconds; the next one begins there.
#[must_use]
pub fn bucket_end(bucket: usize) -> f64 {
    let doublings = f64::from(u32::try_from(bucket).unwrap_or(u32::MAX)) / PER_DOUBLING;
    SHORTEST * doublings.exp2()
}

/// How long jobs of one kind at one bank take to settle from each of their stages on. A stage is
/// the title of the first step that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pace {
    stages: Vec<(String, Durations)>,
}

impl Pace {
    /// Adds what one job took.
    pub fn add(&mut self, seen: &[StageLeft]) {
        for stage in seen {
            if let Some((_, durations)) = self.stages.iter_mut().find(|(t, _)| *t == stage.title) {
                durations.add(stage.left);
            } else if self.stages.len() < MAX_STAGES {
                let mut durations = Durations::default();
                durations.add(stage.left);
                self.stages.push((stage.title.clone(), durations));
            }
        }
    }

    /// How long a job takes from this stage on, if that was ever seen.
    #[must_use]
    pub fn from_stage(&self, title: &str) -> Option<&Durations> {
        let mut stages = self.stages.iter();
        stages.find(|(t, _)| t == title).map(|(_, found)| found)
    }
}

/// Which jobs share a pace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PaceKey {
    /// Basiq's id of the bank; empty where it is not known.
    pub institution_id: String,
    /// Basiq's `jobType`; empty where it is not known.
    pub job_type: String,
}

/// When a job was seen to begin a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSeen {
    /// The title of the first step that was not done.
    pub title: String,
    /// When it began, as well as that is known.
    pub since: jiff::Timestamp,
}

/// How long a job took to settle from a stage on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageLeft {
    /// The title of the first step that was not done.
    pub title: String,
    /// How long it took from the beginning of that step.
    pub left: Duration,
}

/// What a settled job says about the pace of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaceReport {
    /// Which jobs it speaks for.
    pub key: PaceKey,
    /// How long it took, from each stage it was seen in.
    pub stages: Vec<StageLeft>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weight(durations: &Durations) -> f64 {
        (0..BUCKETS).map(|bucket| durations.count(bucket)).sum()
    }

    #[test]
    fn buckets_follow_each_other_four_to_a_doubling() {
        assert_eq!(bucket_of(0.0), 0);
        assert_eq!(bucket_of(0.5), 1);
        assert_eq!(bucket_of(1e9), BUCKETS - 1);
        assert!((bucket_end(4) - 1.0).abs() < 1e-9);
        assert!(bucket_end(BUCKETS - 2) > 5000.0);
    }

    #[test]
    fn a_bank_that_changed_is_believed_after_some_dozens_of_jobs() {
        let mut durations = Durations::default();
        for _ in 0..1000 {
            durations.add(Duration::from_secs(90));
        }
        assert!((40.0..50.0).contains(&weight(&durations)));
        for _ in 0..100 {
            durations.add(Duration::from_secs(30));
        }
        let new: f64 = (0..bucket_of(50.0)).map(|b| durations.count(b)).sum();
        assert!(new > 0.8 * weight(&durations));
    }

    proptest! {
        #[test]
        fn a_pace_stays_small_and_reads_back_as_it_was_written(
            jobs in prop::collection::vec(("[a-z]{1,2}", 0_u64..10_000_000), 0..200),
        ) {
            let mut pace = Pace::default();
            for (title, millis) in jobs {
                pace.add(&[StageLeft { title, left: Duration::from_millis(millis) }]);
            }
            let text = serde_json::to_string(&pace).unwrap();
            prop_assert!(text.len() < 4_000, "{}", text.len());
            prop_assert_eq!(serde_json::from_str::<Pace>(&text).unwrap(), pace);
        }
    }
}
