//! The problems that operators were told of, until they are told that these are over.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreError;

/// Remembers alerts. So a relay that starts, or takes over from another, can tell operators that a problem is over.
#[async_trait]
pub trait AlertStore: Send + Sync {
    /// Remembers that operators were told of a problem. Replaces the time of a problem that is remembered already.
    async fn remember_alert(&self, told: &ToldAlert) -> Result<(), StoreError>;

    /// Forgets a problem, because operators were told that it is over.
    async fn forget_alert(&self, told: &ToldAlert) -> Result<(), StoreError>;

    /// Returns all problems that are remembered.
    async fn list_told_alerts(&self) -> Result<Vec<ToldAlert>, StoreError>;
}

/// A problem that operators were told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldAlert {
    /// The word for the kind of problem.
    pub kind: String,
    /// The callback host, or the relay that told of what it alone sees. Empty if there is one problem of this kind at
    /// most.
    pub subject: String,
    /// When the problem began.
    pub since: Timestamp,
}
