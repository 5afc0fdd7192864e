//! Decides when a callback host counts as failing, and for how long it is paused.

use relay_domain::{Attempt, AttemptError};
use std::time::Duration;

use crate::{
    AbandonedDelivery, StoreError,
    common::{AnyRow, ColumnReader},
};

/// The number of attempts in a row that must fail before a host is paused. A single event takes eight attempts in a
/// day, so one bad callback alone pauses no host.
pub(crate) const FAILURES: i64 = 10;

/// The first pause of a host. The pause doubles with each failed probe, [`DOUBLINGS`] times at most, so the longest
/// is 80 s. That is short compared with the waits between attempts, and long compared with a probe.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);
pub(crate) const DOUBLINGS: i64 = 4;

/// Whether an attempt shows that its host fails. Returns none if it says nothing about the host, such as after a
/// failure of the proxy or the relay itself. A response that refuses a single callback shows that the host works.
pub(crate) fn is_failing(attempt: &Attempt) -> Option<bool> {
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

/// Reads a delivery that was given up without another attempt.
pub(crate) fn given_up(row: &dyn AnyRow) -> Result<AbandonedDelivery, StoreError> {
    let cells = ColumnReader::of("deliveries", "delivery_id", row);
    Ok(AbandonedDelivery {
        delivery_id: cells.parse("delivery_id")?,
        event_id: cells.parse("event_id")?,
        watch_id: cells.parse("watch_id")?,
        job_id: cells.parse("job_id")?,
        host: cells.get("host")?,
    })
}
