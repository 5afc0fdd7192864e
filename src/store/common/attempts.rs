//! What an attempt means for its delivery.

use jiff::Timestamp;

use crate::{
    domain::DeliveryState,
    store::{
        AfterAttempt, AttemptResult, StoreError,
        common::{AnyRow, Cells},
    },
};

/// A delivery as an attempt finds it when it is recorded.
pub(in crate::store) struct Found {
    pub(in crate::store) watch_id: String,
    pub(in crate::store) host: String,
    pub(in crate::store) job_id: String,
    state: DeliveryState,
    next_attempt_at: Option<Timestamp>,
    /// Whether the attempt's claim still holds.
    held: bool,
    /// Whether this attempt was recorded before.
    pub(in crate::store) known: bool,
}

impl Found {
    /// The delivery of an attempt's result.
    pub(in crate::store) fn read(
        row: &dyn AnyRow,
        result: &AttemptResult,
    ) -> Result<Self, StoreError> {
        let cells = Cells::of("deliveries", "delivery_id", row);
        let lease: Option<&str> = cells.opt("lease_id")?;
        Ok(Self {
            watch_id: cells.get("watch_id")?,
            host: cells.get("host")?,
            job_id: cells.get("job_id")?,
            state: cells.read("state", DeliveryState::from_word)?,
            next_attempt_at: cells.time_opt("next_attempt_at")?,
            held: lease == Some(result.lease.to_string().as_str()),
            known: cells.get("known")?,
        })
    }
}

/// Where a delivery stands after an attempt, and when it is tried next.
pub(in crate::store) fn after(
    found: &Found,
    next: AfterAttempt,
) -> (DeliveryState, Option<Timestamp>) {
    let may_schedule = found.held && found.state == DeliveryState::Pending;
    match next {
        AfterAttempt::Delivered => (DeliveryState::Delivered, None),
        AfterAttempt::RetryAt(at) if may_schedule => (DeliveryState::Pending, Some(at)),
        AfterAttempt::Dead if may_schedule => (DeliveryState::Dead, None),
        AfterAttempt::Expired if may_schedule => (DeliveryState::Expired, None),
        AfterAttempt::RetryAt(_)
        | AfterAttempt::Dead
        | AfterAttempt::Expired
        | AfterAttempt::Gone => (found.state, found.next_attempt_at),
    }
}

/// When an attempt ended; a delivery that spoiled before any was made ended when it was due.
pub(in crate::store) fn ended_at(result: &AttemptResult, found: &Found) -> Timestamp {
    let Some(attempt) = &result.attempt else {
        return found.next_attempt_at.unwrap_or(Timestamp::UNIX_EPOCH);
    };
    let ended_at = attempt.started_at.checked_add(attempt.duration);
    ended_at.unwrap_or(attempt.started_at)
}
