//! Hints of Basiq's that something changed: each counts once, and makes watched jobs due.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::store::StoreError;

/// Hints: for the API.
#[async_trait]
pub trait HintStore: Send + Sync {
    /// Remembers a hint and makes the open jobs that it is about due, in one transaction. A hint
    /// that was taken before changes nothing. A job is due by hints at most once an interval: a
    /// further hint makes it due when the interval is over.
    async fn take_hint(&self, hint: Hint) -> Result<HintOutcome, StoreError>;
}

/// A hint that something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Basiq's id of the message, the same however often it is sent.
    pub id: String,
    /// What it is about.
    pub subject: HintSubject,
    /// When it came.
    pub at: Timestamp,
    /// How long looks at one job that follow from hints are apart at least.
    pub interval: Duration,
}

/// What a hint is about: ids of Basiq's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintSubject {
    /// One connection; and jobs of its user, if that is known, that do not tell their connection.
    Connection {
        /// The connection.
        connection_id: String,
        /// Its user.
        user_id: Option<String>,
    },
    /// All jobs of a user.
    User(String),
}

/// What became of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintOutcome {
    /// It was taken before.
    Again,
    /// It is new, and so many watched jobs are due by it.
    Due(u64),
}
