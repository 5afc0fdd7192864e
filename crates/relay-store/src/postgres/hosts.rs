//! Callback hosts that keep failing: they are paused, and then probed by one attempt at a time.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    AbandonedDelivery, StoreError, WaitLimit,
    postgres::{PgSession, clock::claim_now},
    rows::{int, millis},
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

/// Ends the pause of each host that has a delivery due exactly at `$1`: somebody sent that delivery again by
/// hand. One attempt then finds out whether the host answers.
pub(super) const LIFT: &str = "UPDATE failing_hosts SET paused_until = 0, probing = FALSE \
    WHERE host = ANY(ARRAY(SELECT f.host FROM failing_hosts f WHERE f.paused_until > 0 \
        AND (SELECT 1 FROM deliveries d WHERE d.host = f.host AND d.ready_at = $1 LIMIT 1) IS NOT NULL \
        ORDER BY f.host FOR UPDATE))";

/// Deliveries that are due, were first due by `$2`, and wait for a host that has not answered since it was
/// paused. A pending delivery has not changed its state since it was first due, so `updated_at` is that time.
pub(super) const WAITING: &str = "SELECT d.delivery_id FROM deliveries d \
    WHERE d.state = 'pending' AND d.updated_at <= $2 AND d.deadline IS NULL \
    AND coalesce(d.ready_at, 9223372036854775807) <= $1 \
    AND (SELECT f.pauses FROM failing_hosts f WHERE f.host = d.host) > 0 \
    ORDER BY d.updated_at LIMIT $3";

/// Gives deliveries up. Another relay may have claimed some since they were found, or may be claiming them now;
/// these are skipped.
pub(super) const GIVE_UP: &str = "UPDATE deliveries d SET state = 'dead', next_attempt_at = NULL, \
    lease_id = NULL, lease_until = NULL, updated_at = $2 \
    WHERE d.delivery_id = ANY(ARRAY(SELECT c.delivery_id FROM deliveries c \
        WHERE c.delivery_id = ANY($1) AND coalesce(c.ready_at, 9223372036854775807) <= $2 \
        FOR UPDATE SKIP LOCKED)) \
    RETURNING d.delivery_id, d.event_id, d.watch_id, d.host, \
    (SELECT w.job_id FROM watches w WHERE w.watch_id = d.watch_id) AS job_id";

/// Ends the pauses of hosts whose deliveries were sent again by hand at this time.
pub(super) async fn lift(connection: &mut PgSession<'_>, now: Timestamp) -> Result<(), StoreError> {
    let lift = sqlx::query(LIFT).bind(now.as_millisecond());
    lift.execute(connection).await?;
    Ok(())
}

/// Returns the deliveries that have waited too long for a paused host.
pub(super) async fn waiting(
    connection: &mut PgSession<'_>,
    waiting: WaitLimit,
) -> Result<Vec<String>, StoreError> {
    let found = sqlx::query_scalar(WAITING)
        .bind(waiting.now.as_millisecond())
        .bind(waiting.since.as_millisecond())
        .bind(int(waiting.limit));
    Ok(found.fetch_all(connection).await?)
}

/// Gives these deliveries up.
pub(super) async fn give_up(
    connection: &mut PgSession<'_>,
    ids: &[String],
    now: Timestamp,
) -> Result<Vec<AbandonedDelivery>, StoreError> {
    let given_up = sqlx::query(GIVE_UP).bind(ids).bind(now.as_millisecond());
    let rows = given_up.fetch_all(connection).await?;
    rows.iter().map(|row| rules::given_up(row)).collect()
}

/// Records what attempts say about their hosts.
pub(super) async fn note(
    connection: &mut PgSession<'_>,
    words: &BTreeMap<&str, HostOutcome>,
) -> Result<(), StoreError> {
    let recovered = rules::recovered(words);
    if !recovered.is_empty() {
        forget(connection, recovered).await?;
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

/// Deletes the failures of hosts that answered.
async fn forget(connection: &mut PgSession<'_>, hosts: Vec<&str>) -> Result<(), StoreError> {
    let forgotten = sqlx::query(ANSWERED)
        .bind(hosts)
        .fetch_all(connection)
        .await?;
    forgotten
        .iter()
        .try_for_each(|row| rules::log_recovery(row))
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
