//! The connection pool of one relay, and the transactions that run on it.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use relay_domain::ErrorChain;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::debug;

use crate::{
    StoreError,
    audit::AuditedAct,
    error::{is_collision, is_connection_lost, is_lost},
    postgres::{
        audit,
        evictions::Evictions,
        session::{OpenTransaction, PgSession, Statements},
    },
};

/// The maximum number of connections of one relay.
const CONNECTIONS: u32 = 16;

/// The maximum number of connections that transactions keep warm for themselves.
const WARM: usize = 8;

/// How long a transaction waits for a connection, whether all are in use or the database is down.
///
/// An API call needs two transactions: one to find the client, and one to do what the request asks. The call is
/// cancelled after ten seconds. Both transactions have failed by then, so the response and the log can state the
/// reason.
const PATIENCE: Duration = Duration::from_secs(3);

/// The time-out of the connection that is opened to learn why the pool has none to give. The reason is also
/// cached for this time.
const INQUIRY: Duration = Duration::from_secs(1);

/// The maximum duration of a transaction. A lease lasts longer than the longest attempt by more than this, so a
/// claim whose result comes late is still worth starting.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The maximum number of times that one transaction runs. It runs again after a conflict with another one.
const TRIES: u32 = 8;

/// The statements that begin a transaction.
///
/// Every statement is written for an index. These settings make PostgreSQL use that index even if statistics are missing
/// or lag behind a burst. Otherwise a plan made for a small table or a short queue would read all of a table that has
/// grown. JIT compilation, parallel workers, and a new plan for each set of values are off, because each takes longer
/// than any statement should. The time-out, longer than `TIME_LIMIT`, frees rows that a relay locked before its machine
/// stopped. The settings end with the transaction (`SET LOCAL`), because a pooler may then give the connection to others.
macro_rules! begin {
    ($mode:literal) => {
        concat!(
            "BEGIN",
            $mode,
            "; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; \
             SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off; \
             SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL seq_page_cost = 0.01; \
             SET LOCAL random_page_cost = 0.01; SET LOCAL plan_cache_mode = force_generic_plan; \
             SET LOCAL idle_in_transaction_session_timeout = '15s'"
        )
    };
}

pub(super) const BEGIN: &str = begin!("");

/// Begins a read-only transaction on one unchanging view of all committed data.
const BEGIN_READING: &str = begin!(" ISOLATION LEVEL REPEATABLE READ, READ ONLY");

/// The body of a transaction: a function of the session and an input.
pub(super) type TransactionBody<A, T> =
    for<'c> fn(&'c mut PgSession<'c>, &'c A) -> BoxFuture<'c, Result<T, StoreError>>;

/// The connections of one relay. Clones share them. As an sqlx executor, the pool runs single statements.
#[derive(Debug, Clone)]
pub(super) struct ConnectionPool {
    all: PgPool,
    statements: Statements,
    /// The connections that transactions used last, the latest on top. They have the statements prepared. The
    /// sqlx pool pings each connection when it is returned, and an idle one before use. A ping takes as long as a
    /// statement does.
    warm: Arc<Mutex<Vec<Warm>>>,
    evictions: Evictions,
    options: PgConnectOptions,
    /// The reason why no connection came, and when it was learned.
    why: Arc<tokio::sync::Mutex<Option<(Instant, String)>>>,
}

/// A connection, and when it was last used.
type Warm = (PoolConnection<Postgres>, Instant);

/// The failure of a transaction.
struct Failed {
    error: StoreError,
    /// Whether the transaction may have been committed all the same.
    is_in_doubt: bool,
}

impl ConnectionPool {
    /// Creates a pool that opens connections when they are needed.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        // numbers travel in binary form, so `extra_float_digits` is not needed; a pooler may not know that
        // parameter
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

    /// Returns the sqlx pool of all connections.
    pub(super) fn all(&self) -> &PgPool {
        &self.all
    }

    /// Returns how statements are sent: with or without names.
    pub(super) fn statements(&self) -> Statements {
        self.statements
    }

    /// Returns the record of evictions, for code that keeps a connection of its own.
    pub(super) fn evictions(&self) -> &Evictions {
        &self.evictions
    }

    /// Closes the pool. A connection in use is closed when it is returned.
    pub(super) async fn close(&self) {
        let closed = self.all.close();
        self.warm().clear();
        closed.await;
    }

    /// Runs one transaction. Runs it again after a conflict with another one, up to `TRIES` times in all.
    pub(super) async fn write<A: Sync, T>(
        &self,
        input: A,
        work: TransactionBody<A, T>,
    ) -> Result<T, StoreError> {
        self.write_act(&AuditedAct::none(), input, work).await
    }

