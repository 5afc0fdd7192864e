//! A PgBouncer in transaction mode for one test, in front of the PostgreSQL server for tests.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::database::server;

/// A pooler on loopback, configured as the documentation says. It stops when this value is dropped.
pub(crate) struct Pooler {
    folder: TempDir,
    /// The address that relays connect to.
    pub(crate) url: url::Url,
}

impl Pooler {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command("start", &folder);
        let output = command.arg(server().as_str()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {told}");
        let url = String::from_utf8(output.stdout).unwrap();
        Self {
            folder,
            url: url.trim().parse().unwrap(),
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let stopped = command("stop", &self.folder).stderr(Stdio::null()).status();
        drop(stopped);
    }
}

fn command(verb: &str, folder: &TempDir) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pgbouncer");
    let mut command = Command::new(script);
    command.arg(verb).arg(folder.path());
    command
}
