//! Simulates jobs of several banks, and measures a way of looking at them. Pure, and the same result for the same
//! seed.

mod bank;
mod hints;
mod tally;

use basiq_client::normalise::{self, Finding};
use basiq_relay::{
    config::Settings,
    tracker::{memory, schedule, stages},
};
use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use relay_domain::{JobEnd, JobMemory, KnownDurations, clock::between};

use self::bank::{Job, at, averages};
pub(crate) use self::{
    bank::{BANKS, Bank},
    hints::HintScene,
    tally::Tally,
};

/// The number of jobs from which a learned bank was learned.
const SCHOOL: usize = 100;

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

/// The jobs to simulate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobScene {
    /// The number of jobs at each bank.
    pub(crate) jobs: usize,
    /// The share of jobs that fail at their first step.
    pub(crate) fails: f64,
    /// Basiq's hints.
    pub(crate) hints: HintScene,
}

/// Jobs of one bank, and a relay that looks at them.
pub(crate) struct Simulation {
    bank: &'static Bank,
    way: Way,
    /// What the relay knows of such jobs.
    pub(crate) known: KnownDurations,
    dice: StdRng,
    jitter: StdRng,
    post: StdRng,
}

impl Simulation {
    /// Begins with a bank of which nothing is known, except Basiq's average with `Way::Average`.
    pub(crate) fn new(bank: &'static Bank, way: Way, seed: u64) -> Self {
        let averages = (way == Way::Average).then(|| averages(bank));
        Self {
            bank,
            way,
            known: KnownDurations {
                averages,
                ..KnownDurations::default()
            },
            dice: StdRng::seed_from_u64(seed),
            jitter: StdRng::seed_from_u64(seed + 1),
            post: StdRng::seed_from_u64(seed + 3),
        }
    }

    /// Looks at a hundred other jobs, and learns from them.
    pub(crate) fn learn(&mut self, scene: JobScene, seed: u64) {
        let dice = StdRng::seed_from_u64(seed + 2);
        let dice = std::mem::replace(&mut self.dice, dice);
        self.run(JobScene {
            jobs: SCHOOL,
            ..scene
        });
        self.dice = dice;
    }

    /// Looks at the jobs of a scene. With `Way::Learned`, it learns from each.
    pub(crate) fn run(&mut self, scene: JobScene) -> Tally {
        let mut tally = Tally::default();
        for _ in 0..scene.jobs {
            let job = Job::draw(self.bank, scene.fails, &mut self.dice);
            let hints = scene.hints.draw(&job, &mut self.post);
            let (looks, delay) = self.look_at(&job, &hints);
            tally.count(looks, delay);
        }
        tally
    }

    /// Looks at one job until it has ended. `hints` are the times of hints about it. Returns the number of looks and the
    /// delay of the last one, in seconds.
    fn look_at(&mut self, job: &Job, hints: &[f64]) -> (usize, f64) {
        let mut memory = JobMemory::default();
        let mut hinted_at = None;
        // A backend registers its watch within a second.
        let mut now = self.jitter.random::<f64>();
        for looks in 1.. {
            let snapshot = job.seen_at(now);
            let finding = normalise::find(&snapshot, None);
            if matches!(finding, Finding::Succeeded | Finding::Failed(_)) {
                self.learn_end(stages::end(&memory, &snapshot, hinted_at, at(now)));
                return (looks, now - job.end());
            }
            memory = memory::observe(&memory, &snapshot, &finding, at(now));
            let due = now + self.wait(&memory, at(now));
            let hint = hints.iter().copied().find(|hint| *hint > now);
            now = hint.map_or(due, |hint| due.min(hint));
            hinted_at = hint.filter(|hint| *hint <= due).map(at).or(hinted_at);
        }
        (0, 0.0)
    }

    /// Learns from the end of a job, if this way of looking learns.
    fn learn_end(&mut self, end: Option<JobEnd>) {
        if let (Way::Learned, Some(end)) = (self.way, end) {
            self.known.observed.add(&end);
        }
    }

    /// Returns the seconds to the next look that follows from the schedule.
    fn wait(&mut self, memory: &JobMemory, now: Timestamp) -> f64 {
        match self.way {
            Way::EveryTwoSeconds => 2.0,
            Way::Unknown | Way::Average | Way::Learned => {
                let (jitter, config) = (self.jitter.random(), Settings::default().tracking);
                let next = schedule::next_look(memory, &self.known, false, now, &config, jitter);
                between(now, next).as_secs_f64()
            }
        }
    }
}

/// Simulates the looks at the jobs of a scene at one bank.
pub(crate) fn simulate(bank: &'static Bank, way: Way, scene: JobScene, seed: u64) -> Tally {
    let mut simulation = Simulation::new(bank, way, seed);
    if way == Way::Learned {
        simulation.learn(scene, seed);
    }
    simulation.run(scene)
}
