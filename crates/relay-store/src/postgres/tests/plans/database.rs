//! A database for one test, filled with a million rows of each kind.

use std::{panic::AssertUnwindSafe, time::Instant};

use futures_util::FutureExt;
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, Postgres, pool::PoolConnection,
    postgres::PgConnectOptions,
};
use uuid::Uuid;

use super::{explain::ExplainedPlan, statements};
use crate::postgres::{
    migrate,
    pool::{BEGIN, ConnectionPool},
};

/// A full database, with connections that are set up like a relay's.
pub(super) struct PlanDatabase {
    pub(super) connection: PoolConnection<Postgres>,
    /// A connection that planned all statements while the tables had few rows.
    pub(super) old: PoolConnection<Postgres>,
}

/// The history of a database before the test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DatabaseHistory {
    /// PostgreSQL analysed the tables while no watch was open.
    Idle,
    /// The database is new, and PostgreSQL has not analysed its tables. They have a tenth of the rows.
    Young,
}

/// Creates a database, plans all statements on a hundred rows, fills the tables, and calls `look`. Drops the
/// database in any case, even after a panic.
pub(super) async fn on_full_tables(
    past: DatabaseHistory,
    look: impl AsyncFnOnce(&mut PlanDatabase),
) {
    let server = server();
    let name = format!("test_{}", Uuid::new_v4().simple());
    run(&server, &format!("CREATE DATABASE {name}")).await;
    let pool = ConnectionPool::new(server.clone().database(&name));
    let looked = AssertUnwindSafe(async {
        migrate::run(&pool).await.unwrap();
        let connection = pool.all().acquire().await.unwrap();
        let old = pool.all().acquire().await.unwrap();
        let mut database = PlanDatabase { connection, old };
        database.run(include_str!("idle.sql")).await;
        if past == DatabaseHistory::Idle {
            database.run("ANALYZE").await;
        }
        database.plan_early().await;
        database.fill(past).await;
        look(&mut database).await;
    });
    let looked = looked.catch_unwind().await;
    run(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    if let Err(panic) = looked {
        std::panic::resume_unwind(panic);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server for tests is no setting of the relay"
)]
fn server() -> PgConnectOptions {
    let url = std::env::var("TEST_POSTGRES_URL");
    let url =
        url.expect("a test on PostgreSQL; tests/run starts a server and sets TEST_POSTGRES_URL");
    url.parse().unwrap()
}

async fn run(server: &PgConnectOptions, statement: &str) {
    run_on(&mut server.connect().await.unwrap(), statement).await;
}

async fn run_on(connection: &mut PgConnection, statements: &str) {
    let statements = AssertSqlSafe(statements.to_owned());
    sqlx::raw_sql(statements).execute(connection).await.unwrap();
}

/// Returns the settings of each transaction as settings of a session.
fn settings() -> String {
    BEGIN.replace("BEGIN; ", "").replace("SET LOCAL", "SET")
}

impl PlanDatabase {
    pub(super) async fn run(&mut self, statements: &str) {
        run_on(&mut self.connection, statements).await;
    }

    /// Applies the settings of each transaction to the session.
    pub(super) async fn plan_as_in_transactions(&mut self) {
        self.run(&settings()).await;
    }

    /// Resets all settings, as for statements outside a transaction.
    pub(super) async fn plan_as_alone(&mut self) {
        self.run("RESET ALL").await;
    }

    /// Plans all statements with the settings of a transaction. The plans stay in use until PostgreSQL gathers
    /// new statistics.
    async fn plan_early(&mut self) {
        run_on(&mut self.old, &settings()).await;
        for (place, statement) in statements::all().iter().enumerate() {
            ExplainedPlan::prepare(&mut self.old, &format!("old_{place}"), statement).await;
        }
    }

    async fn fill(&mut self, past: DatabaseHistory) {
        let began = Instant::now();
        let first = match past {
            DatabaseHistory::Idle => 1,
            DatabaseHistory::Young => 900_001,
        };
        self.run(&format!("SET test.first = {first}")).await;
        self.run(include_str!("fill.sql")).await;
        println!("the tables were filled in {:?}", began.elapsed());
    }

    /// Deletes all statistics, as on the first day: PostgreSQL does not know what the tables contain.
    pub(super) async fn forget_statistics(&mut self) {
        self.run("VACUUM (INDEX_CLEANUP on)").await;
        self.run(
            "DELETE FROM pg_statistic; \
             UPDATE pg_class SET reltuples = -1, relpages = 0, relallvisible = 0 \
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')",
        )
        .await;
    }

    pub(super) async fn gather_statistics(&mut self) {
        self.run("VACUUM (ANALYZE, INDEX_CLEANUP on)").await;
    }
}
