//! Reads banks in a major outage from rows.

use relay_domain::{Bank, LeaseId};

use crate::{
    DueBank, StoreError,
    rows::{AnyRow, ColumnReader},
};

/// Reads a bank that was claimed under this lease.
pub(crate) fn due_bank(row: &dyn AnyRow, lease: LeaseId) -> Result<DueBank, StoreError> {
    let cells = ColumnReader::of("outages", "institution_id", row);
    let bank = Bank {
        institution_id: cells.get("institution_id")?,
        method: cells.get("method")?,
    };
    Ok(DueBank { bank, lease })
}
