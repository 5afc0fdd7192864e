//! Reads SQLite's rows, and builds lists for its statements.

use sqlx::{Row, sqlite::SqliteRow};

use crate::rows::{AnyRow, IdBytes, WrongColumnType};

impl AnyRow for SqliteRow {
    fn text(&self, column: &str) -> Result<Option<&str>, WrongColumnType> {
        self.try_get(column).map_err(|_| WrongColumnType)
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, WrongColumnType> {
        self.try_get(column).map_err(|_| WrongColumnType)
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, WrongColumnType> {
        self.try_get(column).map_err(|_| WrongColumnType)
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, WrongColumnType> {
        self.try_get(column).map_err(|_| WrongColumnType)
    }
}

/// Returns the relay's own ids as a JSON array of hexadecimal texts, which statements decode by `unhex`.
pub(super) fn id_list(ids: impl IntoIterator<Item = IdBytes>) -> String {
    let ids = ids.into_iter().map(u128::from_be_bytes);
    json_list(ids.map(|id| format!("{id:032x}")))
}

/// Returns numbers or texts as a JSON array, the form in which statements take lists.
pub(super) fn json_list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts = items.into_iter().map(|item| item.to_string().into());
    serde_json::Value::Array(texts.collect()).to_string()
}
