//! Reads changed watches for their followers, in batches.

use std::{collections::HashMap, sync::Arc, time::Duration};

use relay_domain::{ErrorChain, WatchId};
use relay_runtime::{TickOutcome, Wake, Worker, WorkerError};
use relay_store::{EarlierLook, Store, StoreError, WatchDetails};
use tokio::time::Instant;
use tracing::error;

use crate::follow::{
    FollowRegistry,
    snapshot::{KnownByJob, with_eta},
};

/// The maximum number of watches to read at once.
const BATCH: usize = 200;

/// The maximum number of watches in one query of versions.
const CHECKED_AT_ONCE: usize = 1000;

/// How often the worker checks all followed watches, because another relay may have changed them.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The minimum time between two checks while other relays notify of changes.
const CHECK_AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// Reads followed watches again when they have changed, and passes them to their followers.
pub struct FollowWorker {
    store: Arc<dyn Store>,
    registry: FollowRegistry,
    /// Wakes the tracker when a look is due earlier.
    tracker_wake: Wake,
    checked_at: Option<Instant>,
    /// Whether another relay has notified of changes since the last check.
    is_notified: bool,
}

impl FollowWorker {
    /// Creates the worker that reads for all followers in a registry. `tracker_wake` wakes the tracker.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, registry: FollowRegistry, tracker_wake: Wake) -> Self {
        Self {
            store,
            registry,
            tracker_wake,
            checked_at: None,
            is_notified: false,
        }
    }

    /// Reads the changed ones of these watches, and sends them to their followers.
    async fn read(&self, ids: &[WatchId]) -> Result<(), StoreError> {
        let (store, registry) = (&self.store, &self.registry);
        // the versions come before the watches, so that a change in between causes another read
        let versions: HashMap<_, _> = store.watch_versions(ids).await?.into_iter().collect();
        let changed = registry.changed(ids, &versions);
        if changed.is_empty() {
            return Ok(());
        }
        let mut known = KnownByJob::new();
        let read = store.find_watches(&changed).await?;
        self.look_earlier(&read).await?;
        for read in read {
            let version = versions.get(&read.watch.id).copied();
            let snapshot = with_eta(&**store, read, &mut known).await;
            registry.publish(snapshot, version);
        }
        Ok(())
    }

    /// Makes the next looks at these watches' jobs due as if there were no hints. Hints report only ends, and followers
    /// want to see the progress before.
    async fn look_earlier(&self, watches: &[WatchDetails]) -> Result<(), StoreError> {
        let looks = watches.iter().filter_map(|read| {
            let at = read.job.look_without_hints_at?;
            let is_later = read.next_look_at.is_some_and(|due| due > at);
            is_later.then(|| EarlierLook {
                job_id: read.watch.request.job_id.clone(),
                at,
            })
        });
        let looks: Vec<_> = looks.collect();
        if !looks.is_empty() {
            self.store.look_earlier(looks).await?;
            self.tracker_wake.notify();
        }
        Ok(())
    }

    /// Reads these watches. A watch that cannot be read does not delay the others.
    async fn read_all(&self, ids: &[WatchId]) -> Result<(), StoreError> {
        match self.read(ids).await {
            Err(failure) if !failure.is_unavailable() => {}
            done => return done,
        }
        for id in ids {
            match self.read(std::slice::from_ref(id)).await {
                Ok(()) => {}
                Err(failure) if failure.is_unavailable() => return Err(failure),
                Err(failure) => {
                    error!(watch.id = %id, error = %ErrorChain(&failure), "a watch that is followed cannot be read");
                    self.registry.end(*id);
                }
            }
        }
        Ok(())
    }

    /// Checks all followed watches, and marks the changed ones to be read.
    async fn check(&mut self) -> Result<(), StoreError> {
        let (store, registry) = (&self.store, &self.registry);
        for ids in registry.ids().chunks(CHECKED_AT_ONCE) {
            match store.watch_versions(ids).await {
                // each watch is then read on its own, and one that cannot be read loses its followers
                Err(failure) if failure.is_damage() => registry.mark_stale(ids),
                versions => {
                    let versions = versions?.into_iter().collect();
                    registry.mark_stale(&registry.changed(ids, &versions));
                }
            }
        }
        self.checked_at = Some(Instant::now());
        self.is_notified = false;
        Ok(())
    }

    /// Returns the time until the next check of all watches.
    fn until_check(&self) -> Duration {
        let every = if self.is_notified {
            CHECK_AT_MOST_EVERY
        } else {
            CHECK_EVERY
        };
        let elapsed = self.checked_at.map(|at| at.elapsed());
        elapsed.map_or(Duration::ZERO, |elapsed| every.saturating_sub(elapsed))
    }
}

impl Worker for FollowWorker {
    fn name(&self) -> &'static str {
        "follow"
    }

    fn wake(&self) -> Wake {
        self.registry.wake()
    }

    async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
        let registry = &self.registry;
        self.is_notified |= registry.take_unknown_change();
        let stale = registry.take_stale(BATCH);
        if !stale.is_empty() {
            let read = self.read_all(&stale).await;
            return match read {
                Ok(()) => Ok(TickOutcome::Busy),
                Err(failure) => {
                    registry.mark_stale(&stale);
                    Err(failure.into())
                }
            };
        }
        if registry.ids().is_empty() {
            return Ok(TickOutcome::Idle { next_due_in: None });
        }
        let wait = self.until_check();
        if wait.is_zero() {
            self.check().await?;
            return Ok(TickOutcome::Busy);
        }
        Ok(TickOutcome::Idle {
            next_due_in: Some(wait),
        })
    }

    /// Ends all followers, so that no stream delays the stop of the relay.
    async fn drain(&mut self) -> Result<(), WorkerError> {
        self.registry.close();
        Ok(())
    }
}
