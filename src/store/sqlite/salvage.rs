//! What is whole goes on: a batch is done without those of it that damage strikes.
//!
//! After damage was met within a transaction SQLite commits nothing of it. So each part of the batch is a unit of work
//! of its own, and once damage is known the writer has a transaction for each unit.

use std::{ops::Range, sync::Arc};

use rusqlite::{Connection, Params, types::FromSql};

use crate::store::{
    StoreError,
    sqlite::{SqliteStore, statement::SqlResult},
};

/// Whether a unit of work does what is only good to have as well, such as counts and what looks teach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionalWork {
    /// It does.
    Done,
    /// Damage is in the way of that, perhaps.
    LeftOut,
    /// Damage is in the way of the watch's own row, perhaps: SQLite may have to move rows to a page beside, which is the
    /// damaged one. Events are told all the same, each once, since their ids follow from the watch.
    EventsAlone,
}

/// What became of a batch.
pub(super) struct Salvaged<T> {
    /// What the work brought for the parts that are whole.
    pub(super) done: Vec<T>,
    /// The places of those that damage struck. Nothing was done about them.
    pub(super) struck: Vec<usize>,
}

impl SqliteStore {
    /// Does work for a batch as a whole. If damage is in the way, halves the batch until only what is damaged is left
    /// out.
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

    /// Does work for a part of a batch. One item alone is done with less and less besides, if it must be.
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

/// The only column of the rows that statements find: each is read until damage is in the way, then the next begins
/// at another end. A row that several find counts once.
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
