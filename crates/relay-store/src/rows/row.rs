//! Reads columns of rows from either database. Errors name the table, column and row that cannot be read.

use std::{str::FromStr, time::Duration};

use jiff::Timestamp;
use relay_domain::{AuditId, EventId, SubscriptionId, WatchId};
use serde::de::DeserializeOwned;

use crate::StoreError;

/// The error that a column has another type than the relay writes.
pub(crate) struct WrongColumnType;

/// A row of a database, with its columns by name. None stands for NULL.
pub(crate) trait AnyRow: Sync {
    fn text(&self, column: &str) -> Result<Option<&str>, WrongColumnType>;
    fn integer(&self, column: &str) -> Result<Option<i64>, WrongColumnType>;
    fn flag(&self, column: &str) -> Result<Option<bool>, WrongColumnType>;
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, WrongColumnType>;
}

/// One of the relay's own ids, as the store keeps it.
pub(crate) type IdBytes = [u8; 16];

/// A type that a column can hold.
pub(crate) trait ColumnValue<'r>: Sized {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongColumnType>;
}

impl<'r> ColumnValue<'r> for &'r str {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongColumnType> {
        row.text(column)
    }
}

impl<'r> ColumnValue<'r> for String {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongColumnType> {
        Ok(row.text(column)?.map(ToOwned::to_owned))
    }
}

impl<'r> ColumnValue<'r> for i64 {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongColumnType> {
        row.integer(column)
    }
}

impl<'r> ColumnValue<'r> for bool {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongColumnType> {
        row.flag(column)
    }
}

impl<'r> ColumnValue<'r> for &'r [u8] {
    fn of(row: &'r dyn AnyRow, column: &str) -> Result<Option<Self>, WrongColumnType> {
        row.bytes(column)
    }
}

/// Reads the columns of one row of a table.
#[derive(Clone, Copy)]
pub(crate) struct ColumnReader<'r> {
    row: &'r dyn AnyRow,
    table: &'static str,
    key: &'static str,
}

impl<'r> ColumnReader<'r> {
    /// Reads the row's columns that belong to `table`. The column `key`, a text or an id, names the row in errors.
    pub(crate) fn of(table: &'static str, key: &'static str, row: &'r dyn AnyRow) -> Self {
        Self { row, table, key }
    }

    /// Reads a column that is never NULL.
    pub(crate) fn get<T: ColumnValue<'r>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.opt(column)?.ok_or_else(|| self.bad(column))
    }

    /// Reads a column, or none if it is NULL.
    pub(crate) fn opt<T: ColumnValue<'r>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        T::of(self.row, column).map_err(|WrongColumnType| self.bad(column))
    }

    /// Reads text and converts it. Fails if `meaning` does.
    pub(crate) fn read<T>(
        &self,
        column: &'static str,
        meaning: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        meaning(self.get::<&str>(column)?).ok_or_else(|| self.bad(column))
    }

    /// Reads text and converts it, or none if it is NULL.
    pub(crate) fn read_opt<T>(
        &self,
        column: &'static str,
        meaning: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        match self.opt::<&str>(column)? {
            None => Ok(None),
            Some(text) => meaning(text).map(Some).ok_or_else(|| self.bad(column)),
        }
    }

    /// Reads text and parses it, such as an id.
    pub(crate) fn parse<T: FromStr>(&self, column: &'static str) -> Result<T, StoreError> {
        self.read(column, |text| text.parse().ok())
    }

    /// Reads one of the relay's own ids.
    pub(crate) fn id<T: From<IdBytes>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.id_opt(column)?.ok_or_else(|| self.bad(column))
    }

    /// Reads one of the relay's own ids, or none if it is NULL.
    pub(crate) fn id_opt<T: From<IdBytes>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let bytes: Option<&[u8]> = self.opt(column)?;
        let id = bytes.map(|bytes| IdBytes::try_from(bytes).map_err(|_| self.bad(column)));
        Ok(id.transpose()?.map(T::from))
    }

    /// Reads JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        self.read(column, |text| serde_json::from_str(text).ok())
    }

    /// Reads JSON, or none if it is NULL.
    pub(crate) fn json_opt<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.read_opt(column, |text| serde_json::from_str(text).ok())
    }

    /// Reads a whole number as a narrower type.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        T::try_from(self.get::<i64>(column)?).map_err(|_| self.bad(column))
    }

    /// Reads a time.
    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.time_opt(column)?.ok_or_else(|| self.bad(column))
    }

    /// Reads a time, or none if it is NULL.
    pub(crate) fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        self.opt::<i64>(column)?
            .map(|millis| Timestamp::from_millisecond(millis).map_err(|_| self.bad(column)))
            .transpose()
    }

    /// Returns the error that this column does not hold what the relay writes there.
    pub(crate) fn bad(&self, column: &'static str) -> StoreError {
        StoreError::Inconsistent {
            table: self.table,
            column,
            row: self.key().unwrap_or_else(|| "?".to_owned()),
        }
    }

    /// Returns the key of the row as it is shown, if it can be read.
    fn key(&self) -> Option<String> {
        if let Ok(text) = self.row.text(self.key) {
            return text.map(ToOwned::to_owned);
        }
        let id = IdBytes::try_from(self.row.bytes(self.key).ok()??).ok()?;
        match self.key {
            "watch_id" => Some(WatchId::from(id).to_string()),
            "event_id" => Some(EventId::from(id).to_string()),
            "subscription_id" => Some(SubscriptionId::from(id).to_string()),
            "audit_id" => Some(AuditId::from(id).to_string()),
            _ => None,
        }
    }
}

/// Converts a count for a column or a `LIMIT`.
pub(crate) fn int(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Converts a length of time to the store's milliseconds.
pub(crate) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the time that is later than `now` by this length, in the store's milliseconds.
pub(crate) fn millis_later(now: Timestamp, by: Duration) -> i64 {
    now.as_millisecond().saturating_add(millis(by))
}

/// Returns the time that is earlier than `now` by this length, in the store's milliseconds.
pub(crate) fn millis_earlier(now: Timestamp, by: Duration) -> i64 {
    now.as_millisecond().saturating_sub(millis(by))
}

/// Converts the store's milliseconds to a time. Returns none if they are out of range.
pub(crate) fn time(millis: Option<i64>) -> Option<Timestamp> {
    millis.and_then(|millis| Timestamp::from_millisecond(millis).ok())
}
