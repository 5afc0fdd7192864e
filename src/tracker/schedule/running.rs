//! Computes how long to wait before the next look at a running job. Pure.
//!
//! A look costs a call, and a missing look costs delay once the job has settled. The hazard `h` is the
//! probability that a job that still runs settles within the next second. The price `c` is the cost of a look
//! in seconds of delay. Both costs are balanced if looks are `sqrt(2c/h)` apart.
//!
//! So the next look is due when the integral of `sqrt(h/2c)` from now on reaches one. Looks are dense when jobs
//! of this kind tend to settle, and absent when none does.

use relay_domain::{DurationHistogram, DurationLikelihood};
use std::time::Duration;

/// The price of one look, in seconds of mean delay.
const PRICE: f64 = 0.1;

/// How many observations the prior below counts for. The prior is the whole model of a new kind of job. It also
/// keeps looks coming when a bank behaves as never before.
const PRIOR_WEIGHT: f64 = 0.5;

/// The median of the prior in seconds, and the standard deviation of its logarithm. The prior is wide.
const PRIOR: (f64, f64) = (15.0, 1.2);

/// The tail of the distribution. A job that outlives all but this share is taken as another kind of job. The
/// first value applies if durations are known, the second if there is only the prior.
const TAIL: (f64, f64) = (0.004, 0.02);

/// The minimum wait between two looks in the tail, as a share of the time that the job has spent in its stage.
const TAIL_SHARE: f64 = 0.1;

/// Returns how long to wait when a job has been in a stage for `elapsed`. `seen` has the durations of such jobs
/// from this stage on, and `average` is Basiq's mean. The result is not limited by the settings yet.
#[must_use]
pub(super) fn interval(
    seen: Option<&DurationHistogram>,
    average: Option<Duration>,
    elapsed: Duration,
) -> Duration {
    let elapsed = elapsed.as_secs_f64();
    let mut likely = DurationLikelihood::of(seen);
    likely.guess(PRIOR_WEIGHT, PRIOR);
    if let Some(average) = average {
        likely.add_average(average);
    }
    let wait = until_a_looks_worth(&likely, elapsed);
    let (of_seen, of_guess) = TAIL;
    let is_guess = seen.is_none() && average.is_none();
    let tail = if is_guess { of_guess } else { of_seen };
    let wait = if likely.beyond(elapsed) < tail {
        wait.max(elapsed * TAIL_SHARE)
    } else {
        wait
    };
    Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
}

/// Integrates over the buckets from `elapsed` on until a look is worth its price. Returns the wait in seconds.
fn until_a_looks_worth(likely: &DurationLikelihood, elapsed: f64) -> f64 {
    let mut left = likely.total();
    let (mut gathered, mut last) = (0.0, 0.0);
    for (begin, end, weight) in likely.buckets() {
        let hazard = weight / ((end - begin) * (left - weight / 2.0).max(f64::MIN_POSITIVE));
        let density = (hazard / (2.0 * PRICE)).sqrt();
        let from = elapsed.max(begin);
        let within = density * (end - from).max(0.0);
        if gathered + within >= 1.0 {
            return from + (1.0 - gathered) / density - elapsed;
        }
        gathered += within;
        left -= weight;
        last = end;
    }
    (last - elapsed).max(elapsed * TAIL_SHARE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn about(seconds: f64) -> DurationHistogram {
        let mut durations = DurationHistogram::default();
        for n in 0..100 {
            durations.add(Duration::from_secs_f64(
                seconds * (0.8 + 0.004 * f64::from(n)),
            ));
        }
        durations
    }

    fn wait(durations: &DurationHistogram, elapsed: f64) -> f64 {
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
            let mut durations = DurationHistogram::default();
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
