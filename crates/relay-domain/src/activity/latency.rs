//! A histogram of durations that can be added up over relays and hours. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// The number of buckets for each doubling. A quantile is off by at most 10 %.
const PER_DOUBLING: f64 = 4.0;

/// The last bucket, which has all that is longer: about ten days.
const LAST: u8 = 120;

/// Durations in logarithmic buckets, from a millisecond on. Only buckets that hold something are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LatencyHistogram(BTreeMap<u8, u64>);

impl LatencyHistogram {
    /// Adds a duration.
    pub fn add(&mut self, duration: Duration) {
        *self.0.entry(bucket(duration)).or_default() += 1;
    }

    /// Adds all durations of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let sum = self.0.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// Returns whether there is no duration in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Returns the duration that this percentage of all durations do not exceed, within 10 %. None if there are no
    /// durations.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let total = u128::from(self.total());
        let rank = (total * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += u128::from(**count);
            seen >= rank
        });
        found.map(|(bucket, _)| middle(*bucket))
    }
}

/// Returns the bucket of a duration: bucket `n` ends at 2^(n/4) milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates"
)]
fn bucket(duration: Duration) -> u8 {
    let millis = duration.as_secs_f64() * 1000.0;
    let bucket = (millis.log2() * PER_DOUBLING).ceil();
    (bucket.max(0.0) as u8).min(LAST)
}

/// Returns the middle of a bucket, on a logarithmic scale.
fn middle(bucket: u8) -> Duration {
    let doublings = (f64::from(bucket) - 0.5) / PER_DOUBLING;
    Duration::try_from_secs_f64(doublings.exp2() / 1000.0).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_those_of_the_durations_that_were_added() {
        let mut all = LatencyHistogram::default();
        assert_eq!(all.percentile(50), None);
        for millis in 1..=100 {
            all.add(Duration::from_millis(millis * 10));
        }
        for (percent, millis) in [(50, 500.0), (95, 950.0), (100, 1000.0)] {
            let found = all.percentile(percent).unwrap().as_secs_f64() * 1000.0;
            assert!((found / millis - 1.0).abs() < 0.1, "{percent}: {found}");
        }
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_place() {
        let mut all = LatencyHistogram::default();
        for duration in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            all.add(duration);
        }
        assert_eq!(all.total(), 3);
        assert!(all.percentile(1).unwrap() <= Duration::from_millis(1));
        assert!(all.percentile(100).unwrap() > Duration::from_hours(24));
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_a_tenth(millis in 1..86_400_000_u64) {
            let mut one = LatencyHistogram::default();
            one.add(Duration::from_millis(millis));
            let found = one.percentile(50).unwrap().as_secs_f64() * 1000.0;
            #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
            let off = found / millis as f64;
            prop_assert!((0.9..=1.1).contains(&off), "{millis} became {found}");
        }
    }
}
