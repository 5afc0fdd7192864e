//! Watches that somebody follows as they change.

use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;

use crate::{
    domain::{Client, WatchId},
    store::{StoreError, WatchDetails},
};

/// Watches as they change: for streams and for calls that wait. Every method takes many at once, as
/// many follow.
#[async_trait]
pub trait FollowStore: Send + Sync {
    /// The client whose watch this is; none if there is no such watch, or its client is revoked.
    async fn find_owner(&self, id: WatchId) -> Result<Option<Client>, StoreError>;

    /// Watches with their details; those that are not there are left out.
    async fn find_watches(&self, ids: &[WatchId]) -> Result<Vec<WatchDetails>, StoreError>;

    /// What tells that a watch has changed, which is cheaper to read than the watch; those that are not
    /// there are left out.
    async fn watch_versions(
        &self,
        ids: &[WatchId],
    ) -> Result<Vec<(WatchId, WatchVersion)>, StoreError>;
}

/// Another one whenever the steps of a watch's job, its state, its events or their deliveries change. A
/// look that brings nothing new leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchVersion(u64);

impl WatchVersion {
    /// The version that is written so in the store.
    #[must_use]
    pub(in crate::store) fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }
}
