//! How long Basiq takes to announce the end of a job. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durations::{MEMORY, rounded};

/// The assumed mean time in seconds from the end of a job to Basiq's hint. Basiq documents none.
const ASSUMED: f64 = 1.0;

/// The weight of that assumption, in hints.
const ASSUMED_WEIGHT: f64 = 3.0;

/// The longest time that counts as the delay of one hint.
const LONGEST: Duration = Duration::from_mins(1);

/// How long Basiq takes to announce an end: the mean of an exponential distribution. Older hints fade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HintDelay {
    /// The number of hints, in thousandths.
    hints: u32,
    /// For how long an announced end went without its hint in all, in milliseconds. Looks that were faster count too.
    waited: u32,
}

impl HintDelay {
    /// Adds the wait for a hint. `hints` is zero if a look was faster than the hint.
    pub(crate) fn add(&mut self, hints: u32, waited: Duration) {
        let faded = |sum: u32| sum - sum.div_ceil(MEMORY);
        self.hints = faded(self.hints) + 1000 * hints;
        let waited = waited.min(LONGEST).as_secs_f64();
        self.waited = faded(self.waited) + rounded(1000.0 * waited);
    }

    /// Returns the mean in seconds.
    pub(crate) fn mean(self) -> f64 {
        let (hints, waited) = (f64::from(self.hints), f64::from(self.waited));
        (ASSUMED_WEIGHT * ASSUMED + waited / 1000.0) / (ASSUMED_WEIGHT + hints / 1000.0)
    }

    /// Returns the share of hints that come later than this after the end of a job.
    pub(crate) fn still_to_come(self, after: Duration) -> f64 {
        (-after.as_secs_f64() / self.mean()).exp()
    }
}
