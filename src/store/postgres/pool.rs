//! Connections to the database, and units of work on them.

use std::{future::Future, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::debug;

use crate::store::{StoreError, common::is_collision};

/// Connections of one relay.
const CONNECTIONS: u32 = 16;

/// How long a connection is waited for, whether all are in use or the database is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a unit of work may take. It is less than what a lease lasts beyond the longest attempt, so
/// that a claim told late is still worth beginning.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How often a unit of work is done again that met another.
const TRIES: u32 = 8;

/// What begins a transaction. Each statement is written for an index. It must keep to that where statistics
/// lag behind a burst, or are not there yet: otherwise a plan made for a small table, or for a short queue,
/// reads all of one that has grown. Compiling a statement, or dividing it among processes, takes longer than
/// any should. All of it ends with the transaction, for a pooler may give the connection to others.
macro_rules! begin {
    ($mode:literal) => {
        concat!(
            "BEGIN",
            $mode,
            "; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; \
             SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off; \
             SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL seq_page_cost = 0.01; \
             SET LOCAL random_page_cost = 0.01"
        )
    };
}

pub(super) const BEGIN: &str = begin!("");

/// ... that reads one unchanging view of all that was committed.
pub(super) const BEGIN_READING: &str = begin!(" ISOLATION LEVEL REPEATABLE READ, READ ONLY");

/// A unit of work, and what it works with.
pub(super) type Work<A, T> =
    for<'c> fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, StoreError>>;

/// The connections of one relay. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Pool(pub(super) PgPool);

impl Pool {
    /// Connections that are made when they are needed.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let options = options
            .application_name("basiq-relay")
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options);
        Self(pool)
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

    async fn attempt<A: Sync, T>(&self, input: &A, work: Work<A, T>) -> Result<T, StoreError> {
        let mut connection = self.0.acquire().await.inspect_err(|_| count(false))?;
        let done = tokio::time::timeout(TIME_LIMIT, transact(&mut connection, input, work)).await;
        let Ok(done) = done else {
            // nobody knows what it is doing: no one else gets this connection
            drop(connection.detach());
            count(false);
            return Err(StoreError::Unavailable(
                "a transaction took too long".into(),
            ));
        };
        count(done.is_ok());
        done
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

async fn transact<A: Sync, T>(
    connection: &mut PgConnection,
    input: &A,
    work: Work<A, T>,
) -> Result<T, StoreError> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let done = work(&mut transaction, input).await?;
    transaction.commit().await?;
    Ok(done)
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
