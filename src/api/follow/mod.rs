//! Watches that clients follow, in a stream or a call that waits. Each is read once for all its followers.
//!
//! The relay keeps nothing for watches without followers. The first follower reads the watch. After that, one
//! worker reads changed watches in batches ([`SubscriptionTable`]) and sends each to all its followers. Every
//! second it also checks whether any of them changed elsewhere.

mod snapshot;
mod table;
mod worker;

use std::sync::Arc;

use tokio::sync::watch;

pub use self::worker::FollowWorker;
use self::{
    snapshot::{KnownByJob, with_outlook},
    table::{FollowPermit, FollowTable, JoinOutcome},
};
pub(in crate::api) use self::{
    snapshot::{WatchSnapshot, tag_of},
    table::FollowRefusal,
};
use relay_domain::{ClientId, JobId, WatchId};
use relay_runtime::SubscriptionTable;
use relay_store::{Store, StoreError};

use crate::{
    api::watch::NO_SUCH_WATCH,
    web::{Problem, ProblemCode},
};

/// Seconds after which a rejected follower may try again.
const RETRY_SECONDS: u64 = 5;

/// The watches that have followers. All clones share one state.
#[derive(Clone)]
pub struct FollowRegistry {
    store: Arc<dyn Store>,
    changes: SubscriptionTable<JobId>,
    table: FollowTable,
}

impl FollowRegistry {
    /// Creates an empty registry. Each follower holds a connection, so followers may use three quarters of
    /// `connections`. The rest is for other calls.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, connections: usize) -> Self {
        Self {
            store,
            changes: SubscriptionTable::new(),
            table: FollowTable::new(connections - connections / 4),
        }
    }

    /// Returns the subscriptions by job. Code that records something about a job must notify them.
    #[must_use]
    pub fn changes(&self) -> SubscriptionTable<JobId> {
        self.changes.clone()
    }

    /// Creates the worker that reads for all followers.
    #[must_use]
    pub fn worker(&self) -> FollowWorker {
        FollowWorker::new(self.clone())
    }

    /// Follows a client's watch.
    pub(in crate::api) async fn follow(
        &self,
        owner: ClientId,
        id: WatchId,
    ) -> Result<WatchFollower, FollowError> {
        match self.table.join(owner, id)? {
            JoinOutcome::More(follower) => return Ok(follower),
            JoinOutcome::NotTheirs => return Err(FollowError::NoSuchWatch),
            JoinOutcome::First => {}
        }
        let read = self.store.find_watch(Some(owner), id).await?;
        let read = read.ok_or(FollowError::NoSuchWatch)?;
        let following = self.changes.follow(read.watch.request.job_id.clone());
        let snapshot = with_outlook(&*self.store, read, &mut KnownByJob::new()).await;
        let follower = self.table.begin(Arc::new(snapshot), following)?;
        // read once more, for changes before the subscription began
        self.changes.wake().ring();
        Ok(follower)
    }

    /// Marks a watch as changed by this relay, so that its followers see the change.
    pub(in crate::api) fn touch(&self, id: WatchId) {
        if self.table.touch(id) {
            self.changes.wake().ring();
        }
    }

    /// Marks that something changed in unknown watches.
    pub(in crate::api) fn touch_any(&self) {
        self.changes.ring_for_anything();
    }
}

/// Why a watch cannot be followed.
#[derive(Debug)]
pub(in crate::api) enum FollowError {
    /// The client has no such watch.
    NoSuchWatch,
    /// The watch or the relay has no capacity for another follower.
    Refused(FollowRefusal),
    /// The store cannot read the watch.
    Store(StoreError),
}

impl From<FollowRefusal> for FollowError {
    fn from(refusal: FollowRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for FollowError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::NoSuchWatch => Self::not_found(NO_SUCH_WATCH),
            FollowError::Refused(FollowRefusal::Crowded) => Self::new(
                ProblemCode::TooManyStreams,
                format!("At most {} may follow one watch.", table::MOST_OF_ONE),
            )
            .retry_after(RETRY_SECONDS),
            FollowError::Refused(FollowRefusal::Full | FollowRefusal::Closed) => Self::new(
                ProblemCode::Overloaded,
                "No more streams can be held open here now. Ask again shortly.",
            )
            .retry_after(RETRY_SECONDS),
            FollowError::Store(error) => error.into(),
        }
    }
}

/// Follows one watch until dropped.
#[derive(Debug)]
pub(in crate::api) struct WatchFollower {
    receiver: watch::Receiver<Arc<WatchSnapshot>>,
    _place: FollowPermit,
}

impl WatchFollower {
    /// Returns the watch as it was last read.
    pub(in crate::api) fn latest(&mut self) -> Arc<WatchSnapshot> {
        Arc::clone(&self.receiver.borrow_and_update())
    }

    /// Waits until the watch is read again. Returns false if the watch is no longer read, because it is gone or the
    /// relay stops.
    pub(in crate::api) async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}
