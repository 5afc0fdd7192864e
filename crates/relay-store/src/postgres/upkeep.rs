//! Upkeep: health checks, retention, counts.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::WatchId;

use crate::{
    Census, ClockStep, StoreError, StoreTroubles, UpkeepStore,
    postgres::{
        PgSession, PgStore,
        indexes::{is_listed, matching, none},
    },
    rows::{self, int, millis_earlier},
    rules::{FAILURES_COUNT_FOR, LISTED_FOR},
};

/// Deletes ended watches, oldest first, with all that lists them. A watch with a pending event stays until that has
/// ended. Only watches that began before `$1` can have ended by then, and `$2` is the first id since.
pub(super) const PURGE: &str = concat!(
    "WITH old AS (SELECT w.watch_id, w.client_id, w.state FROM watches w \
         WHERE w.watch_id < $2 AND w.settled_at < $1 AND ",
    none!("outbox o WHERE o.source_id = w.watch_id"),
    " ORDER BY w.watch_id LIMIT $3 FOR UPDATE SKIP LOCKED), \
     unsettled AS (DELETE FROM unsettled_watches WHERE ",
    matching!(
        "unsettled_watches",
        "(SELECT * FROM old WHERE state = 'cancelled')",
        "t.client_id = c.client_id AND t.state = c.state AND t.watch_id = c.watch_id"
    ),
    "), undelivered AS (DELETE FROM undelivered_events WHERE ",
    matching!(
        "undelivered_events",
        "(SELECT e.client_id, e.state AS former_state, e.updated_at AS former_change, e.event_id \
          FROM events e WHERE e.source_id = ANY(ARRAY(SELECT watch_id FROM old)) \
              AND e.state <> 'delivered')",
        is_listed!()
    ),
    ") DELETE FROM watches WHERE watch_id = ANY(ARRAY(SELECT watch_id FROM old)) RETURNING job_id"
);

/// Deletes subscriptions that ended before `$1`, with their notices and what lists those. One with a pending notice
/// stays until that notice has ended.
pub(super) const PURGE_SUBSCRIPTIONS: &str = concat!(
    "WITH old AS (SELECT s.subscription_id FROM subscriptions s \
         WHERE s.ended_at < $1 AND s.ended_at IS NOT NULL AND ",
    none!("outbox o WHERE o.source_id = s.subscription_id"),
    " ORDER BY s.ended_at LIMIT $2 FOR UPDATE SKIP LOCKED), \
     unlisted AS (DELETE FROM undelivered_events WHERE ",
    matching!(
        "undelivered_events",
        "(SELECT e.client_id, e.state AS former_state, e.updated_at AS former_change, e.event_id \
          FROM events e WHERE e.source_id = ANY(ARRAY(SELECT subscription_id FROM old)) \
              AND e.state <> 'delivered')",
        is_listed!()
    ),
    "), notices AS (DELETE FROM events WHERE source_id = ANY(ARRAY(SELECT subscription_id FROM old))) \
     DELETE FROM subscriptions WHERE subscription_id = ANY(ARRAY(SELECT subscription_id FROM old))"
);

/// Deletes old notices and messages of Basiq's that are not pending, with what lists them.
pub(super) const PURGE_FROM_BASIQ: &str = concat!(
    "WITH old AS (SELECT e.event_id, e.client_id, e.state AS former_state, e.updated_at AS former_change \
         FROM events e WHERE e.kind <> 'job' AND e.created_at < $1 \
             AND e.state <> 'pending' LIMIT $2 FOR UPDATE SKIP LOCKED), \
     unlisted AS (DELETE FROM undelivered_events WHERE ",
    matching!("undelivered_events", "old", is_listed!()),
    "), messages AS (DELETE FROM messages WHERE event_id = ANY(ARRAY(SELECT event_id FROM old))) \
     DELETE FROM events WHERE event_id = ANY(ARRAY(SELECT event_id FROM old))"
);

