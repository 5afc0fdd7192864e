//! Callback hosts that keep failing: they are paused, then probed by one attempt at a time.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::{
    AbandonedDelivery, StoreError, WaitLimit,
    rows::{IdBytes, int, millis, millis_later},
    rules::{self, DOUBLINGS, FAILURES, HostOutcome, PAUSE},
    sqlite::{
        attempts,
        row::json_list,
        statement::{execute, execute_each, fetch_each, fetch_optional, scalars},
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
    paused_since = iif(failures + 1 >= ?3 AND pauses = 0, ?2, paused_since), \
    probing = 0 \
    RETURNING failures, pauses, paused_until";

pub(super) const ANSWERED: &str =
    "DELETE FROM failing_hosts WHERE host = ?1 RETURNING host, pauses";

/// Nothing else is tried until the probe has ended or its lease has expired.
pub(super) const PROBE: &str = "UPDATE failing_hosts SET probing = 1, paused_until = ?2 \
    WHERE host IN (SELECT value FROM json_each(?1))";

/// Ends the pauses of hosts with an event that is due at exactly `?1`, because somebody sent it again by hand. One
/// attempt then finds out whether the host answers.
pub(super) const LIFT: &str = "UPDATE failing_hosts SET paused_until = 0, probing = 0 \
    WHERE paused_until > 0 AND EXISTS (SELECT 1 FROM outbox o \
        WHERE o.host = failing_hosts.host AND o.ready_at = ?1)";

/// Finds events that are due, pending since `?2` or before, and wait for a host that has not answered since its pause,
/// or that an operator paused.
pub(super) const WAITING: &str = "SELECT o.source_id FROM failing_hosts f \
    CROSS JOIN outbox o ON o.host = f.host AND o.ready_at <= ?1 \
    WHERE f.pauses > 0 AND o.pending_since <= ?2 AND o.deadline IS NULL \
    UNION ALL SELECT o.source_id FROM manual_pauses \
    CROSS JOIN outbox o ON o.host = manual_pauses.host AND o.ready_at <= ?1 \
    WHERE NOT EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = manual_pauses.host AND f.pauses > 0) \
    AND o.pending_since <= ?2 AND o.deadline IS NULL LIMIT ?3";

/// Compares the times once more. Since the search, a claim may have taken the event, or a later event its place.
pub(super) const TO_GIVE_UP: &str = "SELECT o.event_id, o.source_id, e.kind, o.host, j.job_id FROM outbox o \
    CROSS JOIN events e ON e.event_id = o.event_id \
    LEFT JOIN watches w ON w.watch_id = o.source_id LEFT JOIN jobs j ON j.job_no = w.job_no \
    WHERE o.source_id = ?1 AND +o.ready_at <= ?2 AND o.pending_since <= ?3 AND +o.deadline IS NULL";

const GIVE_UP: &str = "UPDATE events SET state = 'dead', updated_at = ?2 WHERE event_id = ?1";

const UNQUEUE: &str = "DELETE FROM outbox WHERE source_id = ?1";

/// Ends the pauses of the hosts of events that were sent again by hand at this time.
pub(super) fn lift(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    execute(connection, LIFT, params![now.as_millisecond()])?;
    Ok(())
}

/// Finds the sources whose events have waited too long for a paused host.
pub(super) fn waiting(
    connection: &Connection,
    waiting: WaitLimit,
) -> Result<Vec<IdBytes>, StoreError> {
    let values = params![
        waiting.now.as_millisecond(),
        waiting.since.as_millisecond(),
        int(waiting.limit)
    ];
    Ok(scalars(connection, WAITING, values)?)
}

/// Marks the events that the outbox holds for these sources as dead.
pub(super) fn give_up(
    connection: &Connection,
    sources: &[IdBytes],
    limit: WaitLimit,
) -> Result<Vec<AbandonedDelivery>, StoreError> {
    let (now, since) = (limit.now.as_millisecond(), limit.since.as_millisecond());
    let found = fetch_each(
        connection,
        TO_GIVE_UP,
        sources.iter().map(|source| (source, now, since)),
    )?;
    let given_up = found.iter().map(|row| rules::given_up(row));
    let given_up: Vec<AbandonedDelivery> = given_up.collect::<Result<_, _>>()?;
    let events = given_up.iter().map(|one| (one.event_id.to_bytes(), now));
    execute_each(connection, GIVE_UP, events)?;
    let ids = found.iter().map(rules::source_id);
    let ids: Vec<IdBytes> = ids.collect::<Result<_, _>>()?;
    execute_each(connection, UNQUEUE, ids.iter().map(|id| (id,)))?;
    // of a subscription, the next notice follows
    execute_each(
        connection,
        attempts::QUEUE_NEXT,
        ids.iter().map(|id| (id, now)),
    )?;
    Ok(given_up)
}

/// Records what attempts showed about their hosts.
pub(super) fn note(
    connection: &Connection,
    outcomes: &BTreeMap<&str, HostOutcome>,
) -> Result<(), StoreError> {
    let recovered = rules::recovered(outcomes);
    if !recovered.is_empty() {
        forget(connection, recovered, outcomes)?;
    }
    for (host, outcome) in outcomes {
        for at in &outcome.failed_at {
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

/// Deletes the failures of hosts.
fn forget(
    connection: &Connection,
    hosts: Vec<&str>,
    outcomes: &BTreeMap<&str, HostOutcome>,
) -> Result<(), StoreError> {
    let hosts = hosts.into_iter().map(|host| (host,));
    let forgotten = fetch_each(connection, ANSWERED, hosts)?;
    forgotten
        .iter()
        .try_for_each(|row| rules::log_recovery(row, outcomes))
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
            params![json_list(hosts), millis_later(now, lease)],
        )?;
    }
    Ok(())
}
