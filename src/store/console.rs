//! What only the operator asks: watches found by whatever is known of them, and hosts that fail.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    domain::{AttemptError, WatchId},
    store::{StoreError, WatchDetails},
};

/// What only the operator asks: for the console.
#[async_trait]
pub trait ConsoleStore: Send + Sync {
    /// Watches with their details, newest first, of all clients.
    async fn search_watches(&self, search: &WatchSearch) -> Result<Vec<WatchDetails>, StoreError>;

    /// Callback hosts whose latest attempts failed, those that are paused longest first, at most so
    /// many.
    async fn list_failing_hosts(&self, limit: usize) -> Result<Vec<FailingHost>, StoreError>;
}

/// Which watches to find.
#[derive(Debug, Clone)]
pub struct WatchSearch {
    /// Basiq's id of the job, of the connection or of the person, or the callback's host.
    pub text: String,
    /// Only those older than this one.
    pub before: Option<WatchId>,
    /// At most so many.
    pub limit: usize,
}

/// A callback host whose latest attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingHost {
    /// Its name or address.
    pub host: String,
    /// Attempts in a row that failed.
    pub failures: u64,
    /// Until when it is left alone, which may be past; none if it was not paused.
    pub paused_until: Option<Timestamp>,
    /// Whether one attempt finds out just now whether it answers again.
    pub probing: bool,
    /// When the latest attempt failed.
    pub failed_at: Timestamp,
    /// Deliveries that wait for it, counted up to [`FailingHost::MOST_WAITING`].
    pub waiting: u64,
    /// How the latest attempt ended of those deliveries that wait longest; none if none was tried.
    pub last: Option<HostFailure>,
}

impl FailingHost {
    /// Waiting deliveries are counted up to here.
    pub const MOST_WAITING: u64 = 1000;
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFailure {
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<AttemptError>,
}
