//! The store in PostgreSQL, which any number of relays share.
//!
//! Rows are locked in one order, clients before jobs before watches before deliveries before hosts, and
//! each kind by its id; where two units of work meet in another order all the same, one is done again. A
//! statement sees what was committed when it began, so what depends on a row is read after that row is
//! locked.

mod alone;
mod answers;
mod attempts;
mod banks;
mod clients;
mod console;
mod deliveries;
mod details;
mod durations;
mod evictions;
mod fleet;
mod follows;
mod hints;
mod hosts;
mod indexes;
mod jobs;
mod looks;
mod migrate;
mod notify;
mod open;
mod outbox;
#[cfg(test)]
mod plans;
mod pool;
mod registration;
mod row;
mod session;
mod upkeep;
mod watches;

use std::sync::{Arc, atomic::AtomicU32};

use jiff::Timestamp;
use sqlx::postgres::PgConnectOptions;

use self::{
    durations::DurationRecorder,
    notify::Notifier,
    pool::{ConnectionPool, TransactionBody},
};
pub use self::{
    fleet::{FleetSize, PRESUMED_DEAD, RelayId, ReservedCalls, SharedPause, StoredToken},
    notify::Topic,
    open::OpenError,
};
pub(super) use self::{
    row::plain,
    session::{OpenTransaction, PgSession},
};
use crate::{
    domain::{Client, Fleet},
    store::{
        DurationsFound, NewDeliveries, NewJobs, Sealer, StoreError,
        common::{BatchLoader, DurationKey, RegistrationBatcher},
    },
};

/// The time by which claims are judged, in milliseconds: the given one, or else the database's.
macro_rules! now {
    ($given:literal) => {
        concat!(
            "coalesce(",
            $given,
            "::bigint, floor(extract(epoch FROM now()) * 1000)::bigint)"
        )
    };
}
use now;

/// Whose clock decides what is due and when leases end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseClock {
    /// The database's: relays need not agree about the time.
    Database,
    /// Whoever claims: for tests, whose time stands still.
    Caller,
}

impl LeaseClock {
    /// The time to judge claims by; none for the database's.
    fn now(self, now: Timestamp) -> Option<i64> {
        match self {
            Self::Database => None,
            Self::Caller => Some(now.as_millisecond()),
        }
    }
}

/// A store in a PostgreSQL database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct PgStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sealer: Sealer,
    arbiter: LeaseClock,
    share: Fleet,
    /// Claims of jobs so far: whose turn it is among their kinds.
    claims: AtomicU32,
    new_jobs: NewJobs,
    new_deliveries: NewDeliveries,
    registrar: RegistrationBatcher,
    clients: BatchLoader<Vec<u8>, Option<Client>>,
    paces: BatchLoader<DurationKey, DurationsFound>,
    announcer: Notifier,
    learner: DurationRecorder,
    pool: ConnectionPool,
}

impl PgStore {
    /// Opens the store that these options lead to, and brings its tables up to date.
    pub async fn open(
        options: PgConnectOptions,
        sealer: Sealer,
        arbiter: LeaseClock,
    ) -> Result<Self, OpenError> {
        let pool = ConnectionPool::new(options);
        open::check(&pool).await?;
        migrate::run(&pool).await?;
        let clients = clients::PostgresClientLoader {
            pool: pool.clone(),
            sealer: sealer.clone(),
        };
        let share = Fleet::alone();
        let new_jobs = NewJobs::default();
        let registering = registration::PostgresRegistration {
            pool: pool.clone(),
            arbiter,
            new_jobs: new_jobs.clone(),
        };
        Ok(Self(Arc::new(Inner {
            sealer,
            arbiter,
            registrar: RegistrationBatcher::start(registering, share.clone()),
            clients: BatchLoader::start(clients, share.clone()),
            paces: BatchLoader::start(
                durations::PostgresDurationLoader(pool.clone()),
                share.clone(),
            ),
            claims: AtomicU32::default(),
            new_jobs,
            new_deliveries: NewDeliveries::default(),
            announcer: Notifier::start(pool.clone()),
            learner: DurationRecorder::start(pool.clone(), share.clone()),
            share,
            pool,
        })))
    }

    /// This relay's part of what the relays on the store divide: also of the store's own time, as soon as it is
    /// told how many there are.
    #[must_use]
    pub fn share(&self) -> Fleet {
        self.0.share.clone()
    }

    /// Runs statements by themselves.
    fn pool(&self) -> &ConnectionPool {
        &self.0.pool
    }

    /// A transaction for work that takes as long as it takes. Dropped without a commit it changes nothing.
    pub(super) async fn begin(&self) -> Result<OpenTransaction, StoreError> {
        self.0.pool.begin().await
    }

    /// The time to judge claims by; none for the database's.
    fn now(&self, now: Timestamp) -> Option<i64> {
        self.0.arbiter.now(now)
    }

    /// One unit of work, all of it or nothing; done again if it met another that was in its way.
    async fn write<A: Sync, T>(
        &self,
        input: A,
        work: TransactionBody<A, T>,
    ) -> Result<T, StoreError> {
        self.0.pool.write(input, work).await
    }

    /// One statement by itself, within the time that work may take.
    async fn timely<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.0.pool.timely(statement).await
    }

    /// One unchanging view of all that was committed.
    async fn read(&self) -> Result<OpenTransaction, StoreError> {
        self.0.pool.read().await
    }
}
