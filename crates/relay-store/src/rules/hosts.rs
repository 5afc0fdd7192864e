//! Decides when a callback host counts as failing, and for how long it is paused.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use relay_domain::{Attempt, AttemptError, EventId};
use tracing::{info, warn};

use crate::{
    AbandonedDelivery, StoreError,
    rows::{AnyRow, ColumnReader, IdBytes, source},
    rules::HostOutcome,
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
    let cells = ColumnReader::of("events", "event_id", row);
    let event_id: EventId = cells.id("event_id")?;
    Ok(AbandonedDelivery {
        delivery_id: event_id.into(),
        event_id,
        source: source(&cells)?,
        host: cells.get("host")?,
    })
}

/// Reads the id of an event's source.
pub(crate) fn source_id<R: AnyRow>(row: &R) -> Result<IdBytes, StoreError> {
    ColumnReader::of("outbox", "source_id", row).id("source_id")
}

/// Returns the hosts whose earlier failures no longer count: those that answered now, or are forgiven.
pub(crate) fn recovered<'r>(outcomes: &BTreeMap<&'r str, HostOutcome>) -> Vec<&'r str> {
    let recovered = outcomes
        .iter()
        .filter(|(_, outcome)| (outcome.answered && outcome.had_failed) || outcome.clears_failures);
    recovered.map(|(host, _)| *host).collect()
}

/// Logs that a host is paused after a failed attempt. Logs nothing if the host was never paused.
pub(crate) fn log_pause(
    failing: &dyn AnyRow,
    host: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let cells = ColumnReader::of("failing_hosts", "host", failing);
    let (failures, pauses): (i64, i64) = (cells.get("failures")?, cells.get("pauses")?);
    let left = cells.get::<i64>("paused_until")? - now.as_millisecond();
    if pauses > 0 {
        let pause = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        warn!(
            callback.host = host,
            failures,
            ?pause,
            "a host keeps failing and is paused"
        );
    }
    Ok(())
}

/// Logs that the pause of a host ended, if it was paused before.
pub(crate) fn log_recovery(
    forgotten: &dyn AnyRow,
    outcomes: &BTreeMap<&str, HostOutcome>,
) -> Result<(), StoreError> {
    let cells = ColumnReader::of("failing_hosts", "host", forgotten);
    let host: &str = cells.get("host")?;
    let has_answered = outcomes.get(host).is_some_and(|outcome| outcome.answered);
    match (cells.get::<i64>("pauses")?, has_answered) {
        (0, _) => {}
        (_, true) => info!(callback.host = host, "a host that was paused answers again"),
        (_, false) => info!(callback.host = host, "a host is paused no longer"),
    }
    Ok(())
}
