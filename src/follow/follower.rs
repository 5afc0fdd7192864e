//! One follower of a watch.

use std::sync::Arc;

use relay_store::StoreError;
use tokio::sync::watch::Receiver;

use crate::follow::{WatchSnapshot, registry::FollowPermit};

/// Follows one watch until dropped.
#[derive(Debug)]
pub struct WatchFollower {
    pub(super) receiver: Receiver<Arc<WatchSnapshot>>,
    _permit: FollowPermit,
}

impl WatchFollower {
    pub(super) fn new(receiver: Receiver<Arc<WatchSnapshot>>, permit: FollowPermit) -> Self {
        Self {
            receiver,
            _permit: permit,
        }
    }

    /// Returns the watch as it was last read.
    pub fn latest(&mut self) -> Arc<WatchSnapshot> {
        Arc::clone(&self.receiver.borrow_and_update())
    }

    /// Waits until the watch is read again. Returns false if the watch is no longer read, because it is gone or the
    /// relay stops.
    pub async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}

/// Why a watch cannot be followed.
#[derive(Debug)]
pub enum FollowError {
    /// The client has no such watch.
    NoSuchWatch,
    /// The watch is at its limit of followers.
    WatchFull,
    /// The relay is at its limit of followers.
    RelayFull,
    /// The relay stops.
    Closed,
    /// The store cannot read the watch.
    Store(StoreError),
}

impl From<StoreError> for FollowError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
