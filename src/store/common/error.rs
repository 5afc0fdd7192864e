//! What failures of a database mean for callers.

use std::{error::Error, sync::Arc};

use sqlx::{error::DatabaseError, migrate::MigrateError, postgres::PgDatabaseError};

use crate::store::StoreError;

/// SQLite's primary result codes that say nothing against the statement: busy, locked, out of
/// memory, read-only, interrupted, I/O error, disk full, cannot open, lock protocol.
const PASSING_SQLITE: [i64; 9] = [5, 6, 7, 8, 9, 10, 13, 14, 15];

/// PostgreSQL's classes of the same: no connection, a transaction that was rolled back, a lack of
/// resources, an operator's doing, an error of the system.
const PASSING_CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];

/// And single ones: a read-only server, as a standby is until it takes over; a lock that was not free.
const PASSING_STATES: [&str; 2] = ["25006", "55P03"];

/// Two units of work were in each other's way: a serialization failure, a deadlock.
const COLLISIONS: [&str; 2] = ["40001", "40P01"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        judged(may_pass(&error), error)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        judged(writer_may_recover(&error), error)
    }
}

/// The same failure of the writer, told to one more of those it struck.
pub(in crate::store) fn shared(error: &Arc<rusqlite::Error>) -> StoreError {
    judged(writer_may_recover(error), Arc::clone(error))
}

/// A failure that is worth another try, or not.
fn judged(may_pass: bool, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    if may_pass {
        StoreError::Unavailable(source.into())
    } else {
        StoreError::Refused(source.into())
    }
}

/// The migrations could not be run.
pub(in crate::store) fn from_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::Refused(Box::new(other)),
    }
}

/// The store was closed, or a task of it died.
pub(in crate::store) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

/// A value that cannot be written as JSON: an error of the relay itself.
pub(in crate::store) fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Refused(Box::new(error))
}

/// Whether a unit of work failed because another was in its way, and may succeed if it is done again.
pub(in crate::store) fn is_collision(error: &StoreError) -> bool {
    let StoreError::Unavailable(source) = error else {
        return false;
    };
    match source.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(error)) => {
            state(&**error).is_some_and(|state| COLLISIONS.contains(&state))
        }
        _ => false,
    }
}

/// PostgreSQL's SQLSTATE.
fn state(error: &dyn DatabaseError) -> Option<&str> {
    Some(error.try_downcast_ref::<PgDatabaseError>()?.code())
}

fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => match state(&**error) {
            Some(state) => {
                let class = state.get(..2).unwrap_or_default();
                PASSING_CLASSES.contains(&class) || PASSING_STATES.contains(&state)
            }
            None => error
                .code()
                .and_then(|code| code.parse::<i64>().ok())
                .is_some_and(is_passing_in_sqlite),
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

fn writer_may_recover(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code.is_some_and(|code| is_passing_in_sqlite(code.into()))
}

fn is_passing_in_sqlite(code: i64) -> bool {
    PASSING_SQLITE.contains(&(code & 0xff))
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
        assert!(matches!(
            StoreError::from(sqlx::Error::RowNotFound),
            StoreError::Refused(_)
        ));
    }

    #[test]
    fn a_full_disk_of_the_writer_is_worth_another_try_and_a_broken_rule_is_not() {
        // SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_CONSTRAINT_FOREIGNKEY
        for (code, passes) in [(13, true), (778, true), (787, false)] {
            let error = || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            for failure in [StoreError::from(error()), shared(&Arc::new(error()))] {
                let told = matches!(failure, StoreError::Unavailable(_));
                assert_eq!(told, passes, "{code}: {failure:?}");
            }
        }
    }
}
