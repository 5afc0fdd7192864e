//! Basiq's hints that something changed. Each hint counts once, and makes watched jobs due.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreError;

/// Hints, for the API.
#[async_trait]
pub trait HintStore: Send + Sync {
    /// Remembers a hint and makes its open jobs due, in one transaction. A hint that was taken before changes
    /// nothing. Hints make a job due at most once in each interval. A further hint makes the job due at the end of
    /// the interval.
    async fn take_hint(&self, hint: Hint) -> Result<HintOutcome, StoreError>;
}

/// A hint that something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Basiq's id of the message. It is the same each time Basiq sends the message again.
    pub id: String,
    /// The subject of the hint.
    pub subject: HintSubject,
    /// When the hint arrived.
    pub at: Timestamp,
    /// The minimum time between two looks at one job that follow from hints.
    pub interval: Duration,
}

/// The subject of a hint, by Basiq's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintSubject {
    /// One connection. If its user is known, this includes jobs of the user that name no connection.
    Connection {
        /// Basiq's id of the connection.
        connection_id: String,
        /// Basiq's id of the user.
        user_id: Option<String>,
    },
    /// All jobs of a user, by Basiq's id.
    User(String),
}

/// The result of taking a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintOutcome {
    /// The hint was taken before.
    Again,
    /// The hint is new, and this many watched jobs are due because of it.
    Due(u64),
}
