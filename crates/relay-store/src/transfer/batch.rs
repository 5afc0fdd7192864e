//! Batches of rows: read from SQLite one by one, written to PostgreSQL many at a time.

use std::mem;

use sqlx::{Postgres, QueryBuilder, sqlite::SqliteRow};

use crate::{
    StoreError,
    postgres::plain,
    rows::ColumnReader,
    transfer::tables::{ColumnKind, MovedColumn, MovedTable},
};

/// The maximum number of rows in one statement.
const ROWS: usize = 1000;

/// The number of bytes at which a batch is full. The last row may exceed it, because rows differ in size.
const BYTES: usize = 4 << 20;

/// Rows of one table, as columns.
#[derive(Debug)]
pub(super) struct RowBatch {
    table: &'static MovedTable,
    columns: Vec<(MovedColumn, Values)>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Values {
    Text(Vec<Option<String>>),
    Whole(Vec<Option<i64>>),
    Flag(Vec<Option<bool>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl RowBatch {
    /// Returns an empty batch for this table.
    pub(super) fn of(table: &'static MovedTable) -> Self {
        let columns = table.columns.iter();
        Self {
            table,
            columns: columns
                .map(|column| (*column, Values::none(column.kind)))
                .collect(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Returns the number of rows.
    pub(super) fn rows(&self) -> u64 {
        u64::try_from(self.rows).unwrap_or(u64::MAX)
    }

    /// Whether the batch should be written now.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS || self.bytes >= BYTES
    }

    /// Adds a row that [`MovedTable::select`] read.
    pub(super) fn push(&mut self, row: &SqliteRow) -> Result<(), StoreError> {
        let cells = ColumnReader::of(self.table.name, self.table.key, row);
        for (column, values) in &mut self.columns {
            self.bytes += values.push(cells, column.name)?;
        }
        self.rows += 1;
        Ok(())
    }

    /// Returns the statement that writes the rows, and empties the batch.
    pub(super) fn insert(&mut self) -> QueryBuilder<Postgres> {
        let mut statement = QueryBuilder::new("INSERT INTO ");
        statement.push(self.table.name).push(" (");
        let mut names = statement.separated(", ");
        for (column, _) in &self.columns {
            names.push(column.name);
        }
        statement.push(if self.table.is_numbered {
            ") OVERRIDING SYSTEM VALUE SELECT * FROM unnest("
        } else {
            ") SELECT * FROM unnest("
        });
        let mut lists = statement.separated(", ");
        for (column, values) in &mut self.columns {
            match mem::replace(values, Values::none(column.kind)) {
                Values::Text(texts) => lists.push_bind(texts),
                Values::Whole(numbers) => lists.push_bind(numbers),
                Values::Flag(flags) => lists.push_bind(flags),
                Values::Bytes(bytes) => lists.push_bind(bytes),
            };
            lists.push_unseparated(column.kind.list());
        }
        statement.push(")");
        (self.rows, self.bytes) = (0, 0);
        statement
    }
}

impl ColumnKind {
    /// Returns the SQL cast to an array of this type.
    fn list(self) -> &'static str {
        match self {
            Self::Text => "::text[]",
            Self::Whole => "::bigint[]",
            Self::Flag => "::boolean[]",
            Self::Bytes => "::bytea[]",
        }
    }
}

impl Values {
    fn none(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Text => Self::Text(Vec::new()),
            ColumnKind::Whole => Self::Whole(Vec::new()),
            ColumnKind::Flag => Self::Flag(Vec::new()),
            ColumnKind::Bytes => Self::Bytes(Vec::new()),
        }
    }

    /// Adds one value of a row, and returns its size in bytes.
    fn push(&mut self, cells: ColumnReader<'_>, column: &'static str) -> Result<usize, StoreError> {
        match self {
            Self::Text(texts) => {
                let text = cells.opt::<&str>(column)?.map(plain);
                let bytes = text.as_ref().map_or(0, String::len);
                texts.push(text);
                Ok(bytes)
            }
            Self::Whole(numbers) => {
                numbers.push(cells.opt(column)?);
                Ok(size_of::<i64>())
            }
            Self::Flag(flags) => {
                flags.push(cells.opt(column)?);
                Ok(size_of::<bool>())
            }
            Self::Bytes(list) => {
                let bytes = cells.opt::<&[u8]>(column)?;
                list.push(bytes.map(<[u8]>::to_vec));
                Ok(bytes.map_or(0, <[u8]>::len))
            }
        }
    }
}
