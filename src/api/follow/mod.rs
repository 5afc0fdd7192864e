//! Watches that somebody follows, in a stream or a call that waits: read once for all who do.
//!
//! Nothing is kept for watches that nobody follows. Who begins to follow reads the watch; from then on one
//! worker reads it when it changed ([`SubscriptionTable`]), many watches at once, and hands it to all who follow it. It
//! also asks every second whether any of them changed elsewhere.

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
use crate::{
    api::watch::NO_SUCH_WATCH,
    domain::{ClientId, JobId, WatchId},
    runtime::SubscriptionTable,
    store::{Store, StoreError},
    web::{Problem, ProblemCode},
};

/// Seconds after which somebody who found no room may try again.
const RETRY_SECONDS: u64 = 5;

/// The watches that somebody follows. All clones are one.
#[derive(Clone)]
pub struct FollowRegistry {
    store: Arc<dyn Store>,
    changes: SubscriptionTable<JobId>,
    table: FollowTable,
}

impl FollowRegistry {
    /// An empty registry. Each follower holds a connection, so followers may use three quarters of `connections`;
    /// the rest is left to other calls.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, connections: usize) -> Self {
        Self {
            store,
            changes: SubscriptionTable::new(),
            table: FollowTable::new(connections - connections / 4),
        }
    }

    /// To be rung by whoever records something about a job.
    #[must_use]
    pub fn changes(&self) -> SubscriptionTable<JobId> {
        self.changes.clone()
    }

    /// Reads for all who follow.
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
        // read once more, for what changed before it was followed
        self.changes.wake().ring();
        Ok(follower)
    }

    /// A watch was changed here: who follows it is to see that.
    pub(in crate::api) fn touch(&self, id: WatchId) {
        if self.table.touch(id) {
            self.changes.wake().ring();
        }
    }

    /// Something was changed, of which watches nobody says.
    pub(in crate::api) fn touch_any(&self) {
        self.changes.ring_for_anything();
    }
}

/// Why a watch cannot be followed.
#[derive(Debug)]
pub(in crate::api) enum FollowError {
    /// The client has none such.
    NoSuchWatch,
    /// There is no room.
    Refused(FollowRefusal),
    /// It cannot be read.
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

/// Follows one watch until it is dropped.
#[derive(Debug)]
pub(in crate::api) struct WatchFollower {
    receiver: watch::Receiver<Arc<WatchSnapshot>>,
    _place: FollowPermit,
}

impl WatchFollower {
    /// The watch as it was last read.
    pub(in crate::api) fn latest(&mut self) -> Arc<WatchSnapshot> {
        Arc::clone(&self.receiver.borrow_and_update())
    }

    /// Waits until it was read again. False once it is read no more: it is gone, or the relay stops.
    pub(in crate::api) async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}
