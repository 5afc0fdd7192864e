//! Stores what the relay counts of its activity, for the console, and deletes what is old.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use relay_domain::{
    ActivityRecorder, CallCounts, ErrorChain, Upstream,
    clock::{Clock, between},
};
use relay_runtime::{TickOutcome, Wake, Worker, WorkerError};
use relay_store::{ActivityStore, Store, StoreError};
use tracing::warn;

/// The interval at which counts are stored. A relay that crashes loses what it counted since.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long counts are kept: the console shows a week.
const KEPT_FOR: Duration = Duration::from_hours(8 * 24);
/// The interval at which old counts are deleted.
const PURGE_EVERY: Duration = Duration::from_hours(1);
/// The maximum number of rows that one transaction deletes.
const PURGE_BATCH: usize = 500;

/// The maximum time that a stop waits for the last counts to be stored.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Writes the counts of one relay to the store.
pub(super) struct ActivityWriter {
    store: Arc<dyn ActivityStore>,
    clock: Clock,
    recorder: ActivityRecorder,
    upstream: Upstream,
    /// The calls to Basiq that are in the counts.
    counted: Mutex<CallCounts>,
    /// When all old counts were deleted.
    purged_at: Mutex<Option<Timestamp>>,
}

impl ActivityWriter {
    pub(super) fn new(
        store: &Arc<dyn Store>,
        clock: Clock,
        recorder: ActivityRecorder,
        upstream: Upstream,
    ) -> Self {
        Self {
            store: store.clone(),
            clock,
            recorder,
            upstream,
            counted: Mutex::default(),
            purged_at: Mutex::default(),
        }
    }

    /// Stores what changed since the latest write. What cannot be stored is stored by a later write.
    async fn write(&self) -> Result<(), StoreError> {
        self.count_calls();
        let rows = self.recorder.take_changed();
        if rows.is_empty() {
            return Ok(());
        }
        let written = self.store.record_activity(rows.clone()).await;
        if written.is_err() {
            self.recorder.put_back(rows);
        }
        written
    }

    fn count_calls(&self) {
        let mut counted = self.counted.lock();
        let now = self.upstream.calls();
        let before = std::mem::replace(&mut *counted, now);
        let calls = now.all.saturating_sub(before.all);
        let failed = now.failed.saturating_sub(before.failed);
        self.recorder.count_calls(calls, failed);
    }

    /// Stores the last counts of a relay whose other work has ended.
    pub(super) async fn finish(&self) {
        let written = tokio::time::timeout(LAST_WRITE, self.write()).await;
        if let Ok(Err(error)) = written {
            let error = ErrorChain(&error);
            warn!(%error, "the latest counts for the console are lost");
        }
    }
}

/// The worker that stores counts now and then, and deletes old ones.
pub struct ActivityWorker {
    writer: Arc<ActivityWriter>,
    wake: Wake,
}

impl ActivityWorker {
    pub(super) fn new(writer: ActivityWriter) -> Self {
        Self {
            writer: Arc::new(writer),
            wake: Wake::new(),
        }
    }

    pub(super) fn writer(&self) -> Arc<ActivityWriter> {
        Arc::clone(&self.writer)
    }
}

impl ActivityWriter {
    /// Deletes a batch of old rows, if it is time. Returns whether there may be more.
    async fn purge(&self) -> Result<bool, WorkerError> {
        let now = self.clock.now();
        // if the clock was set back, the latest purge is in the future
        let is_early = |at: Timestamp| at <= now && between(at, now) < PURGE_EVERY;
        if self.purged_at.lock().is_some_and(is_early) {
            return Ok(false);
        }
        let before = now.checked_sub(KEPT_FOR)?;
        let purged = self.store.purge_activity(before, PURGE_BATCH);
        let more = usize::try_from(purged.await?)? >= PURGE_BATCH;
        *self.purged_at.lock() = (!more).then_some(now);
        Ok(more)
    }
}

impl Worker for ActivityWorker {
    fn name(&self) -> &'static str {
        "activity"
    }

    fn wake(&self) -> Wake {
        self.wake.clone()
    }

    async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
        self.writer.write().await?;
        if self.writer.purge().await? {
            return Ok(TickOutcome::Busy);
        }
        Ok(TickOutcome::Idle {
            next_due_in: Some(INTERVAL),
        })
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        // other workers still count while they drain, so the last counts are stored after all of them
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use relay_domain::{ActivityRow, ActivityScope};

    use super::*;

    /// A store in memory that refuses some writes first.
    #[derive(Default)]
    struct FailingStore {
        failures: Mutex<usize>,
        rows: Mutex<Vec<ActivityRow>>,
    }

    #[async_trait]
    impl ActivityStore for FailingStore {
        async fn record_activity(&self, rows: Vec<ActivityRow>) -> Result<(), StoreError> {
            let left = self.failures.lock().checked_sub(1);
            if let Some(left) = left {
                *self.failures.lock() = left;
                return Err(StoreError::unavailable("the disk is gone"));
            }
            self.rows.lock().extend(rows);
            Ok(())
        }

        async fn list_activity(
            &self,
            _: ActivityScope,
            _: Timestamp,
        ) -> Result<Vec<ActivityRow>, StoreError> {
            Ok(self.rows.lock().clone())
        }

        async fn purge_activity(&self, _: Timestamp, _: usize) -> Result<u64, StoreError> {
            Ok(0)
        }
    }

    #[tokio::test]
    async fn what_could_not_be_stored_is_stored_later_and_calls_count_once() {
        let store = Arc::new(FailingStore::default());
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let writer = ActivityWriter {
            store: store.clone(),
            recorder: ActivityRecorder::new(clock.clone()),
            clock,
            upstream: Upstream::default(),
            counted: Mutex::default(),
            purged_at: Mutex::default(),
        };
        let mut worker = ActivityWorker::new(writer);
        let writer = worker.writer();
        worker.tick().await.unwrap();
        assert!(store.rows.lock().is_empty(), "nothing happened");
        *store.failures.lock() = 1;
        writer.upstream.count_call(true);
        writer.recorder.count_look();
        assert!(worker.tick().await.is_err());
        writer.upstream.count_call(false);
        worker.writer().finish().await;
        writer.finish().await;
        let rows = store.rows.lock();
        assert_eq!(rows.len(), 2);
        let all = rows[0].tally.total();
        assert_eq!((all.looks, all.calls, all.failed_calls), (1, 2, 1));
    }
}
