//! Single statements: the connection pool as an sqlx executor.

use futures_util::{
    StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Connection, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use crate::{
    error::is_lost,
    postgres::{
        pool::ConnectionPool,
        session::{PgSession, Statements},
    },
};

/// The database's response to a statement.
type Answer = Vec<Either<PgQueryResult, PgRow>>;

impl ConnectionPool {
    /// Runs one statement on any connection.
    async fn alone<'q, E: 'q + Execute<'q, Postgres>>(
        &self,
        query: E,
    ) -> Result<Answer, sqlx::Error> {
        let mut connection = self.acquire().await?;
        let done = match self.statements() {
            Statements::Named => connection.fetch_many(query).try_collect().await,
            Statements::Unnamed => in_transaction(&mut connection, query).await,
        };
        done.inspect_err(|error| {
            if is_lost(error) {
                connection.close_on_drop();
                self.evict(error);
            }
        })
    }
}

/// Runs an unnamed statement in a transaction. A pooler then keeps the server connection on which the statement
/// was prepared.
async fn in_transaction<'q, E: 'q + Execute<'q, Postgres>>(
    connection: &mut PgConnection,
    query: E,
) -> Result<Answer, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let mut session = PgSession::new(&mut transaction, Statements::Unnamed);
    let answer = session.fetch_many(query).try_collect().await?;
    transaction.commit().await?;
    Ok(answer)
}

impl<'c> Executor<'c> for &'c ConnectionPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        stream::once(self.alone(query))
            .map_ok(|answer| stream::iter(answer.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let answer = self.alone(query).await?;
            Ok(answer.into_iter().find_map(Either::right))
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }
}
