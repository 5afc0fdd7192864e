//! What only the operator asks for: watches by any of their ids or their callback's host, the notices of a
//! subscription, hosts that fail, and dead deliveries that were chosen to be sent again.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, AttemptError, DeliveryId, SubscriptionId, WatchId};

use crate::{EventDetails, StoreError, WatchDetails};

/// The operator's queries, for the console.
#[async_trait]
pub trait ConsoleStore: Send + Sync {
    /// Returns the watches of all clients that match, with their details, newest first.
    async fn search_watches(&self, search: &WatchSearch) -> Result<Vec<WatchDetails>, StoreError>;

    /// Returns up to `limit` watches of all clients, newest first, for which one of these begins with `prefix`: the id
    /// of the job, of the connection or of the person, or the callback's host. If more match, it is not defined which
    /// of them are returned.
    async fn search_by_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<WatchDetails>, StoreError>;

    /// Returns those of these deliveries that can be queued again: they are dead, and none is overtaken by a newer event
    /// of its watch, or belongs to a cancelled watch or a revoked client.
    async fn filter_redeliverable(&self, ids: &[DeliveryId])
    -> Result<Vec<DeliveryId>, StoreError>;

    /// Queues again those of these deliveries that are [`filter_redeliverable`](Self::filter_redeliverable), all in one transaction,
    /// and returns their number. If at least one is queued, that is recorded in the audit log. `chosen` is the entry's
    /// subject: it says how the deliveries were chosen.
    async fn redeliver_chosen(
        &self,
        by: &Actor,
        ids: &[DeliveryId],
        chosen: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Returns up to `limit` notices of a subscription, newest first.
    async fn notices_of(
        &self,
        id: SubscriptionId,
        limit: usize,
    ) -> Result<Vec<EventDetails>, StoreError>;

    /// Returns up to `limit` callback hosts whose latest attempts failed. The host whose pause ends last comes first.
    async fn list_failing_hosts(&self, limit: usize) -> Result<Vec<FailingHost>, StoreError>;
}

/// Which watches to find on the console.
#[derive(Debug, Clone)]
pub struct WatchSearch {
    /// Basiq's id of the job, of the connection or of the person, or the callback's host.
    pub text: String,
    /// Only watches older than this one.
    pub before: Option<WatchId>,
    /// The maximum number of watches to return.
    pub limit: usize,
}

/// A callback host whose latest attempt failed, for the console. After ten failures in a row it is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingHost {
    /// The host's name or address.
    pub host: String,
    /// The number of failed attempts in a row.
    pub failures: u64,
    /// The end of the host's pause, which may be in the past; none if the host was not paused.
    pub paused_until: Option<Timestamp>,
    /// Whether a probe is in flight: one attempt that finds out whether the host answers again.
    pub probing: bool,
    /// When the latest attempt failed.
    pub failed_at: Timestamp,
    /// The number of deliveries that wait for the host, counted up to [`FailingHost::MOST_WAITING`].
    pub waiting: u64,
    /// How the latest attempt ended, among the deliveries that have longest to wait; none if none was tried.
    pub last: Option<HostFailure>,
}

impl FailingHost {
    /// The number up to which waiting deliveries are counted.
    pub const MOST_WAITING: u64 = 1000;
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFailure {
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// Why the attempt failed.
    pub error: Option<AttemptError>,
}
