//! Callback hosts that keep failing: they are paused, and then probed by one attempt at a time.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    AbandonedDelivery, StoreError, WaitLimit,
    postgres::{PgSession, attempts, clock::claim_now},
    rows::{IdBytes, int, millis},
    rules::{self, DOUBLINGS, FAILURES, HostOutcome, PAUSE},
};

/// Counts a failed attempt, and pauses its host once it failed often enough. The expressions read the columns as
/// they were before the update. While a host is paused, its pause stays as it is, unless the failed attempt is
/// the probe. Other attempts were in flight when the pause began, and say nothing new.
pub(super) const FAILED: &str = "INSERT INTO failing_hosts AS f \
    (host, failures, pauses, paused_until, probing, failed_at) VALUES ($1, 1, 0, 0, FALSE, $2) \
    ON CONFLICT (host) DO UPDATE SET failures = f.failures + 1, failed_at = $2, \
    pauses = CASE WHEN f.failures + 1 >= $3 AND (f.probing OR f.paused_until <= $2) \
        THEN f.pauses + 1 ELSE f.pauses END, \
    paused_until = CASE WHEN f.failures + 1 >= $3 AND (f.probing OR f.paused_until <= $2) \
        THEN $2 + ($4::bigint << least(f.pauses, $5)::int) ELSE f.paused_until END, \
    paused_since = CASE WHEN f.failures + 1 >= $3 AND f.pauses = 0 THEN $2 ELSE f.paused_since END, \
    probing = FALSE \
    RETURNING failures, pauses, paused_until";

pub(super) const ANSWERED: &str =
    "DELETE FROM failing_hosts WHERE host = ANY($1) RETURNING host, pauses";

/// Marks hosts as probed. No other attempt is made until the probe ends or its lease expires.
pub(super) const PROBE: &str = concat!(
    "UPDATE failing_hosts SET probing = TRUE, paused_until = ",
    claim_now!("$2"),
    " + $3 WHERE host = ANY($1) AND paused_until <= ",
    claim_now!("$2"),
    " RETURNING host"
);

/// Ends the pause of each host that has an event due exactly at `$1`: somebody sent that event again by hand. One
/// attempt then finds out whether the host answers.
pub(super) const LIFT: &str = "UPDATE failing_hosts SET paused_until = 0, probing = FALSE \
    WHERE host = ANY(ARRAY(SELECT f.host FROM failing_hosts f WHERE f.paused_until > 0 \
        AND (SELECT 1 FROM outbox o WHERE o.host = f.host AND o.ready_at = $1 LIMIT 1) IS NOT NULL \
        ORDER BY f.host FOR UPDATE))";

/// Sources whose event is due, was first due by `$2`, and waits for a host that has not answered since it was paused, or
/// that an operator paused.
pub(super) const WAITING: &str = "SELECT o.source_id FROM failing_hosts f \
    CROSS JOIN LATERAL (SELECT o.source_id FROM outbox o WHERE o.host = f.host AND o.ready_at <= $1 \
        AND o.pending_since <= $2 AND o.deadline IS NULL ORDER BY o.ready_at LIMIT $3) o \
    WHERE f.pauses > 0 \
    UNION ALL SELECT o.source_id FROM manual_pauses m \
    CROSS JOIN LATERAL (SELECT o.source_id FROM outbox o WHERE o.host = m.host AND o.ready_at <= $1 \
        AND o.pending_since <= $2 AND o.deadline IS NULL ORDER BY o.ready_at LIMIT $3) o \
    WHERE (SELECT 1 FROM failing_hosts f WHERE f.host = m.host AND f.pauses > 0) IS NULL LIMIT $3";

/// Gives events up. Another relay may have claimed some since they were found, or may be claiming them now; these are
/// skipped. Later events that replaced the found ones are skipped too. `+ 0` keeps PostgreSQL from searching
/// all due events.
pub(super) const GIVE_UP: &str = "WITH queued AS (DELETE FROM outbox \
        WHERE source_id = ANY(ARRAY(SELECT o.source_id FROM outbox o WHERE o.source_id = ANY($1) \
            AND o.ready_at + 0 <= $2 AND o.pending_since <= $3 AND o.deadline IS NULL \
            FOR UPDATE SKIP LOCKED)) \
        RETURNING event_id, source_id, host), \
    ended AS (UPDATE events SET state = 'dead', updated_at = $2 \
        WHERE event_id = ANY(ARRAY(SELECT event_id FROM queued)) \
        RETURNING client_id, state, updated_at, event_id), \
    listed AS (INSERT INTO undelivered_events SELECT * FROM ended) \
    SELECT q.event_id, q.source_id, q.host, (SELECT e.kind FROM events e WHERE e.event_id = q.event_id) AS kind, \
        (SELECT w.job_id FROM watches w WHERE w.watch_id = q.source_id) AS job_id FROM queued q";

