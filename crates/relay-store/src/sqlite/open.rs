//! Opens the file: updates its tables, and configures connections.

use std::{
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use sqlx::{
    ConnectOptions, Connection as _,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{StoreError, error, migrations};

/// The migrations that create and change the tables.
pub(crate) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    migrations::embedded(&[(
        1,
        "the relay",
        include_str!("migrations/0001_the_relay.sql"),
    )])
});

/// How long a connection waits for a lock that another process holds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The flags that open an existing file.
const THERE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// The settings of every connection.
const PRAGMAS: [(&str, &str); 4] = [
    ("journal_size_limit", "67108864"),
    // 4 MB: there are several connections, and the operating system caches pages too
    ("cache_size", "-4096"),
    // sorted rows and the undo data of savepoints stay in memory: SQLite may have no other file to write to
    ("temp_store", "memory"),
    // in pages: a checkpoint syncs twice, so it runs rarely, not every few hundred commits
    ("wal_autocheckpoint", "8000"),
];

/// The size of the writer's page cache: 32 MB, which SQLite takes as negative kilobytes. It keeps the ends of the
/// indexes in memory.
const WRITERS_CACHE: i64 = -32_768;

/// The number of rows that a statement may buffer before the caller takes them.
const ROWS: usize = 1024;

/// The number of prepared statements that each connection keeps. The store has fewer.
const PREPARED: usize = 200;

/// Creates the file if it does not exist, and updates its tables. If another process does the same at this moment,
/// tries again for up to [`BUSY_TIMEOUT`].
pub(super) async fn prepare(options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        match migrate(options).await {
            Err(error) if met_another(&error) && began.elapsed() < BUSY_TIMEOUT => {
                let pause = rand::random_range(10..100);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            done => return done.map_err(error::from_migration),
        }
    }
}

async fn migrate(options: &SqliteConnectOptions) -> Result<(), MigrateError> {
    let options = options.clone().create_if_missing(true);
    // a migration that rebuilds a table drops the old one: enforced foreign keys would delete rows that refer to it
    let mut connection = options
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(false)
        .connect()
        .await?;
    MIGRATIONS.run(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Opens the connection that writes.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = open(path)?;
    connection.pragma_update(None, "cache_size", WRITERS_CACHE)?;
    // deleted rows are overwritten with zeros, so that an erased person cannot be found in the free space of the file
    connection.pragma_update(None, "secure_delete", "ON")?;
    Ok(connection)
}

/// Opens an existing file only: a disk that is not mounted must not look like an empty store.
fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, THERE)?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    // without this, SQLite prepares a statement again for each value that is compared with a partial index's column
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    for (pragma, value) in PRAGMAS {
        connection.pragma_update(None, pragma, value)?;
    }
    Ok(())
}

/// Opens a connection that only reads.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = open(path)?;
    connection.pragma_update(None, "query_only", "ON")?;
    Ok(connection)
}

/// Whether another process may be working on the same file: it holds a lock, or it just created what this migration
/// creates. The migrations themselves contain no errors.
fn met_another(error: &MigrateError) -> bool {
    let (MigrateError::Execute(sqlx::Error::Database(error))
    | MigrateError::ExecuteMigration(sqlx::Error::Database(error), _)) = error
    else {
        return false;
    };
    let code = error.code().and_then(|code| code.parse::<i64>().ok());
    // exists already (1), busy (5), locked (6), recorded already (19)
    code.is_some_and(|code| matches!(code & 0xff, 1 | 5 | 6 | 19))
}

/// Returns the options of the connections that read and of the one that migrates.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .synchronous(SqliteSynchronous::Full)
        .statement_cache_capacity(PREPARED)
        // a batch of rows is passed on without waiting for the caller between rows
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
    use crate::sqlite::statement;

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
