//! Counts the watches of each client by state as they are added and changed. A trigger counts deleted ones.

use std::collections::BTreeMap;

use relay_domain::WatchState;
use rusqlite::Connection;

use crate::{
    StoreError,
    rows::ColumnReader,
    sqlite::statement::{OwnedRow, execute_each},
};

const LESS: &str = "UPDATE watch_counts SET n = n + ?3 WHERE client_id = ?1 AND state = ?2";

const MORE: &str = "INSERT INTO watch_counts (client_id, state, n) VALUES (?1, ?2, ?3) \
    ON CONFLICT (client_id, state) DO UPDATE SET n = n + excluded.n";

/// How much a transaction changes the stored numbers of watches, by client and state.
#[derive(Default)]
pub(super) struct WatchCounts(BTreeMap<(i64, &'static str), i64>);

impl WatchCounts {
    /// Adds a watch of this client in this state.
    pub(super) fn comes(&mut self, client: i64, state: &'static str) {
        *self.0.entry((client, state)).or_default() += 1;
    }

    /// Moves a watch from the state in its row `was` to another state.
    pub(super) fn changes(
        &mut self,
        was: &OwnedRow,
        state: &'static str,
    ) -> Result<(), StoreError> {
        let watch = ColumnReader::of("watches", "watch_id", was);
        let client = watch.get("client_id")?;
        let left = watch.read("state", WatchState::from_word)?;
        *self.0.entry((client, left.as_str())).or_default() -= 1;
        self.comes(client, state);
        Ok(())
    }

    /// Writes the changes.
    pub(super) fn write(self, connection: &Connection) -> Result<(), StoreError> {
        let changes = self.0.into_iter().filter(|(_, change)| *change != 0);
        let changes = changes.map(|((client, state), change)| (client, state, change));
        let (more, less): (Vec<_>, Vec<_>) = changes.partition(|(_, _, change)| *change > 0);
        execute_each(connection, LESS, less)?;
        execute_each(connection, MORE, more)?;
        Ok(())
    }
}
