//! Connections to the database, and units of work on them.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::debug;

use crate::{
    domain::ErrorChain,
    store::{
        StoreError,
        common::{is_collision, is_connection_lost, is_lost},
        postgres::{
            evictions::Evictions,
            session::{OpenTransaction, PgSession, Statements},
        },
    },
};

/// Connections of one relay.
const CONNECTIONS: u32 = 16;

/// How many of them units of work keep to themselves.
const WARM: usize = 8;

/// How long a unit of work waits for a connection, whether all are in use or the database is away.
///
/// A call of the API needs two units, to know the client and to do what it asks, and is given up after ten
/// seconds. Both have failed by then, so that the answer and the log can say why.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a connection may take that is made to learn why none comes.
const INQUIRY: Duration = Duration::from_secs(1);

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
pub(super) type TransactionBody<A, T> =
    for<'c> fn(&'c mut PgSession<'c>, &'c A) -> BoxFuture<'c, Result<T, StoreError>>;

/// The connections of one relay. Clones share them. As an executor it runs one statement by itself.
#[derive(Debug, Clone)]
pub(super) struct ConnectionPool {
    all: PgPool,
    statements: Statements,
    /// Those that units of work used last, the latest on top. They have the statements prepared, and the pool
    /// would ask each before and after whether it lives, which takes as long as a statement does.
    warm: Arc<Mutex<Vec<Warm>>>,
    evictions: Evictions,
    options: PgConnectOptions,
    /// Why no connection came, and when that was learned.
    why: Arc<tokio::sync::Mutex<Option<(Instant, String)>>>,
}

/// A connection, and when it was used last.
type Warm = (PoolConnection<Postgres>, Instant);

/// How a unit of work failed.
struct Failed {
    error: StoreError,
    /// Whether it may have been committed.
    is_in_doubt: bool,
}

