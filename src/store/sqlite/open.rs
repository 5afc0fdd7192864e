//! Opening the file: tables brought up to date, and connections with their settings.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use sqlx::{
    ConnectOptions, Connection as _,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::store::{StoreError, common};

/// Makes the tables.
pub(in crate::store) static MIGRATIONS: Migrator = sqlx::migrate!("src/store/sqlite/migrations");

/// How long a connection waits for a lock that another process holds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How a file is opened that was made before.
const THERE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// What every connection is set to.
const PRAGMAS: [(&str, &str); 4] = [
    ("journal_size_limit", "67108864"),
    // 4 MB; there are several, and the system keeps pages too
    ("cache_size", "-4096"),
    // what a savepoint may have to undo and what is sorted stay in memory: there may be no other file to write
    ("temp_store", "memory"),
    // pages: a checkpoint syncs twice, so not every few hundred commits
    ("wal_autocheckpoint", "8000"),
];

/// The pages that the writer keeps, in kilobytes: the ends of the indexes stay in memory.
const WRITERS_CACHE: i64 = -32_768;

/// Rows that a statement may find before they are taken.
const ROWS: usize = 1024;

/// Statements each connection keeps prepared; more than the store has.
const PREPARED: usize = 200;

/// Makes the file if there is none, and brings its tables up to date. Another process may do the same just now, and
/// leave it to be done again.
pub(super) async fn prepare(options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        match migrate(options).await {
            Err(error) if met_another(&error) && began.elapsed() < BUSY_TIMEOUT => {
                let pause = rand::random_range(10..100);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            done => return done.map_err(common::from_migration),
        }
    }
}

async fn migrate(options: &SqliteConnectOptions) -> Result<(), MigrateError> {
    let options = options.clone().create_if_missing(true);
    // a migration that makes a table anew drops the old one, and with it would go what refers to its rows
    let mut connection = options
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(false)
        .connect()
        .await?;
    MIGRATIONS.run(&mut connection).await?;
    Ok(connection.close().await?)
}

/// The connection that writes.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = open(path)?;
    connection.pragma_update(None, "cache_size", WRITERS_CACHE)?;
    Ok(connection)
}

/// The file is there: a disk that went away must not be taken for an empty store.
fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, THERE)?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    // or a statement whose rows an index might leave out is prepared anew for each value
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    for (pragma, value) in PRAGMAS {
        connection.pragma_update(None, pragma, value)?;
    }
    Ok(())
}

/// A connection that only reads.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = open(path)?;
    connection.pragma_update(None, "query_only", "ON")?;
    Ok(connection)
}

/// Whether another process may have been at the same file: it holds a lock, or made meanwhile what was to be
/// made. The migrations themselves have nothing wrong in them.
fn met_another(error: &MigrateError) -> bool {
    let (MigrateError::Execute(sqlx::Error::Database(error))
    | MigrateError::ExecuteMigration(sqlx::Error::Database(error), _)) = error
    else {
        return false;
    };
    let code = error.code().and_then(|code| code.parse::<i64>().ok());
    // there already, busy, locked, recorded already
    code.is_some_and(|code| matches!(code & 0xff, 1 | 5 | 6 | 19))
}

/// Of the connections that read, and of the one that migrates.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .synchronous(SqliteSynchronous::Full)
        .statement_cache_capacity(PREPARED)
        // rows of a batch are handed over without a wait
        .row_buffer_size(ROWS)
        .disable_statement_logging();
    PRAGMAS
        .into_iter()
        .fold(options, |options, (pragma, value)| {
            options.pragma(pragma, value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::statement;

    #[test]
    fn a_file_that_is_gone_is_not_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("gone.db");
        let failure = StoreError::from(open(&path).unwrap_err());
        assert!(matches!(failure, StoreError::Unavailable(_)), "{failure:?}");
        assert!(!path.exists());
    }

    #[test]
    fn a_statement_is_not_prepared_anew_for_each_value() {
        let connection = Connection::open_in_memory().unwrap();
        configure(&connection).unwrap();
        let tables = "CREATE TABLE t (n INTEGER, at INTEGER);
            CREATE INDEX t_at ON t (n, at) WHERE at IS NOT NULL";
        connection.execute_batch(tables).unwrap();
        let find = "SELECT n FROM t WHERE n = ?1 AND at <= ?2";
        for value in 0..5 {
            statement::scalars::<i64>(&connection, find, (value, value)).unwrap();
        }
        let statement = connection.prepare_cached(find).unwrap();
        let again = statement.get_status(rusqlite::StatementStatus::RePrepare);
        assert_eq!(again, 0);
    }
}