    /// Runs one transaction like [`Self::write`], and records its act in it.
    pub(super) async fn write_act<A: Sync, T>(
        &self,
        act: &AuditedAct<T>,
        input: A,
        work: TransactionBody<A, T>,
    ) -> Result<T, StoreError> {
        let mut tries = 1;
        loop {
            match self.attempt(act, &input, work).await {
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

    /// Starts a read-only transaction on one unchanging view of all committed data.
    pub(super) async fn read(&self) -> Result<OpenTransaction, StoreError> {
        match self.timely(self.begin_with(BEGIN_READING)).await {
            // the connection was lost, and no query was sent yet: try once more
            Err(failure) if is_connection_lost(&failure) => {
                self.evict(&failure);
                self.timely(self.begin_with(BEGIN_READING)).await
            }
            done => done,
        }
    }

    /// Runs statements that must end within `TIME_LIMIT`.
    pub(super) async fn timely<T>(
        &self,
        statements: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(TIME_LIMIT, statements).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(self.late("a statement took too long")),
        }
    }

    /// Returns the error of work that took too long, and evicts all connections. The server may be down without
    /// having closed them, and other callers need not wait as long to find out.
    fn late(&self, what: &'static str) -> StoreError {
        let failure = StoreError::unavailable(what);
        self.evict(&failure);
        failure
    }

    /// Begins a transaction without a time limit, and without the planner settings.
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
        act: &AuditedAct<T>,
        input: &A,
        work: TransactionBody<A, T>,
    ) -> Result<T, StoreError> {
        let mut is_again = false;
        loop {
            let began = Instant::now();
            let mut connection = self.take().await.inspect_err(|_| count(false))?;
            let done = transact(&mut connection, self.statements, act, input, work);
            let failed = match tokio::time::timeout(TIME_LIMIT, done).await {
                Ok(Ok(done)) => {
                    count(true);
                    self.keep(connection, began);
                    return Ok(done);
                }
                Ok(Err(failed)) => failed,
                Err(_) => {
                    // the state of this connection is unknown: no one else gets it
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
            // after other failures a transaction may still be open, which the pool cleans up
            drop(connection);
            if !is_lost || failed.is_in_doubt || is_again {
                count(false);
                return Err(failed.error);
            }
            is_again = true;
        }
    }

    /// Returns a connection for a transaction: a warm one if it still works, otherwise one from the pool.
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

    /// Returns a connection from the pool, or the reason why there is none.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self.all.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => Err(self.why_none_came().await),
            done => done,
        }
    }

    /// Finds out why no connection came in time. The sqlx pool knows, but reports only that it waited.
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
                // the server is reachable, so all connections of the pool are in use
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

    /// Evicts all connections: their server is not, or no longer, the one to write to.
    pub(super) fn evict(&self, failure: &(dyn std::error::Error + 'static)) {
        debug!(error = %ErrorChain(failure), "the connections to the database are given up");
        self.evictions.evict();
        self.cool();
    }

    /// Closes the warm connections.
    fn cool(&self) {
        for (mut connection, _) in self.warm().drain(..) {
            connection.close_on_drop();
        }
    }

    /// Keeps a connection warm for the next transaction, unless it was evicted meanwhile or enough are warm.
    fn keep(&self, connection: PoolConnection<Postgres>, began: Instant) {
        let mut warm = self.warm();
        let is_good = !self.all.is_closed() && !self.evictions.has_evicted(began.elapsed());
        if is_good && warm.len() < WARM {
            warm.push((connection, Instant::now()));
        }
    }

    fn warm(&self) -> MutexGuard<'_, Vec<Warm>> {
        self.warm.lock()
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

/// Runs one transaction on this connection: begins it, calls `work`, records the act if it was done, and commits.
async fn transact<A: Sync, T>(
    connection: &mut PgConnection,
    statements: Statements,
    act: &AuditedAct<T>,
    input: &A,
    work: TransactionBody<A, T>,
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
    let not_done = |error| Failed {
        error,
        is_in_doubt: false,
    };
    let done = work(&mut session, input).await.map_err(not_done)?;
    if let Some(entry) = act.entry_for(&done) {
        let mut session = PgSession::new(&mut transaction, statements);
        let recorded = audit::record(&mut session, entry).await;
        recorded.map_err(not_done)?;
    }
    transaction.commit().await.map_err(failed(true))?;
    Ok(done)
}
