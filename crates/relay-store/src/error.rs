//! Classifies failures of a database for callers.

use std::error::Error;

use sqlx::{error::DatabaseError, migrate::MigrateError, postgres::PgDatabaseError};
use thiserror::Error;

use crate::StoreError;

/// SQLite's primary result codes that say nothing against the statement: busy, locked, out of memory, read-only,
/// interrupted, I/O error, disk full, cannot open, lock protocol.
const PASSING_SQLITE: [i64; 9] = [5, 6, 7, 8, 9, 10, 13, 14, 15];

/// PostgreSQL's classes of the same failures: no connection, transaction rolled back, lack of resources, operator
/// intervention, system error.
const PASSING_CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];

/// A single PostgreSQL state of the same failures: a lock was not available.
const PASSING_STATES: [&str; 1] = ["55P03"];

/// PostgreSQL's classes of failures to log in: a wrong password, no such database. They occur while a connection is
/// opened, and say nothing about a statement.
const SHUT_OUT_CLASSES: [&str; 2] = ["28", "3D"];

/// PostgreSQL's states after which this connection must not be used any more, nor others that were opened earlier.
///
/// * The server became read-only, because this primary was demoted (25006).
/// * The transaction is aborted although this unit of work has just begun it, or it ran out of time (25P02 to 25P04).
/// * A prepared statement does not exist, or its name is taken (26000, 42P05).
/// * The server stops, crashed, is starting, or ends idle connections (57P01 to 57P05).
const LOST_STATES: [&str; 11] = [
    "25006", "25P02", "25P03", "25P04", "26000", "42P05", "57P01", "57P02", "57P03", "57P04",
    "57P05",
];

/// PostgreSQL's class of failures of the connection itself.
const LOST_CLASS: &str = "08";

/// A server that accepts no writes: its state and the explanation.
const READ_ONLY: (&str, &str) = (
    "25006",
    "PostgreSQL is read-only: it is a standby, or default_transaction_read_only is on",
);

/// The states of a prepared statement that does not exist, or whose name is taken.
const POOLED_STATES: [&str; 2] = ["26000", "42P05"];
const POOLED: &str = "a pooler in transaction mode stands in between: the database's address needs \
    statement-cache-capacity=0";

/// SQLite's primary result codes of damage: a malformed file, a file that is not a database.
const DAMAGE_SQLITE: [i64; 2] = [11, 26];

/// PostgreSQL's states of damage: corrupted data, a corrupted index.
const DAMAGE_STATES: [&str; 2] = ["XX001", "XX002"];

/// PostgreSQL's states of two units of work that met: a serialization failure, a deadlock.
const COLLISIONS: [&str; 2] = ["40001", "40P01"];

/// A failure of the database with an explanation.
#[derive(Debug, Error)]
#[error("{meaning}")]
struct Explained {
    meaning: &'static str,
    source: sqlx::Error,
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        let meaning = meaning(&source);
        match explanation(&source) {
            Some(text) => judged(
                meaning,
                Explained {
                    meaning: text,
                    source,
                },
            ),
            None => judged(meaning, source),
        }
    }
}

/// Returns an explanation of a failure whose own text does not explain it.
fn explanation(error: &sqlx::Error) -> Option<&'static str> {
    match state_of(error)? {
        state if state == READ_ONLY.0 => Some(READ_ONLY.1),
        state if POOLED_STATES.contains(&state) => Some(POOLED),
        _ => None,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        judged(meaning_to_writer(&error), error)
    }
}

/// The class of a failure.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    /// The same statement may succeed later.
    Passing,
    /// A part of the database cannot be read.
    Damage,
    /// The statement is wrong.
    Refusal,
}

fn judged(meaning: Meaning, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    match meaning {
        Meaning::Passing => StoreError::unavailable(source),
        Meaning::Damage => StoreError::damaged(source),
        Meaning::Refusal => StoreError::refused(source),
    }
}

/// Converts a failure of the migrations.
pub(crate) fn from_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::refused(other),
    }
}

/// Returns the error that the store was closed, or that one of its tasks died.
pub(crate) fn closed() -> StoreError {
    StoreError::unavailable("the store is closed")
}

/// Returns the error that a value cannot be written as JSON, which is a bug in the relay.
pub(crate) fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::refused(error)
}

