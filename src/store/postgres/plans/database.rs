//! A database for one test, filled with a million rows of each kind.

use std::{panic::AssertUnwindSafe, time::Instant};

use futures_util::FutureExt;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Postgres, pool::PoolConnection, postgres::PgConnectOptions,
};
use uuid::Uuid;

use crate::store::postgres::{
    migrate,
    pool::{BEGIN, Pool},
};

/// A full database, and a connection to it as a relay has them.
pub(super) struct Database {
    pub(super) connection: PoolConnection<Postgres>,
}

/// Makes a database, fills it, has it looked at, and drops it whatever comes of that.
pub(super) async fn on_full_tables(look: impl AsyncFnOnce(&mut Database)) {
    let server = server();
    let name = format!("test_{}", Uuid::new_v4().simple());
    run(&server, &format!("CREATE DATABASE {name}")).await;
    let pool = Pool::new(server.clone().database(&name));
    let looked = AssertUnwindSafe(async {
        migrate::run(pool.all()).await.unwrap();
        let connection = pool.all().acquire().await.unwrap();
        let mut database = Database { connection };
        database.fill().await;
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
    let mut connection = server.connect().await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection);
    done.await.unwrap();
}

impl Database {
    pub(super) async fn run(&mut self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        let done = sqlx::raw_sql(statements).execute(&mut *self.connection);
        done.await.unwrap();
    }

    /// Sets for the session what is set for each transaction.
    pub(super) async fn plan_as_in_transactions(&mut self) {
        let settings = BEGIN.replace("BEGIN; ", "").replace("SET LOCAL", "SET");
        self.run(&settings).await;
    }

    /// Sets nothing, as for statements that are in no transaction.
    pub(super) async fn plan_as_alone(&mut self) {
        self.run("RESET ALL").await;
    }

    async fn fill(&mut self) {
        let began = Instant::now();
        self.run(include_str!("fill.sql")).await;
        println!("the tables were filled in {:?}", began.elapsed());
    }

    /// As on the first day: PostgreSQL does not know what is in the tables.
    pub(super) async fn forget_statistics(&mut self) {
        self.run("VACUUM").await;
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
