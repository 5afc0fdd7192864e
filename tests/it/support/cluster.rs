//! A PostgreSQL server for one test, which the test may stop and start again.

use std::{net::SocketAddr, path::Path, process::Stdio};

use basiq_relay::config::{DatabaseUrl, PostgresUrl};
use sqlx::{ConnectOptions, Row, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::process::Command;

/// A server on loopback. It stops when this value is dropped.
pub(crate) struct Cluster {
    folder: TempDir,
    /// The address of the test's database.
    pub(crate) url: String,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = run("start", folder.path()).await;
        Self { folder, url }
    }

    /// Starts a standby of this server.
    pub(crate) async fn replica(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command("follow", folder.path());
        let url = finish(command.arg(&self.url)).await;
        Self { folder, url }
    }

    /// Returns the address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        let url: url::Url = self.url.parse().unwrap();
        SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()))
    }

    /// Runs a statement on the test's database. Returns the first column of its first row.
    pub(crate) async fn ask(&self, statement: &str) -> String {
        let options: PgConnectOptions = self.url.parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        let row = sqlx::raw_sql(statement).fetch_optional(&mut connection);
        let row = row.await.unwrap();
        let text = row.map(|row| row.try_get_raw(0).unwrap().as_str().unwrap().to_owned());
        text.unwrap_or_default()
    }

    /// Stops the server at once, as a crash would.
    pub(crate) async fn stop(&self) {
        run("stop", self.folder.path()).await;
    }

    pub(crate) async fn start_again(&self) {
        assert_eq!(run("start", self.folder.path()).await, self.url);
    }

    pub(crate) fn database(&self) -> DatabaseUrl {
        DatabaseUrl::Postgres(PostgresUrl::parse(&self.url).unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = command("stop", self.folder.path())
            .into_std()
            .stderr(Stdio::null())
            .status();
        // The test may have stopped the server already.
        drop(stopped);
    }
}

fn command(verb: &str, folder: &Path) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres");
    let mut command = Command::new(script);
    command.arg(verb).arg(folder);
    command
}

async fn run(verb: &str, folder: &Path) -> String {
    finish(&mut command(verb, folder)).await
}

async fn finish(command: &mut Command) -> String {
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
