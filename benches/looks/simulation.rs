//! Simulates jobs of several banks, and measures a way of looking at them. Pure, and the same result for the same
//! seed.

use std::cmp::Ordering;

use basiq_client::normalise::{self, Finding};
use basiq_relay::{
    config::Settings,
    tracker::{memory, schedule, stages},
};
use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng, rngs::StdRng};
use relay_domain::{BasiqAverages, JobMemory, JobSnapshot, KnownDurations, Step, StepStatus};

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

/// A way of choosing when to look at a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Every two seconds, as most clients do.
    EveryTwoSeconds,
    /// The relay's way for a bank without any known durations.
    Unknown,
    /// The relay's way when it has Basiq's average.
    Average,
    /// The relay's way after it has seen a hundred such jobs.
    Learned,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [
        Self::EveryTwoSeconds,
        Self::Unknown,
        Self::Average,
        Self::Learned,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EveryTwoSeconds => "every 2 s",
            Self::Unknown => "unknown bank",
            Self::Average => "Basiq's average",
            Self::Learned => "learned",
        }
    }
}

/// The totals of many jobs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    jobs: usize,
    looks: usize,
    /// The seconds from the end of each job to the look that found it.
    delays: Vec<f64>,
}

impl Tally {
    pub(crate) fn looks_a_job(&self) -> f64 {
        float(self.looks) / float(self.jobs)
    }

    pub(crate) fn mean_delay(&self) -> f64 {
        self.delays.iter().sum::<f64>() / float(self.jobs)
    }

    /// Returns the delay that this share of the jobs does not exceed.
    pub(crate) fn delay_at(&self, share: f64) -> f64 {
        let mut sorted = self.delays.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let index =
            (0..sorted.len()).rfind(|index| float(*index) <= share * float(sorted.len() - 1));
        index
            .and_then(|index| sorted.get(index).copied())
            .unwrap_or(0.0)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.looks += other.looks;
        self.delays.extend(&other.delays);
    }
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A job: the end of each step, in seconds from its creation. A job that fails has only the end of its first step.
struct Job {
    bank: &'static Bank,
    ends: Vec<f64>,
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn at(seconds: f64) -> Timestamp {
    let millis = SignedDuration::try_from_secs_f64(seconds).unwrap_or_default();
    start().checked_add(millis).unwrap_or(Timestamp::MAX)
}

impl Job {
    fn draw(bank: &'static Bank, fails: f64, dice: &mut StdRng) -> Self {
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

    fn fails(&self) -> bool {
        self.ends.len() < self.bank.steps.len()
    }

    fn end(&self) -> f64 {
        self.ends.last().copied().unwrap_or(0.0)
    }

    fn seen_at(&self, now: f64) -> JobSnapshot {
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
fn averages(bank: &Bank) -> BasiqAverages {
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

/// Simulates the looks at `jobs` jobs of a bank. With `Way::Learned`, it learns from each job. A share of the jobs,
/// `fails`, fails at its first step.
pub(crate) fn simulate(
    bank: &'static Bank,
    way: Way,
    (jobs, fails): (usize, f64),
    seed: u64,
) -> Tally {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut jitter = StdRng::seed_from_u64(seed + 1);
    let mut known = KnownDurations::default();
    if way == Way::Average {
        known.averages = Some(averages(bank));
    }
    if way == Way::Learned {
        let mut school = StdRng::seed_from_u64(seed + 2);
        for _ in 0..100 {
            let job = Job::draw(bank, fails, &mut school);
            look_at(&job, way, &mut known, &mut jitter, true);
        }
    }
    let mut tally = Tally::default();
    for _ in 0..jobs {
        let job = Job::draw(bank, fails, &mut dice);
        let learns = way == Way::Learned;
        let (looks, delay) = look_at(&job, way, &mut known, &mut jitter, learns);
        tally.jobs += 1;
        tally.looks += looks;
        tally.delays.push(delay);
    }
    tally
}

/// Looks at one job until it has ended. Returns the number of looks and the delay of the last one, in seconds.
fn look_at(
    job: &Job,
    way: Way,
    known: &mut KnownDurations,
    jitter: &mut StdRng,
    learns: bool,
) -> (usize, f64) {
    let config = Settings::default().tracking;
    let mut memory = JobMemory::default();
    // A backend registers its watch within a second.
    let mut now = jitter.random::<f64>();
    for looks in 1.. {
        let snapshot = job.seen_at(now);
        let finding = normalise::find(&snapshot, None);
        if matches!(finding, Finding::Succeeded | Finding::Failed(_)) {
            if learns {
                known.pace.add(&stages::left(&memory, &snapshot, at(now)));
            }
            return (looks, now - job.end());
        }
        memory = memory::observe(&memory, &snapshot, &finding, at(now));
        now += match way {
            Way::EveryTwoSeconds => 2.0,
            Way::Unknown | Way::Average | Way::Learned => {
                let jitter = jitter.random();
                let next = schedule::next_look(&memory, known, false, at(now), &config, jitter);
                schedule::between(at(now), next).as_secs_f64()
            }
        };
    }
    (0, 0.0)
}
