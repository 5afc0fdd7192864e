//! Reads pauses of callback hosts from rows.

use relay_domain::OperatorName;

use crate::{
    HostPause, ManualPause, StoreError,
    rows::{AnyRow, ColumnReader},
};

/// Reads a pause that an operator made.
pub(crate) fn manual_pause(row: &dyn AnyRow) -> Result<ManualPause, StoreError> {
    let cells = ColumnReader::of("manual_pauses", "host", row);
    Ok(ManualPause {
        host: cells.get("host")?,
        paused_at: cells.time("paused_at")?,
        paused_by: OperatorName::recorded(cells.get("paused_by")?),
        waiting: cells.number("waiting")?,
    })
}

/// Reads why a host is paused.
pub(crate) fn host_pause(row: &dyn AnyRow) -> Result<HostPause, StoreError> {
    let cells = ColumnReader::of("manual_pauses", "host", row);
    let by: Option<&str> = cells.opt("paused_by")?;
    let since = cells.time_opt("paused_at")?;
    Ok(HostPause {
        host: cells.get("host")?,
        until: cells.time_opt("paused_until")?,
        by: by.map(OperatorName::recorded).zip(since),
    })
}
