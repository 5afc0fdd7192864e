//! Reads entries of the audit log from rows.

use relay_domain::{AuditAct, OperatorName};

use crate::{
    AuditEntry, StoreError,
    rows::{AnyRow, ColumnReader},
};

/// Reads an entry.
pub(crate) fn audit_entry(row: &dyn AnyRow) -> Result<AuditEntry, StoreError> {
    let cells = ColumnReader::of("audit", "audit_id", row);
    Ok(AuditEntry {
        id: cells.id("audit_id")?,
        at: cells.time("at")?,
        operator: OperatorName::recorded(cells.get("operator")?),
        act: cells.read("act", AuditAct::from_word)?,
        subject: cells.get("subject")?,
        from: cells.read_opt("peer", |text| text.parse().ok())?,
    })
}
