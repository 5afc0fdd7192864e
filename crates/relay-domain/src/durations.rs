//! How long jobs of one kind at one bank take. Small histograms keep the data, and old observations fade. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The number of buckets in a histogram: from half a second to about two hours, four for each doubling.
pub const BUCKETS: usize = 56;

/// The upper bound of the first bucket, in seconds.
const SHORTEST: f64 = 0.5;

/// The number of buckets for each doubling.
const PER_DOUBLING: f64 = 4.0;

/// The weight of one observation, spread over its bucket and the two buckets beside it.
const WEIGHT: [u32; 3] = [250, 500, 250];

/// Each new observation reduces all earlier ones by one part in this number. So a histogram remembers about this
/// many.
const MEMORY: u32 = 96;

/// The maximum number of stages. Basiq has five.
const MAX_STAGES: usize = 8;

/// Durations in logarithmic buckets. The latest observations count most, so that the histogram follows a bank that
/// changes. Holds at most [`BUCKETS`] numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationHistogram {
    counts: Vec<u32>,
}

impl DurationHistogram {
    /// Adds an observed duration.
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

    /// Returns the contents of a bucket, in observations.
    #[must_use]
    pub fn count(&self, bucket: usize) -> f64 {
        let whole = f64::from(WEIGHT.iter().sum::<u32>());
        f64::from(self.counts.get(bucket).copied().unwrap_or(0)) / whole
    }
}

/// Returns the bucket for a duration in seconds.
#[must_use]
pub fn bucket_of(seconds: f64) -> usize {
    (0..BUCKETS - 1)
        .find(|bucket| seconds < bucket_end(*bucket))
        .unwrap_or(BUCKETS - 1)
}

/// Returns the end of a bucket in seconds. The next bucket starts there.
#[must_use]
pub fn bucket_end(bucket: usize) -> f64 {
    let doublings = f64::from(u32::try_from(bucket).unwrap_or(u32::MAX)) / PER_DOUBLING;
    SHORTEST * doublings.exp2()
}

/// How long jobs of one kind at one bank take to settle, from each of their stages. A stage is the title of the first
/// step that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationStats {
    stages: Vec<(String, DurationHistogram)>,
}

impl DurationStats {
    /// Adds the durations of one job.
    pub fn add(&mut self, seen: &[StageDuration]) {
        for stage in seen {
            if let Some((_, durations)) = self.stages.iter_mut().find(|(t, _)| *t == stage.title) {
                durations.add(stage.left);
            } else if self.stages.len() < MAX_STAGES {
                let mut durations = DurationHistogram::default();
                durations.add(stage.left);
                self.stages.push((stage.title.clone(), durations));
            }
        }
    }

    /// Returns how long jobs take from this stage; none if the stage was never seen.
    #[must_use]
    pub fn from_stage(&self, title: &str) -> Option<&DurationHistogram> {
        let mut stages = self.stages.iter();
        stages.find(|(t, _)| t == title).map(|(_, found)| found)
    }
}

/// Basiq's averages for the jobs of a bank, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BasiqAverages {
    /// The duration of the login.
    pub verify_credentials: Option<f64>,
    /// The time to read the accounts.
    pub retrieve_accounts: Option<f64>,
    /// The duration of the whole job.
    pub total: Option<f64>,
}

impl BasiqAverages {
    /// Returns the average time from this stage to the end of the job.
    #[must_use]
    pub fn left_from(&self, stage: &str) -> Option<Duration> {
        let total = self.total?;
        let verify = self.verify_credentials.unwrap_or(0.0);
        let left = match stage {
            "" | "verify-credentials" => total,
            "retrieve-accounts" => total - verify,
            "retrieve-transactions" => total - verify - self.retrieve_accounts.unwrap_or(0.0),
            _ => return None,
        };
        let left = Duration::try_from_secs_f64(left / 1000.0).ok()?;
        (!left.is_zero()).then_some(left)
    }
}

/// All known durations of jobs of one kind at one bank.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KnownDurations {
    /// The relay's own observations.
    pub pace: DurationStats,
    /// Basiq's averages.
    pub averages: Option<BasiqAverages>,
}

/// When a job began a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSeen {
    /// The title of the first step that was not done.
    pub title: String,
    /// When the stage began, as precisely as the relay knows.
    pub since: jiff::Timestamp,
}

/// How long a job took to settle from a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageDuration {
    /// The title of the first step that was not done.
    pub title: String,
    /// How long the job took from the beginning of that step.
    pub left: Duration,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weight(durations: &DurationHistogram) -> f64 {
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
    fn a_bank_that_changed_is_believed_after_two_hundred_jobs() {
        let mut durations = DurationHistogram::default();
        for _ in 0..1000 {
            durations.add(Duration::from_secs(90));
        }
        assert!((80.0..100.0).contains(&weight(&durations)));
        for _ in 0..200 {
            durations.add(Duration::from_secs(30));
        }
        let new: f64 = (0..bucket_of(50.0)).map(|b| durations.count(b)).sum();
        assert!(new > 0.8 * weight(&durations));
    }

    #[test]
    fn an_average_is_divided_by_the_steps_that_are_done() {
        let averages = BasiqAverages {
            verify_credentials: Some(8000.0),
            retrieve_accounts: Some(4000.0),
            total: Some(31_000.0),
        };
        for (stage, seconds) in [
            ("", Some(31)),
            ("verify-credentials", Some(31)),
            ("retrieve-accounts", Some(23)),
            ("retrieve-transactions", Some(19)),
            ("create-report", None),
        ] {
            let left = averages.left_from(stage).map(|left| left.as_secs());
            assert_eq!(left, seconds, "{stage}");
        }
        for total in [None, Some(-1.0), Some(f64::NAN), Some(1e300)] {
            let odd = BasiqAverages { total, ..averages };
            assert_eq!(odd.left_from("retrieve-accounts"), None, "{total:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pace_stays_small_and_reads_back_as_it_was_written(
            jobs in prop::collection::vec(("[a-z]{1,2}", 0_u64..10_000_000), 0..200),
        ) {
            let mut pace = DurationStats::default();
            for (title, millis) in jobs {
                pace.add(&[StageDuration { title, left: Duration::from_millis(millis) }]);
            }
            let text = serde_json::to_string(&pace).unwrap();
            prop_assert!(text.len() < 4_000, "{}", text.len());
            prop_assert_eq!(serde_json::from_str::<DurationStats>(&text).unwrap(), pace);
        }
    }
}
