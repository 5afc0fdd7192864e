//! Logs what an operator should know about a relay that starts, one line for each fact.

use std::{net::SocketAddr, path::Path};

use tracing::{info, warn};

use crate::config::{DatabaseUrl, Settings};

/// The endings of the paths of the database's file and the files beside it.
const FILES: [&str; 4] = ["", "-wal", "-shm", ".lock"];

/// Logs the addresses that the relay serves, and the protections that its settings leave off.
pub(super) fn announce(settings: &Settings, listen: SocketAddr, metrics: Option<SocketAddr>) {
    if let DatabaseUrl::Sqlite(path) = &settings.store.database {
        warn_of_readers(path);
    }
    if settings.development {
        warn!("development mode: local callbacks over plain HTTP, quick retries, no paused hosts");
    }
    if settings.store.encryption_key.is_none() {
        info!("signing secrets are stored unencrypted: RELAY_ENCRYPTION_KEY is not set");
    }
    if settings.delivery.allow_http && !settings.development {
        info!("callbacks over plain HTTP are allowed: RELAY_CALLBACK_ALLOW_HTTP is set");
    }
    let base = format!("http://{listen}");
    let console = settings.server.has_operators();
    info!(
        %listen,
        docs = format!("{base}/docs"),
        console = console.then(|| format!("{base}/console")),
        metrics = format!("http://{}/metrics", metrics.unwrap_or(listen)),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
}

/// Warns if others can read or write the database's files. Files that were created earlier or copied may have other
/// permissions than the relay sets.
#[cfg(unix)]
fn warn_of_readers(database: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let readable = FILES.iter().filter_map(|ending| {
        let mut path = database.as_os_str().to_owned();
        path.push(ending);
        let found = std::fs::metadata(Path::new(&path)).ok()?;
        let by_others = found.permissions().mode() & 0o077 != 0;
        by_others.then(|| path.display().to_string())
    });
    let readable = readable.collect::<Vec<_>>().join(", ");
    if !readable.is_empty() {
        warn!(
            files = readable,
            "others on this machine can read or write the database's files"
        );
    }
}

/// Checks nothing: other systems have their own permissions.
#[cfg(not(unix))]
fn warn_of_readers(_: &Path) {}