pub(super) const PURGE_SEEN: &str = "DELETE FROM seen_jobs WHERE ctid = ANY(ARRAY(\
    SELECT s.ctid FROM seen_jobs s WHERE s.seen_at < $1 ORDER BY s.seen_at LIMIT $2))";

/// A watch that is older than such an erasure has ended.
pub(super) const PURGE_ERASURES: &str = "DELETE FROM erasures WHERE erased_at < $1";

pub(super) const LOCK_JOBS: &str =
    "SELECT 1 FROM jobs WHERE job_id = ANY($1) ORDER BY job_id FOR UPDATE";

pub(super) const PURGE_JOBS: &str = concat!(
    "WITH ended AS (DELETE FROM due_jobs d WHERE job_id = ANY($1) AND ",
    none!("watches w WHERE w.job_id = d.job_id"),
    ") DELETE FROM jobs j WHERE job_id = ANY($1) AND ",
    none!("watches w WHERE w.job_id = j.job_id")
);

pub(super) const PURGE_HOSTS: &str = "DELETE FROM failing_hosts WHERE failed_at < $1";

pub(super) const PURGE_FAILURES: &str = "DELETE FROM connection_failures WHERE failed_at < $1";

pub(super) const COUNTS: &str = "SELECT \
    (SELECT count(*) FROM due_jobs WHERE urgency = 0 AND ready_at <= $1) \
    + (SELECT count(*) FROM due_jobs WHERE urgency = 1 AND ready_at <= $1) \
    + (SELECT count(*) FROM due_jobs WHERE urgency = 2 AND ready_at <= $1) \
    + (SELECT count(*) FROM due_jobs WHERE urgency = 3 AND ready_at <= $1) AS due_jobs, \
    waiting.due_deliveries, waiting.pending_deliveries, \
    (SELECT coalesce(sum((SELECT count(*) FROM undelivered_events u \
        WHERE u.client_id = c.client_id AND u.state = 'dead')), 0)::bigint \
        FROM (SELECT client_id FROM clients UNION ALL SELECT 0) c) AS dead_deliveries, \
    (SELECT count(*) FROM due_lists WHERE ready_at <= $1) AS due_lists, \
    (SELECT coalesce(sum((SELECT count(*) FROM subscriptions s \
        WHERE s.client_id = c.client_id AND coalesce(s.ended_at, 0) = 0)), 0)::bigint \
        FROM clients c) AS subscriptions, \
    (SELECT count(*) FROM failing_hosts WHERE paused_until > $1 AND paused_until > 0) \
    AS paused_hosts \
    FROM (SELECT count(*) FILTER (WHERE ready_at <= $1) AS due_deliveries, \
        count(*) AS pending_deliveries FROM outbox) waiting";

pub(super) const DEAD: &str = "SELECT coalesce(sum((SELECT count(*) FROM undelivered_events u \
    WHERE u.client_id = c.client_id AND u.state = 'dead')), 0)::bigint AS dead_deliveries \
    FROM (SELECT client_id FROM clients UNION ALL SELECT 0) c";

pub(super) const PAUSED_HOSTS: &str = "SELECT f.host, f.paused_since FROM failing_hosts f \
    WHERE f.paused_since > 0 AND f.paused_since <= $1 \
    AND (SELECT 1 FROM outbox o WHERE o.host = f.host LIMIT 1) IS NOT NULL \
    ORDER BY f.paused_since, f.host LIMIT $2";

/// Takes the table locks of a registration, to find out whether a table is locked. A health check waits for them
/// for 1.5 s at most.
pub(super) const LOCK: &str = "SET LOCAL lock_timeout = '1500ms'; \
    LOCK TABLE due_jobs, jobs, watches IN ROW EXCLUSIVE MODE";

pub(super) const PING: &str = "INSERT INTO pings (slot, pings) VALUES ($1, 1) \
    ON CONFLICT (slot) DO UPDATE SET pings = pings.pings + 1";

/// The number of rows in `pings`. A ping writes one at random, so that the pings of many relays do not wait for
/// each other.
const SLOTS: i16 = 32;

