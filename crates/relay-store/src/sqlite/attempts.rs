//! Records attempts and their effects: a few statements for any number of attempts.

use rusqlite::Connection;

use crate::{
    AfterAttempt, AttemptResult, StoreError,
    rules::{AttemptEffect, host_outcomes, recorded, requeued, tried, tried_events, unqueued},
    sqlite::{
        hosts,
        statement::{execute_each, fetch_each},
        watches,
    },
};

/// The host of an event: the outbox tells it while it has a row of the watch, which is nearly always.
macro_rules! host {
    () => {
        "ifnull(o.host, (SELECT w.callback_host FROM watches w WHERE w.watch_id = e.watch_id))"
    };
}

/// Finds an event that was tried, with the outbox's row of its watch.
pub(super) const TRIED: &str = concat!(
    "SELECT e.event_id, e.watch_id, ",
    host!(),
    " AS host, e.state, e.updated_at, e.attempts, o.event_id AS queued, o.next_attempt_at, \
     o.lease_id, EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = ",
    host!(),
    ") AS host_failed FROM events e LEFT JOIN outbox o ON o.watch_id = e.watch_id \
     WHERE e.event_id = ?1"
);

pub(super) const RECORD: &str =
    "UPDATE events SET state = ?2, attempts = ?3, updated_at = ?4 WHERE event_id = ?1";

pub(super) const UNQUEUE: &str = "DELETE FROM outbox WHERE watch_id = ?1 AND event_id = ?2";

/// Ends the recorded claim only. Another claim of the row stays. A later event of the watch, which took the row over,
/// keeps its times and counts.
pub(super) const REQUEUE: &str = "UPDATE outbox SET \
    next_attempt_at = iif(event_id = ?2, ifnull(?4, next_attempt_at), next_attempt_at), \
    attempts = iif(event_id = ?2, max(attempts, ifnull(?5, 0)), attempts), \
    round_attempts = round_attempts + (event_id = ?2 AND lease_id IS ?3 AND ?5 IS NOT NULL), \
    lease_until = iif(lease_id IS ?3, NULL, lease_until), lease_id = nullif(lease_id, ?3) \
    WHERE watch_id = ?1";

/// Cancels a settled watch as well: its callback no longer accepts anything.
const END_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = ?2, \
    settled_at = ifnull(settled_at, ?2) WHERE watch_id = ?1 AND state <> 'cancelled'";

/// Records attempts, at most one of each event.
pub(super) fn record(
    connection: &Connection,
    results: &[&AttemptResult],
) -> Result<(), StoreError> {
    let tried = tried(results);
    let rows = fetch_each(connection, TRIED, tried.iter().map(|event| (event,)))?;
    let recorded = recorded(results, &rows)?;
    let events = tried_events(&recorded)?;
    let events = events
        .iter()
        .map(|row| (row.event_id, row.state, &row.attempts, row.updated_at));
    execute_each(connection, RECORD, events)?;
    let unqueued = unqueued(&recorded);
    let unqueued = unqueued.iter().map(|row| (row.watch_id, row.event_id));
    execute_each(connection, UNQUEUE, unqueued)?;
    let requeued = requeued(&recorded);
    let requeued = requeued.iter().map(|row| {
        (
            row.watch_id,
            row.event_id,
            row.lease_id,
            row.next_attempt_at,
            row.number,
        )
    });
    execute_each(connection, REQUEUE, requeued)?;
    let gone = |one: &&AttemptEffect<'_>| one.result.next == AfterAttempt::Gone;
    for gone in recorded.iter().filter(gone) {
        end_watch(connection, gone)?;
    }
    hosts::note(connection, &host_outcomes(&recorded))
}

fn end_watch(connection: &Connection, gone: &AttemptEffect<'_>) -> Result<(), StoreError> {
    let watch = gone.found.watch_id;
    watches::end(connection, END_WATCH, watch, gone.ended_at)?;
    watches::cancel(connection, watch, gone.ended_at)
}
