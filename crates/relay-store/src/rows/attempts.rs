//! Attempts as an event's row keeps them: a JSON list, the latest last.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{Attempt, AttemptError, LeaseId};
use serde::{Deserialize, Serialize};

use crate::{StoreError, rows::ColumnReader};

/// The most attempts that an event keeps: the latest ones. A round of the schedule has eight, so these are four rounds.
const MOST_ATTEMPTS: usize = 32;

/// An attempt in the list of its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredAttempt {
    pub(crate) number: u32,
    /// The claim under which the attempt was made. An attempt is recorded once for each claim.
    pub(crate) lease_id: LeaseId,
    /// Milliseconds since 1970.
    started_at: i64,
    /// Milliseconds.
    duration: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response: Option<String>,
}

impl StoredAttempt {
    /// Makes the list's form of an attempt.
    pub(crate) fn of(attempt: &Attempt, number: u32, lease_id: LeaseId) -> Self {
        Self {
            number,
            lease_id,
            started_at: attempt.started_at.as_millisecond(),
            duration: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            status: attempt.status,
            error: attempt.error.map(|error| error.as_str().to_owned()),
            error_detail: attempt.error_detail.clone(),
            response: attempt.response.clone(),
        }
    }

    /// Returns the list with another attempt at its end, without the oldest ones if it is too long.
    pub(crate) fn list<'a>(before: &'a [Self], made: Option<&'a Self>) -> Vec<&'a Self> {
        let attempts: Vec<_> = before.iter().chain(made).collect();
        let oldest = attempts.len().saturating_sub(MOST_ATTEMPTS);
        attempts.into_iter().skip(oldest).collect()
    }

    /// Returns the attempt. None if it does not hold what the relay writes.
    fn attempt(self) -> Option<Attempt> {
        Some(Attempt {
            number: self.number,
            started_at: Timestamp::from_millisecond(self.started_at).ok()?,
            duration: Duration::from_millis(self.duration),
            status: self.status,
            error: match self.error {
                None => None,
                Some(word) => Some(AttemptError::from_word(&word)?),
            },
            error_detail: self.error_detail,
            response: self.response,
        })
    }
}

/// Reads the attempts of an event, oldest first.
pub(crate) fn attempts(event: &ColumnReader<'_>) -> Result<Vec<Attempt>, StoreError> {
    let stored: Vec<StoredAttempt> = event.json("attempts")?;
    let attempts: Option<Vec<_>> = stored.into_iter().map(StoredAttempt::attempt).collect();
    attempts.ok_or_else(|| event.bad("attempts"))
}
