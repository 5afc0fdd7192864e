//! Moves a relay's data from SQLite to PostgreSQL: all of it, or nothing.
//!
//! The rows come from one unchanging view of the file and are written in one transaction. About a thousand rows
//! are in memory at a time. The file is not changed. Leases are not moved: no relay runs on the file, so none of
//! its claims holds any more. Sealed secrets stay sealed with the same key.

mod batch;
mod source;
mod tables;
mod target;

use std::path::Path;

use futures_util::TryStreamExt;
use sqlx::{QueryBuilder, Sqlite};
use thiserror::Error;

use self::{
    batch::RowBatch,
    source::TransferSource,
    tables::{MovedTable, TABLES},
    target::TransferTarget,
};
use crate::{StoreError, postgres::PgStore};

/// Counts that are compared in addition to the rows of each table. In the file, they come from the rows. In the new
/// store, they are taken from the data that its relays use.
const MORE_COUNTS: [(&str, &str, &str); 2] = [
    (
        "open_watches",
        "SELECT count(*) FROM watches WHERE settled_at IS NULL",
        "SELECT coalesce(sum(n), 0)::bigint FROM watch_counts \
         WHERE state IN ('watching', 'awaiting-user', 'delayed')",
    ),
    (
        "pending_deliveries",
        "SELECT count(*) FROM events WHERE state = 'pending'",
        "SELECT count(*) FROM outbox",
    ),
];

/// Why nothing was moved.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The file does not have the tables of a relay.
    #[error("the file to move is no database of a relay")]
    NoRelay,
    /// The file lacks migrations that this version needs.
    #[error(
        "an older version wrote the file to move; `basiq-relay client list` on it with this version \
         brings its tables up to date"
    )]
    Older,
    /// The file has migrations that this version does not know.
    #[error("a newer version wrote the file to move; use that version")]
    Newer,
    /// The target is in use: this table has rows.
    #[error("the database to move to must be empty, and it has {0} already; nothing was changed")]
    NotEmpty(&'static str),
    /// Another process wrote to the file during the transfer.
    #[error("the file was changed while it was copied; nothing was moved, try again")]
    Changed,
    /// A row cannot be read or written.
    #[error("{table} cannot be copied; nothing was moved")]
    Uncopied {
        /// The table of the row.
        table: &'static str,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// One of the two databases failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The progress of a transfer.
#[derive(Debug, Clone, Copy)]
pub struct TransferProgress {
    /// The table that is being copied.
    pub table: &'static str,
    /// The number of rows copied so far.
    pub copied: u64,
    /// The number of rows in the table.
    pub of: u64,
}

/// A count that was taken in both stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCount {
    /// What was counted: a table, `open_watches` or `pending_deliveries`.
    pub name: &'static str,
    /// The count in the file.
    pub source: u64,
    /// The count in the new store.
    pub target: u64,
}

/// The result of a transfer. The transfer is committed if all counts are the same in both stores, and otherwise
/// rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferResult {
    /// The counts of both stores.
    pub counts: Vec<RowCount>,
}

impl TransferResult {
    /// Whether all counts are the same in both stores.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.counts.iter().all(|count| count.source == count.target)
    }
}

/// Moves all data of the relay in this file to an empty store, and counts the rows in both. No relay may run on
/// the file. Calls `progress` after each full batch of rows.
pub async fn transfer(
    from: &Path,
    to: &PgStore,
    progress: &mut (dyn FnMut(TransferProgress) + Send),
) -> Result<TransferResult, TransferError> {
    let mut source = TransferSource::open(from).await?;
    let mut target = TransferTarget::begin(to).await?;
    let mut counts = Vec::new();
    for table in &TABLES {
        let of = number(source.count(table.name).await?);
        let mut tell = |copied| {
            progress(TransferProgress {
                table: table.name,
                copied,
                of,
            });
        };
        let copied = copy(table, &mut source, &mut target, &mut tell).await;
        copied.map_err(|source| TransferError::Uncopied {
            table: table.name,
            source,
        })?;
        counts.push(RowCount {
            name: table.name,
            source: of,
            target: number(target.count(table.name).await?),
        });
    }
    for (name, in_source, in_target) in MORE_COUNTS {
        counts.push(RowCount {
            name,
            source: number(source.count_by(in_source).await?),
            target: number(target.count_by(in_target).await?),
        });
    }
    source.close().await?;
    let moved = TransferResult { counts };
    if moved.is_done() {
        target.commit().await?;
    } else {
        target.roll_back().await?;
    }
    Ok(moved)
}

/// Copies the rows of a table.
async fn copy(
    table: &'static MovedTable,
    source: &mut TransferSource,
    target: &mut TransferTarget,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<(), StoreError> {
    let mut select: QueryBuilder<Sqlite> = table.select();
    let mut rows = select.build().fetch(source.view());
    let mut batch = RowBatch::of(table);
    let mut copied = 0;
    while let Some(row) = rows.try_next().await? {
        batch.push(&row)?;
        if batch.is_full() {
            copied += batch.rows();
            target.add(&mut batch).await?;
            tell(copied);
        }
    }
    if batch.rows() > 0 {
        target.add(&mut batch).await?;
    }
    Ok(())
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
