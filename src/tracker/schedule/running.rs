//! How long to wait before the next look at a running job: pure.
//!
//! A look costs a call; no look costs delay once the job has settled. With the hazard `h` (how
//! likely a job that still runs is to settle within the next second) and the price `c` of a look in
//! seconds of delay, the two are balanced where looks lie `sqrt(2c/h)` apart. So the next look is
//! where the integral of `sqrt(h/2c)` from now on reaches one: looks crowd where jobs of this kind
//! settle, and skip the time in which none does.

use std::time::Duration;

use crate::domain::{BUCKETS, Durations, bucket_end};

/// What one look is worth in seconds of mean delay.
const PRICE: f64 = 0.1;

/// How many observations the shape below counts for: the whole model of a kind that was never seen,
/// and what keeps looks coming when a bank does what it never did.
const PRIOR_WEIGHT: f64 = 0.5;

/// The middle of that shape in seconds, and the standard deviation of its logarithm: wide.
const PRIOR: (f64, f64) = (15.0, 1.2);

/// How many observations Basiq's average for a bank counts for, and how wide it is taken.
const AVERAGE: (f64, f64) = (6.0, 0.5);

/// A job that outlives all but this share is taken to be another kind of job: where something is known
/// of such jobs, and where there is but a guess.
const TAIL: (f64, f64) = (0.004, 0.02);

/// There, the share of the time in its stage that passes between two looks at least.
const TAIL_SHARE: f64 = 0.1;

/// How long to wait when a job has been in a stage for `elapsed`, by how long jobs of its kind took
/// from there on, and on average by Basiq's word. Not yet held to the settings' bounds.
#[must_use]
pub(super) fn interval(
    seen: Option<&Durations>,
    average: Option<Duration>,
    elapsed: Duration,
) -> Duration {
    let elapsed = elapsed.as_secs_f64();
    let model = Model::new(seen, average);
    let wait = model.wait(elapsed);
    let (of_seen, of_guess) = TAIL;
    let is_guess = seen.is_none() && average.is_none();
    let tail = if is_guess { of_guess } else { of_seen };
    let wait = if model.beyond(elapsed) < tail {
        wait.max(elapsed * TAIL_SHARE)
    } else {
        wait
    };
    Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
}

/// How likely a job is to settle in each bucket.
struct Model([f64; BUCKETS]);

impl Model {
    fn new(durations: Option<&Durations>, average: Option<Duration>) -> Self {
        let mut model = Self(std::array::from_fn(|bucket| {
            durations.map_or(0.0, |durations| durations.count(bucket))
        }));
        model.guess(PRIOR_WEIGHT, PRIOR);
        if let Some(average) = average {
            let (weight, spread) = AVERAGE;
            model.guess(weight, (average.as_secs_f64(), spread));
        }
        model
    }

    /// Adds so many observations of that shape.
    fn guess(&mut self, observations: f64, shape: (f64, f64)) {
        let mut below = 0.0;
        for (bucket, weight) in self.0.iter_mut().enumerate() {
            let up_to = if bucket + 1 == BUCKETS {
                1.0
            } else {
                share_below(bucket_end(bucket), shape)
            };
            *weight += observations * (up_to - below);
            below = up_to;
        }
    }

    /// Walks from `elapsed` through the buckets until a look's worth of hazard is gathered.
    fn wait(&self, elapsed: f64) -> f64 {
        let mut left: f64 = self.0.iter().sum();
        let (mut gathered, mut begin) = (0.0, 0.0);
        for (bucket, weight) in self.0.iter().enumerate() {
            let end = bucket_end(bucket);
            let hazard = weight / ((end - begin) * (left - weight / 2.0).max(f64::MIN_POSITIVE));
            let density = (hazard / (2.0 * PRICE)).sqrt();
            let from = elapsed.max(begin);
            let within = density * (end - from).max(0.0);
            if gathered + within >= 1.0 {
                return from + (1.0 - gathered) / density - elapsed;
            }
            gathered += within;
            left -= weight;
            begin = end;
        }
        (begin - elapsed).max(elapsed * TAIL_SHARE)
    }

    /// The share of jobs that take longer than `elapsed`.
    fn beyond(&self, elapsed: f64) -> f64 {
        let beyond = self.0.iter().enumerate();
        let beyond = beyond.filter(|(bucket, _)| bucket_end(*bucket) > elapsed);
        let all: f64 = self.0.iter().sum();
        beyond.map(|(_, weight)| weight).sum::<f64>() / all.max(f64::MIN_POSITIVE)
    }
}

/// The share of a log-normal with this middle and spread below so many seconds, by a logistic curve
/// close to it.
fn share_below(seconds: f64, (middle, spread): (f64, f64)) -> f64 {
    1.0 / (1.0 + (-1.702 * (seconds / middle).ln() / spread).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn about(seconds: f64) -> Durations {
        let mut durations = Durations::default();
        for n in 0..100 {
            durations.add(Duration::from_secs_f64(
                seconds * (0.8 + 0.004 * f64::from(n)),
            ));
        }
        durations
    }

    fn wait(durations: &Durations, elapsed: f64) -> f64 {
        interval(Some(durations), None, Duration::from_secs_f64(elapsed)).as_secs_f64()
    }

    #[test]
    fn looks_skip_the_time_in_which_no_job_settles_and_crowd_where_they_do() {
        let slow = about(100.0);
        assert!(wait(&slow, 10.0) > 10.0);
        assert!(wait(&slow, 100.0) < 5.0);
    }

    #[test]
    fn a_job_that_outlives_all_that_was_seen_is_looked_at_ever_more_rarely() {
        let fast = about(5.0);
        assert!(wait(&fast, 60.0) >= 6.0);
        assert!(wait(&fast, 600.0) >= 60.0);
    }

    #[test]
    fn a_bank_that_was_never_seen_is_looked_at_by_a_wide_guess() {
        let first = interval(None, None, Duration::ZERO).as_secs_f64();
        assert!((1.0..8.0).contains(&first), "{first}");
        let late = interval(None, None, Duration::from_mins(1)).as_secs_f64();
        assert!(late > 2.0 && late < 12.0, "{late}");
    }

    #[test]
    fn a_bank_that_only_basiq_knows_is_looked_at_by_its_average() {
        let slow = Some(Duration::from_mins(2));
        let wait = |elapsed| interval(None, slow, Duration::from_secs(elapsed));
        let guess = |elapsed| interval(None, None, Duration::from_secs(elapsed));
        assert!(
            wait(10) > guess(10) && wait(110) < wait(30),
            "{:?}",
            wait(30)
        );
    }

    proptest! {
        #[test]
        fn there_is_always_a_next_look(
            seen in prop::collection::vec(0_u64..20_000_000, 0..100), elapsed in 0_u64..1_000_000_000,
        ) {
            let mut durations = Durations::default();
            for millis in seen {
                durations.add(Duration::from_millis(millis));
            }
            let wait = interval(Some(&durations), None, Duration::from_millis(elapsed));
            prop_assert!(wait > Duration::ZERO);
            prop_assert!(wait.as_secs_f64() < 20_000.0 + elapsed_share(elapsed));
        }
    }

    fn elapsed_share(millis: u64) -> f64 {
        Duration::from_millis(millis).as_secs_f64() * TAIL_SHARE * 1.01
    }
}
