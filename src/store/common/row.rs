//! Reads columns of rows, whichever database they come from, and names what cannot be read.

use std::{str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::store::StoreError;

/// A column is of another type than what it was written with.
pub(in crate::store) struct WrongType;

/// A row of a database: its columns by name. None is NULL.
pub(in crate::store) trait AnyRow: Sync {
    fn text(&self, column: &str) -> Result<Option<&str>, WrongType>;
    fn whole(&self, column: &str) -> Result<Option<i64>, WrongType>;
    fn flag(&self, column: &str) -> Result<Option<bool>, WrongType>;
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, WrongType>;
}

/// What a column can hold.
pub(in crate::store) trait ColumnValue<'r>: Sized {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongType>;
}

impl<'r> ColumnValue<'r> for &'r str {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongType> {
        row.text(column)
    }
}

impl<'r> ColumnValue<'r> for String {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongType> {
        Ok(row.text(column)?.map(ToOwned::to_owned))
    }
}

impl<'r> ColumnValue<'r> for i64 {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongType> {
        row.whole(column)
    }
}

impl<'r> ColumnValue<'r> for bool {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongType> {
        row.flag(column)
    }
}

impl<'r> ColumnValue<'r> for &'r [u8] {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongType> {
        row.bytes(column)
    }
}

/// The columns of one row of a table.
#[derive(Clone, Copy)]
pub(in crate::store) struct ColumnReader<'r> {
    row: &'r dyn AnyRow,
    table: &'static str,
    key: &'static str,
}

impl<'r> ColumnReader<'r> {
    /// The row's columns that belong to `table`, whose rows are named by the text column `key`.
    pub(in crate::store) fn of(
        table: &'static str,
        key: &'static str,
        row: &'r dyn AnyRow,
    ) -> Self {
        Self { row, table, key }
    }

    /// A column, which is never NULL.
    pub(in crate::store) fn get<T: ColumnValue<'r>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.opt(column)?.ok_or_else(|| self.bad(column))
    }

    /// A column, or none if it is NULL.
    pub(in crate::store) fn opt<T: ColumnValue<'r>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        T::of(self.row, column).map_err(|WrongType| self.bad(column))
    }

    /// Text that means something.
    pub(in crate::store) fn read<T>(
        &self,
        column: &'static str,
        meaning: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        meaning(self.get::<&str>(column)?).ok_or_else(|| self.bad(column))
    }

    /// Text that means something, or nothing.
    pub(in crate::store) fn read_opt<T>(
        &self,
        column: &'static str,
        meaning: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        match self.opt::<&str>(column)? {
            None => Ok(None),
            Some(text) => meaning(text).map(Some).ok_or_else(|| self.bad(column)),
        }
    }

    /// Text with a written form of its own, such as an id.
    pub(in crate::store) fn parse<T: FromStr>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.read(column, |text| text.parse().ok())
    }

    /// JSON.
    pub(in crate::store) fn json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.read(column, |text| serde_json::from_str(text).ok())
    }

    /// JSON, or nothing.
    pub(in crate::store) fn json_opt<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.read_opt(column, |text| serde_json::from_str(text).ok())
    }

    /// A whole number of a narrower kind.
    pub(in crate::store) fn number<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        T::try_from(self.get::<i64>(column)?).map_err(|_| self.bad(column))
    }

    /// A time.
    pub(in crate::store) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.time_opt(column)?.ok_or_else(|| self.bad(column))
    }

    /// A time, or none.
    pub(in crate::store) fn time_opt(
        &self,
        column: &'static str,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.opt::<i64>(column)?
            .map(|millis| Timestamp::from_millisecond(millis).map_err(|_| self.bad(column)))
            .transpose()
    }

    /// The error that this column is not as it was written.
    pub(in crate::store) fn bad(&self, column: &'static str) -> StoreError {
        StoreError::Inconsistent {
            table: self.table,
            column,
            row: self
                .row
                .text(self.key)
                .ok()
                .flatten()
                .unwrap_or("?")
                .to_owned(),
        }
    }
}

/// A count for a column or a `LIMIT`.
pub(in crate::store) fn int(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A length of time in the store's milliseconds.
pub(in crate::store) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A time so much later, in the store's milliseconds.
pub(in crate::store) fn later(now: Timestamp, by: Duration) -> i64 {
    now.as_millisecond().saturating_add(millis(by))
}

/// A time so much earlier, in the store's milliseconds.
pub(in crate::store) fn earlier(now: Timestamp, by: Duration) -> i64 {
    now.as_millisecond().saturating_sub(millis(by))
}

/// The time of the store's milliseconds; none if no time is as late or as early.
pub(in crate::store) fn time(millis: Option<i64>) -> Option<Timestamp> {
    millis.and_then(|millis| Timestamp::from_millisecond(millis).ok())
}