pub(super) const STATES: &str =
    "SELECT state, sum(n)::bigint AS n FROM watch_counts GROUP BY state ORDER BY state";

#[async_trait]
impl UpkeepStore for PgStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.write((), |connection, ()| Box::pin(touch(connection)))
            .await
    }

    /// Frees none, and returns 0. Other relays may be at work under their leases, and the leases of a dead relay
    /// expire.
    async fn free_leases(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Does nothing: the server checks its pages itself, if it is set up to do so.
    async fn examine(&self, _patience: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    async fn note_time(&self, now: Timestamp) -> Result<Option<ClockStep>, StoreError> {
        self.note_clock(now).await
    }

    async fn move_times(&self, step: ClockStep) -> Result<u64, StoreError> {
        self.move_with_clock(step).await
    }

    async fn purge_ended(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.write((before, limit), |connection, (before, limit)| {
            Box::pin(purge(connection, *before, *limit))
        })
        .await
    }

    async fn census(&self, now: Timestamp) -> Result<Census, StoreError> {
        let mut view = self.read().await?;
        let mut session = view.session();
        let states = sqlx::query(STATES).fetch_all(&mut session).await?;
        let counts = sqlx::query(COUNTS)
            .bind(now.as_millisecond())
            .fetch_one(&mut session)
            .await?;
        rows::census(&states, &counts)
    }

    async fn troubles(
        &self,
        paused_before: Timestamp,
        limit: usize,
    ) -> Result<StoreTroubles, StoreError> {
        let mut view = self.read().await?;
        let mut session = view.session();
        let dead = sqlx::query(DEAD).fetch_one(&mut session).await?;
        let hosts = sqlx::query(PAUSED_HOSTS)
            .bind(paused_before.as_millisecond())
            .bind(int(limit))
            .fetch_all(&mut session)
            .await?;
        rows::troubles(&dead, &hosts)
    }

    async fn close(&self) {
        self.0.pool.close().await;
    }
}

/// Checks that the tables exist and are not locked, and that a write succeeds.
async fn touch(connection: &mut PgSession<'_>) -> Result<(), StoreError> {
    sqlx::raw_sql(LOCK).execute(&mut *connection).await?;
    sqlx::query(PING)
        .bind(rand::random_range(0..SLOTS))
        .execute(connection)
        .await?;
    Ok(())
}

async fn purge(
    connection: &mut PgSession<'_>,
    before: Timestamp,
    limit: usize,
) -> Result<u64, StoreError> {
    // first, because an erasure locks this table before it locks rows
    sqlx::query(PURGE_ERASURES)
        .bind(millis_earlier(before, LISTED_FOR))
        .execute(&mut *connection)
        .await?;
    let mut jobs: Vec<String> = sqlx::query_scalar(PURGE)
        .bind(before.as_millisecond())
        .bind(WatchId::first_of(before).to_bytes())
        .bind(int(limit))
        .fetch_all(&mut *connection)
        .await?;
    let purged = u64::try_from(jobs.len()).unwrap_or(u64::MAX);
    jobs.sort_unstable();
    jobs.dedup();
    sqlx::query(LOCK_JOBS)
        .bind(&jobs)
        .execute(&mut *connection)
        .await?;
    sqlx::query(PURGE_JOBS)
        .bind(jobs)
        .execute(&mut *connection)
        .await?;
    for statement in [PURGE_SUBSCRIPTIONS, PURGE_FROM_BASIQ] {
        sqlx::query(statement)
            .bind(before.as_millisecond())
            .bind(int(limit))
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(PURGE_SEEN)
        .bind(millis_earlier(before, LISTED_FOR))
        .bind(int(limit))
        .execute(&mut *connection)
        .await?;
    sqlx::query(PURGE_HOSTS)
        .bind(before.as_millisecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(PURGE_FAILURES)
        .bind(millis_earlier(before, FAILURES_COUNT_FOR))
        .execute(connection)
        .await?;
    Ok(purged)
}
