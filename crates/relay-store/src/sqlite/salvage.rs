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

/// How much optional work, such as counts and duration samples, a unit of work does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionalWork {
    /// All of it.
    Done,
    /// None of it, because it may meet damage.
    LeftOut,
    /// As little as with `LeftOut`, and the watch's own row stays as it is too. To change that row, SQLite may have
    /// to move rows to a neighbouring page, which is damaged. Each event is still stored once, since its id derives
    /// from the watch.
    EventsAlone,
}

/// The result of a batch.
pub(super) struct Salvaged<T> {
    /// The results of the parts that met no damage.
    pub(super) done: Vec<T>,
    /// The indexes of the items that met damage. Nothing was done about them.
    pub(super) struck: Vec<usize>,
}

impl SqliteStore {
    /// Does work for a whole batch. If it meets damage, halves the batch until only the damaged items are left out.
    pub(super) async fn each_whole<I, T, W>(
        &self,
        items: &Arc<[I]>,
        work: W,
    ) -> Result<Salvaged<T>, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        W: Fn(&Connection, &[I], OptionalWork) -> Result<T, StoreError>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let mut salvaged = Salvaged {
            done: Vec::new(),
            struck: Vec::new(),
        };
        let whole = 0..items.len();
        let mut parts = Vec::from([whole]);
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.part(items, part.clone(), work.clone()).await {
                Ok(done) => salvaged.done.push(done),
                Err(failure) if failure.is_damage() => match part.len() {
                    1 => salvaged.struck.push(part.start),
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

    /// Does work for a part of a batch. If a single item meets damage, tries again with less and less optional work.
    async fn part<I, T, W>(
        &self,
        items: &Arc<[I]>,
        part: Range<usize>,
        work: W,
    ) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        W: Fn(&Connection, &[I], OptionalWork) -> Result<T, StoreError>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let unit = |extras| {
            let (items, part, work) = (Arc::clone(items), part.clone(), work.clone());
            move |connection: &Connection| {
                let items = items.get(part).unwrap_or_default();
                work(connection, items, extras)
            }
        };
        for extras in [OptionalWork::Done, OptionalWork::LeftOut] {
            match self.write(unit(extras)).await {
                Err(failure) if failure.is_damage() && part.len() == 1 => {}
                done => return done,
            }
        }
        self.write(unit(OptionalWork::EventsAlone)).await
    }
}

/// Returns the only column of the rows that two statements find. If reading the first meets damage, reads the second,
/// which begins at another end. A row that both find counts once.
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
