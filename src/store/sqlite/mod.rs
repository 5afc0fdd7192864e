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
mod details;
mod durations;
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
pub(in crate::store) mod open;
mod outbox;
#[cfg(test)]
mod plans;
mod reader;
mod registration;
mod row;
mod salvage;
mod statement;
mod upkeep;
mod watches;
mod whole_deliveries;
mod whole_jobs;
mod writer;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU32},
};

use jiff::Timestamp;
use rusqlite::Connection;
use sqlx::{Sqlite, SqlitePool, Transaction, sqlite::SqlitePoolOptions};
use tokio::sync::oneshot;
use tracing::trace;

use crate::{
    domain::{Client, Fleet},
    store::{
        DurationsFound, NewDeliveries, NewJobs, Sealer, StoreError,
        common::{self, BatchLoader, DurationKey, RegistrationBatcher},
        sqlite::{
            file_health::FileHealth,
            open::{BUSY_TIMEOUT, open_to_read, open_to_write, options, prepare},
            reader::Reader,
            writer::Writer,
        },
    },
};

/// The number of connections that read. They never wait for the writer, so a few are enough.
const READERS: u32 = 4;

/// A store in one SQLite file. Clones share it. Only one relay may use a file, but commands may change clients
/// meanwhile.
#[derive(Debug, Clone)]
pub struct SqliteStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sealer: Sealer,
    health: FileHealth,
    /// The number of job claims so far. Claims too small to divide serve the kinds of jobs in turn, by this number.
    claims: AtomicU32,
    new_jobs: NewJobs,
    new_deliveries: NewDeliveries,
    registrar: RegistrationBatcher,
    clients: BatchLoader<Vec<u8>, Option<Client>>,
    paces: BatchLoader<DurationKey, DurationsFound>,
    writer: Writer,
    reader: Reader,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in this file and updates its tables. Creates the file if it does not exist; only its owner can
    /// read a new file.
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
        let clients = clients::SqliteClientLoader {
            reader: reader.clone(),
            sealer: sealer.clone(),
        };
        let new_jobs = NewJobs::default();
        let registering = registration::SqliteRegistration {
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
            registrar: RegistrationBatcher::start(registering, Fleet::alone()),
            clients: BatchLoader::start(clients, Fleet::alone()),
            paces: BatchLoader::start(
                durations::SqliteDurationLoader(reader.clone()),
                Fleet::alone(),
            ),
            writer,
            reader,
            readers,
        })))
    }

    /// Returns the number of commits so far. Units of work that waited together share one commit.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.0.writer.commits()
    }

    /// Runs one unit of work in the next commit.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.0.writer.write(work).await
    }

    /// Begins a transaction that sees one unchanging view of all commits so far.
    async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.readers()?.begin().await?)
    }

    /// Returns the connections that read. Fails if the file was removed or replaced, since they would still read it.
    fn readers(&self) -> Result<&SqlitePool, StoreError> {
        self.0.health.is_in_place()?;
        Ok(&self.0.readers)
    }

    /// Converts a due time. Returns none if damage hides it: the caller then checks for work by itself.
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

/// Answers a caller. The caller may have gone away.
fn tell<T>(caller: oneshot::Sender<T>, answer: T) {
    if caller.send(answer).is_err() {
        trace!("a caller of the store did not wait for its answer");
    }
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
        // a caller after the close gets an error
        assert!(store.find_client_by_key(&key).await.is_err());
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
        // all kinds of connections: the writer, the lookups, and the readers, whose settings the migration shares
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
