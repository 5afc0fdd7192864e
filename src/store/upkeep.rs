//! Upkeep: what keeps a store small, and tells how it does.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{domain::WatchState, store::StoreError};

/// Upkeep: for health checks, metrics and retention.
#[async_trait]
pub trait UpkeepStore: Send + Sync {
    /// Whether the store can be read and written: writes something, where watches are written.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Looks for damage in all that is stored, where the store may be damaged unnoticed. Waits so long for what it
    /// finds at most; what is found later counts all the same.
    async fn examine(&self, patience: Duration) -> Result<(), StoreError>;

    /// Notes the time by this machine's clock, where that is the store's; returns the one noted before.
    async fn note_time(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Moves due times and leases after the clock was set, where they follow this machine's; returns how many.
    async fn move_times(&self, step: ClockStep) -> Result<u64, StoreError>;

    /// Frees the leases of a relay that ran on this store before, where only one can; returns how
    /// many there were.
    async fn free_leases(&self) -> Result<u64, StoreError>;

    /// Deletes up to `limit` watches that ended before `before`, with their events, and what
    /// nothing refers to any more. Says how many watches.
    async fn purge_ended(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Counts for the metrics.
    async fn census(&self, now: Timestamp) -> Result<Census, StoreError>;

    /// Finishes what was queued and closes the store. Whatever is asked of it later fails as
    /// [`StoreError::Unavailable`].
    async fn close(&self);
}

/// A clock that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// What it would show had it not been set.
    pub from: Timestamp,
    /// What it showed instead, at the same moment.
    pub to: Timestamp,
}

/// What is in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Watches in each state.
    pub watches: Vec<(WatchState, u64)>,
    /// Jobs that are due now.
    pub due_jobs: u64,
    /// Deliveries that are due now.
    pub due_deliveries: u64,
    /// Deliveries that wait for any attempt.
    pub pending_deliveries: u64,
    /// Deliveries given up and kept.
    pub dead_deliveries: u64,
    /// Callback hosts that keep failing and are left alone for now.
    pub paused_hosts: u64,
}
