//! PostgreSQL's rows, and lists for its statements.

use sqlx::{Row, postgres::PgRow};

use crate::store::common::AnyRow;

impl AnyRow for PgRow {
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

/// Ids as the array that statements take lists in.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

/// Text that came from elsewhere, without the NUL that PostgreSQL's text cannot hold.
pub(in crate::store) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
