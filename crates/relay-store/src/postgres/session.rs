//! Sends statements on a connection, so that a pooler in transaction mode may be in between.
//!
//! sqlx names each prepared statement with a counter of its connection. A pooler in transaction mode gives a
//! server connection to one client after the other, so equal names collide there. A statement without a name
//! leaves nothing behind. But preparing and running it must not be separated, so both happen in one transaction.

use futures_util::{future::BoxFuture, stream::BoxStream};
use sqlx::{
    ConnectOptions, Either, Execute, Executor, PgConnection, Postgres, SqlStr, Transaction,
    error::BoxDynError,
    postgres::{PgArguments, PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use crate::StoreError;

/// The parameter of a connection URL that sets how many prepared statements a connection keeps.
const CAPACITY: &str = "statement-cache-capacity";

/// Whether prepared statements have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statements {
    /// Each connection keeps its statements and runs them again by name.
    Named,
    /// No statement is kept, so a pooler in transaction mode may be in between.
    Unnamed,
}

impl Statements {
    /// Returns `Unnamed` if the connection URL says that no statement is kept.
    pub(super) fn of(options: &PgConnectOptions) -> Self {
        let address = options.to_url_lossy();
        let mut parameters = address.query_pairs();
        if parameters.any(|(name, value)| name == CAPACITY && value == "0") {
            Self::Unnamed
        } else {
            Self::Named
        }
    }
}

/// A connection on which a transaction is open.
#[derive(Debug)]
pub(crate) struct PgSession<'c> {
    connection: &'c mut PgConnection,
    statements: Statements,
}

impl<'c> PgSession<'c> {
    /// Creates a session on a connection that has an open transaction.
    pub(super) fn new(connection: &'c mut PgConnection, statements: Statements) -> Self {
        Self {
            connection,
            statements,
        }
    }

    fn sent<E>(&self, query: E) -> Sent<E> {
        Sent {
            query,
            statements: self.statements,
        }
    }
}

impl<'c, 's: 'c> Executor<'c> for &'c mut PgSession<'s> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = self.sent(query);
        self.connection.fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = self.sent(query);
        self.connection.fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection.prepare_with(sql, parameters)
    }
}

/// A query that is prepared with or without a name.
struct Sent<E> {
    query: E,
    statements: Statements,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Sent<E> {
    fn sql(self) -> SqlStr {
        self.query.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.statements == Statements::Named && self.query.persistent()
    }
}

/// A transaction that lasts for several calls. Dropped without a commit, it changes nothing.
#[derive(Debug)]
pub(crate) struct OpenTransaction {
    transaction: Transaction<'static, Postgres>,
    statements: Statements,
}

impl OpenTransaction {
    pub(super) fn new(transaction: Transaction<'static, Postgres>, statements: Statements) -> Self {
        Self {
            transaction,
            statements,
        }
    }

    /// Returns a session that sends statements in this transaction.
    pub(crate) fn session(&mut self) -> PgSession<'_> {
        PgSession::new(&mut self.transaction, self.statements)
    }

    /// Commits the transaction.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }

    /// Rolls the transaction back.
    pub(crate) async fn roll_back(self) -> Result<(), StoreError> {
        Ok(self.transaction.rollback().await?)
    }
}
