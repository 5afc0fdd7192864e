//! Reads PostgreSQL's rows, and builds arrays for its statements.

use relay_domain::WatchId;
use sqlx::{Row, postgres::PgRow};

use crate::rows::{AnyRow, IdBytes, WrongType};

impl AnyRow for PgRow {
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
