//! Temporary databases of both kinds.

use anyhow::{Context, Result, ensure};
use basiq_relay::config::{DatabaseUrl, PostgresUrl};
use sqlx::{
    ConnectOptions, Connection, Executor, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use tokio::process::Command;

/// The kind of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// Returns a query for the numbers from 1 to `last`, in parentheses. Its column is `n`.
    pub(crate) fn numbers(self, last: usize) -> String {
        match self {
            Self::Sqlite => format!(
                "(WITH RECURSIVE k (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < {last}) SELECT n FROM k)"
            ),
            Self::Postgres => format!("(SELECT n FROM generate_series(1, {last}) n)"),
        }
    }
}

/// A temporary PostgreSQL server. It commits to the disk, as a production server does.
pub(crate) struct Server {
    folder: TempDir,
    pub(crate) url: String,
}

/// An empty database and its folder.
pub(crate) struct Database {
    pub(crate) url: DatabaseUrl,
    _folder: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let output = script("start", &folder).output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "PostgreSQL does not start: {told}");
        let url = String::from_utf8(output.stdout)?.trim().to_owned();
        let mut connection = url.parse::<PgConnectOptions>()?.connect().await?;
        for setting in [
            "fsync = on",
            "full_page_writes = on",
            "shared_buffers = '256MB'",
        ] {
            let statement = sqlx::AssertSqlSafe(format!("ALTER SYSTEM SET {setting}"));
            connection.execute(statement).await?;
        }
        drop(connection);
        script("stop", &folder).status().await?;
        script("start", &folder).output().await?;
        Ok(Self { folder, url })
    }

    /// Creates a database and returns its address.
    pub(crate) async fn database(&self, name: &str) -> Result<String> {
        let mut connection = self.url.parse::<PgConnectOptions>()?.connect().await?;
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(create).await?;
        let (base, _) = self.url.rsplit_once('/').context("an address")?;
        Ok(format!("{base}/{name}"))
    }

    /// Creates a database of this kind, for this part of the run.
    pub(crate) async fn empty(&self, kind: Kind, part: &str) -> Result<Database> {
        let folder = tempfile::tempdir()?;
        let url = match kind {
            Kind::Sqlite => DatabaseUrl::Sqlite(folder.path().join("relay.db")),
            Kind::Postgres => {
                let url = self.database(part).await?;
                DatabaseUrl::Postgres(PostgresUrl::parse(&url).map_err(anyhow::Error::msg)?)
            }
        };
        Ok(Database {
            url,
            _folder: folder,
        })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        script("stop", &self.folder).status().await?;
        Ok(())
    }
}

impl Database {
    /// Returns the value for `RELAY_DATABASE_URL`.
    pub(crate) fn setting(&self) -> String {
        match &self.url {
            DatabaseUrl::Sqlite(path) => format!("sqlite://{}", path.display()),
            DatabaseUrl::Postgres(url) => url.expose().to_string(),
        }
    }

    /// Runs statements one after the other.
    pub(crate) async fn run(&self, statements: &[String]) -> Result<()> {
        let statements = sqlx::AssertSqlSafe(statements.join("; "));
        match &self.url {
            DatabaseUrl::Sqlite(path) => {
                let mut connection = SqliteConnectOptions::new().filename(path).connect().await?;
                connection
                    .execute(sqlx::raw_sql(statements))
                    .await
                    .context("SQLite")?;
                connection.close().await?;
            }
            DatabaseUrl::Postgres(url) => {
                let options: PgConnectOptions = url.expose().as_str().parse()?;
                let mut connection = options.connect().await?;
                connection
                    .execute(sqlx::raw_sql(statements))
                    .await
                    .context("PostgreSQL")?;
                connection.close().await?;
            }
        }
        Ok(())
    }
}

fn script(verb: &str, folder: &TempDir) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres"));
    command.arg(verb).arg(folder.path());
    command
}
