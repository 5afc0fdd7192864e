//! Reads counts of what the relays did.

use relay_domain::{ActivityRow, ActivityScope};

use crate::{
    StoreError,
    rows::{AnyRow, ColumnReader},
};

/// Reads one row of `activity`.
pub(crate) fn activity_row(row: &dyn AnyRow) -> Result<ActivityRow, StoreError> {
    let cells = ColumnReader::of("activity", "scope", row);
    Ok(ActivityRow {
        scope: cells.read("scope", ActivityScope::from_word)?,
        since: cells.time("since")?,
        run: cells.id("run")?,
        tally: cells.json("counts")?,
    })
}
