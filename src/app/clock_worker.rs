//! Notices that a clock was set, and moves due times and leases with it, so that nothing waits for a time that never
//! comes.
//!
//! A relay on SQLite has its own clock, which follows the machine's. When the machine's clock makes a step, the
//! relay's clock follows only together with the stored times. So no lease expires because of the step. On PostgreSQL
//! all relays follow the database's clock by their heartbeats. If it was set back, one of them moves the stored times.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use relay_domain::{ErrorChain, clock::Clock};
use relay_runtime::{TickOutcome, Wake, Worker, WorkerError};
use relay_store::{ClockStep, StoreError, UpkeepStore};
use tracing::warn;

use crate::{app::fleet, config::DatabaseUrl};

/// The interval at which the clocks are compared.
const INTERVAL: Duration = Duration::from_millis(500);

/// The maximum time that work may take from reading the clock until its times are stored. After a step back, stored
/// times move only when this time has passed, so that all of them move.
const SETTLING: Duration = Duration::from_secs(2);

/// The interval at which the time of this machine's clock is stored for the next start.
const NOTING: Duration = Duration::from_secs(10);

/// The clock that due times follow.
enum DueClock {
    /// This machine's clock.
    Machine {
        /// The time of a manual clock at the latest tick. Such a clock stands still until a test moves it.
        shown: Timestamp,
    },
    /// The database's clock.
    Database,
}

/// The worker that notices the steps of a clock.
pub struct ClockWorker {
    store: Arc<dyn UpkeepStore>,
    due_clock: DueClock,
    clock: Clock,
    /// Wakes the workers that wait for due times.
    waiting: Vec<Wake>,
    wake: Wake,
    /// A step back whose stored times have not moved yet, and when it was noticed.
    settling: Option<(Instant, ClockStep)>,
    noted: Option<Instant>,
}

impl ClockWorker {
    /// Creates a worker that wakes `waiting` after their due times have moved. If the machine's clock was set back since
    /// a store that follows it was last in use, the times move now.
    pub(super) async fn start(
        database: &DatabaseUrl,
        store: Arc<dyn UpkeepStore>,
        clock: &Clock,
        waiting: Vec<Wake>,
    ) -> Result<Self, StoreError> {
        let now = clock.now();
        let due_clock = match database {
            DatabaseUrl::Postgres(_) => DueClock::Database,
            DatabaseUrl::Sqlite(_) => DueClock::Machine { shown: now },
        };
        let mut worker = Self {
            store,
            due_clock,
            clock: clock.clone(),
            waiting,
            wake: Wake::new(),
            settling: None,
            noted: None,
        };
        if let DueClock::Machine { .. } = worker.due_clock {
            let step = worker.store.note_time(now).await.unwrap_or_else(|error| {
                warn!(
                    error = %ErrorChain(&error),
                    "the time cannot be noted: a clock that was set back does not show"
                );
                None
            });
            worker.noted = Some(Instant::now());
            if let Some(step) = step {
                worker.move_times(step).await?;
            }
        }
        Ok(worker)
    }

    /// Returns the step that the machine's clock made, if due times follow that clock and it made one.
    fn machine_step(&mut self) -> Option<ClockStep> {
        let DueClock::Machine { shown: before } = &mut self.due_clock else {
            return None;
        };
        let (from, to) = if let Some(shown) = self.clock.machine() {
            (self.clock.now(), shown)
        } else {
            let shown = self.clock.now();
            // a manual clock that moves forward was not set: time passes
            (std::mem::replace(before, shown).max(shown), shown)
        };
        let step = ClockStep::between(from, to);
        if step.is_none() {
            self.clock.follow(to, Duration::ZERO);
        }
        step
    }

    async fn take(&mut self, step: ClockStep) -> Result<(), StoreError> {
        if step.is_back() {
            // the clock first, so that no work stores a time of the old clock after the times have moved
            self.clock.follow(step.to, Duration::ZERO);
            self.settling = Some((Instant::now(), step));
            return Ok(());
        }
        // the times first, so that no lease seems to have expired
        self.move_times(step).await?;
        self.clock.follow(step.to, Duration::ZERO);
        Ok(())
    }

    /// Notes the time at intervals, but not while the store still holds times of the clock before a step back. Learns of
    /// a step that the database's clock made.
    async fn note(&mut self) -> Result<(), StoreError> {
        let interval = match self.due_clock {
            DueClock::Machine { .. } => NOTING,
            // the store decides how often the time is written
            DueClock::Database => Duration::ZERO,
        };
        let is_fresh = self.noted.is_some_and(|at| at.elapsed() < interval);
        if is_fresh || self.settling.is_some() {
            return Ok(());
        }
        let step = self.store.note_time(self.clock.now()).await?;
        self.settling = step.map(|step| (Instant::now(), step));
        self.noted = Some(Instant::now());
        Ok(())
    }

    /// Moves the stored times once work in progress has stored its own.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let Some((since, step)) = self.settling else {
            return Ok(());
        };
        let settling = match self.due_clock {
            DueClock::Machine { .. } => SETTLING,
            // first, the clocks of all relays follow the database's
            DueClock::Database => fleet::INTERVAL + SETTLING,
        };
        if since.elapsed() < settling && self.clock.can_follow() {
            return Ok(());
        }
        let moved = self.move_times(step).await;
        // if it fails, the store tells of a step of the database's clock again, to this relay or to another one
        if moved.is_ok() || matches!(self.due_clock, DueClock::Database) {
            self.settling = None;
        }
        moved
    }

    async fn move_times(&self, step: ClockStep) -> Result<(), StoreError> {
        let moved = self.store.move_times(step).await?;
        let ClockStep { from, to } = step;
        match self.due_clock {
            DueClock::Machine { .. } => warn!(
                %from, %to, moved,
                "the machine's clock was set: due times and leases moved with it"
            ),
            DueClock::Database => warn!(
                %from, %to, moved,
                "the database's clock was set back: due times and leases moved with it"
            ),
        }
        for wake in &self.waiting {
            wake.notify();
        }
        Ok(())
    }
}

impl Worker for ClockWorker {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn wake(&self) -> Wake {
        self.wake.clone()
    }

    async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
        if self.settling.is_none()
            && let Some(step) = self.machine_step()
        {
            self.take(step).await?;
        }
        self.note().await?;
        self.settle().await?;
        Ok(TickOutcome::Idle {
            next_due_in: Some(INTERVAL),
        })
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        Ok(())
    }
}
