//! Reads failing hosts from rows.

use relay_domain::AttemptError;

use crate::{
    FailingHost, HostFailure, StoreError,
    rows::{AnyRow, ColumnReader},
};

/// The number of a host's waiting deliveries among which the latest attempt is searched.
pub(crate) const ASKED: i64 = 20;

/// Reads a failing host, without the result of its latest attempt.
pub(crate) fn failing_host(row: &dyn AnyRow) -> Result<FailingHost, StoreError> {
    let cells = ColumnReader::of("failing_hosts", "host", row);
    let paused = cells.get::<i64>("paused_until")? > 0;
    Ok(FailingHost {
        host: cells.get("host")?,
        failures: cells.number("failures")?,
        paused_until: cells.time_opt("paused_until")?.filter(|_| paused),
        probing: cells.get("probing")?,
        failed_at: cells.time("failed_at")?,
        waiting: cells.number("waiting")?,
        last: None,
    })
}

/// Reads how an attempt ended.
pub(crate) fn host_failure(row: &dyn AnyRow) -> Result<HostFailure, StoreError> {
    let cells = ColumnReader::of("attempts", "host", row);
    let status = cells.opt::<i64>("status")?;
    Ok(HostFailure {
        status: status.and_then(|status| u16::try_from(status).ok()),
        error: cells.read_opt("error", AttemptError::from_word)?,
    })
}