/// Ends the pauses of hosts whose events were sent again by hand at this time.
pub(super) async fn lift(connection: &mut PgSession<'_>, now: Timestamp) -> Result<(), StoreError> {
    let lift = sqlx::query(LIFT).bind(now.as_millisecond());
    lift.execute(connection).await?;
    Ok(())
}

/// Returns the sources whose event has waited too long for a paused host.
pub(super) async fn waiting(
    connection: &mut PgSession<'_>,
    limit: WaitLimit,
) -> Result<Vec<IdBytes>, StoreError> {
    let found = sqlx::query_scalar(WAITING)
        .bind(limit.now.as_millisecond())
        .bind(limit.since.as_millisecond())
        .bind(int(limit.limit));
    Ok(found.fetch_all(connection).await?)
}

/// Gives the events of these sources up. Of a subscription, the next notice follows.
pub(super) async fn give_up(
    connection: &mut PgSession<'_>,
    sources: &[IdBytes],
    limit: WaitLimit,
) -> Result<Vec<AbandonedDelivery>, StoreError> {
    // locks the subscriptions among them
    sqlx::query(attempts::LOCK_SUBSCRIPTIONS)
        .bind(sources)
        .execute(&mut *connection)
        .await?;
    let now = limit.now.as_millisecond();
    let rows = sqlx::query(GIVE_UP)
        .bind(sources)
        .bind(now)
        .bind(limit.since.as_millisecond())
        .fetch_all(&mut *connection)
        .await?;
    let room = rows.iter().map(|row| Ok((rules::source_id(row)?, now)));
    let room: Vec<_> = room.collect::<Result<_, StoreError>>()?;
    attempts::queue_next(connection, &room).await?;
    rows.iter().map(|row| rules::given_up(row)).collect()
}

/// Records what attempts say about their hosts.
pub(super) async fn note(
    connection: &mut PgSession<'_>,
    words: &BTreeMap<&str, HostOutcome>,
) -> Result<(), StoreError> {
    let recovered = rules::recovered(words);
    if !recovered.is_empty() {
        forget(connection, recovered, words).await?;
    }
    for (host, word) in words {
        for at in &word.failed_at {
            failed(connection, host, *at).await?;
        }
    }
    Ok(())
}

async fn failed(
    connection: &mut PgSession<'_>,
    host: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = sqlx::query(FAILED)
        .bind(host)
        .bind(now.as_millisecond())
        .bind(FAILURES)
        .bind(millis(PAUSE))
        .bind(DOUBLINGS)
        .fetch_one(connection)
        .await?;
    rules::log_pause(&row, host, now)
}

/// Deletes the failures of hosts.
async fn forget(
    connection: &mut PgSession<'_>,
    hosts: Vec<&str>,
    outcomes: &BTreeMap<&str, HostOutcome>,
) -> Result<(), StoreError> {
    let forgotten = sqlx::query(ANSWERED)
        .bind(hosts)
        .fetch_all(connection)
        .await?;
    forgotten
        .iter()
        .try_for_each(|row| rules::log_recovery(row, outcomes))
}

/// Marks hosts as probed, by attempts whose leases begin now. Returns the hosts that no other relay probes.
pub(super) async fn probe(
    connection: &mut PgSession<'_>,
    hosts: &[String],
    now: Option<i64>,
    lease: Duration,
) -> Result<HashSet<String>, StoreError> {
    if hosts.is_empty() {
        return Ok(HashSet::new());
    }
    let probed: Vec<String> = sqlx::query_scalar(PROBE)
        .bind(hosts)
        .bind(now)
        .bind(millis(lease))
        .fetch_all(connection)
        .await?;
    Ok(probed.into_iter().collect())
}
