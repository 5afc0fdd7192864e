//! How counts of what the relays did are stored.

use relay_domain::ActivityRow;

use crate::{StoreError, error::unwritable, rows::IdBytes};

/// What one relay did in one period, as the columns of `activity`.
#[derive(Debug)]
pub(crate) struct ActivityCells {
    pub(crate) scope: &'static str,
    pub(crate) since: i64,
    pub(crate) run: IdBytes,
    /// JSON
    pub(crate) counts: String,
}

/// Returns the rows of `activity` to write.
pub(crate) fn activity_cells(rows: &[ActivityRow]) -> Result<Vec<ActivityCells>, StoreError> {
    let cells = rows.iter().map(|row| {
        Ok(ActivityCells {
            scope: row.scope.as_str(),
            since: row.since.as_millisecond(),
            run: row.run,
            counts: serde_json::to_string(&row.tally).map_err(unwritable)?,
        })
    });
    cells.collect()
}