impl ConnectionPool {
    /// Connections that are made when they are needed.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        // numbers travel in binary form, and a pooler knows no such parameter of a connection
        let options = options
            .application_name("basiq-relay")
            .extra_float_digits(None)
            .disable_statement_logging();
        let evictions = Evictions::default();
        let (before, after) = (evictions.clone(), evictions.clone());
        let all = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let evictions = before.clone();
                Box::pin(async move { Ok(evictions.is_usable(connection, meta).await) })
            })
            .after_release(move |_, meta| {
                let is_kept = !after.has_evicted(meta.age);
                Box::pin(async move { Ok(is_kept) })
            })
            .connect_lazy_with(options.clone());
        Self {
            all,
            statements: Statements::of(&options),
            warm: Arc::default(),
            evictions,
            options,
            why: Arc::default(),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &PgPool {
        &self.all
    }

    /// How statements are sent.
    pub(super) fn statements(&self) -> Statements {
        self.statements
    }

    /// When connections were given up, to whoever keeps one of them.
    pub(super) fn evictions(&self) -> &Evictions {
        &self.evictions
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
        work: TransactionBody<A, T>,
    ) -> Result<T, StoreError> {
        let mut tries = 1;
        loop {
            match self.attempt(&input, work).await {
                Err(failure) if tries < TRIES && is_collision(&failure) => {
                    debug!(error = %ErrorChain(&failure), tries, "units of work met; one is done again");
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
    pub(super) async fn read(&self) -> Result<OpenTransaction, StoreError> {
        match self.timely(self.begin_with(BEGIN_READING)).await {
            // the server went away meanwhile; nothing was asked yet
            Err(failure) if is_connection_lost(&failure) => {
                self.evict(&failure);
                self.timely(self.begin_with(BEGIN_READING)).await
            }
            done => done,
        }
    }

    /// Statements, within the time that work may take.
    pub(super) async fn timely<T>(
        &self,
        statements: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(TIME_LIMIT, statements).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(self.late("a statement took too long")),
        }
    }

    /// What took too long. The server may be gone without a word: others need not wait as long to find out.
    fn late(&self, what: &'static str) -> StoreError {
        let failure = StoreError::Unavailable(what.into());
        self.evict(&failure);
        failure
    }

    /// A transaction for work that takes as long as it takes.
    pub(super) async fn begin(&self) -> Result<OpenTransaction, StoreError> {
        Ok(self.begin_with("BEGIN").await?)
    }

    async fn begin_with(&self, statement: &'static str) -> Result<OpenTransaction, sqlx::Error> {
        match self.all.begin_with(statement).await {
            Ok(begun) => Ok(OpenTransaction::new(begun, self.statements)),
            Err(sqlx::Error::PoolTimedOut) => Err(self.why_none_came().await),
            Err(failure) => Err(failure),
        }
    }

    async fn attempt<A: Sync, T>(
        &self,
        input: &A,
        work: TransactionBody<A, T>,
    ) -> Result<T, StoreError> {
        let mut is_again = false;
        loop {
            let began = Instant::now();
            let mut connection = self.take().await.inspect_err(|_| count(false))?;
            let done = transact(&mut connection, self.statements, (input, work));
            let failed = match tokio::time::timeout(TIME_LIMIT, done).await {
                Ok(Ok(done)) => {
                    count(true);
                    self.keep(connection, began);
                    return Ok(done);
                }
                Ok(Err(failed)) => failed,
                Err(_) => {
                    // nobody knows what it is doing: no one else gets this connection
                    drop(connection.detach());
                    count(false);
                    return Err(self.late("a transaction took too long"));
                }
            };
            let is_lost = is_connection_lost(&failed.error);
            if is_lost {
                connection.close_on_drop();
                self.evict(&failed.error);
            }
            // what failed otherwise may have left something behind, which the pool tidies up
            drop(connection);
            if !is_lost || failed.is_in_doubt || is_again {
                count(false);
                return Err(failed.error);
            }
            is_again = true;
        }
    }

    /// A connection for a unit of work.
    async fn take(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let warm = self.warm().pop();
        if let Some((mut connection, used)) = warm {
            let idle = used.elapsed();
            if self.evictions.is_answered(&mut connection, idle).await {
                return Ok(connection);
            }
            connection.close_on_drop();
            self.cool();
        }
        self.acquire().await
    }

    /// A connection, or why there is none.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self.all.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => Err(self.why_none_came().await),
            done => done,
        }
    }

    /// Why no connection came in time. The pool knows, but says only that it waited.
    async fn why_none_came(&self) -> sqlx::Error {
        let mut known = self.why.lock().await;
        if let Some((at, why)) = &*known
            && at.elapsed() < INQUIRY
        {
            return sqlx::Error::Io(io::Error::other(why.clone()));
        }
        let failure = match tokio::time::timeout(INQUIRY, self.options.connect()).await {
            Ok(Ok(connection)) => {
                drop(connection);
                // all are in use
                return sqlx::Error::PoolTimedOut;
            }
            Ok(Err(failure)) => failure,
            Err(_) => {
                let silent = "the database server does not answer";
                sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, silent))
            }
        };
        let why = match &failure {
            sqlx::Error::Io(failure) => failure.to_string(),
            other => ErrorChain(other).to_string(),
        };
        *known = Some((Instant::now(), why));
        if is_lost(&failure) {
            self.evict(&failure);
        }
        failure
    }

    /// Gives up all connections: that server is not, or not any more, the one to write to.
    pub(super) fn evict(&self, failure: &(dyn std::error::Error + 'static)) {
        debug!(error = %ErrorChain(failure), "the connections to the database are given up");
        self.evictions.evict();
        self.cool();
    }

    /// Closes what was kept warm.
    fn cool(&self) {
        for (mut connection, _) in self.warm().drain(..) {
            connection.close_on_drop();
        }
    }

    /// Keeps a connection for the next unit of work, unless it was given up meanwhile.
    fn keep(&self, connection: PoolConnection<Postgres>, began: Instant) {
        let mut warm = self.warm();
        let is_good = !self.all.is_closed() && !self.evictions.has_evicted(began.elapsed());
        if is_good && warm.len() < WARM {
            warm.push((connection, Instant::now()));
        }
    }

    /// What a panic elsewhere left behind is whole: every change to it is one step.
    fn warm(&self) -> MutexGuard<'_, Vec<Warm>> {
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

/// What the unit of work came to.
async fn transact<A: Sync, T>(
    connection: &mut PgConnection,
    statements: Statements,
    (input, work): (&A, TransactionBody<A, T>),
) -> Result<T, Failed> {
    let failed = |is_in_doubt| {
        move |error: sqlx::Error| Failed {
            error: error.into(),
            is_in_doubt,
        }
    };
    let begun = connection.begin_with(BEGIN).await;
    let mut transaction = begun.map_err(failed(false))?;
    let mut session = PgSession::new(&mut transaction, statements);
    let done = work(&mut session, input).await.map_err(|error| Failed {
        error,
        is_in_doubt: false,
    })?;
    transaction.commit().await.map_err(failed(true))?;
    Ok(done)
}
