//! Pauses of callback hosts by operators, and the reasons why a host is paused now.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, OperatorName};

use crate::StoreError;

/// Pauses of callback hosts by hand, for the operator. A pause lasts until an operator resumes the host, and all relays
/// on the store keep it. Meanwhile only events with a deadline are posted to the host, as during the pause of a host
/// that keeps failing.
#[async_trait]
pub trait HostPauseStore: Send + Sync {
    /// Pauses a host until it is resumed, and records that in the audit log. Returns false if an operator had paused it
    /// already: then nothing changes.
    async fn pause_host(&self, by: &Actor, host: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// Ends an operator's pause of a host, and records that in the audit log. If the host keeps failing as well, that
    /// pause ends too, so that one attempt finds out whether it answers. Returns false if no operator had paused it:
    /// then nothing changes.
    async fn resume_host(&self, by: &Actor, host: &str, now: Timestamp)
    -> Result<bool, StoreError>;

    /// Returns up to `limit` hosts that operators paused, the latest pause first.
    async fn list_manual_pauses(&self, limit: usize) -> Result<Vec<ManualPause>, StoreError>;

    /// Returns those of these hosts that are paused now, for whatever reason.
    async fn pauses_of(&self, hosts: &[&str], now: Timestamp)
    -> Result<Vec<HostPause>, StoreError>;
}

/// A callback host that an operator paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualPause {
    /// The host's name or address.
    pub host: String,
    /// When the operator paused it.
    pub paused_at: Timestamp,
    /// The operator.
    pub paused_by: OperatorName,
    /// The number of deliveries that wait for the host, counted up to [`crate::FailingHost::MOST_WAITING`].
    pub waiting: u64,
}

/// Why a callback host is paused now, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPause {
    /// The host's name or address.
    pub host: String,
    /// The end of the pause that the relay made because the host keeps failing. None if there is no such pause.
    pub until: Option<Timestamp>,
    /// The operator who paused the host, and when. None if no operator did.
    pub by: Option<(OperatorName, Timestamp)>,
}
