//! Salvages a batch from a damaged file: does the work without the items that meet damage.
//!
//! SQLite commits nothing of a transaction that met damage. So each part of the batch is its own unit of work, and
//! the writer gives each unit its own transaction once damage is known.

use std::{ops::Range, sync::Arc};

use rusqlite::{Connection, Params, types::FromSql};

use crate::{
    StoreError,
    sqlite::{SqliteStore, statement::SqlResult},
};

/// How much a unit of work writes to a damaged file. What is left out cannot meet damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordScope {
    /// All that there is to write.
    Everything,
    /// No counts of watches, no durations and no failures of connections.
    WithoutStatistics,
    /// No statistics, and the watch's own row stays as it is. To change that row, SQLite may have to move rows to a
    /// neighbouring page, which is damaged. Each event is still stored once, since its id derives from the watch.
    WithoutWatchRow,
}

impl RecordScope {
    /// The smaller scopes of a look, in the order in which they are tried.
    pub(super) const SMALLER_OF_LOOK: &'static [Self] =
        &[Self::WithoutStatistics, Self::WithoutWatchRow];
}

/// The result of a batch.
pub(super) struct Salvaged<T> {
    /// The results of the parts that met no damage.
    pub(super) done: Vec<T>,
    /// The indexes of the items that met damage. Nothing was done about them.
    pub(super) damaged: Vec<usize>,
}

impl SqliteStore {
    /// Does work for a whole batch. If it meets damage, halves the batch until only the damaged items are left out.
    /// A single item that meets damage is tried again with each of the `smaller` scopes.
    pub(super) async fn each_undamaged<I, T, W>(
        &self,
        items: &Arc<[I]>,
        smaller: &[RecordScope],
        work: W,
    ) -> Result<Salvaged<T>, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        W: Fn(&Connection, &[I], RecordScope) -> Result<T, StoreError>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let mut salvaged = Salvaged {
            done: Vec::new(),
            damaged: Vec::new(),
        };
        let whole = 0..items.len();
        let mut parts = Vec::from([whole]);
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.part(items, part.clone(), smaller, work.clone()).await {
                Ok(done) => salvaged.done.push(done),
                Err(failure) if failure.is_damage() => match part.len() {
                    1 => salvaged.damaged.push(part.start),
                    many => {
                        let middle = part.start + many / 2;
                        parts.extend([middle..part.end, part.start..middle]);
                    }
                },
                Err(failure) => return Err(failure),
            }
        }
        Ok(salvaged)
    }

    /// Does work for a part of a batch. Only a single item is tried with `smaller` scopes.
    async fn part<I, T, W>(
        &self,
        items: &Arc<[I]>,
        part: Range<usize>,
        smaller: &[RecordScope],
        work: W,
    ) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        W: Fn(&Connection, &[I], RecordScope) -> Result<T, StoreError>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let unit = |scope| {
            let (items, part, work) = (Arc::clone(items), part.clone(), work.clone());
            move |connection: &Connection| {
                let items = items.get(part).unwrap_or_default();
                work(connection, items, scope)
            }
        };
        let mut done = self.write(unit(RecordScope::Everything)).await;
        for scope in smaller {
            match done {
                Err(failure) if failure.is_damage() && part.len() == 1 => {
                    done = self.write(unit(*scope)).await;
                }
                done => return done,
            }
        }
        done
    }
}

/// Returns the default value if optional work met damage.
pub(super) fn skip_damage<T: Default>(done: Result<T, StoreError>) -> Result<T, StoreError> {
    match done {
        Err(failure) if failure.is_damage() => Ok(T::default()),
        done => done,
    }
}

/// Returns the only column of the rows that two statements find. If the first meets damage, the second reads the same
/// rows in the opposite order, up to the damage. A row that both find counts once.
pub(super) fn readable<T: FromSql + PartialEq>(
    connection: &Connection,
    statements: [&str; 2],
    values: impl Params + Copy,
) -> Result<Vec<T>, StoreError> {
    let mut found: Vec<T> = Vec::new();
    for statement in statements {
        let read = read_on(connection, statement, values, &mut found).map_err(StoreError::from);
        match read {
            Err(failure) if failure.is_damage() => {}
            done => return done.map(|()| found),
        }
    }
    Ok(found)
}

fn read_on<T: FromSql + PartialEq>(
    connection: &Connection,
    statement: &str,
    values: impl Params,
    found: &mut Vec<T>,
) -> SqlResult<()> {
    let mut statement = connection.prepare_cached(statement)?;
    let mut rows = statement.query(values)?;
    while let Some(row) = rows.next()? {
        let one = row.get(0)?;
        if !found.contains(&one) {
            found.push(one);
        }
    }
    Ok(())
}
