//! Connections to the database, and units of work on them.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::debug;

use crate::store::{StoreError, common::is_collision};

/// Connections of one relay.
const CONNECTIONS: u32 = 16;

/// How many of them units of work keep to themselves.
const WARM: usize = 8;

/// How long a connection that was in use counts as alive.
const FRESH: Duration = Duration::from_secs(1);

/// How long a connection is waited for, whether all are in use or the database is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a unit of work may take. It is less than what a lease lasts beyond the longest attempt, so
/// that a claim told late is still worth beginning.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How often a unit of work is done again that met another.
const TRIES: u32 = 8;

/// What begins a transaction. Each statement is written for an index. It must keep to that where statistics
/// lag behind a burst, or are not there yet: otherwise a plan made for a small table, or for a short queue,
/// reads all of one that has grown. Compiling a statement, dividing it among processes, or planning it anew for
/// its values takes longer than any should. All of it ends with the transaction, for a pooler may give the connection to others.
macro_rules! begin {
    ($mode:literal) => {
        concat!(
            "BEGIN",
            $mode,
            "; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; \
             SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off; \
             SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL seq_page_cost = 0.01; \
             SET LOCAL random_page_cost = 0.01; SET LOCAL plan_cache_mode = force_generic_plan"
        )
    };
}

pub(super) const BEGIN: &str = begin!("");

/// ... that reads one unchanging view of all that was committed.
const BEGIN_READING: &str = begin!(" ISOLATION LEVEL REPEATABLE READ, READ ONLY");

/// A unit of work, and what it works with.
pub(super) type Work<A, T> =
    for<'c> fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, StoreError>>;

/// The connections of one relay. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    all: PgPool,
    /// Those that units of work used last, the latest on top. They have the statements prepared, and the pool
    /// would ask each before and after whether it lives, which takes as long as a statement does.
    warm: Arc<Mutex<Vec<PoolConnection<Postgres>>>>,
}

impl Pool {
    /// Connections that are made when they are needed.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let options = options
            .application_name("basiq-relay")
            .disable_statement_logging();
        let all = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| Box::pin(is_alive(connection, meta.idle_for)))
            .connect_lazy_with(options);
        Self {
            all,
            warm: Arc::default(),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &PgPool {
        &self.all
    }

    /// Closes them, as each comes back.
    pub(super) async fn close(&self) {
        let closed = self.all.close();
        self.warm().clear();
        closed.await;
    }

    /// One unit of work, all of it or nothing; done again if it met another that was in its way.
    pub(super) async fn write<A: Sync, T>(
        &self,
        input: A,
        work: Work<A, T>,
    ) -> Result<T, StoreError> {
        let mut tries = 1;
        loop {
            match self.attempt(&input, work).await {
                Err(failure) if tries < TRIES && is_collision(&failure) => {
                    debug!(error = %failure, tries, "units of work met; one is done again");
                    metrics::counter!("relay_store_collisions_total").increment(1);
                    let pause = rand::random_range(1..=10 * u64::from(tries));
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// One unchanging view of all that was committed.
    pub(super) async fn read(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        timely(self.all.begin_with(BEGIN_READING)).await
    }

    async fn attempt<A: Sync, T>(&self, input: &A, work: Work<A, T>) -> Result<T, StoreError> {
        loop {
            let warm = self.warm().pop();
            let is_warm = warm.is_some();
            let mut connection = match warm {
                Some(connection) => connection,
                None => self.all.acquire().await.inspect_err(|_| count(false))?,
            };
            let done = transact(&mut connection, input, work);
            match tokio::time::timeout(TIME_LIMIT, done).await {
                // it broke while nobody used it; the pool finds out, and there are others
                Ok(Err(failure)) if is_warm => debug!(error = %failure, "a connection is given up"),
                Ok(done) => return self.conclude(connection, done),
                Err(_) => {
                    // nobody knows what it is doing: no one else gets this connection
                    drop(connection.detach());
                    count(false);
                    return Err(StoreError::Unavailable(
                        "a transaction took too long".into(),
                    ));
                }
            }
        }
    }

    /// Counts a unit of work. What failed may have left something behind, which the pool tidies up.
    fn conclude<T>(
        &self,
        connection: PoolConnection<Postgres>,
        done: Result<Result<T, StoreError>, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let done = done.unwrap_or_else(|failure| Err(failure.into()));
        count(done.is_ok());
        if done.is_ok() {
            self.keep(connection);
        }
        done
    }

    fn keep(&self, connection: PoolConnection<Postgres>) {
        let mut warm = self.warm();
        if warm.len() < WARM && !self.all.is_closed() {
            warm.push(connection);
        }
    }

    /// What a panic elsewhere left behind is whole: every change to it is one step.
    fn warm(&self) -> MutexGuard<'_, Vec<PoolConnection<Postgres>>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(committed: bool) {
    let name = if committed {
        "relay_store_commits_total"
    } else {
        "relay_store_failures_total"
    };
    metrics::counter!(name).increment(1);
}

/// Asks a connection that nobody used for a while whether it lives.
async fn is_alive(connection: &mut PgConnection, idle_for: Duration) -> Result<bool, sqlx::Error> {
    if idle_for > FRESH {
        connection.ping().await?;
    }
    Ok(true)
}

/// What the unit of work came to; a failure if it could not even begin.
async fn transact<A: Sync, T>(
    connection: &mut PgConnection,
    input: &A,
    work: Work<A, T>,
) -> Result<Result<T, StoreError>, sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let done = match work(&mut transaction, input).await {
        Ok(done) => transaction.commit().await.map(|()| done),
        Err(failure) => return Ok(Err(failure)),
    };
    Ok(done.map_err(StoreError::from))
}

/// One statement by itself, within the time that work may take.
pub(super) async fn timely<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(TIME_LIMIT, statement).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StoreError::Unavailable("a statement took too long".into())),
    }
}
