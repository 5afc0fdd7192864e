//! The likely durations of a job, as the buckets of a histogram. The data are observations of jobs like it, and
//! guesses. Pure.

use std::time::Duration;

use crate::{BUCKETS, DurationHistogram, bucket_end};

/// The weight of Basiq's average for a bank, in observations.
const AVERAGE_WEIGHT: f64 = 6.0;
/// The assumed spread around the average: the standard deviation of the logarithm.
const AVERAGE_SPREAD: f64 = 0.5;

/// A log-normal distribution of durations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormal {
    /// The median in seconds.
    pub median: f64,
    /// The standard deviation of the logarithm.
    pub spread: f64,
}

impl LogNormal {
    /// Returns the share of the distribution below `seconds`. Uses a logistic curve as an approximation.
    fn share_below(self, seconds: f64) -> f64 {
        1.0 / (1.0 + (-1.702 * (seconds / self.median).ln() / self.spread).exp())
    }
}

/// Observations by bucket of how long a job takes from a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationLikelihood([f64; BUCKETS]);

impl DurationLikelihood {
    /// Starts with the observed durations, if there are any.
    #[must_use]
    pub fn of(seen: Option<&DurationHistogram>) -> Self {
        Self(std::array::from_fn(|bucket| {
            seen.map_or(0.0, |durations| durations.count(bucket))
        }))
    }

    /// Adds this many observations, spread like a guessed distribution.
    pub fn add_guess(&mut self, observations: f64, guess: LogNormal) {
        let mut below = 0.0;
        for (bucket, weight) in self.0.iter_mut().enumerate() {
            let up_to = if bucket + 1 == BUCKETS {
                1.0
            } else {
                guess.share_below(bucket_end(bucket))
            };
            *weight += observations * (up_to - below);
            below = up_to;
        }
    }

    /// Adds Basiq's average duration of such jobs.
    pub fn add_average(&mut self, average: Duration) {
        self.add_part_of_average(average, 1.0);
    }

    /// Adds Basiq's average duration of such jobs, of which only this share counts.
    pub fn add_part_of_average(&mut self, average: Duration, share: f64) {
        let guess = LogNormal {
            median: average.as_secs_f64(),
            spread: AVERAGE_SPREAD,
        };
        self.add_guess(share * AVERAGE_WEIGHT, guess);
    }

    /// Returns the total weight, in observations.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Returns each bucket: its start and end in seconds, and its observations.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let weights = self.0.iter().enumerate();
        weights.map(|(bucket, weight)| {
            let begin = bucket.checked_sub(1).map_or(0.0, bucket_end);
            (begin, bucket_end(bucket), *weight)
        })
    }

    /// Returns the share of jobs that take longer than `elapsed` seconds, to the precision of a bucket.
    #[must_use]
    pub fn beyond(&self, elapsed: f64) -> f64 {
        let beyond = self.buckets().filter(|(_, end, _)| *end > elapsed);
        beyond.map(|(_, _, weight)| weight).sum::<f64>() / self.total().max(f64::MIN_POSITIVE)
    }

    /// Returns the median remaining time in seconds of jobs that have taken `elapsed` seconds; none if no job takes
    /// longer.
    #[must_use]
    pub fn median_left(&self, elapsed: f64) -> Option<f64> {
        let still_running = |(begin, end, weight): (f64, f64, f64)| {
            let from = elapsed.clamp(begin, end);
            (from, end, weight * (end - from) / (end - begin))
        };
        let left: f64 = self.buckets().map(|bucket| still_running(bucket).2).sum();
        let mut wanted = left / 2.0;
        for (from, end, weight) in self.buckets().map(still_running) {
            if weight > 0.0 && weight >= wanted {
                return Some(from + (end - from) * wanted / weight - elapsed);
            }
            wanted -= weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn about(seconds: f64) -> DurationLikelihood {
        let mut durations = DurationHistogram::default();
        for n in 0..100 {
            let spread = 0.8 + 0.004 * f64::from(n);
            durations.add(Duration::from_secs_f64(seconds * spread));
        }
        DurationLikelihood::of(Some(&durations))
    }

    #[test]
    fn half_of_the_jobs_are_done_in_the_middle() {
        let likely = about(30.0);
        let whole = likely.median_left(0.0).unwrap();
        assert!((27.0..33.0).contains(&whole), "{whole}");
        let later = likely.median_left(25.0).unwrap();
        assert!((3.0..9.0).contains(&later), "{later}");
        assert_eq!(likely.median_left(600.0), None);
        assert_eq!(DurationLikelihood::of(None).median_left(0.0), None);
    }

    #[test]
    fn an_average_alone_is_the_middle() {
        let mut likely = DurationLikelihood::of(None);
        likely.add_average(Duration::from_secs(40));
        let whole = likely.median_left(0.0).unwrap();
        assert!((35.0..45.0).contains(&whole), "{whole}");
        assert!((likely.total() - 6.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn what_is_left_is_never_negative_and_ends_within_the_histogram(
            seen in prop::collection::vec(0_u64..20_000_000, 0..50),
            elapsed in 0.0..20_000.0_f64,
        ) {
            let mut durations = DurationHistogram::default();
            for millis in seen {
                durations.add(Duration::from_millis(millis));
            }
            let likely = DurationLikelihood::of(Some(&durations));
            if let Some(left) = likely.median_left(elapsed) {
                prop_assert!(left >= 0.0);
                prop_assert!(elapsed + left <= bucket_end(BUCKETS - 1));
            }
        }
    }
}
