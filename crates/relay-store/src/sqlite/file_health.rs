//! Whether the database file is still the one that was opened, and whether it is undamaged.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, OnceLock},
};

use parking_lot::{Mutex, MutexGuard};
use relay_domain::ErrorChain;
use tracing::error;

use crate::{StoreError, rows::IdBytes, sqlite::file_identity::OpenedFiles};

/// The maximum number of rows of one kind that are skipped because of damage.
pub(super) const MAX_SKIPPED: usize = 100_000;

/// The known faults of the file. Clones share them, and none is forgotten until the store is opened again.
#[derive(Debug, Clone)]
pub(super) struct FileHealth(Arc<FileState>);

#[derive(Debug)]
struct FileState {
    files: OpenedFiles,
    /// What happened to the file.
    lost: OnceLock<String>,
    /// The first damage that was met.
    damage: OnceLock<String>,
    skipped_rows: Mutex<SkippedRows>,
}

/// Due work that cannot even be put off, because its own row or index is damaged.
#[derive(Debug, Default)]
pub(super) struct SkippedRows {
    /// Numbers of jobs.
    pub(super) jobs: HashSet<i64>,
    /// Watches whose events in the outbox are skipped.
    pub(super) events_of: HashSet<IdBytes>,
    /// People whose lists are skipped, as bytes.
    pub(super) lists: HashSet<Vec<u8>>,
    /// Numbers of the rows of banks.
    pub(super) banks: HashSet<i64>,
}

impl FileHealth {
    /// Starts without any known fault of the file at this path.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let files = OpenedFiles::at(path).map_err(sqlx::Error::Io)?;
        Ok(Self(Arc::new(FileState {
            files,
            lost: OnceLock::new(),
            damage: OnceLock::new(),
            skipped_rows: Mutex::default(),
        })))
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        self.0.files.path()
    }

    /// Fails once the file was found to be another one: later writes would be lost at the next start.
    pub(super) fn ensure_in_place(&self) -> Result<(), StoreError> {
        match self.0.lost.get() {
            Some(fate) => Err(StoreError::unavailable(fate.as_str())),
            None => Ok(()),
        }
    }

    /// Fails if the file at the path is not the one that was opened. Remembers it.
    pub(super) fn check_place(&self) -> Result<(), StoreError> {
        self.ensure_in_place()?;
        match self.0.files.what_happened() {
            Ok(None) => Ok(()),
            Ok(Some(fate)) => {
                let mut is_news = false;
                let fate = self.0.lost.get_or_init(|| {
                    is_news = true;
                    fate
                });
                if is_news {
                    error!(
                        error = fate,
                        "the database file was removed, moved or replaced: nothing is acknowledged until a restart"
                    );
                    metrics::gauge!("relay_store_file_lost").set(1.0);
                }
                self.ensure_in_place()
            }
            Err(error) => Err(sqlx::Error::Io(error).into()),
        }
    }

    /// Notes a failure if it is damage.
    pub(super) fn note(&self, failure: &StoreError) {
        if !failure.is_damage() {
            return;
        }
        metrics::counter!("relay_store_damage_total").increment(1);
        let mut is_news = false;
        let what = self.0.damage.get_or_init(|| {
            is_news = true;
            let what = ErrorChain(failure).to_string();
            let sources = what.strip_prefix("the database is damaged: ");
            sources.unwrap_or(&what).to_owned()
        });
        if is_news {
            error!(
                error = what,
                "the database is damaged: restore a backup, or recover what is readable with SQLite's .recover"
            );
        }
    }

    /// Notes the findings of an examination of the whole file.
    pub(super) fn note_findings(&self, findings: String) {
        self.note(&StoreError::damaged(findings));
    }

    /// Fails once damage was met: later writes might never be readable.
    pub(super) fn ensure_undamaged(&self) -> Result<(), StoreError> {
        match self.0.damage.get() {
            Some(what) => Err(StoreError::damaged(what.as_str())),
            None => Ok(()),
        }
    }

    /// Returns the rows that are skipped.
    pub(super) fn skipped_rows(&self) -> MutexGuard<'_, SkippedRows> {
        self.0.skipped_rows.lock()
    }
}

impl SkippedRows {
    /// Skips a job until the next start.
    pub(super) fn skip_job(&mut self, number: i64) {
        if self.jobs.len() < MAX_SKIPPED {
            self.jobs.insert(number);
        }
    }

    /// Skips the event of a watch until the next start.
    pub(super) fn skip_event_of(&mut self, watch: IdBytes) {
        if self.events_of.len() < MAX_SKIPPED {
            self.events_of.insert(watch);
        }
    }
}
