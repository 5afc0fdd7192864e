//! The store in one SQLite file: one connection writes, a few read.

mod activity;
mod alerts;
mod answers;
mod attempts;
mod audit;
mod backup;
mod banks;
mod clients;
mod clock_step;
mod console;
mod counts;
mod deliveries;
mod delivery_lists;
mod details;
mod discovery;
mod due_rows;
mod durations;
mod erasure;
mod examine;
mod file_health;
mod file_identity;
mod follows;
mod hints;
mod host_pauses;
mod hosts;
mod jobs;
mod looks;
mod notices;
pub(crate) mod open;
mod outbox;
mod reader;
mod registration;
mod row;
mod salvage;
mod statement;
mod subscription_ends;
mod subscriptions;
mod undamaged_deliveries;
mod undamaged_jobs;
mod upkeep;
mod watches;
mod writer;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU32},
};

use jiff::Timestamp;
use relay_domain::{Client, Fleet};
use rusqlite::Connection;
use sqlx::{Sqlite, SqlitePool, Transaction, sqlite::SqlitePoolOptions};

pub use self::backup::{BackupError, BackupProgress, BackupSummary, back_up};
use crate::{
    DurationsFound, NewDeliveries, NewJobs, NewWatch, Registration, Sealer, StoreError,
    batch::{BatchLoader, Batcher, RegistrationBatch},
    rows,
    rules::DurationKey,
    sqlite::{
        file_health::FileHealth,
        open::{BUSY_TIMEOUT, open_to_read, open_to_write, options, prepare},
        reader::Reader,
        writer::Writer,
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
    registrations: Batcher<Vec<NewWatch>, Vec<Registration>>,
    clients: Batcher<Vec<u8>, Option<Client>>,
    paces: Batcher<DurationKey, DurationsFound>,
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
            registrations: Batcher::start(RegistrationBatch(registering), Fleet::alone()),
            clients: Batcher::start(BatchLoader(clients), Fleet::alone()),
            paces: Batcher::start(
                BatchLoader(durations::SqliteDurationLoader(reader.clone())),
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
        self.0.health.ensure_in_place()?;
        Ok(&self.0.readers)
    }

    /// Converts a due time. Returns none if damage hides it: the caller then checks for work by itself.
    fn due_if_undamaged(
        &self,
        due: Result<Option<i64>, sqlx::Error>,
    ) -> Result<Option<Timestamp>, StoreError> {
        match due.map_err(StoreError::from) {
            Err(failure) if failure.is_damage() => {
                self.0.health.note(&failure);
                Ok(None)
            }
            due => Ok(rows::time(due?)),
        }
    }
}

#[cfg(test)]
mod tests;
