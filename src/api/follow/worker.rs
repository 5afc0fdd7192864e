//! Reads changed watches for their followers, in batches.

use std::{collections::HashMap, time::Duration};

use relay_domain::{ErrorChain, WatchId};
use relay_runtime::{Tick, Wake, Worker, WorkerError};
use relay_store::StoreError;
use tokio::time::Instant;
use tracing::error;

use crate::api::follow::{
    FollowRegistry,
    snapshot::{KnownByJob, with_outlook},
};

/// The maximum number of watches to read at once.
const BATCH: usize = 200;

/// The maximum number of watches in one query of versions.
const ASKED_AT_ONCE: usize = 1000;

/// How often the worker checks all followed watches, because another relay may have changed them.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The minimum time between two checks while other relays notify of changes.
const ASK_AT_MOST: Duration = Duration::from_millis(200);

/// Reads watches for their followers.
pub struct FollowWorker {
    follows: FollowRegistry,
    asked_at: Option<Instant>,
    /// Whether another relay has notified of changes since the last check.
    is_told: bool,
}

impl FollowWorker {
    pub(super) fn new(follows: FollowRegistry) -> Self {
        Self {
            follows,
            asked_at: None,
            is_told: false,
        }
    }

    /// Reads the changed ones of these watches, and sends them to their followers.
    async fn read(&self, ids: &[WatchId]) -> Result<(), StoreError> {
        let (store, table) = (&self.follows.store, &self.follows.table);
        // the versions come before the watches, so that a change in between causes another read
        let versions: HashMap<_, _> = store.watch_versions(ids).await?.into_iter().collect();
        let changed = table.changed(ids, &versions);
        if changed.is_empty() {
            return Ok(());
        }
        let mut paces = KnownByJob::new();
        for read in store.find_watches(&changed).await? {
            let version = versions.get(&read.watch.id).copied();
            let snapshot = with_outlook(&**store, read, &mut paces).await;
            table.publish(snapshot, version);
        }
        Ok(())
    }

    /// Reads these watches. A watch that cannot be read does not delay the others.
    async fn read_all(&self, ids: &[WatchId]) -> Result<(), StoreError> {
        match self.read(ids).await {
            Err(
                StoreError::Refused(_) | StoreError::Damaged(_) | StoreError::Inconsistent { .. },
            ) => {}
            Err(failure @ StoreError::Unavailable(_)) => return Err(failure),
            Ok(()) => return Ok(()),
        }
        for id in ids {
            match self.read(std::slice::from_ref(id)).await {
                Err(
                    failure @ (StoreError::Refused(_)
                    | StoreError::Damaged(_)
                    | StoreError::Inconsistent { .. }),
                ) => {
                    error!(watch.id = %id, error = %ErrorChain(&failure), "a watch that is followed cannot be read");
                    self.follows.table.end(*id);
                }
                Err(failure @ StoreError::Unavailable(_)) => return Err(failure),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Checks all followed watches, and marks the changed ones to be read.
    async fn ask(&mut self) -> Result<(), StoreError> {
        let (store, table) = (&self.follows.store, &self.follows.table);
        for ids in table.ids().chunks(ASKED_AT_ONCE) {
            match store.watch_versions(ids).await {
                // each watch is then read on its own, and one that cannot be read loses its followers
                Err(failure) if failure.is_damage() => table.touch_all(ids),
                versions => {
                    let versions = versions?.into_iter().collect();
                    table.touch_all(&table.changed(ids, &versions));
                }
            }
        }
        self.asked_at = Some(Instant::now());
        self.is_told = false;
        Ok(())
    }

    /// Returns the time until the next check of all watches.
    fn until_asking(&self) -> Duration {
        let every = if self.is_told { ASK_AT_MOST } else { ASK_EVERY };
        let asked = self.asked_at.map(|at| at.elapsed());
        asked.map_or(Duration::ZERO, |asked| every.saturating_sub(asked))
    }
}

impl Worker for FollowWorker {
    fn name(&self) -> &'static str {
        "follow"
    }

    fn wake(&self) -> Wake {
        self.follows.changes.wake()
    }

    async fn tick(&mut self) -> Result<Tick, WorkerError> {
        let table = &self.follows.table;
        let changed = self.follows.changes.take();
        table.touch_jobs(&changed.these);
        self.is_told |= changed.anything;
        let stale = table.take_stale(BATCH);
        if !stale.is_empty() {
            let read = self.read_all(&stale).await;
            return match read {
                Ok(()) => Ok(Tick::Busy),
                Err(failure) => {
                    table.touch_all(&stale);
                    Err(failure.into())
                }
            };
        }
        if table.ids().is_empty() {
            return Ok(Tick::Idle { next_due_in: None });
        }
        let wait = self.until_asking();
        if wait.is_zero() {
            self.ask().await?;
            return Ok(Tick::Busy);
        }
        Ok(Tick::Idle {
            next_due_in: Some(wait),
        })
    }

    /// Ends all followers, so that no stream delays the stop of the relay.
    async fn drain(&mut self) -> Result<(), WorkerError> {
        self.follows.table.close();
        Ok(())
    }
}
