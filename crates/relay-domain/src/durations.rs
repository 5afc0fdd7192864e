//! How long jobs of one kind at one bank take. Small histograms keep the data, and old observations fade. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::DurationStats;

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
pub(crate) const MEMORY: u32 = 96;

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
        self.add_part(duration, 1.0);
    }

    /// Adds a part of an observation, from 0 to 1. Earlier observations fade as for a whole one.
    pub fn add_part(&mut self, duration: Duration, part: f64) {
        for count in &mut self.counts {
            *count -= count.div_ceil(MEMORY);
        }
        let weights = WEIGHT.map(|weight| rounded(f64::from(weight) * part));
        if weights == [0; 3] {
            return;
        }
        let bucket = bucket_of(duration.as_secs_f64());
        let first = bucket.saturating_sub(1);
        let last = (bucket + 1).min(BUCKETS - 1);
        if self.counts.len() <= last {
            self.counts.resize(last + 1, 0);
        }
        for (count, weight) in self.counts.iter_mut().skip(first).zip(weights) {
            *count = count.saturating_add(weight);
        }
    }

    /// Returns whether nothing was observed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the total weight, in observations.
    #[must_use]
    pub fn total(&self) -> f64 {
        (0..self.counts.len())
            .map(|bucket| self.count(bucket))
            .sum()
    }

    /// Returns the contents of a bucket, in observations.
    #[must_use]
    pub fn count(&self, bucket: usize) -> f64 {
        let whole = f64::from(WEIGHT.iter().sum::<u32>());
        f64::from(self.counts.get(bucket).copied().unwrap_or(0)) / whole
    }
}

/// Rounds to a whole number. Anything below zero becomes zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates"
)]
pub(crate) fn rounded(value: f64) -> u32 {
    value.round() as u32
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
    pub observed: DurationStats,
    /// Basiq's averages.
    pub averages: Option<BasiqAverages>,
}

impl KnownDurations {
    /// Returns these durations as if Basiq had announced no end.
    #[must_use]
    pub fn without_hints(&self) -> Self {
        Self {
            observed: self.observed.without_hints(),
            averages: self.averages,
        }
    }
}

/// When a job began a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSeen {
    /// The title of the first step that was not done.
    pub title: String,
    /// When the stage began, as precisely as the relay knows.
    pub since: jiff::Timestamp,
}

/// How long a job took from the beginning of a stage to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFromStage {
    /// The title of the first step that was not done.
    pub title: String,
    /// The time from the beginning of that step to the end of the job.
    pub to_end: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!((80.0..100.0).contains(&durations.total()));
        for _ in 0..200 {
            durations.add(Duration::from_secs(30));
        }
        let new: f64 = (0..bucket_of(50.0)).map(|b| durations.count(b)).sum();
        assert!(new > 0.8 * durations.total());
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
}
