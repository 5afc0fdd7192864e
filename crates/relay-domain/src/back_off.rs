//! Waits that grow with failures, and waits that are spread. Pure.

use std::time::Duration;

/// A wait that doubles with each failure in a row, between two limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// The wait after the first failure.
    pub shortest: Duration,
    /// The wait that no number of failures exceeds.
    pub longest: Duration,
}

impl BackOff {
    /// Creates a back-off from `shortest`, the wait after one failure, up to `longest`.
    #[must_use]
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest }
    }

    /// Returns the wait after this number of failures in a row.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.shortest
            .saturating_mul(1 << doublings)
            .min(self.longest)
    }
}

/// Spreads a wait by ±10 %. `jitter` is a sample from 0 to 1: 0.5 leaves the wait unchanged.
#[must_use]
pub fn spread(wait: Duration, jitter: f64) -> Duration {
    let factor = 0.9 + 0.2 * jitter.clamp(0.0, 1.0);
    Duration::try_from_secs_f64(wait.as_secs_f64() * factor).unwrap_or(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK_OFF: BackOff = BackOff::new(Duration::from_millis(100), Duration::from_secs(5));

    #[test]
    fn the_wait_doubles_with_each_failure_up_to_its_limit() {
        let waits = [1, 2, 3, 6, 7, u32::MAX].map(|failures| BACK_OFF.after(failures).as_millis());
        assert_eq!(waits, [100, 200, 400, 3200, 5000, 5000]);
        assert_eq!(BACK_OFF.after(0), BACK_OFF.shortest);
    }

    #[test]
    fn a_wait_is_spread_by_a_tenth_either_way() {
        let waits = [0.0, 0.5, 1.0, 7.0].map(|jitter| spread(Duration::from_secs(100), jitter));
        assert_eq!(waits.map(|wait| wait.as_secs()), [90, 100, 110, 110]);
    }
}
