//! SQLite's rows, and lists for its statements.

use serde::Serialize;
use sqlx::{Row, sqlite::SqliteRow};

use crate::store::{
    StoreError,
    common::{AnyRow, unwritable},
};

impl AnyRow for SqliteRow {
    fn text(&self, column: &str) -> Option<Option<&str>> {
        self.try_get(column).ok()
    }

    fn whole(&self, column: &str) -> Option<Option<i64>> {
        self.try_get(column).ok()
    }

    fn flag(&self, column: &str) -> Option<Option<bool>> {
        self.try_get(column).ok()
    }

    fn bytes(&self, column: &str) -> Option<Option<&[u8]>> {
        self.try_get(column).ok()
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
