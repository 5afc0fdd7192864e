//! Records attempts and their effects: a few statements for any number of attempts.

use relay_domain::WatchId;
use rusqlite::Connection;

use crate::{
    AfterAttempt, AttemptResult, StoreError,
    rows::EventKind,
    rules::{
        AttemptEffect, accepted_messages, attempt_effects, host_outcomes, requeued,
        subscriptions_with_room, tried, tried_events, unqueued,
    },
    sqlite::{
        hosts,
        statement::{execute_each, fetch_each},
        subscription_ends, watches,
    },
};

/// The host of an event. The outbox has it while it has a row of the source, which is nearly always.
macro_rules! host {
    () => {
        "coalesce(o.host, (SELECT w.callback_host FROM watches w WHERE w.watch_id = e.source_id), \
         (SELECT s.callback_host FROM subscriptions s WHERE s.subscription_id = e.source_id), '')"
    };
}

/// Finds an event that was tried, with the outbox's row of its source.
pub(super) const TRIED: &str = concat!(
    "SELECT e.event_id, e.source_id, e.kind, ",
    host!(),
    " AS host, e.state, e.updated_at, e.attempts, o.event_id AS queued, o.next_attempt_at, \
     o.lease_id, EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = ",
    host!(),
    ") AS host_failed FROM events e LEFT JOIN outbox o ON o.source_id = e.source_id \
     WHERE e.event_id = ?1"
);

pub(super) const RECORD: &str =
    "UPDATE events SET state = ?2, attempts = ?3, updated_at = ?4 WHERE event_id = ?1";

pub(super) const UNQUEUE: &str = "DELETE FROM outbox WHERE source_id = ?1 AND event_id = ?2";

/// Queues the earliest notice of a subscription that waits, if the outbox has no row of the subscription. It has been
/// due since it came.
pub(super) const QUEUE_NEXT: &str = "INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, \
    pending_since) SELECT e.source_id, e.event_id, e.client_id, s.callback_host, e.created_at, ?2 \
    FROM subscriptions s CROSS JOIN events e ON e.source_id = s.subscription_id AND e.state = 'pending' \
    WHERE s.subscription_id = ?1 ORDER BY e.event_id LIMIT 1 ON CONFLICT (source_id) DO NOTHING";

/// A message of Basiq's that was accepted is of no more use.
const FORGET_MESSAGE: [&str; 2] = [
    "DELETE FROM messages WHERE event_id = ?1",
    "DELETE FROM events WHERE event_id = ?1",
];

/// Ends the recorded claim only. Another claim of the row stays. A later event of the watch, which took the row over,
/// keeps its times and counts.
pub(super) const REQUEUE: &str = "UPDATE outbox SET \
    next_attempt_at = iif(event_id = ?2, ifnull(?4, next_attempt_at), next_attempt_at), \
    attempts = iif(event_id = ?2, max(attempts, ifnull(?5, 0)), attempts), \
    round_attempts = round_attempts + (event_id = ?2 AND lease_id IS ?3 AND ?5 IS NOT NULL), \
    lease_until = iif(lease_id IS ?3, NULL, lease_until), lease_id = nullif(lease_id, ?3) \
    WHERE source_id = ?1";

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
    let recorded = attempt_effects(results, &rows)?;
    let events = tried_events(&recorded)?;
    let events = events
        .iter()
        .map(|row| (row.event_id, row.state, &row.attempts, row.updated_at));
    execute_each(connection, RECORD, events)?;
    let unqueued = unqueued(&recorded);
    let unqueued = unqueued.iter().map(|row| (row.source_id, row.event_id));
    execute_each(connection, UNQUEUE, unqueued)?;
    let requeued = requeued(&recorded);
    let requeued = requeued.iter().map(|row| {
        (
            row.source_id,
            row.event_id,
            row.lease_id,
            row.next_attempt_at,
            row.number,
        )
    });
    execute_each(connection, REQUEUE, requeued)?;
    let next = subscriptions_with_room(&recorded);
    execute_each(connection, QUEUE_NEXT, next)?;
    for statement in FORGET_MESSAGE {
        let accepted = accepted_messages(&recorded);
        execute_each(connection, statement, accepted.iter().map(|id| (id,)))?;
    }
    let gone = |one: &&AttemptEffect<'_>| one.result.next == AfterAttempt::Gone;
    for gone in recorded.iter().filter(gone) {
        end_source(connection, gone)?;
    }
    hosts::note(connection, &host_outcomes(&recorded))
}

/// Ends the watch or the subscription of an event whose callback is gone.
fn end_source(connection: &Connection, gone: &AttemptEffect<'_>) -> Result<(), StoreError> {
    let (source, now) = (gone.found.source_id, gone.ended_at);
    match gone.found.kind {
        EventKind::Job => {
            let watch = WatchId::from(source);
            watches::end(connection, END_WATCH, watch, now)?;
            watches::cancel(connection, watch, now)
        }
        EventKind::Notice => subscription_ends::end(connection, source, now),
        EventKind::Message => Ok(()),
    }
}
