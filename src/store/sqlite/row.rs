//! Reads columns, and says which row is wrong when one does not hold what was written.

use std::str::FromStr;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::{Decode, Row, Sqlite, Type, sqlite::SqliteRow};

use crate::store::StoreError;

/// The columns of one row of a table.
#[derive(Clone, Copy)]
pub(super) struct Cells<'r> {
    row: &'r SqliteRow,
    table: &'static str,
    key: &'static str,
}

impl<'r> Cells<'r> {
    /// The row's columns that belong to `table`, whose rows are named by the text column `key`.
    pub(super) fn of(table: &'static str, key: &'static str, row: &'r SqliteRow) -> Self {
        Self { row, table, key }
    }

    /// A column as SQLite has it.
    pub(super) fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        self.row.try_get(column).map_err(|_| self.bad(column))
    }

    /// Text that means something.
    pub(super) fn read<T>(
        &self,
        column: &'static str,
        meaning: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        meaning(self.get(column)?).ok_or_else(|| self.bad(column))
    }

    /// Text that means something, or nothing.
    pub(super) fn read_opt<T>(
        &self,
        column: &'static str,
        meaning: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        match self.get::<Option<&str>>(column)? {
            None => Ok(None),
            Some(text) => meaning(text).map(Some).ok_or_else(|| self.bad(column)),
        }
    }

    /// Text with a written form of its own, such as an id.
    pub(super) fn parse<T: FromStr>(&self, column: &'static str) -> Result<T, StoreError> {
        self.read(column, |text| text.parse().ok())
    }

    /// JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        self.read(column, |text| serde_json::from_str(text).ok())
    }

    /// JSON, or nothing.
    pub(super) fn json_opt<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.read_opt(column, |text| serde_json::from_str(text).ok())
    }

    /// A whole number of a narrower kind.
    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        T::try_from(self.get(column)?).map_err(|_| self.bad(column))
    }

    /// A time.
    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.time_opt(column)?.ok_or_else(|| self.bad(column))
    }

    /// A time, or none.
    pub(super) fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        self.get::<Option<i64>>(column)?
            .map(|millis| Timestamp::from_millisecond(millis).map_err(|_| self.bad(column)))
            .transpose()
    }

    /// The error that this column is not as it was written.
    pub(super) fn bad(&self, column: &'static str) -> StoreError {
        StoreError::Inconsistent {
            table: self.table,
            column,
            row: self
                .row
                .try_get(self.key)
                .unwrap_or_else(|_| "?".to_owned()),
        }
    }
}

/// Ids as the JSON array that statements take lists in.
pub(super) fn json_list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts = items.into_iter().map(|item| item.to_string().into());
    serde_json::Value::Array(texts.collect()).to_string()
}

/// A count for a column or a `LIMIT`.
pub(super) fn int(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
