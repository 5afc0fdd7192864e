//! Statements on a connection, sent so that a pooler in transaction mode may stand in between.
//!
//! sqlx names each prepared statement by counting on its connection. A pooler in transaction mode gives a
//! server's connection to one client after the other, so the same names meet there. Without a name nothing
//! is left behind, but then preparing and running a statement must not be separated: both happen in one
//! transaction.

use futures_util::{future::BoxFuture, stream::BoxStream};
use sqlx::{
    ConnectOptions, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    Transaction,
    error::BoxDynError,
    postgres::{PgArguments, PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use crate::store::StoreError;

/// The parameter of an address that says how many prepared statements a connection keeps.
const CAPACITY: &str = "statement-cache-capacity";

/// Whether prepared statements have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Statements {
    /// Each connection keeps them and runs them again by their names.
    Named,
    /// None is kept: a pooler in transaction mode may stand in between.
    Unnamed,
}

impl Statements {
    /// Without names where no connection is to keep any.
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
pub(in crate::store) struct PgSession<'c> {
    connection: &'c mut PgConnection,
    statements: Statements,
}

impl<'c> PgSession<'c> {
    /// A session on this connection, on which a transaction is open.
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

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection.describe(sql)
    }
}

/// A query that is prepared with a name, or without.
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

/// A transaction that lasts for several calls. Dropped without a commit it changes nothing.
#[derive(Debug)]
pub(in crate::store) struct OpenTransaction {
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

    /// The session to send statements in.
    pub(in crate::store) fn session(&mut self) -> PgSession<'_> {
        PgSession::new(&mut self.transaction, self.statements)
    }

    /// Keeps what was done.
    pub(in crate::store) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }

    /// Undoes what was done.
    pub(in crate::store) async fn roll_back(self) -> Result<(), StoreError> {
        Ok(self.transaction.rollback().await?)
    }
}