/// A unit of work saw that another one changed what it had read.
#[derive(Debug, Error)]
#[error("{0}")]
struct Collision(&'static str);

/// Makes the error of a unit of work that must be done again, because another one changed what it had read.
pub(crate) fn collision(what: &'static str) -> StoreError {
    StoreError::unavailable(Collision(what))
}

/// Whether a unit of work failed because it met another one. It may succeed if it is done again.
pub(crate) fn is_collision(error: &StoreError) -> bool {
    let state = sqlx_error(error).and_then(state_of);
    let is_ours = matches!(error, StoreError::Unavailable(cause) if cause.is::<Collision>());
    is_ours || state.is_some_and(|state| COLLISIONS.contains(&state))
}

/// Whether a failure means that open connections to the server must not be used any more.
pub(crate) fn is_connection_lost(error: &StoreError) -> bool {
    sqlx_error(error).is_some_and(is_lost)
}

/// Like [`is_connection_lost`], for an error of the driver.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => state(&**error)
            .is_some_and(|state| state.starts_with(LOST_CLASS) || LOST_STATES.contains(&state)),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether a failure comes from named prepared statements behind a pooler in transaction mode.
pub(crate) fn is_pooled(error: &StoreError) -> bool {
    let state = sqlx_error(error).and_then(state_of);
    state.is_some_and(|state| POOLED_STATES.contains(&state))
}

/// Returns the driver's error behind a failure.
fn sqlx_error(error: &StoreError) -> Option<&sqlx::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = match error {
        // not `source()`: it is the `Arc` there, which is of another type than the error in it
        StoreError::Unavailable(source)
        | StoreError::Refused(source)
        | StoreError::Damaged(source) => Some(&**source),
        StoreError::Inconsistent { .. } => None,
    };
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Returns PostgreSQL's SQLSTATE, if the database answered.
fn state_of(error: &sqlx::Error) -> Option<&str> {
    match error {
        sqlx::Error::Database(error) => state(&**error),
        _ => None,
    }
}

/// Returns PostgreSQL's SQLSTATE.
fn state(error: &dyn DatabaseError) -> Option<&str> {
    Some(error.try_downcast_ref::<PgDatabaseError>()?.code())
}

fn meaning(error: &sqlx::Error) -> Meaning {
    match error {
        // whatever broke this connection, another one may work
        _ if is_lost(error) => Meaning::Passing,
        sqlx::Error::Database(error) => match state(&**error) {
            Some(state) => meaning_of_state(state),
            None => error
                .code()
                .and_then(|code| code.parse::<i64>().ok())
                .map_or(Meaning::Refusal, meaning_in_sqlite),
        },
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Meaning::Passing,
        _ => Meaning::Refusal,
    }
}

fn meaning_of_state(state: &str) -> Meaning {
    let class = state.get(..2).unwrap_or_default();
    if DAMAGE_STATES.contains(&state) {
        Meaning::Damage
    } else if PASSING_CLASSES.contains(&class)
        || SHUT_OUT_CLASSES.contains(&class)
        || PASSING_STATES.contains(&state)
        || LOST_STATES.contains(&state)
    {
        Meaning::Passing
    } else {
        Meaning::Refusal
    }
}

fn meaning_to_writer(error: &rusqlite::Error) -> Meaning {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code.map_or(Meaning::Refusal, |code| meaning_in_sqlite(code.into()))
}

fn meaning_in_sqlite(code: i64) -> Meaning {
    let primary = code & 0xff;
    if DAMAGE_SQLITE.contains(&primary) {
        Meaning::Damage
    } else if PASSING_SQLITE.contains(&primary) {
        Meaning::Passing
    } else {
        Meaning::Refusal
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
            sqlx::Error::Protocol("cut in the middle of a message".into()),
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
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            let failure = StoreError::from(error);
            let told = matches!(failure, StoreError::Unavailable(_));
            assert_eq!(told, passes, "{code}: {failure:?}");
        }
    }

    #[test]
    fn damage_is_told_apart_from_a_refusal() {
        // SQLITE_CORRUPT, SQLITE_CORRUPT_INDEX, SQLITE_NOTADB
        for code in [11, 779, 26] {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            let failure = StoreError::from(error);
            assert!(matches!(failure, StoreError::Damaged(_)), "{failure:?}");
            assert!(failure.is_damage());
        }
        assert!(matches!(meaning_of_state("XX002"), Meaning::Damage));
        assert!(matches!(meaning_of_state("42601"), Meaning::Refusal));
    }
}
