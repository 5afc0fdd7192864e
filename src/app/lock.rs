//! Allows one relay for each SQLite file. A second relay on the same file would take over the first one's work.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};

use crate::{
    app::database::check_folder,
    config::{DatabaseUrl, StoreConfig},
};

/// Locks the store until the returned file is dropped. The system frees the lock when the process dies.
///
/// The lock is a file beside the database; only its owner can read it. Fails if another relay holds the lock. Returns
/// none for PostgreSQL, which relays may share.
pub(super) fn hold(config: &StoreConfig) -> Result<Option<File>> {
    let database = match &config.database {
        DatabaseUrl::Sqlite(database) => database,
        DatabaseUrl::Postgres(_) => return Ok(None),
    };
    check_folder(database)?;
    let mut path = database.clone().into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).with_context(|| {
        format!(
            "the database {} cannot be opened: its lock file {} cannot be written (may this user write in that \
             directory?)",
            database.display(),
            path.display()
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
