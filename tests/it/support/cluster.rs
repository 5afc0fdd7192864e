//! A PostgreSQL server of one test's own, which it may stop and start again.

use std::{path::Path, process::Stdio};

use basiq_relay::config::{DatabaseUrl, PostgresUrl};
use tempfile::TempDir;
use tokio::process::Command;

/// A server on loopback. It ends with the test.
pub(crate) struct Cluster {
    folder: TempDir,
    /// The address of its own database.
    pub(crate) url: String,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = run("start", folder.path()).await;
        Self { folder, url }
    }

    /// Stops it at once, as a crash would.
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
        // it may have been stopped by the test
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
    let output = command(verb, folder).output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tests/postgres {verb}: {told}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
