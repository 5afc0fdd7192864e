//! The store in one SQLite file: one connection writes, a few read.

mod answers;
mod attempts;
mod banks;
mod clients;
mod clock_step;
mod console;
mod counts;
#[cfg(test)]
mod damage;
mod deliveries;
mod examine;
mod file_health;
mod file_identity;
mod follows;
mod hints;
mod hosts;
mod jobs;
mod looks;
#[cfg(test)]
mod migrated;
mod outbox;
mod paces;
#[cfg(test)]
mod plans;
mod reader;
mod registrar;
mod row;
mod salvage;
mod statement;
mod stories;
mod upkeep;
mod watches;
mod whole_deliveries;
mod whole_jobs;
mod writer;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use sqlx::{
    ConnectOptions, Connection as _, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::oneshot;
use tracing::trace;

use crate::{
    domain::{Client, Share},
    store::{
        NewDeliveries, NewJobs, PaceFound, Sealer, StoreError,
        common::{self, Lookups, PaceKey, Registrar},
        sqlite::{file_health::FileHealth, reader::Reader, writer::Writer},
    },
};

/// Makes the tables.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("src/store/sqlite/migrations");

/// How long a connection waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

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

/// Connections that read. They never wait for the writer, so a few are enough.
const READERS: u32 = 4;

/// Rows that a statement may find before they are taken.
const ROWS: usize = 1024;

/// Statements each connection keeps prepared; more than the store has.
const PREPARED: usize = 200;

/// A store in one SQLite file. Clones share it. One relay at a time uses a file; commands may
/// change clients meanwhile.
#[derive(Debug, Clone)]
pub struct SqliteStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sealer: Sealer,
    health: FileHealth,
    /// Claims of jobs so far: whose turn it is among their kinds.
    claims: AtomicU32,
    new_jobs: NewJobs,
    new_deliveries: NewDeliveries,
    registrar: Registrar,
    clients: Lookups<Vec<u8>, Option<Client>>,
    paces: Lookups<PaceKey, PaceFound>,
    writer: Writer,
    reader: Reader,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in this file, which is made if there is none, and brings its tables up to
    /// date. Only its owner can read a file that is made.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_sealed(path, Sealer::default()).await
    }

    /// Opens the store like [`SqliteStore::open`], with secrets sealed at rest.
    pub async fn open_sealed(path: &Path, sealer: Sealer) -> Result<Self, StoreError> {
        file_identity::make_private(path).map_err(sqlx::Error::Io)?;
        let options = options(path);
        prepare(&options).await?;
        let health = FileHealth::of(path)?;
        let connection = open_to_write(path)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY_TIMEOUT)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options.pragma("query_only", "on"));
        let reader = Reader::start(open_to_read(path)?, health.clone());
        let reader = reader.map_err(sqlx::Error::Io)?;
        let writer = Writer::start(connection, health.clone()).map_err(sqlx::Error::Io)?;
        let clients = clients::Finder {
            reader: reader.clone(),
            sealer: sealer.clone(),
        };
        let new_jobs = NewJobs::default();
        let registering = registrar::Registering {
            writer: writer.clone(),
            readers: readers.clone(),
            health: health.clone(),
            new_jobs: new_jobs.clone(),
        };
        Ok(Self(Arc::new(Inner {
            sealer,
            health,
            claims: AtomicU32::default(),
            new_jobs,
            new_deliveries: NewDeliveries::default(),
            registrar: Registrar::start(registering, Share::alone()),
            clients: Lookups::start(clients, Share::alone()),
            paces: Lookups::start(paces::Finder(reader.clone()), Share::alone()),
            writer,
            reader,
            readers,
        })))
    }

    /// Commits so far; writes that waited for one another share one.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.0.writer.commits()
    }

    /// One unit of work in the next commit.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.0.writer.write(work).await
    }

    /// One unchanging view of all that was committed.
    async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.readers()?.begin().await?)
    }

    /// The connections that read. They would go on to read a file that was removed.
    fn readers(&self) -> Result<&SqlitePool, StoreError> {
        self.0.health.is_in_place()?;
        Ok(&self.0.readers)
    }

    /// When something is due; not known where damage is in the way, and then whoever asks looks by itself.
    fn due_if_whole(
        &self,
        due: Result<Option<i64>, sqlx::Error>,
    ) -> Result<Option<Timestamp>, StoreError> {
        match due.map_err(StoreError::from) {
            Err(failure) if failure.is_damage() => {
                self.0.health.note(&failure);
                Ok(None)
            }
            due => Ok(common::time(due?)),
        }
    }
}

/// Makes the file if there is none, and brings its tables up to date. Another process may do the same just now, and
/// leave it to be done again.
async fn prepare(options: &SqliteConnectOptions) -> Result<(), StoreError> {
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
fn open_to_write(path: &Path) -> Result<Connection, rusqlite::Error> {
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
fn open_to_read(path: &Path) -> Result<Connection, rusqlite::Error> {
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

/// Answers a caller; one that went away does not matter.
fn tell<T>(caller: oneshot::Sender<T>, answer: T) {
    if caller.send(answer).is_err() {
        trace!("a caller of the store did not wait for its answer");
    }
}

/// Of the connections that read, and of the one that migrates.
fn options(path: &Path) -> SqliteConnectOptions {
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
    use crate::store::{ClientStore, UpkeepStore};

    fn setting(connection: &Connection, pragma: &'static str) -> Result<String, StoreError> {
        let statement = format!("SELECT CAST(v AS TEXT) FROM {pragma}");
        Ok(connection.query_row(&statement, [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn those_who_open_a_new_file_at_once_all_find_its_tables() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("relay.db");
        let opening = (0..8).map(|_| SqliteStore::open(&path));
        for opened in futures_util::future::join_all(opening).await {
            assert!(opened.unwrap().list_clients().await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn once_closed_the_file_has_all_and_nothing_is_left_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&home.path().join("relay.db"))
            .await
            .unwrap();
        let key = crate::domain::ApiKey::generate().hash();
        assert!(store.find_client_by_key(&key).await.unwrap().is_none());
        store.close().await;
        let left = std::fs::read_dir(home.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["relay.db"]);
        // and whoever asks is told
        assert!(store.find_client_by_key(&key).await.is_err());
    }

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

    #[tokio::test]
    async fn commits_reach_the_disk_and_readers_cannot_write() {
        let home = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&home.path().join("relay.db"))
            .await
            .unwrap();
        let write = |pragma| store.write(move |connection| setting(connection, pragma));
        let full = write("(SELECT synchronous AS v FROM pragma_synchronous)").await;
        assert_eq!(full.unwrap(), "2");
        let wal = write("(SELECT journal_mode AS v FROM pragma_journal_mode)").await;
        assert_eq!(wal.unwrap(), "wal");
        let keys = write("(SELECT foreign_keys AS v FROM pragma_foreign_keys)").await;
        assert_eq!(keys.unwrap(), "1");
        // of those that write, look up, read and, as those do, migrate
        let in_memory = "(SELECT temp_store AS v FROM pragma_temp_store)";
        assert_eq!(write(in_memory).await.unwrap(), "2");
        let looked_up = store
            .0
            .reader
            .read(move |reader| setting(reader, in_memory));
        assert_eq!(looked_up.await.unwrap(), "2");
        let read: i64 = sqlx::query_scalar("PRAGMA temp_store")
            .fetch_one(&store.0.readers)
            .await
            .unwrap();
        assert_eq!(read, 2);
        let written = sqlx::query("DELETE FROM clients")
            .execute(&store.0.readers)
            .await;
        assert!(written.is_err());
    }
}
