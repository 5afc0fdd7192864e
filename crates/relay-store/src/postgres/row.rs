//! Reads PostgreSQL's rows, and builds arrays for its statements.

use relay_domain::WatchId;
use sqlx::{Row, postgres::PgRow};

use crate::rows::{AnyRow, IdBytes, WrongColumnType};

impl AnyRow for PgRow {
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

/// Returns the ids of watches as an array parameter.
pub(super) fn list(watches: &[WatchId]) -> Vec<IdBytes> {
    watches.iter().map(|id| id.to_bytes()).collect()
}

/// Returns text from outside with each NUL replaced, because PostgreSQL's text cannot hold one.
pub(crate) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Returns one column of rows as an array parameter.
pub(super) fn columns<'r, R, T>(rows: &'r [R], of: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
