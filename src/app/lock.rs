//! One relay a file: a second one on the same SQLite store would take over the first one's work.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};

use crate::config::{DatabaseUrl, StoreConfig};

/// Holds the lock beside the store's file until it is dropped; the system frees it when the process
/// dies. Fails if another relay holds it. Only its owner can read it. A store that relays may share has none.
pub(super) fn hold(config: &StoreConfig) -> Result<Option<File>> {
    let database = match &config.database {
        DatabaseUrl::Sqlite(database) => database,
        DatabaseUrl::Postgres(_) => return Ok(None),
    };
    let mut path = database.clone().into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).with_context(|| {
        format!(
            "the database {} cannot be opened: no lock beside it",
            database.display()
        )
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another relay runs on {}; stop it first",
                database.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", path.display()))
        }
    }
}
