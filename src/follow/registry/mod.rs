//! Records which watches have followers, and which of these watches changed.

mod entries;

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use relay_domain::{ClientId, JobId, WatchId};
use relay_runtime::Wake;
use relay_store::{Store, WatchVersion};

pub use self::entries::MAX_FOLLOWERS_OF_WATCH;
use self::entries::{Entries, NewFollower};
use crate::follow::{
    FollowError, WatchFollower, WatchSnapshot,
    snapshot::{KnownByJob, with_eta},
};

/// Brings changes of watches to the streams and long polls that follow them. The size is bounded by the number of
/// followers, however much changes. All clones share one state.
#[derive(Debug, Clone)]
pub struct FollowRegistry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    entries: Mutex<Entries>,
    /// Wakes the worker when a followed watch changed, or may have changed.
    wake: Wake,
}

impl FollowRegistry {
    /// Creates an empty registry. Each follower holds a connection, so followers may use three quarters of
    /// `connections`. The rest is for other calls.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        let max_followers = connections - connections / 4;
        Self(Arc::new(Shared {
            entries: Mutex::new(Entries::new(max_followers)),
            wake: Wake::new(),
        }))
    }

    /// Follows a client's watch.
    pub async fn follow(
        &self,
        store: &dyn Store,
        owner: ClientId,
        id: WatchId,
    ) -> Result<WatchFollower, FollowError> {
        if let Some(follower) = self.join(owner, id)? {
            return Ok(follower);
        }
        let found = store.find_watch(Some(owner), id).await?;
        let found = found.ok_or(FollowError::NoSuchWatch)?;
        let snapshot = with_eta(store, found, &mut KnownByJob::new()).await;
        self.begin(snapshot)
    }

    /// Records that a watch changed.
    pub fn notify_watch(&self, id: WatchId) {
        let is_followed = self.entries().mark_stale(&[id]);
        self.wake_if(is_followed);
    }

    /// Records that watches of these jobs may have changed.
    pub fn notify_jobs(&self, jobs: &[JobId]) {
        let mut entries = self.entries();
        let ids = jobs.iter().filter_map(|job| entries.by_job.get(job));
        let ids: Vec<_> = ids.flatten().copied().collect();
        let is_followed = entries.mark_stale(&ids);
        drop(entries);
        self.wake_if(is_followed);
    }

    /// Records that something changed, and that the watches are not known.
    pub fn notify_any(&self) {
        let mut entries = self.entries();
        let is_followed = !entries.watches.is_empty();
        entries.has_unknown_change |= is_followed;
        drop(entries);
        self.wake_if(is_followed);
    }

    /// Returns the `Wake` of the worker that reads for all followers.
    pub(super) fn wake(&self) -> Wake {
        self.0.wake.clone()
    }

    fn wake_if(&self, is_needed: bool) {
        if is_needed {
            self.0.wake.notify();
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock()
    }

    /// Follows a client's watch if the watch already has followers.
    fn join(&self, owner: ClientId, id: WatchId) -> Result<Option<WatchFollower>, FollowError> {
        let new = self.entries().join(owner, id)?;
        Ok(new.map(|new| self.follower(id, new)))
    }

    /// Follows a watch that was just read. The worker reads the watch once more, for changes between that read and
    /// now, of which nothing notified the registry.
    fn begin(&self, snapshot: WatchSnapshot) -> Result<WatchFollower, FollowError> {
        let watch = &snapshot.details.watch;
        let (owner, id) = (watch.client_id, watch.id);
        let mut entries = self.entries();
        // another follower may have come first
        let new = match entries.join(owner, id)? {
            Some(new) => new,
            None => entries.insert(snapshot),
        };
        drop(entries);
        self.0.wake.notify();
        Ok(self.follower(id, new))
    }

    fn follower(&self, watch: WatchId, new: NewFollower) -> WatchFollower {
        let permit = FollowPermit {
            registry: self.clone(),
            watch,
            generation: new.generation,
        };
        WatchFollower::new(new.receiver, permit)
    }

    /// Returns whether something changed in unknown watches since the last call.
    pub(super) fn take_unknown_change(&self) -> bool {
        std::mem::take(&mut self.entries().has_unknown_change)
    }

    /// Marks watches to be read again, for example after a failed read.
    pub(super) fn mark_stale(&self, ids: &[WatchId]) {
        self.entries().mark_stale(ids);
    }

    /// Takes at most `limit` watches that are to be read, and clears their marks.
    pub(super) fn take_stale(&self, limit: usize) -> Vec<WatchId> {
        let mut entries = self.entries();
        let watches = entries.watches.iter_mut();
        let stale = watches.filter(|(_, entry)| entry.is_stale);
        let taken = stale.take(limit).map(|(id, entry)| {
            entry.is_stale = false;
            *id
        });
        taken.collect()
    }

    /// Returns all watches that have followers.
    pub(super) fn ids(&self) -> Vec<WatchId> {
        self.entries().watches.keys().copied().collect()
    }

    /// Returns the checked watches whose version differs from the one last read. A watch without a version no longer
    /// exists, so its followers end.
    pub(super) fn changed(
        &self,
        checked: &[WatchId],
        versions: &HashMap<WatchId, WatchVersion>,
    ) -> Vec<WatchId> {
        let mut entries = self.entries();
        for id in checked.iter().filter(|id| !versions.contains_key(id)) {
            entries.remove(*id);
        }
        let has_changed = |id: &WatchId| {
            let entry = entries.watches.get(id);
            entry.is_some_and(|entry| entry.version.as_ref() != versions.get(id))
        };
        checked.iter().copied().filter(has_changed).collect()
    }

    /// Sends a watch to all its followers.
    pub(super) fn publish(&self, snapshot: WatchSnapshot, version: Option<WatchVersion>) {
        let mut entries = self.entries();
        if let Some(entry) = entries.watches.get_mut(&snapshot.details.watch.id) {
            entry.version = version;
            entry.sender.send_replace(Arc::new(snapshot));
        }
    }

    /// Ends all followers of a watch.
    pub(super) fn end(&self, id: WatchId) {
        self.entries().remove(id);
    }

    /// Ends all followers. Further followers are rejected.
    pub(super) fn close(&self) {
        self.entries().close();
    }
}

/// The permit of one follower. Dropping it removes the follower.
#[derive(Debug)]
pub(super) struct FollowPermit {
    registry: FollowRegistry,
    watch: WatchId,
    generation: u64,
}

impl Drop for FollowPermit {
    fn drop(&mut self) {
        self.registry.entries().leave(self.watch, self.generation);
    }
}

#[cfg(test)]
mod tests;
