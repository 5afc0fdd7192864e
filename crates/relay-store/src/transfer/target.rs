//! The PostgreSQL database to move to: one transaction, during which nobody else writes.

use sqlx::{Postgres, QueryBuilder};

use crate::{
    StoreError,
    postgres::{OpenTransaction, PgStore},
    transfer::{TransferError, batch::RowBatch, tables::TABLES},
};

/// The transaction waits at most five seconds for a lock that somebody else holds. Its own statements have no
/// time limit.
const LIMITS: [&str; 2] = [
    "SET LOCAL lock_timeout = '5s'",
    "SET LOCAL statement_timeout = 0",
];

/// Fills the tables that list rare states. SQLite has indexes in their place.
const DERIVED: [&str; 2] = [
    "INSERT INTO unsettled_watches (client_id, state, watch_id, job_id, url_hash) \
     SELECT client_id, state, watch_id, job_id, decode(md5(callback_url), 'hex') FROM watches \
     WHERE state <> 'settled'",
    "INSERT INTO undelivered_events (client_id, state, updated_at, event_id) \
     SELECT client_id, state, updated_at, event_id FROM events \
     WHERE state IN ('dead', 'expired', 'superseded', 'cancelled')",
];

/// Makes the numbers of new clients follow those that were moved. The change is not undone if the transaction
/// fails, which does no harm.
const NUMBER_ON: &str = "SELECT setval(pg_get_serial_sequence('clients', 'client_id'), \
    max(client_id)) FROM clients HAVING max(client_id) IS NOT NULL";

/// A database that was empty when the transfer began. Dropped without a commit, it is empty again.
#[derive(Debug)]
pub(super) struct TransferTarget(OpenTransaction);

impl TransferTarget {
    /// Keeps others from writing, and checks that all tables are empty.
    pub(super) async fn begin(store: &PgStore) -> Result<Self, TransferError> {
        let mut target = Self(store.begin().await?);
        for limit in LIMITS {
            target.run(QueryBuilder::new(limit)).await?;
        }
        let mut lock = on_all("LOCK TABLE ");
        lock.push(" IN SHARE ROW EXCLUSIVE MODE");
        target.run(lock).await?;
        for table in &TABLES {
            if target.has_any(table.name).await? {
                return Err(TransferError::NotEmpty(table.name));
            }
        }
        Ok(target)
    }

    /// Writes the rows of a batch.
    pub(super) async fn add(&mut self, batch: &mut RowBatch) -> Result<(), StoreError> {
        self.run(batch.insert()).await
    }

    /// Returns the number of rows in a table.
    pub(super) async fn count(&mut self, table: &'static str) -> Result<i64, StoreError> {
        let mut statement = QueryBuilder::<Postgres>::new("SELECT count(*) FROM ");
        let statement = statement.push(table).build_query_scalar();
        Ok(statement.fetch_one(&mut self.0.session()).await?)
    }

    /// Returns the result of a statement that counts.
    pub(super) async fn count_by(&mut self, statement: &'static str) -> Result<i64, StoreError> {
        let mut session = self.0.session();
        let count = sqlx::query_scalar(statement).fetch_one(&mut session);
        Ok(count.await?)
    }

    /// Fills the derived tables, sets the numbering of clients, gathers statistics, and commits.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        for statement in DERIVED {
            self.run(QueryBuilder::new(statement)).await?;
        }
        self.run(QueryBuilder::new(NUMBER_ON)).await?;
        // the planner has no statistics yet on rows that came all at once
        self.run(on_all("ANALYZE ")).await?;
        self.0.commit().await
    }

    /// Rolls back, which leaves the database as it was.
    pub(super) async fn roll_back(self) -> Result<(), StoreError> {
        self.0.roll_back().await
    }

    async fn has_any(&mut self, table: &'static str) -> Result<bool, StoreError> {
        let mut statement = QueryBuilder::<Postgres>::new("SELECT EXISTS (SELECT 1 FROM ");
        let statement = statement.push(table).push(")").build_query_scalar();
        Ok(statement.fetch_one(&mut self.0.session()).await?)
    }

    async fn run(&mut self, mut statement: QueryBuilder<Postgres>) -> Result<(), StoreError> {
        statement.build().execute(&mut self.0.session()).await?;
        Ok(())
    }
}

/// Returns a statement that names all tables after `what`.
fn on_all(what: &'static str) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(what);
    let mut names = statement.separated(", ");
    for table in &TABLES {
        names.push(table.name);
    }
    statement
}
