//! Due times and leases after the machine's clock was set: they are times of that clock, and move with it.
//!
//! What happened (when a watch was registered, when an attempt was made) stays as it was told then.

use rusqlite::Connection;

use crate::store::{ClockStep, StoreError, sqlite::statement::execute};

/// A unit of work.
pub(super) type UnitOfWork = Box<dyn FnOnce(&Connection) -> Result<u64, StoreError> + Send>;

/// The columns that say when something is to happen, and those that say until when something holds. Of a host that is
/// not paused `paused_until` is 0, which no clock comes to.
const TIMES: [(&str, &str, Kind); 9] = [
    ("jobs", "next_look_at", Kind::Due),
    ("jobs", "lease_until", Kind::Holds),
    ("jobs", "hinted_at", Kind::Due),
    ("jobs", "answering_until", Kind::Holds),
    ("outages", "next_look_at", Kind::Due),
    ("outages", "lease_until", Kind::Holds),
    ("deliveries", "next_attempt_at", Kind::Due),
    ("deliveries", "lease_until", Kind::Holds),
    ("failing_hosts", "paused_until", Kind::Holds),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// It may come too early: then something is looked at or tried once more than planned.
    Due,
    /// It must not end early: work would be done twice.
    Holds,
}

/// Nothing holds longer than this: leases and pauses last a minute or two.
const LONGEST_HOLD: i64 = 300_000;

/// What a job's memory has of the same: the retry that is waited for, and since when the job is absent, which ends
/// its watches after a while.
const REMEMBERED: [&str; 3] = [
    "$.phase.next_retry_at",
    "$.missing_since",
    "$.forbidden_since",
];

const MOVE_REMEMBERED: &str = "UPDATE jobs SET memory = json_set(memory, ?1, \
    strftime('%Y-%m-%dT%H:%M:%fZ', json_extract(memory, ?1), (?2 / 1000.0) || ' seconds')) \
    WHERE next_look_at IS NOT NULL AND json_valid(memory) \
    AND json_extract(memory, ?1) IS NOT NULL \
    AND unixepoch(json_extract(memory, ?1), 'subsec') * 1000 > ?3";

/// What is remembered as so little later than the new clock may have been written by it just now.
const WRITTEN_SINCE: i64 = 5_000;

/// Moves all times with the clock, so that nothing waits longer than it was meant to, and no time limit passes by the
/// step. Each unit of work says how many times it moved; damage in the way of one does not hold up the others.
pub(super) fn units(step: ClockStep) -> Vec<UnitOfWork> {
    let values = (step.from.as_millisecond(), step.to.as_millisecond());
    let columns = TIMES.map(|(table, column, kind)| -> UnitOfWork {
        let statement = match kind {
            _ if step.to >= step.from => forward(table, column),
            Kind::Due => back(table, column, 0),
            Kind::Holds => back(table, column, LONGEST_HOLD),
        };
        Box::new(move |connection| Ok(execute(connection, &statement, values)?))
    });
    let by = step.to.as_millisecond() - step.from.as_millisecond();
    // set back: what lies ahead of the new clock alone is by the old one
    let after = if by < 0 {
        step.to.as_millisecond() + WRITTEN_SINCE
    } else {
        0
    };
    let remembered = REMEMBERED.map(|place| -> UnitOfWork {
        Box::new(move |connection| Ok(execute(connection, MOVE_REMEMBERED, (place, by, after))?))
    });
    columns.into_iter().chain(remembered).collect()
}

/// A time of the clock before lies as far ahead again as it did. One in between was past by the clock before, or was
/// written since: it is brought back to the present, unless it is `spared` because it lies less far ahead than that.
fn back(table: &str, column: &str, spared: i64) -> String {
    format!(
        "UPDATE {table} SET {column} = iif({column} >= ?1, {column} - (?1 - ?2), ?2) \
         WHERE {column} >= ?1 OR {column} > ?2 + {spared}"
    )
}

/// A time that lay ahead lies as far ahead again. Nothing was written by the new clock yet.
fn forward(table: &str, column: &str) -> String {
    format!("UPDATE {table} SET {column} = {column} + (?2 - ?1) WHERE {column} > ?1")
}
