//! The followed watches, by id and by job. No I/O, no lock.

use std::{collections::HashMap, sync::Arc};

use metrics::gauge;
use relay_domain::{ClientId, JobId, WatchId};
use relay_store::WatchVersion;
use tokio::sync::watch::{Receiver, Sender, channel};

use crate::follow::{FollowError, WatchSnapshot};

/// The maximum number of followers of one watch.
pub const MAX_FOLLOWERS_OF_WATCH: usize = 1024;

/// The state of the registry: each followed watch, and how many follow it.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) watches: HashMap<WatchId, Entry>,
    /// The followed watches of each job.
    pub(super) by_job: HashMap<JobId, Vec<WatchId>>,
    /// The number of all followers.
    pub(super) followers: usize,
    /// The maximum number of followers, in streams and in long polls.
    max_followers: usize,
    /// The generation of the newest entry.
    generation: u64,
    /// Whether something changed in an unknown watch.
    pub(super) has_unknown_change: bool,
    is_closed: bool,
}

/// A followed watch: its followers, and what they were told last.
#[derive(Debug)]
pub(super) struct Entry {
    /// Distinguishes this entry from an earlier entry of the same watch.
    generation: u64,
    followers: usize,
    pub(super) sender: Sender<Arc<WatchSnapshot>>,
    /// The version at the latest read, or an earlier one.
    pub(super) version: Option<WatchVersion>,
    /// Whether the watch is to be read again.
    pub(super) is_stale: bool,
}

/// A follower that was added to a watch: what it receives from, and the generation of the watch's entry.
pub(super) struct NewFollower {
    pub(super) receiver: Receiver<Arc<WatchSnapshot>>,
    pub(super) generation: u64,
}

impl Entries {
    /// Creates entries for at most this many followers.
    pub(super) fn new(max_followers: usize) -> Self {
        Self {
            max_followers,
            ..Self::default()
        }
    }

    /// Adds a follower to a client's watch. Returns `None` if the watch has no followers yet.
    pub(super) fn join(
        &mut self,
        owner: ClientId,
        id: WatchId,
    ) -> Result<Option<NewFollower>, FollowError> {
        let of_watch = self.watches.get(&id).map_or(0, |entry| entry.followers);
        self.check_capacity(of_watch)?;
        let Some(entry) = self.watches.get_mut(&id) else {
            return Ok(None);
        };
        if entry.sender.borrow().details.watch.client_id != owner {
            return Err(FollowError::NoSuchWatch);
        }
        entry.followers += 1;
        let follower = NewFollower {
            receiver: entry.sender.subscribe(),
            generation: entry.generation,
        };
        self.set_followers(self.followers + 1);
        Ok(Some(follower))
    }

    fn check_capacity(&self, of_watch: usize) -> Result<(), FollowError> {
        if self.is_closed {
            return Err(FollowError::Closed);
        }
        if self.followers >= self.max_followers {
            return Err(FollowError::RelayFull);
        }
        if of_watch >= MAX_FOLLOWERS_OF_WATCH {
            return Err(FollowError::WatchFull);
        }
        Ok(())
    }

    fn set_followers(&mut self, followers: usize) {
        self.followers = followers;
        let followers = u32::try_from(followers).unwrap_or(u32::MAX);
        gauge!("relay_streams").set(f64::from(followers));
    }

    /// Adds a watch with one follower, and marks the watch to be read again.
    pub(super) fn insert(&mut self, snapshot: WatchSnapshot) -> NewFollower {
        let watch = &snapshot.details.watch;
        let (id, job_id) = (watch.id, watch.request.job_id.clone());
        let (sender, receiver) = channel(Arc::new(snapshot));
        self.generation += 1;
        let generation = self.generation;
        let entry = Entry {
            generation,
            followers: 1,
            sender,
            version: None,
            is_stale: true,
        };
        self.watches.insert(id, entry);
        self.by_job.entry(job_id).or_default().push(id);
        self.set_followers(self.followers + 1);
        NewFollower {
            receiver,
            generation,
        }
    }

    /// Removes one follower, and the watch with its last follower.
    pub(super) fn leave(&mut self, id: WatchId, generation: u64) {
        self.set_followers(self.followers.saturating_sub(1));
        let entry = self.watches.get_mut(&id);
        let Some(entry) = entry.filter(|entry| entry.generation == generation) else {
            return;
        };
        entry.followers = entry.followers.saturating_sub(1);
        if entry.followers == 0 {
            self.remove(id);
        }
    }

    /// Removes a watch, which ends its followers.
    pub(super) fn remove(&mut self, id: WatchId) {
        let Some(entry) = self.watches.remove(&id) else {
            return;
        };
        let snapshot = entry.sender.borrow();
        let job_id = &snapshot.details.watch.request.job_id;
        if let Some(ids) = self.by_job.get_mut(job_id) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_job.remove(job_id);
            }
        }
    }

    /// Removes all watches, which ends their followers. Further followers are rejected.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.watches.clear();
        self.by_job.clear();
    }

    /// Marks watches to be read again. Returns whether any of them has followers.
    pub(super) fn mark_stale(&mut self, ids: &[WatchId]) -> bool {
        let mut is_followed = false;
        for id in ids {
            if let Some(entry) = self.watches.get_mut(id) {
                entry.is_stale = true;
                is_followed = true;
            }
        }
        is_followed
    }
}
