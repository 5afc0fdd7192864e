//! The audit log: what operators did, who, when and from where. Entries are only added.
//!
//! An act that changes the store is recorded in the transaction that makes the change: both stores take an
//! [`AuditedAct`] with the unit of work. Other acts, such as log-ins, are recorded by [`AuditStore::record_act`].

use std::net::IpAddr;

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, AuditAct, AuditId, OperatorName, Requester};
use tracing::info;

use crate::StoreError;

/// The subject of an act on all clients.
pub(crate) const ALL_CLIENTS: &str = "all clients";

/// The audit log, for the operator.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Records an act that changes nothing else in the store.
    async fn record_act(&self, entry: AuditEntry) -> Result<(), StoreError>;

    /// Returns entries, newest first, at most `query.limit` of them.
    async fn list_acts(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError>;

    /// Deletes up to `limit` entries from before `before`, oldest first, and returns how many it deleted. Deletes none
    /// if the database does not grant the relay that right.
    async fn purge_acts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// One line of the audit log: which operator did what, when, to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The id of the entry. Ids sort by time.
    pub id: AuditId,
    /// When the act was done.
    pub at: Timestamp,
    /// Who did it.
    pub operator: OperatorName,
    /// The act.
    pub act: AuditAct,
    /// What it was done to: an id or a name, never a secret.
    pub subject: String,
    /// The address of the peer that asked for it. None for commands and signals.
    pub from: Option<IpAddr>,
}

impl AuditEntry {
    /// Makes the entry of an act that is done now.
    #[must_use]
    pub fn new(actor: &Actor, act: AuditAct, subject: impl Into<String>, now: Timestamp) -> Self {
        Self {
            id: AuditId::new(now),
            at: now,
            operator: actor.operator.clone(),
            act,
            subject: subject.into(),
            from: actor.from,
        }
    }

    /// Makes the entry of an act if an operator does it. A client's own acts are not recorded.
    pub(crate) fn of_requester(
        requester: &Requester,
        act: AuditAct,
        subject: impl Into<String>,
        now: Timestamp,
    ) -> Option<Self> {
        let actor = requester.operator()?;
        Some(Self::new(actor, act, subject, now))
    }

    /// Logs the entry. Both stores call this after the commit.
    pub(crate) fn log(&self) {
        info!(
            target: "audit",
            act = self.act.as_str(),
            audit.id = %self.id,
            operator.name = self.operator.as_str(),
            subject = self.subject,
            peer = self.from.map(tracing::field::display),
            "recorded in the audit log"
        );
    }
}

/// Which entries to list.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only acts of this operator.
    pub operator: Option<OperatorName>,
    /// Only acts of this kind.
    pub act: Option<AuditAct>,
    /// Only entries older than this one.
    pub before: Option<AuditId>,
    /// The maximum number of entries to return.
    pub limit: usize,
}

/// The act that a unit of work does, and how the result of the work shows whether it was done.
pub(crate) struct AuditedAct<T> {
    entry: Option<AuditEntry>,
    is_done: fn(&T) -> bool,
}

impl<T> AuditedAct<T> {
    /// Makes an act that is recorded if `is_done` accepts the result of the work. Without an entry, nothing is
    /// recorded.
    pub(crate) fn new(entry: impl Into<Option<AuditEntry>>, is_done: fn(&T) -> bool) -> Self {
        Self {
            entry: entry.into(),
            is_done,
        }
    }

    /// Makes an act that is always recorded.
    pub(crate) fn always(entry: impl Into<Option<AuditEntry>>) -> Self {
        Self::new(entry, |_| true)
    }

    /// Makes no act: nothing is recorded.
    pub(crate) fn none() -> Self {
        Self::always(None)
    }

    /// Returns the entry to record, given the result of the work.
    pub(crate) fn entry_for(&self, done: &T) -> Option<&AuditEntry> {
        self.entry.as_ref().filter(|_| (self.is_done)(done))
    }

    /// Logs the act after the commit, if it was recorded.
    pub(crate) fn log(&self, done: &T) {
        if let Some(entry) = self.entry_for(done) {
            entry.log();
        }
    }
}
