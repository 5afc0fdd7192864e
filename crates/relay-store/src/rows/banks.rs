//! Reads banks in a major outage from rows.

use relay_domain::{Bank, LeaseId};

use crate::{
    DueBank, StoreError,
    rows::{AnyRow, ColumnReader},
};

/// Reads banks that were claimed under this lease.
pub(crate) fn due_banks<R: AnyRow>(rows: &[R], lease: LeaseId) -> Result<Vec<DueBank>, StoreError> {
    let claimed = rows.iter().map(|row| {
        let cells = ColumnReader::of("outages", "institution_id", row);
        let bank = Bank {
            institution_id: cells.get("institution_id")?,
            method: cells.get("method")?,
        };
        Ok(DueBank { bank, lease })
    });
    claimed.collect()
}
