//! Attempts, and what each means for its delivery, in a few statements however many there are.

use rusqlite::{Connection, params};

use crate::store::{
    AfterAttempt, AttemptResult, StoreError,
    common::{Recorded, after_rows, attempt_rows, host_words, recorded, tried},
    sqlite::{
        hosts,
        row::json_rows,
        statement::{execute, fetch_all},
        watches,
    },
};

pub(super) const DELIVERIES: &str = "SELECT d.delivery_id, d.watch_id, d.host, d.state, \
    d.next_attempt_at, d.lease_id, w.job_id, \
    (SELECT ifnull(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.delivery_id) AS number, \
    EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_id = d.delivery_id \
        AND a.lease_id = r.value ->> 'lease_id') AS known \
    FROM jsonb_each(?1) r CROSS JOIN deliveries d ON d.delivery_id = r.value ->> 'delivery_id' \
    CROSS JOIN watches w ON w.watch_id = d.watch_id";

pub(super) const ADD_ATTEMPTS: &str = "INSERT INTO attempts (delivery_id, number, lease_id, \
    started_at, duration, status, error, response) \
    SELECT value ->> 'delivery_id', value ->> 'number', value ->> 'lease_id', \
    value ->> 'started_at', value ->> 'duration', value ->> 'status', value ->> 'error', \
    value ->> 'response' FROM jsonb_each(?1)";

/// The claim that was recorded is over; another one is left alone.
pub(super) const RECORD: &str = "UPDATE deliveries SET \
    attempts = max(attempts, ifnull(r.value ->> 'number', 0)), \
    round_attempts = round_attempts \
        + (lease_id IS r.value ->> 'lease_id' AND r.value ->> 'number' IS NOT NULL), \
    updated_at = iif(state = r.value ->> 'state', updated_at, r.value ->> 'ended_at'), \
    state = r.value ->> 'state', next_attempt_at = r.value ->> 'next_attempt_at', \
    lease_until = iif(lease_id IS r.value ->> 'lease_id', NULL, lease_until), \
    lease_id = nullif(lease_id, r.value ->> 'lease_id') \
    FROM jsonb_each(?1) r WHERE deliveries.delivery_id = r.value ->> 'delivery_id'";

/// A settled watch becomes cancelled as well: its callback takes nothing any more.
const END_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = ?2, \
    settled_at = ifnull(settled_at, ?2) WHERE watch_id = ?1 AND state <> 'cancelled'";

/// Records attempts, of each delivery one.
pub(super) fn record(
    connection: &Connection,
    results: &[&AttemptResult],
) -> Result<(), StoreError> {
    let rows = fetch_all(connection, DELIVERIES, params![json_rows(&tried(results))?])?;
    let recorded = recorded(results, &rows)?;
    if recorded.is_empty() {
        return Ok(());
    }
    let attempts = attempt_rows(&recorded);
    if !attempts.is_empty() {
        execute(connection, ADD_ATTEMPTS, params![json_rows(&attempts)?])?;
    }
    execute(
        connection,
        RECORD,
        params![json_rows(&after_rows(&recorded))?],
    )?;
    let gone = |one: &&Recorded<'_>| one.result.next == AfterAttempt::Gone;
    for gone in recorded.iter().filter(gone) {
        end_watch(connection, gone)?;
    }
    hosts::note(connection, &host_words(&recorded))
}

fn end_watch(connection: &Connection, gone: &Recorded<'_>) -> Result<(), StoreError> {
    let (watch, job) = (&gone.found.watch_id, &gone.found.job_id);
    execute(
        connection,
        END_WATCH,
        params![watch, gone.ended_at.as_millisecond()],
    )?;
    watches::cancel(connection, watch, job, gone.ended_at)
}
