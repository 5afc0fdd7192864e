//! Basiq's hints about simulated jobs. Pure, and the same hints for the same seed.

use rand::{Rng, rngs::StdRng};

use super::bank::Job;

/// Which hints Basiq sends. A hint about an end comes after an exponentially distributed time of a second on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HintScene {
    /// The share of successful jobs whose end Basiq announces.
    pub(crate) successes: f64,
    /// The share of failed jobs whose end Basiq announces.
    pub(crate) failures: f64,
    /// The number of hints a second about jobs that are still running. They mean nothing.
    pub(crate) false_a_second: f64,
}

impl HintScene {
    /// No hints.
    pub(crate) const NONE: Self = Self::successes(0.0);

    /// Returns hints about this share of successful jobs, and about nothing else.
    pub(crate) const fn successes(share: f64) -> Self {
        Self {
            successes: share,
            failures: 0.0,
            false_a_second: 0.0,
        }
    }

    /// Draws the times of the hints about a job, in order. Always draws as many random numbers for the true hint.
    pub(super) fn draw(&self, job: &Job, post: &mut StdRng) -> Vec<f64> {
        let share = if job.fails() {
            self.failures
        } else {
            self.successes
        };
        let (is_announced, delay) = (post.random::<f64>() < share, exponential(1.0, post));
        let mut hints = Vec::new();
        let mut now = 0.0;
        if self.false_a_second > 0.0 {
            // Hints make a job due once a second at most.
            let mut pause = || exponential(1.0 / self.false_a_second, post).max(1.0);
            now += pause();
            while now < job.end() {
                hints.push(now);
                now += pause();
            }
        }
        if is_announced {
            hints.push(job.end() + delay);
        }
        hints
    }
}

fn exponential(mean: f64, dice: &mut StdRng) -> f64 {
    -mean * (1.0 - dice.random::<f64>()).ln()
}
