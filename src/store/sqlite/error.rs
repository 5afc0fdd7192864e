//! Turns errors of sqlx and SQLite into the store's own.

use std::{error::Error, sync::Arc};

use sqlx::migrate::MigrateError;

use crate::store::StoreError;

/// SQLite's primary result codes that say nothing against the statement: busy, locked, out of
/// memory, read-only, interrupted, I/O error, disk full, cannot open, lock protocol.
const PASSING: [i64; 9] = [5, 6, 7, 8, 9, 10, 13, 14, 15];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if may_pass(&error) {
            Self::Unavailable(Box::new(error))
        } else {
            Self::Refused(Box::new(error))
        }
    }
}

/// The same failure, told to one more of those it struck.
pub(super) fn shared(error: &Arc<sqlx::Error>) -> StoreError {
    let source: Box<dyn Error + Send + Sync> = Box::new(Arc::clone(error));
    if may_pass(error) {
        StoreError::Unavailable(source)
    } else {
        StoreError::Refused(source)
    }
}

/// The migrations could not be run.
pub(super) fn from_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::Refused(Box::new(other)),
    }
}

/// The store was closed, or its writer died.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

/// A value that cannot be written as JSON: an error of the relay itself.
pub(super) fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Refused(Box::new(error))
}

fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .code()
            .and_then(|code| code.parse::<i64>().ok())
            .is_some_and(|code| PASSING.contains(&(code & 0xff))),
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_worth_another_try_and_a_wrong_statement_is_not() {
        for passing in [
            sqlx::Error::PoolClosed,
            sqlx::Error::PoolTimedOut,
            sqlx::Error::WorkerCrashed,
            sqlx::Error::Io(std::io::Error::other("disk")),
        ] {
            assert!(matches!(
                StoreError::from(passing),
                StoreError::Unavailable(_)
            ));
        }
        let wrong = Arc::new(sqlx::Error::RowNotFound);
        assert!(matches!(shared(&wrong), StoreError::Refused(_)));
    }
}
