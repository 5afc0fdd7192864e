//! Moves due times and leases after the machine's clock was set. They are times of that clock, so they move with it.
//!
//! Times of past events (when a watch was registered, when an attempt was made) stay as they were recorded.

use rusqlite::Connection;

use crate::{
    ClockStep, StoreError,
    rules::{longest_hold, written_since},
    sqlite::statement::execute,
};

/// A unit of work that moves times. Returns how many it moved.
pub(super) type MoveTimes = Box<dyn FnOnce(&Connection) -> Result<u64, StoreError> + Send>;

/// The columns with a time when something is due, or a time until which something holds. A host that is not paused
/// has `paused_until` 0, which is never ahead of a clock.
const TIMES: [(&str, &str, Kind); 14] = [
    ("due_jobs", "next_look_at", Kind::Due),
    ("due_jobs", "lease_until", Kind::Holds),
    ("due_jobs", "hinted_at", Kind::Due),
    ("due_jobs", "answering_until", Kind::Holds),
    ("due_lists", "next_list_at", Kind::Due),
    ("due_lists", "lease_until", Kind::Holds),
    ("due_lists", "hinted_at", Kind::Due),
    ("due_lists", "missing_since", Kind::Due),
    ("outages", "next_look_at", Kind::Due),
    ("outages", "lease_until", Kind::Holds),
    ("outbox", "next_attempt_at", Kind::Due),
    ("outbox", "lease_until", Kind::Holds),
    ("failing_hosts", "paused_until", Kind::Holds),
    // watches that are registered after an erasure must not look older than it
    ("erasures", "erased_at", Kind::Due),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The time may come too early: the only harm is one extra look or attempt.
    Due,
    /// The time must not end early, or work would be done twice.
    Holds,
}

/// Times in a job's memory: the next expected retry, and since when the job is absent, which ends its watches later.
const REMEMBERED: [&str; 3] = [
    "$.phase.next_retry_at",
    "$.missing_since",
    "$.forbidden_since",
];

const MOVE_REMEMBERED: &str = "UPDATE jobs SET memory = json_set(memory, ?1, \
    strftime('%Y-%m-%dT%H:%M:%fZ', json_extract(memory, ?1), (?2 / 1000.0) || ' seconds')) \
    WHERE job_no IN (SELECT job_no FROM due_jobs) AND json_valid(memory) \
    AND json_extract(memory, ?1) IS NOT NULL \
    AND unixepoch(json_extract(memory, ?1), 'subsec') * 1000 > ?3";

/// Moves all times with the clock. So nothing waits longer than intended, and the step makes no time limit pass.
///
/// Each unit of work returns how many times it moved. Damage that stops one unit does not stop the others.
pub(super) fn units(step: ClockStep) -> Vec<MoveTimes> {
    let values = (step.from.as_millisecond(), step.to.as_millisecond());
    let columns = TIMES.map(|(table, column, kind)| -> MoveTimes {
        let statement = match kind {
            _ if step.to >= step.from => forward(table, column),
            Kind::Due => back(table, column, 0),
            Kind::Holds => back(table, column, longest_hold!()),
        };
        Box::new(move |connection| Ok(execute(connection, &statement, values)?))
    });
    let by = step.to.as_millisecond() - step.from.as_millisecond();
    // the clock was set back: a time further ahead of the new clock can only come from the old one
    let after = if by < 0 {
        step.to.as_millisecond() + written_since!()
    } else {
        0
    };
    let remembered = REMEMBERED.map(|place| -> MoveTimes {
        Box::new(move |connection| Ok(execute(connection, MOVE_REMEMBERED, (place, by, after))?))
    });
    columns.into_iter().chain(remembered).collect()
}

/// Moves times after the clock was set back. A time ahead of the old clock keeps its distance.
///
/// A time between the two clocks was past on the old one, or was written since the step. It becomes the present,
/// unless it is at most `spared` milliseconds ahead.
fn back(table: &str, column: &str, spared: i64) -> String {
    format!(
        "UPDATE {table} SET {column} = iif({column} >= ?1, {column} - (?1 - ?2), ?2) \
         WHERE {column} >= ?1 OR {column} > ?2 + {spared}"
    )
}

/// Moves times after the clock was set forward. A time ahead of the old clock keeps its distance. The new clock has
/// written nothing yet.
fn forward(table: &str, column: &str) -> String {
    format!("UPDATE {table} SET {column} = {column} + (?2 - ?1) WHERE {column} > ?1")
}
