//! Upkeep: keeps the store small, and reports its condition.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use relay_domain::WatchState;

use crate::StoreError;

/// Checks the store, counts what it holds, and deletes what is older than the retention.
#[async_trait]
pub trait UpkeepStore: Send + Sync {
    /// Checks that the store can be read and written. Makes a small write to the database that holds the watches.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Searches all stored data for damage, on stores that can be damaged without an error. Waits for the search for
    /// at most `patience`. Damage that is found later still counts.
    async fn examine(&self, patience: Duration) -> Result<(), StoreError>;

    /// Notes the latest time of the clock that due times follow: the database's on PostgreSQL, and this machine's, which
    /// shows `now`, on SQLite. If that clock was set back since, returns the step instead, for [`Self::move_times`]. Of
    /// several relays, one gets it; another one does if that relay stops.
    async fn note_time(&self, now: Timestamp) -> Result<Option<ClockStep>, StoreError>;

    /// Moves due times and leases after that clock was set, then notes its time. On PostgreSQL the step must be back.
    /// Returns how many times it moved, or on PostgreSQL in how many rows.
    async fn move_times(&self, step: ClockStep) -> Result<u64, StoreError>;

    /// Frees the leases of the relay that used this store before, on stores that only one relay can use. Returns how
    /// many it freed.
    async fn free_leases(&self) -> Result<u64, StoreError>;

    /// Deletes up to `limit` watches that ended before `before`, with their events and rows that nothing refers to
    /// any more. Also deletes as many ended subscriptions, old notices and messages. Returns the number of watches.
    async fn purge_ended(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Returns the counts for the metrics.
    async fn census(&self, now: Timestamp) -> Result<Census, StoreError>;

    /// Returns the problems that cause alerts: the number of dead deliveries, and up to `limit` hosts that have been
    /// paused since `paused_before` or longer. The host that has been paused longest comes first.
    async fn troubles(
        &self,
        paused_before: Timestamp,
        limit: usize,
    ) -> Result<StoreTroubles, StoreError>;

    /// Finishes the queued work and closes the store. Later calls fail with [`StoreError::Unavailable`].
    async fn close(&self);
}

/// A change of the clock that due times follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// The time that the clock would show without the change.
    pub from: Timestamp,
    /// The time that the clock showed instead, at the same moment.
    pub to: Timestamp,
}

impl ClockStep {
    /// The smallest difference that counts as a step. A smaller one is due to the different pace of two clocks.
    pub const SMALLEST: Duration = Duration::from_secs(1);

    /// Returns the step from one time to another, if it is one.
    #[must_use]
    pub fn between(from: Timestamp, to: Timestamp) -> Option<Self> {
        let step = Self { from, to };
        (step.length().unsigned_abs() >= Self::SMALLEST).then_some(step)
    }

    /// Returns by how much the clock was set forward. It is negative if the clock was set back.
    #[must_use]
    pub fn length(self) -> SignedDuration {
        self.to.duration_since(self.from)
    }

    /// Returns whether the clock was set back.
    #[must_use]
    pub fn is_back(self) -> bool {
        self.to < self.from
    }
}

/// What the store holds that an operator should know of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreTroubles {
    /// The number of dead deliveries that the store still holds.
    pub dead_deliveries: u64,
    /// Hosts that have not answered since they were paused, and for which deliveries wait.
    pub paused_hosts: Vec<PausedHost>,
}

/// A callback host that was paused and has not answered since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PausedHost {
    /// The host's name or address.
    pub host: String,
    /// When its first pause began.
    pub since: Timestamp,
}

/// Counts of the store's contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// The number of watches in each state.
    pub watches: Vec<(WatchState, u64)>,
    /// The number of jobs that are due now.
    pub due_jobs: u64,
    /// The number of deliveries that are due now.
    pub due_deliveries: u64,
    /// The number of pending deliveries.
    pub pending_deliveries: u64,
    /// The number of dead deliveries that the store still holds.
    pub dead_deliveries: u64,
    /// The number of people whose jobs are due to be listed now.
    pub due_lists: u64,
    /// The number of active subscriptions.
    pub subscriptions: u64,
    /// The number of callback hosts that are paused now because they keep failing.
    pub paused_hosts: u64,
}
