//! Notices that the machine's clock was set, and moves due times and leases with it.
//!
//! A relay on SQLite has its own clock, which follows the machine's. When the machine's clock makes a step, the
//! relay's clock follows only together with those. So nothing waits for a time that never comes, and no
//! lease expires because of the step. On PostgreSQL the time is the database's.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use relay_domain::{ErrorChain, clock::Clock};
use relay_runtime::{TickOutcome, Wake, Worker, WorkerError};
use relay_store::{ClockStep, StoreError, UpkeepStore};
use tracing::warn;

use crate::config::DatabaseUrl;

/// The interval at which the clocks are compared.
const INTERVAL: Duration = Duration::from_millis(500);

/// The smallest difference that counts as a step. A smaller one is due to the different pace of two clocks.
const STEP: SignedDuration = SignedDuration::from_secs(1);

/// The maximum time that work may take from reading the clock until its times are stored. After a step back, stored
/// times move only when this time has passed, so that all of them move.
const SETTLING: Duration = Duration::from_secs(2);

/// The interval at which the time is stored for the next start.
const NOTING: Duration = Duration::from_secs(10);

/// The worker that compares the relay's clock with the machine's.
pub struct ClockWorker {
    store: Arc<dyn UpkeepStore>,
    clock: Clock,
    /// Wakes the workers that wait for due times.
    waiting: Vec<Wake>,
    wake: Wake,
    /// The time of a manual clock at the latest tick. Such a clock stands still until a test moves it.
    shown: Timestamp,
    /// A step back whose stored times have not moved yet, and when it was noticed.
    settling: Option<(Instant, ClockStep)>,
    noted: Option<Instant>,
}

impl ClockWorker {
    /// Creates a worker that wakes `waiting` after their due times have moved. Returns none if the time is the
    /// database's. If the clock was set back since the store was last in use, the times move now.
    pub(super) async fn start(
        database: &DatabaseUrl,
        store: Arc<dyn UpkeepStore>,
        clock: &Clock,
        waiting: Vec<Wake>,
    ) -> Result<Option<Self>, StoreError> {
        match database {
            DatabaseUrl::Postgres(_) => return Ok(None),
            DatabaseUrl::Sqlite(_) => {}
        }
        let now = clock.now();
        let before = store.note_time(now).await.unwrap_or_else(|error| {
            warn!(
                error = %ErrorChain(&error),
                "the time cannot be noted: a clock that was set back does not show"
            );
            None
        });
        let worker = Self {
            store,
            clock: clock.clone(),
            waiting,
            wake: Wake::new(),
            shown: now,
            settling: None,
            noted: Some(Instant::now()),
        };
        if let Some(from) = before.filter(|before| before.duration_since(now) >= STEP) {
            worker.move_times(ClockStep { from, to: now }).await?;
        }
        Ok(Some(worker))
    }

    /// Returns the step that the machine's clock made, if it made one.
    fn step(&mut self) -> Option<ClockStep> {
        let (from, to) = if let Some(shown) = self.clock.machine() {
            (self.clock.now(), shown)
        } else {
            let shown = self.clock.now();
            // a manual clock that moves forward was not set: time passes
            (std::mem::replace(&mut self.shown, shown).max(shown), shown)
        };
        let apart = to.duration_since(from).abs();
        if apart >= STEP {
            return Some(ClockStep { from, to });
        }
        self.clock.follow(to, Duration::ZERO);
        None
    }

    async fn take(&mut self, step: ClockStep) -> Result<(), StoreError> {
        if step.to < step.from {
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

    /// Moves the stored times once work in progress has stored its own.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let Some((since, step)) = self.settling else {
            return Ok(());
        };
        if since.elapsed() >= SETTLING || !self.clock.can_follow() {
            self.move_times(step).await?;
            self.settling = None;
        }
        Ok(())
    }

    async fn move_times(&self, step: ClockStep) -> Result<(), StoreError> {
        let moved = self.store.move_times(step).await?;
        warn!(
            from = %step.from,
            to = %step.to,
            moved,
            "the machine's clock was set: due times and leases moved with it"
        );
        for wake in &self.waiting {
            wake.notify();
        }
        Ok(())
    }

    /// Stores the time at intervals, but not while the store still holds times of the clock before a step back.
    async fn note(&mut self) -> Result<(), StoreError> {
        let is_fresh = self.noted.is_some_and(|at| at.elapsed() < NOTING);
        if is_fresh || self.settling.is_some() {
            return Ok(());
        }
        self.store.note_time(self.clock.now()).await?;
        self.noted = Some(Instant::now());
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
            && let Some(step) = self.step()
        {
            self.take(step).await?;
        }
        self.settle().await?;
        self.note().await?;
        Ok(TickOutcome::Idle {
            next_due_in: Some(INTERVAL),
        })
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        Ok(())
    }
}
