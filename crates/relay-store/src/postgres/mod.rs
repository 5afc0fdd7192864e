//! The store in PostgreSQL, which any number of relays share.
//!
//! Transactions lock rows in one order: clients, due lists, due jobs, subscriptions, watches, the outbox, events, jobs,
//! hosts. They lock each kind by its id, and the outbox by its events. While a job is watched, its row in `due_jobs`
//! guards it. Only a registration that finds the job unwatched locks `jobs` earlier, and it does not wait there. If two
//! transactions still lock in a different order, one of them runs again. A move of times after a step of the clock locks
//! the row of `clock` first, then rows of one kind. A statement sees what was committed before it began. So a transaction
//! locks a row before it reads anything that depends on the row.

mod activity;
mod alerts;
mod alone;
mod answers;
mod attempts;
mod audit;
mod banks;
mod clients;
mod clock;
mod clock_step;
mod console;
mod deliveries;
mod delivery_lists;
mod details;
mod discovery;
mod durations;
mod erasure;
mod evictions;
mod fleet;
mod follows;
mod hints;
mod host_pauses;
mod hosts;
mod indexes;
mod jobs;
mod looks;
pub(crate) mod migrate;
mod notices;
mod notify;
mod open;
mod outbox;
mod pool;
mod registration;
mod row;
mod session;
mod subscription_ends;
mod subscriptions;
mod upkeep;
mod watches;

use std::sync::{Arc, atomic::AtomicU32};

use jiff::Timestamp;
use relay_domain::{Client, Fleet};
use sqlx::postgres::PgConnectOptions;

pub use self::{
    clock::LeaseClock,
    fleet::{FleetSize, PRESUMED_DEAD, RelayId, StoredToken},
    notify::Topic,
    open::OpenError,
};
use self::{
    durations::{DurationRecorder, RecordedLooks},
    notify::Notifier,
    pool::{ConnectionPool, TransactionBody},
};
pub(super) use self::{
    row::plain,
    session::{OpenTransaction, PgSession},
};
use crate::{
    DurationsFound, NewDeliveries, NewJobs, NewWatch, Registration, Sealer, StoreError,
    batch::{BatchLoader, Batcher, RegistrationBatch},
    rules::DurationKey,
};

/// A store in a PostgreSQL database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct PgStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sealer: Sealer,
    lease_clock: LeaseClock,
    fleet: Fleet,
    /// The number of claims of jobs so far. A claim too small to be divided takes one kind of job, chosen by this
    /// number.
    claims: AtomicU32,
    new_jobs: NewJobs,
    new_deliveries: NewDeliveries,
    registrations: Batcher<Vec<NewWatch>, Vec<Registration>>,
    clients: Batcher<Vec<u8>, Option<Client>>,
    paces: Batcher<DurationKey, DurationsFound>,
    notifier: Notifier,
    recorder: Batcher<RecordedLooks, ()>,
    pool: ConnectionPool,
}

impl PgStore {
    /// Opens the store with these connection options, and migrates its tables.
    pub async fn open(
        options: PgConnectOptions,
        sealer: Sealer,
        lease_clock: LeaseClock,
    ) -> Result<Self, OpenError> {
        let pool = ConnectionPool::new(options);
        open::check(&pool).await?;
        migrate::run(&pool).await?;
        let clients = clients::PostgresClientLoader {
            pool: pool.clone(),
            sealer: sealer.clone(),
        };
        let fleet = Fleet::alone();
        let new_jobs = NewJobs::default();
        let registering = registration::PostgresRegistration {
            pool: pool.clone(),
            lease_clock,
            new_jobs: new_jobs.clone(),
        };
        Ok(Self(Arc::new(Inner {
            sealer,
            lease_clock,
            registrations: Batcher::start(RegistrationBatch(registering), fleet.clone()),
            clients: Batcher::start(BatchLoader(clients), fleet.clone()),
            paces: Batcher::start(
                BatchLoader(durations::PostgresDurationLoader(pool.clone())),
                fleet.clone(),
            ),
            claims: AtomicU32::default(),
            new_jobs,
            new_deliveries: NewDeliveries::default(),
            notifier: Notifier::start(pool.clone()),
            recorder: Batcher::start(DurationRecorder(pool.clone()), fleet.clone()),
            fleet,
            pool,
        })))
    }

    /// Returns the fleet of the relays on this store. The store leaves the database to the others for their part of the
    /// time, once [`Fleet::set_size`] has set their number.
    #[must_use]
    pub fn fleet(&self) -> Fleet {
        self.0.fleet.clone()
    }

    /// Returns the pool, which runs single statements.
    fn pool(&self) -> &ConnectionPool {
        &self.0.pool
    }

    /// Begins a transaction without a time limit. Dropped without a commit, it changes nothing.
    pub(super) async fn begin(&self) -> Result<OpenTransaction, StoreError> {
        self.0.pool.begin().await
    }

    /// Returns the time to judge claims by, or `None` for the database's clock.
    fn now(&self, now: Timestamp) -> Option<i64> {
        self.0.lease_clock.now(now)
    }

    /// Runs one transaction. Runs it again after a conflict with another one.
    async fn write<A: Sync, T>(
        &self,
        input: A,
        work: TransactionBody<A, T>,
    ) -> Result<T, StoreError> {
        self.0.pool.write(input, work).await
    }

    /// Runs a statement that must end within the time limit of a transaction.
    async fn timely<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.0.pool.timely(statement).await
    }

    /// Starts a read-only transaction on one unchanging view of all committed data.
    async fn read(&self) -> Result<OpenTransaction, StoreError> {
        self.0.pool.read().await
    }
}

#[cfg(test)]
mod tests;
