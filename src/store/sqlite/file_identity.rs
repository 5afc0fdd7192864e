//! The database's files as the file system knows them: made for their owner alone, and told apart from others that
//! take their place.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The files beside the database that SQLite works with while it is open.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The files of one database, as they were when it was opened.
#[derive(Debug)]
pub(super) struct OpenedFiles {
    database: PathBuf,
    identity: Identity,
    /// SQLite makes these with its first statement, and removes them with its last connection.
    companions: Mutex<[Option<Identity>; COMPANIONS.len()]>,
}

/// Names a file, whatever its path is: device and inode.
type Identity = (u64, u64);

impl OpenedFiles {
    /// Notes which file is at this path. The path is made absolute, so that a renamed folder shows.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let database = std::path::absolute(path)?;
        let identity = identity(&fs::metadata(&database)?);
        Ok(Self {
            database,
            identity,
            companions: Mutex::default(),
        })
    }

    /// Where the database is.
    pub(super) fn path(&self) -> &Path {
        &self.database
    }

    /// What became of the files, if they are not the ones any more that were opened.
    pub(super) fn what_happened(&self) -> io::Result<Option<String>> {
        if let Some(fate) = fate_of(&self.database, self.identity)? {
            return Ok(Some(fate));
        }
        // each change is a single step, so the data is consistent even if the lock is poisoned
        let mut companions = self
            .companions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (ending, known) in COMPANIONS.iter().zip(companions.iter_mut()) {
            let path = beside(&self.database, ending);
            let Some(known) = known else {
                *known = find(&path)?;
                continue;
            };
            if let Some(fate) = fate_of(&path, *known)? {
                return Ok(Some(fate));
            }
        }
        Ok(None)
    }
}

/// A file beside the database.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}

/// What became of a file that was this one.
fn fate_of(path: &Path, known: Identity) -> io::Result<Option<String>> {
    let fate = match find(path)? {
        Some(found) if found == known => return Ok(None),
        Some(_) => "was replaced by another file",
        None => "was removed or moved away",
    };
    Ok(Some(format!("{} {fate}", path.display())))
}

fn find(path: &Path) -> io::Result<Option<Identity>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(identity(&found))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn identity(file: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// Where files have no number, only one that is gone shows.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0)
}

/// Makes an empty file that only its owner can read, unless there is one. SQLite gives the files beside a database
/// the rights of the database.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_removed_replaced_or_whose_folder_is_renamed_is_not_the_one_that_was_opened() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("data");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("relay.db");
        let wal = folder.join("relay.db-wal");
        let open = || {
            fs::write(&path, "a database").unwrap();
            fs::write(&wal, "a log").unwrap();
            let files = OpenedFiles::at(&path).unwrap();
            assert_eq!(files.what_happened().unwrap(), None);
            files
        };
        let files = open();
        // the same file with other content, as its own writes are
        fs::write(&path, "more").unwrap();
        assert_eq!(files.what_happened().unwrap(), None);
        fs::remove_file(&wal).unwrap();
        let told = files.what_happened().unwrap().unwrap();
        assert!(told.ends_with("relay.db-wal was removed or moved away"));
        let files = open();
        fs::write(folder.join("backup"), "another").unwrap();
        fs::rename(folder.join("backup"), &path).unwrap();
        let told = files.what_happened().unwrap().unwrap();
        assert!(told.ends_with("relay.db was replaced by another file"));
        let files = open();
        fs::rename(&folder, home.path().join("elsewhere")).unwrap();
        let told = files.what_happened().unwrap().unwrap();
        assert!(told.ends_with("relay.db was removed or moved away"));
    }
}
