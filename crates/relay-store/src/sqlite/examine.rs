//! Examines the whole file at the start, so that damage is known before anybody relies on the stored data.

use std::{path::Path, thread};

use relay_domain::ErrorChain;
use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::warn;

use crate::{
    StoreError,
    batch::send_answer,
    sqlite::{SqliteStore, file_health::FileHealth, open::open_to_read, statement::scalars},
};

/// Reports at most five findings, because more say nothing new.
const FINDINGS: &str = "PRAGMA quick_check(5)";

/// SQLite's only line about a file without damage.
const UNDAMAGED: &str = "ok";

/// Begins to examine the file on its own thread and connection, since reading all of it takes a while. The receiver
/// gets its message at the end. Findings are noted before that, even if nobody waits.
pub(super) fn begin(store: &SqliteStore) -> Result<oneshot::Receiver<()>, StoreError> {
    let (caller, answer) = oneshot::channel();
    let (health, path) = (store.0.health.clone(), store.0.health.path().to_owned());
    thread::Builder::new()
        .name("store examiner".to_owned())
        .spawn(move || {
            examine(&health, &path);
            send_answer(caller, ());
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
    let is_undamaged = found.len() == 1 && found.iter().all(|line| line == UNDAMAGED);
    let in_one_line = || found.join("; ").replace('\n', " ");
    Ok((!is_undamaged).then(in_one_line))
}
