//! The database's files in the file system: creates them for their owner alone, and detects whether another file took
//! their place.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

/// The endings of the files that SQLite keeps beside the database while it is open.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The files of one database, as they were when it was opened.
#[derive(Debug)]
pub(super) struct OpenedFiles {
    database: PathBuf,
    identity: Identity,
    /// SQLite creates these files with its first statement, and removes them with its last connection.
    companions: Mutex<[Option<Identity>; COMPANIONS.len()]>,
}

/// Identifies a file independently of its path: device and inode.
type Identity = (u64, u64);

impl OpenedFiles {
    /// Notes which file is at this path. The path is made absolute, so that a renamed folder is noticed.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let database = std::path::absolute(path)?;
        let identity = identity(&fs::metadata(&database)?);
        Ok(Self {
            database,
            identity,
            companions: Mutex::default(),
        })
    }

    /// Returns the path of the database.
    pub(super) fn path(&self) -> &Path {
        &self.database
    }

    /// Returns what happened to the files if they are no longer the opened ones.
    pub(super) fn what_happened(&self) -> io::Result<Option<String>> {
        if let Some(fate) = fate_of(&self.database, self.identity)? {
            return Ok(Some(fate));
        }
        let mut companions = self.companions.lock();
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

/// Returns the path of a file beside the database.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}

/// Returns what happened to this file if another one, or none, is at its path.
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

/// Without inodes, only a missing file is noticed.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0)
}

/// Creates an empty file that only its owner can read, unless the file exists. SQLite gives the files beside a
/// database the same permissions.
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
        // the same file with other content, as after SQLite's own writes
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
