//! Copies the store's file while a relay uses it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use thiserror::Error;

use crate::sqlite::open::open_to_read;

/// The number of pages to copy between two reports of progress: 4 MB.
const PAGES: i32 = 1000;

/// The pause while another process holds a lock on the file.
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no backup.
#[derive(Debug, Error)]
pub enum BackupError {
    /// There is no database to copy.
    #[error("there is no database file {}", .0.display())]
    NoDatabase(PathBuf),
    /// The name of the backup is taken.
    #[error("{} exists already; a backup replaces no file", .0.display())]
    Taken(PathBuf),
    /// The file system refused.
    #[error("{} cannot be written", .0.display())]
    Unwritable(PathBuf, #[source] io::Error),
    /// SQLite could not read the database or write the copy.
    #[error("SQLite cannot copy the database")]
    Uncopied(#[from] rusqlite::Error),
    /// The copy is damaged, so the database probably is too.
    #[error("the copy is not whole: {0}")]
    Damaged(String),
}

/// How far a backup is, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// The pages that were copied.
    pub copied: u64,
    /// All pages of the database.
    pub of: u64,
}

/// A backup that was made and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The number of watches in it.
    pub watches: u64,
    /// The number of watches in it that are open.
    pub open_watches: u64,
}

/// Copies the database at `from` to a new file at `to`. The copy is the state at one moment, whatever a relay writes
/// meanwhile. SQLite checks the copy for damage. Only the owner can read the copy. If the process dies, a file remains
/// whose name ends in `.part`.
pub fn back_up(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupSummary, BackupError> {
    if !from.is_file() {
        return Err(BackupError::NoDatabase(from.to_owned()));
    }
    if to.exists() {
        return Err(BackupError::Taken(to.to_owned()));
    }
    let part = part_of(to);
    create(&part)?;
    let made = copy(from, &part, progress)
        .and_then(|()| examine(&part))
        .and_then(|summary| publish(&part, to).map(|()| summary));
    if made.is_err() && part.exists() {
        // the failure of the backup is what the caller must know
        drop(fs::remove_file(&part));
    }
    made
}

/// Returns where the copy is written until it is whole: no other backup writes there.
fn part_of(to: &Path) -> PathBuf {
    let mut part = OsString::from(to);
    part.push(format!(".{:08x}.part", rand::random::<u32>()));
    PathBuf::from(part)
}

/// Creates an empty file that only its owner can read. Follows no link, and replaces nothing.
fn create(part: &Path) -> Result<(), BackupError> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part);
    let created = created.map_err(|error| BackupError::Unwritable(part.to_owned(), error))?;
    drop(created);
    Ok(())
}

/// Copies all pages. The transaction keeps the state that is read, so that the copy never starts again.
fn copy(
    from: &Path,
    part: &Path,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<(), BackupError> {
    let source = open_to_read(from)?;
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
    let mut target = Connection::open(part)?;
    let backup = Backup::new(&source, &mut target)?;
    loop {
        match backup.step(PAGES)? {
            StepResult::Done => break,
            StepResult::More => {
                let now = backup.progress();
                let pages = |count: i32| u64::try_from(count).unwrap_or(0);
                let (of, left) = (pages(now.pagecount), pages(now.remaining));
                progress(BackupProgress {
                    copied: of.saturating_sub(left),
                    of,
                });
            }
            StepResult::Busy | StepResult::Locked | _ => thread::sleep(PAUSE),
        }
    }
    drop(backup);
    // one file, without a write-ahead log beside it; the relay switches the log on again when it opens the file
    target.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(())
}

/// Checks the copy for damage, and counts what is in it.
fn examine(part: &Path) -> Result<BackupSummary, BackupError> {
    let copy = Connection::open(part)?;
    let word: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if word != "ok" {
        return Err(BackupError::Damaged(word));
    }
    let count = |statement| -> Result<u64, rusqlite::Error> {
        let count: i64 = copy.query_row(statement, [], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    };
    let watches = count("SELECT count(*) FROM watches")?;
    let open_watches = count("SELECT count(*) FROM watches WHERE settled_at IS NULL")?;
    let size = fs::metadata(part);
    let size = size.map_err(|error| BackupError::Unwritable(part.to_owned(), error))?;
    Ok(BackupSummary {
        bytes: size.len(),
        watches,
        open_watches,
    })
}

/// Gives the copy its name once all of it is on the disk.
fn publish(part: &Path, to: &Path) -> Result<(), BackupError> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let publish = || {
        File::open(part)?.sync_all()?;
        // unlike a rename, a link never replaces a file that appeared meanwhile; some file systems have no links
        match fs::hard_link(part, to) {
            Ok(()) => fs::remove_file(part)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists || to.exists() => {
                return Err(error);
            }
            Err(_) => fs::rename(part, to)?,
        }
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    publish().map_err(|error| BackupError::Unwritable(to.to_owned(), error))
}
