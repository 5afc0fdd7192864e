//! Records attempts and the effect of each on its delivery: a few statements for any number of attempts.

use rusqlite::Connection;

use crate::{
    AfterAttempt, AttemptResult, StoreError,
    rules::{AttemptEffect, after_rows, attempt_rows, host_words, recorded, tried},
    sqlite::{
        hosts,
        statement::{execute_each, fetch_each},
        watches,
    },
};

pub(super) const DELIVERY: &str = "SELECT d.delivery_id, d.watch_id, d.host, d.state, \
    d.next_attempt_at, d.lease_id, \
    (SELECT ifnull(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.delivery_id) AS number, \
    EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_id = d.delivery_id AND a.lease_id = ?2) AS known, \
    EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = d.host) AS host_failed \
    FROM deliveries d WHERE d.delivery_id = ?1";

pub(super) const ADD_ATTEMPT: &str = "INSERT INTO attempts (delivery_id, number, lease_id, \
    started_at, duration, status, error, response, error_detail) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// Ends the recorded claim only. Another claim of the delivery stays.
pub(super) const RECORD: &str = "UPDATE deliveries SET attempts = max(attempts, ifnull(?6, 0)), \
    round_attempts = round_attempts + (lease_id IS ?2 AND ?6 IS NOT NULL), \
    updated_at = iif(state = ?3, updated_at, ?5), state = ?3, next_attempt_at = ?4, \
    lease_until = iif(lease_id IS ?2, NULL, lease_until), lease_id = nullif(lease_id, ?2) \
    WHERE delivery_id = ?1";

/// Cancels a settled watch as well: its callback no longer accepts anything.
const END_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = ?2, \
    settled_at = ifnull(settled_at, ?2) WHERE watch_id = ?1 AND state <> 'cancelled'";

/// Records attempts, at most one of each delivery.
pub(super) fn record(
    connection: &Connection,
    results: &[&AttemptResult],
) -> Result<(), StoreError> {
    let tried = tried(results);
    let tried = tried.iter().map(|row| (&row.delivery_id, &row.lease_id));
    let rows = fetch_each(connection, DELIVERY, tried)?;
    let recorded = recorded(results, &rows)?;
    let attempts = attempt_rows(&recorded);
    let attempts = attempts.iter().map(|row| {
        (
            &row.delivery_id,
            row.number,
            &row.lease_id,
            row.started_at,
            row.duration,
            row.status,
            row.error,
            row.response,
            row.error_detail,
        )
    });
    execute_each(connection, ADD_ATTEMPT, attempts)?;
    let after = after_rows(&recorded);
    let after = after.iter().map(|row| {
        (
            &row.delivery_id,
            &row.lease_id,
            row.state,
            row.next_attempt_at,
            row.ended_at,
            row.number,
        )
    });
    execute_each(connection, RECORD, after)?;
    let gone = |one: &&AttemptEffect<'_>| one.result.next == AfterAttempt::Gone;
    for gone in recorded.iter().filter(gone) {
        end_watch(connection, gone)?;
    }
    hosts::note(connection, &host_words(&recorded))
}

fn end_watch(connection: &Connection, gone: &AttemptEffect<'_>) -> Result<(), StoreError> {
    let watch = &gone.found.watch_id;
    watches::end(connection, END_WATCH, watch, gone.ended_at)?;
    watches::cancel(connection, watch, gone.ended_at)
}
