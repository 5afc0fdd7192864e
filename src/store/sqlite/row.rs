//! SQLite's rows, and lists for its statements.

use serde::Serialize;
use sqlx::{Row, sqlite::SqliteRow};

use crate::store::{
    StoreError,
    common::{AnyRow, WrongType, unwritable},
};

impl AnyRow for SqliteRow {
    fn text(&self, column: &str) -> Result<Option<&str>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }

    fn whole(&self, column: &str) -> Result<Option<i64>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }
}

/// Ids as the JSON array that statements take lists in.
pub(super) fn json_list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts = items.into_iter().map(|item| item.to_string().into());
    serde_json::Value::Array(texts.collect()).to_string()
}

/// Rows as the JSON array of objects that statements take them in.
pub(super) fn json_rows<T: Serialize>(rows: &[T]) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(unwritable)
}
