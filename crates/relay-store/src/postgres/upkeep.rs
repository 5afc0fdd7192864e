//! Upkeep: health checks, retention, counts.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Row;

use crate::{
    Census, ClockStep, StoreError, UpkeepStore,
    postgres::{PgSession, PgStore, indexes::none, watches},
    rows::{self, earlier, int},
    rules::FAILURES_COUNT_FOR,
};

/// Deletes ended watches. A watch with a pending delivery stays until that delivery has ended.
pub(super) const PURGE: &str = concat!(
    "DELETE FROM watches WHERE watch_id = ANY(ARRAY(SELECT w.watch_id \
     FROM watches w WHERE w.settled_at < $1 AND ",
    none!("deliveries d WHERE d.watch_id = w.watch_id AND d.next_attempt_at IS NOT NULL"),
    " ORDER BY w.settled_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING job_id"
);

pub(super) const PURGE_JOBS: &str = concat!(
    "DELETE FROM jobs WHERE job_id = ANY($1) AND ",
    none!("watches w WHERE w.job_id = jobs.job_id")
);

pub(super) const PURGE_HOSTS: &str = "DELETE FROM failing_hosts WHERE failed_at < $1";

pub(super) const PURGE_FAILURES: &str = "DELETE FROM connection_failures WHERE failed_at < $1";

pub(super) const COUNTS: &str = "SELECT \
    (SELECT count(*) FROM jobs WHERE urgency = 0 AND ready_at <= $1) \
    + (SELECT count(*) FROM jobs WHERE urgency = 1 AND ready_at <= $1) \
    + (SELECT count(*) FROM jobs WHERE urgency = 2 AND ready_at <= $1) \
    + (SELECT count(*) FROM jobs WHERE urgency = 3 AND ready_at <= $1) AS due_jobs, \
    waiting.due_deliveries, waiting.pending_deliveries, \
    (SELECT count(*) FROM deliveries WHERE state = 'dead') AS dead_deliveries, \
    (SELECT count(*) FROM failing_hosts WHERE paused_until > $1 AND paused_until > 0) \
    AS paused_hosts \
    FROM (SELECT count(*) FILTER (WHERE ready_at <= $1) AS due_deliveries, \
        count(*) AS pending_deliveries FROM deliveries WHERE ready_at IS NOT NULL) waiting";

/// Takes the table locks of a registration, to find out whether a table is locked. A health check waits for them
/// for 1.5 s at most.
pub(super) const LOCK: &str = "SET LOCAL lock_timeout = '1500ms'; \
    LOCK TABLE jobs, watches IN ROW EXCLUSIVE MODE";

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

    /// Notes nothing: the time is the database's, and no relay keeps a time of its own.
    async fn note_time(&self, _now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// Moves nothing, for the same reason.
    async fn move_times(&self, _step: ClockStep) -> Result<u64, StoreError> {
        Ok(0)
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
    let rows = sqlx::query(PURGE)
        .bind(before.as_millisecond())
        .bind(int(limit))
        .fetch_all(&mut *connection)
        .await?;
    let jobs = rows.iter().map(|row| row.try_get::<String, _>("job_id"));
    let mut jobs = jobs.collect::<Result<Vec<_>, _>>()?;
    let purged = u64::try_from(jobs.len()).unwrap_or(u64::MAX);
    jobs.sort_unstable();
    jobs.dedup();
    watches::lock_jobs(connection, &jobs).await?;
    sqlx::query(PURGE_JOBS)
        .bind(jobs)
        .execute(&mut *connection)
        .await?;
    sqlx::query(PURGE_HOSTS)
        .bind(before.as_millisecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(PURGE_FAILURES)
        .bind(earlier(before, FAILURES_COUNT_FOR))
        .execute(connection)
        .await?;
    Ok(purged)
}
