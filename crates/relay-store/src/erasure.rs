//! Erasure: deletes what the store holds about a person or a connection.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, AuditAct, BasiqId};

use crate::{
    StoreError,
    audit::{AuditEntry, AuditedAct},
};

/// Deletes all that the relay knows of a person or a connection, when an operator asks for it.
#[async_trait]
pub trait ErasureStore: Send + Sync {
    /// Deletes the watches, events, subscriptions, notices and forwarded messages of all clients that are about this
    /// person or connection, in one transaction.
    ///
    /// A job's person is known only after the first look at it. So the store remembers a hash of the erased id. A look
    /// that shows that an older watch is about this id deletes that watch, and stores nothing else. Results of calls
    /// that were in flight during the erasure are dropped. The audit log keeps the id.
    async fn erase(
        &self,
        subject: &ErasureSubject,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ErasureCounts, StoreError>;
}

/// Whose data is erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureSubject {
    /// The user with this id at Basiq, with all known connections of the user.
    User(BasiqId),
    /// The connection with this id at Basiq.
    Connection(BasiqId),
}

/// How much an erasure deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErasureCounts {
    /// The number of watches.
    pub watches: u64,
    /// The number of subscriptions.
    pub subscriptions: u64,
    /// The number of events of watches.
    pub events: u64,
    /// The number of notices, which are events of subscriptions.
    pub notices: u64,
    /// The number of Basiq's webhooks that were stored to be passed on.
    pub messages: u64,
}

impl ErasureSubject {
    /// Makes the entry of the audit log for an erasure.
    pub(crate) fn act(&self, actor: &Actor, now: Timestamp) -> AuditedAct<ErasureCounts> {
        let subject = match self {
            Self::User(id) => format!("user:{id}"),
            Self::Connection(id) => format!("connection:{id}"),
        };
        AuditedAct::always(AuditEntry::new(actor, AuditAct::Erased, subject, now))
    }
}
