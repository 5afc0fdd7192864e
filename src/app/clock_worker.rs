//! Notices that the machine's clock was set, and has all that waits for a time move with it.
//!
//! A relay on SQLite goes by a clock of its own, which follows the machine's. A step of the machine's clock is taken
//! up only together with the times that are stored, so that nothing waits for a time that does not come, and nothing
//! runs out by the step. On PostgreSQL the time is the database's.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use crate::{
    clock::Clock,
    config::DatabaseUrl,
    domain::ErrorChain,
    runtime::{Tick, Wake, Worker, WorkerError},
    store::{ClockStep, StoreError, UpkeepStore},
};

/// How often the clocks are compared.
const INTERVAL: Duration = Duration::from_millis(500);

/// A difference from here on is a step, not the pace of two clocks.
const STEP: SignedDuration = SignedDuration::from_secs(1);

/// How long work may take from when it reads the clock until its times are stored. Times by a clock that was set back
/// are moved after it, so that none comes later.
const SETTLING: Duration = Duration::from_secs(2);

/// How often the time is noted for the next start.
const NOTING: Duration = Duration::from_secs(10);

/// Compares the relay's clock with the machine's.
pub struct ClockWorker {
    store: Arc<dyn UpkeepStore>,
    clock: Clock,
    /// Those who wait for due times.
    waiting: Vec<Wake>,
    wake: Wake,
    /// What a clock that stands until it is moved showed at the latest tick.
    shown: Timestamp,
    /// A clock that was set back, since when.
    settling: Option<(Instant, ClockStep)>,
    noted: Option<Instant>,
}

impl ClockWorker {
    /// A worker that rings for `waiting` once their due times have moved; none where the time is the database's. If
    /// the clock was set back since the store was last in use, times move now.
    pub(super) async fn check_and_free_leases(
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

    /// The step that the machine's clock made, if it made one.
    fn step(&mut self) -> Option<ClockStep> {
        let (from, to) = if let Some(shown) = self.clock.machine() {
            (self.clock.now(), shown)
        } else {
            let shown = self.clock.now();
            // one that is moved forward by hand is not set: time passes
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
            // before the times move, so that no work stores one by the clock before after that
            self.clock.follow(step.to, Duration::ZERO);
            self.settling = Some((Instant::now(), step));
            return Ok(());
        }
        // the times first, so that no lease looks as if it had run out
        self.move_times(step).await?;
        self.clock.follow(step.to, Duration::ZERO);
        Ok(())
    }

    /// Moves times once work in hand has stored its own.
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
            wake.ring();
        }
        Ok(())
    }

    /// Notes the time now and then, but not while times by another clock are stored.
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

    async fn tick(&mut self) -> Result<Tick, WorkerError> {
        if self.settling.is_none()
            && let Some(step) = self.step()
        {
            self.take(step).await?;
        }
        self.settle().await?;
        self.note().await?;
        Ok(Tick::Idle {
            next_due_in: Some(INTERVAL),
        })
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        Ok(())
    }
}
