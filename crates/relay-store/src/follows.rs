//! Watches that clients follow as they change.

use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Client, JobId, WatchId};

use crate::{StoreError, WatchDetails};

/// Reads watches for the streams and the long polls that follow them. The methods that read watches take many at once,
/// because many are followed.
#[async_trait]
pub trait FollowStore: Send + Sync {
    /// Returns the client that owns a watch; none if there is no such watch, or its client is revoked.
    async fn find_owner(&self, id: WatchId) -> Result<Option<Client>, StoreError>;

    /// Returns the watches with their details. Unknown ids are left out.
    async fn find_watches(&self, ids: &[WatchId]) -> Result<Vec<WatchDetails>, StoreError>;

    /// Returns the versions of watches. A version is cheaper to read than the watch. Unknown ids are left out.
    async fn watch_versions(
        &self,
        ids: &[WatchId],
    ) -> Result<Vec<(WatchId, WatchVersion)>, StoreError>;

    /// Makes the next looks at jobs due earlier. Does nothing for a job whose next look is due before that, or that is
    /// not watched.
    async fn look_earlier(&self, looks: Vec<EarlierLook>) -> Result<(), StoreError>;
}

/// An earlier time for the next look at a job that somebody follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierLook {
    /// The job.
    pub job_id: JobId,
    /// When the look is due.
    pub at: Timestamp,
}

/// The version of a watch. It changes whenever the steps of the watch's job, its state, its events or their
/// deliveries change. A look that finds nothing new leaves the version unchanged, unless hints put off the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchVersion(u64);

impl WatchVersion {
    /// Makes a version from its text in the store.
    #[must_use]
    pub(crate) fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }
}
