//! Examines the whole file at the start, so that damage is known before somebody relies on what is stored.

use std::{path::Path, thread};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::warn;

use crate::{
    domain::ErrorChain,
    store::{
        StoreError,
        sqlite::{
            SqliteStore, file_health::FileHealth, open::open_to_read, statement::scalars, tell,
        },
    },
};

/// The most findings that are told; more say nothing new.
const FINDINGS: &str = "PRAGMA quick_check(5)";

/// What SQLite says of a file in which it finds nothing.
const WHOLE: &str = "ok";

/// Begins to examine the file, on a thread and a connection of its own: reading all of it takes a while. The answer
/// comes at the end; what was found is noted before, whether somebody waits for it or not.
pub(super) fn begin(store: &SqliteStore) -> Result<oneshot::Receiver<()>, StoreError> {
    let (caller, answer) = oneshot::channel();
    let (health, path) = (store.0.health.clone(), store.0.health.path().to_owned());
    thread::Builder::new()
        .name("store examiner".to_owned())
        .spawn(move || {
            examine(&health, &path);
            tell(caller, ());
        })
        .map_err(sqlx::Error::Io)?;
    Ok(answer)
}

fn examine(health: &FileHealth, path: &Path) {
    let findings = open_to_read(path)
        .map_err(StoreError::from)
        .and_then(|connection| findings(&connection));
    match findings {
        Ok(None) => {}
        Ok(Some(findings)) => health.note_findings(findings),
        Err(failure) if failure.is_damage() => health.note(&failure),
        Err(failure) => warn!(
            error = %ErrorChain(&failure),
            "the database could not be examined"
        ),
    }
}

fn findings(connection: &Connection) -> Result<Option<String>, StoreError> {
    let found = scalars::<String>(connection, FINDINGS, [])?;
    let is_whole = found.len() == 1 && found.iter().all(|line| line == WHOLE);
    let in_one_line = || found.join("; ").replace('\n', " ");
    Ok((!is_whole).then(in_one_line))
}
