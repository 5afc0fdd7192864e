//! The SQLite file that is moved: one unchanging view of it, on a read-only connection.

use std::{collections::HashMap, path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Connection, QueryBuilder, Row, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::{StoreError, sqlite::open::MIGRATIONS, transfer::TransferError};

/// How long SQLite waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An unchanging view of a relay's file.
#[derive(Debug)]
pub(super) struct TransferSource {
    connection: SqliteConnection,
    /// The value of `PRAGMA data_version`, which changes with every commit of another connection.
    version: i64,
}

impl TransferSource {
    /// Opens a file that has exactly the migrations of this version.
    pub(super) async fn open(path: &Path) -> Result<Self, TransferError> {
        let mut connection = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(StoreError::from)?;
        run(&mut connection, "BEGIN").await?;
        check(&mut connection).await?;
        let version = version(&mut connection).await?;
        Ok(Self {
            connection,
            version,
        })
    }

    /// Returns the connection on which the view is open.
    pub(super) fn view(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Returns the number of rows in a table.
    pub(super) async fn count(&mut self, table: &'static str) -> Result<i64, StoreError> {
        let mut statement = QueryBuilder::<Sqlite>::new("SELECT count(*) FROM ");
        let statement = statement.push(table).build_query_scalar();
        Ok(statement.fetch_one(&mut self.connection).await?)
    }

    /// Returns the result of a statement that counts.
    pub(super) async fn count_by(&mut self, statement: &'static str) -> Result<i64, StoreError> {
        one(&mut self.connection, statement).await
    }

    /// Ends the view. Fails if another connection changed the file since the view began.
    pub(super) async fn close(mut self) -> Result<(), TransferError> {
        run(&mut self.connection, "COMMIT").await?;
        let version = version(&mut self.connection).await?;
        self.connection.close().await.map_err(StoreError::from)?;
        if version == self.version {
            Ok(())
        } else {
            Err(TransferError::Changed)
        }
    }
}

/// Checks that the file has exactly the migrations of this version.
async fn check(connection: &mut SqliteConnection) -> Result<(), TransferError> {
    let known = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
    let known: i64 = one(connection, known).await?;
    if known == 0 {
        return Err(TransferError::NoRelay);
    }
    let run = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await
        .map_err(StoreError::from)?;
    let run = run.iter().map(migration).collect::<Result<Vec<_>, _>>();
    let mut run: HashMap<_, _> = run.map_err(StoreError::from)?.into_iter().collect();
    for migration in MIGRATIONS.iter() {
        match run.remove(&migration.version) {
            None => return Err(TransferError::Older),
            Some(checksum) if checksum == *migration.checksum => {}
            Some(_) => return Err(TransferError::NoRelay),
        }
    }
    if run.is_empty() {
        Ok(())
    } else {
        Err(TransferError::Newer)
    }
}

fn migration(row: &SqliteRow) -> Result<(i64, Vec<u8>), sqlx::Error> {
    Ok((row.try_get("version")?, row.try_get("checksum")?))
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    one(connection, "PRAGMA data_version").await
}

async fn one(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(statement).fetch_one(connection).await?)
}

async fn run(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await?;
    Ok(())
}
