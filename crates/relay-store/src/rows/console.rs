//! Reads failing hosts from rows.

use relay_domain::Attempt;

use crate::{
    FailingHost, HostFailure, StoreError,
    rows::{AnyRow, ColumnReader, attempts},
};

/// The number of a host's waiting deliveries among which the latest attempt is searched.
pub(crate) const ASKED: i64 = 20;

/// Returns a text that sorts after each text that begins with `prefix`, and before all other texts that sort after it.
pub(crate) fn prefix_upper_bound(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

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

/// Returns how the latest attempt of any of these events ended, if one was made.
pub(crate) fn latest_failure<R: AnyRow>(events: &[R]) -> Result<Option<HostFailure>, StoreError> {
    let mut latest: Option<Attempt> = None;
    for row in events {
        let made = attempts(&ColumnReader::of("events", "event_id", row))?;
        latest = latest
            .into_iter()
            .chain(made)
            .max_by_key(|attempt| attempt.started_at);
    }
    Ok(latest.map(|attempt| HostFailure {
        status: attempt.status,
        error: attempt.error,
    }))
}
