//! When a callback host fails, and for how long it is paused.

use std::time::Duration;

use crate::{
    domain::{Attempt, AttemptError},
    store::{
        AbandonedDelivery, StoreError,
        common::{AnyRow, ColumnReader},
    },
};

/// So many attempts in a row must have failed before a host is paused. A single event takes eight
/// attempts in a day, so that one bad callback alone pauses nobody.
pub(in crate::store) const FAILURES: i64 = 10;

/// The first pause, which doubles with each vain probe, and how often it does. The longest is 80 s:
/// short against the waits between attempts, and long against the time a probe takes.
pub(in crate::store) const PAUSE: Duration = Duration::from_secs(5);
pub(in crate::store) const DOUBLINGS: i64 = 4;

/// Whether an attempt shows that its host fails; nothing is known where the relay did not ask it.
/// An answer that refuses one callback says that the host works.
pub(in crate::store) fn is_failing(attempt: &Attempt) -> Option<bool> {
    if let Some(status) = attempt.status {
        return Some(status >= 500);
    }
    let asked = attempt.error.is_some_and(|error| {
        !matches!(
            error,
            AttemptError::Internal
                | AttemptError::AddressRefused
                | AttemptError::Proxy
                | AttemptError::NoResources
        )
    });
    asked.then_some(true)
}

/// A delivery that was given up without another attempt.
pub(in crate::store) fn given_up(row: &dyn AnyRow) -> Result<AbandonedDelivery, StoreError> {
    let cells = ColumnReader::of("deliveries", "delivery_id", row);
    Ok(AbandonedDelivery {
        delivery_id: cells.parse("delivery_id")?,
        event_id: cells.parse("event_id")?,
        watch_id: cells.parse("watch_id")?,
        job_id: cells.parse("job_id")?,
        host: cells.get("host")?,
    })
}
