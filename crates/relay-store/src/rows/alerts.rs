//! Reads remembered alerts from rows.

use crate::{
    StoreError, ToldAlert,
    rows::{AnyRow, ColumnReader},
};

/// Reads an alert.
pub(crate) fn told_alert(row: &dyn AnyRow) -> Result<ToldAlert, StoreError> {
    let cells = ColumnReader::of("alerts", "kind", row);
    Ok(ToldAlert {
        kind: cells.get("kind")?,
        subject: cells.get("subject")?,
        since: cells.time("since")?,
    })
}
