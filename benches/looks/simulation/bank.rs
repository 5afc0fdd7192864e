//! Banks and their jobs. Pure, and the same jobs for the same seed.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, rngs::StdRng};
use relay_domain::{BasiqAverages, JobSnapshot, Step, StepStatus};

/// A bank whose steps take log-normally distributed times.
pub(crate) struct Bank {
    pub(crate) name: &'static str,
    /// Each step's title, median in seconds, and standard deviation of the logarithm.
    steps: &'static [(&'static str, f64, f64)],
    /// The share of jobs whose last step takes five times as long.
    slow: f64,
}

/// The banks. The medians come from Basiq's documents and examples.
pub(crate) const BANKS: &[Bank] = &[
    Bank {
        name: "usual bank, 30 s",
        steps: &[
            ("verify-credentials", 8.2, 0.35),
            ("retrieve-accounts", 3.8, 0.35),
            ("retrieve-transactions", 17.0, 0.45),
        ],
        slow: 0.0,
    },
    Bank {
        name: "quick bank, 10 s",
        steps: &[
            ("verify-credentials", 3.0, 0.4),
            ("retrieve-accounts", 2.0, 0.4),
            ("retrieve-transactions", 5.0, 0.4),
        ],
        slow: 0.0,
    },
    Bank {
        name: "slow bank, 2 min",
        steps: &[
            ("verify-credentials", 20.0, 0.4),
            ("retrieve-accounts", 15.0, 0.4),
            ("retrieve-transactions", 80.0, 0.5),
        ],
        slow: 0.0,
    },
    Bank {
        name: "moody bank, 20 s or 80 s",
        steps: &[
            ("verify-credentials", 5.0, 0.3),
            ("retrieve-accounts", 3.0, 0.3),
            ("retrieve-transactions", 12.0, 0.3),
        ],
        slow: 0.3,
    },
    Bank {
        name: "report, 11 s",
        steps: &[("create-report", 11.0, 0.4)],
        slow: 0.0,
    },
];

/// A job: the end of each step, in seconds from its creation. A job that fails has only the end of its first step.
pub(super) struct Job {
    bank: &'static Bank,
    ends: Vec<f64>,
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn at(seconds: f64) -> Timestamp {
    let millis = SignedDuration::try_from_secs_f64(seconds).unwrap_or_default();
    start().checked_add(millis).unwrap_or(Timestamp::MAX)
}

impl Job {
    pub(super) fn draw(bank: &'static Bank, fails: f64, dice: &mut StdRng) -> Self {
        let is_slow = dice.random::<f64>() < bank.slow;
        let mut now = 0.3;
        let last = bank.steps.len() - 1;
        let ends = bank.steps.iter().enumerate().map(|(index, step)| {
            let (_, middle, spread) = step;
            let factor = if is_slow && index == last { 5.0 } else { 1.0 };
            now += factor * middle * (spread * normal(dice)).exp();
            now
        });
        let mut ends: Vec<f64> = ends.collect();
        if dice.random::<f64>() < fails {
            ends.truncate(1);
        }
        Self { bank, ends }
    }

    pub(super) fn fails(&self) -> bool {
        self.ends.len() < self.bank.steps.len()
    }

    pub(super) fn end(&self) -> f64 {
        self.ends.last().copied().unwrap_or(0.0)
    }

    pub(super) fn seen_at(&self, now: f64) -> JobSnapshot {
        let done = self.ends.iter().filter(|end| **end <= now).count();
        let has_failed = self.fails() && done > 0;
        let status = |index: usize| match index.cmp(&done) {
            Ordering::Less if has_failed => StepStatus::Failed,
            Ordering::Less => StepStatus::Success,
            Ordering::Equal if !has_failed => StepStatus::InProgress,
            Ordering::Equal | Ordering::Greater => StepStatus::Pending,
        };
        let step = |(index, (title, ..)): (usize, &(&str, f64, f64))| Step {
            title: (*title).to_owned(),
            status: status(index),
            failure: None,
            challenge: None,
            url: None,
        };
        let changed = done.checked_sub(1).and_then(|last| self.ends.get(last));
        JobSnapshot {
            steps: self.bank.steps.iter().enumerate().map(step).collect(),
            created: Some(start()),
            updated: Some(at(changed.copied().unwrap_or(0.3))),
            ..JobSnapshot::default()
        }
    }
}

/// Returns a standard normal random number (Box and Muller).
fn normal(dice: &mut StdRng) -> f64 {
    let (radius, angle): (f64, f64) = (dice.random(), dice.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Returns the averages that Basiq would report for a bank.
pub(super) fn averages(bank: &Bank) -> BasiqAverages {
    let mean = |index: usize| {
        let (_, middle, spread) = bank.steps.get(index)?;
        Some(middle * (spread * spread / 2.0_f64).exp() * 1000.0)
    };
    let means = (0..bank.steps.len()).filter_map(mean);
    BasiqAverages {
        verify_credentials: mean(0),
        retrieve_accounts: mean(1),
        total: Some(means.sum()),
    }
}
