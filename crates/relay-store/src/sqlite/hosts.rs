//! Callback hosts that keep failing: they are paused, then probed by one attempt at a time.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::{
    AbandonedDelivery, StoreError, WaitLimit,
    rows::{int, later, millis},
    rules::{self, DOUBLINGS, FAILURES, HostOutcome, PAUSE},
    sqlite::{
        row::json_list,
        statement::{execute, fetch_all, fetch_each, fetch_optional, scalars},
    },
};

/// Columns on the right-hand side have their values before the change. A paused host keeps its pause unless its probe
/// has just failed. Other attempts were in flight when the pause began and say nothing new.
pub(super) const FAILED: &str = "INSERT INTO failing_hosts \
    (host, failures, pauses, paused_until, probing, failed_at) VALUES (?1, 1, 0, 0, 0, ?2) \
    ON CONFLICT (host) DO UPDATE SET failures = failures + 1, failed_at = ?2, \
    pauses = iif(failures + 1 >= ?3 AND (probing OR paused_until <= ?2), pauses + 1, pauses), \
    paused_until = iif(failures + 1 >= ?3 AND (probing OR paused_until <= ?2), \
        ?2 + (?4 << min(pauses, ?5)), paused_until), \
    probing = 0 \
    RETURNING failures, pauses, paused_until";

pub(super) const ANSWERED: &str =
    "DELETE FROM failing_hosts WHERE host = ?1 RETURNING host, pauses";

/// Nothing else is tried until the probe has ended or its lease has expired.
pub(super) const PROBE: &str = "UPDATE failing_hosts SET probing = 1, paused_until = ?2 \
    WHERE host IN (SELECT value FROM json_each(?1))";

/// Ends the pauses of hosts with a delivery that is due at exactly `?1`, because somebody sent it again by hand. One
/// attempt then finds out whether the host answers.
pub(super) const LIFT: &str = "UPDATE failing_hosts SET paused_until = 0, probing = 0 \
    WHERE paused_until > 0 AND EXISTS (SELECT 1 FROM deliveries d \
        WHERE d.host = failing_hosts.host AND d.ready_at = ?1)";

/// Finds deliveries that are due, were first due by `?2`, and wait for a host that has not answered since its pause.
/// A pending delivery has not changed its state since it was first due.
pub(super) const WAITING: &str = "SELECT d.delivery_id FROM deliveries d \
    WHERE d.state = 'pending' AND d.updated_at <= ?2 AND d.deadline IS NULL AND d.ready_at <= ?1 \
    AND EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = d.host AND f.pauses > 0) \
    ORDER BY d.updated_at LIMIT ?3";

/// Compares the due time once more: another claim may have taken a delivery since the search.
pub(super) const GIVE_UP: &str = "UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, \
    lease_id = NULL, lease_until = NULL, updated_at = ?2 \
    WHERE delivery_id IN (SELECT value FROM json_each(?1)) AND ready_at <= ?2 \
    RETURNING delivery_id, event_id, watch_id, host, \
    (SELECT w.job_id FROM watches w WHERE w.watch_id = deliveries.watch_id) AS job_id";

/// Ends the pauses of the hosts of deliveries that were sent again by hand at this time.
pub(super) fn lift(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    execute(connection, LIFT, params![now.as_millisecond()])?;
    Ok(())
}

/// Finds the deliveries that have waited too long for a paused host.
pub(super) fn waiting(
    connection: &Connection,
    waiting: WaitLimit,
) -> Result<Vec<String>, StoreError> {
    let values = params![
        waiting.now.as_millisecond(),
        waiting.since.as_millisecond(),
        int(waiting.limit)
    ];
    Ok(scalars(connection, WAITING, values)?)
}

/// Gives these deliveries up.
pub(super) fn give_up(
    connection: &Connection,
    ids: Vec<String>,
    now: Timestamp,
) -> Result<Vec<AbandonedDelivery>, StoreError> {
    let values = params![json_list(ids), now.as_millisecond()];
    let rows = fetch_all(connection, GIVE_UP, values)?;
    rows.iter().map(|row| rules::given_up(row)).collect()
}

/// Notes what attempts say about their hosts.
pub(super) fn note(
    connection: &Connection,
    words: &BTreeMap<&str, HostOutcome>,
) -> Result<(), StoreError> {
    let recovered = rules::recovered(words);
    if !recovered.is_empty() {
        forget(connection, recovered)?;
    }
    for (host, word) in words {
        for at in &word.failed_at {
            failed(connection, host, *at)?;
        }
    }
    Ok(())
}

fn failed(connection: &Connection, host: &str, now: Timestamp) -> Result<(), StoreError> {
    let values = params![
        host,
        now.as_millisecond(),
        FAILURES,
        millis(PAUSE),
        DOUBLINGS
    ];
    let Some(row) = fetch_optional(connection, FAILED, values)? else {
        return Ok(());
    };
    rules::log_pause(&row, host, now)
}

/// Deletes the failures of hosts that answered.
fn forget(connection: &Connection, hosts: Vec<&str>) -> Result<(), StoreError> {
    let hosts = hosts.into_iter().map(|host| (host,));
    let forgotten = fetch_each(connection, ANSWERED, hosts)?;
    forgotten
        .iter()
        .try_for_each(|row| rules::log_recovery(row))
}

/// Notes that these hosts are probed until the lease of the probing attempts ends.
pub(super) fn probe(
    connection: &Connection,
    hosts: &[String],
    now: Timestamp,
    lease: Duration,
) -> Result<(), StoreError> {
    if !hosts.is_empty() {
        execute(
            connection,
            PROBE,
            params![json_list(hosts), later(now, lease)],
        )?;
    }
    Ok(())
}
