//! Upkeep: health, leases of a former relay, retention, counts.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::WatchId;
use rusqlite::{Connection, params};
use tracing::info;

use crate::{
    Census, ClockStep, StoreError, StoreTroubles, UpkeepStore,
    rows::{self, ColumnReader, int, millis_earlier, time},
    rules::{FAILURES_COUNT_FOR, LISTED_FOR},
    sqlite::{
        SqliteStore, clock_step, examine,
        row::json_list,
        salvage::skip_damage,
        statement::{execute, fetch_all, scalar},
    },
};

/// Deletes watches that ended before `?1`, the oldest first. A watch ends after it began, so its id is before `?3`,
/// the least id of that time. A watch with a pending event stays until that event has ended.
pub(super) const PURGE: &str = "DELETE FROM watches WHERE watch_id IN (SELECT w.watch_id \
    FROM watches w WHERE w.watch_id < ?3 AND w.settled_at < ?1 AND NOT EXISTS \
        (SELECT 1 FROM outbox o WHERE o.source_id = w.watch_id) \
    ORDER BY w.watch_id LIMIT ?2) RETURNING job_no";

/// Ends the work on jobs without a watch. A look in flight keeps that work after its last watch was cancelled.
pub(super) const PURGE_DUE: &str = "DELETE FROM due_jobs WHERE job_no IN \
    (SELECT value FROM json_each(?1)) \
    AND NOT EXISTS (SELECT 1 FROM watches w WHERE w.job_no = due_jobs.job_no)";

pub(super) const PURGE_JOBS: &str = "DELETE FROM jobs WHERE job_no IN \
    (SELECT value FROM json_each(?1)) \
    AND NOT EXISTS (SELECT 1 FROM watches w WHERE w.job_no = jobs.job_no)";

/// Deletes subscriptions that ended before `?1`. One with a pending notice stays until that notice has ended.
pub(super) const PURGE_SUBSCRIPTIONS: &str = "DELETE FROM subscriptions WHERE subscription_id IN \
    (SELECT s.subscription_id FROM subscriptions s WHERE s.ended_at < ?1 AND s.ended_at IS NOT NULL \
        AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.source_id = s.subscription_id) LIMIT ?2)";

/// Finds the old notices and messages of Basiq's that are not pending.
macro_rules! old_from_basiq {
    () => {
        "(SELECT event_id FROM events WHERE kind <> 'job' AND created_at < ?1 AND state <> 'pending' ORDER BY created_at LIMIT ?2)"
    };
}

pub(super) const PURGE_MESSAGES: &str =
    concat!("DELETE FROM messages WHERE event_id IN ", old_from_basiq!());

pub(super) const PURGE_FROM_BASIQ: &str =
    concat!("DELETE FROM events WHERE event_id IN ", old_from_basiq!());

pub(super) const PURGE_SEEN: &str = "DELETE FROM seen_jobs WHERE (subscription_id, job_id) IN \
    (SELECT subscription_id, job_id FROM seen_jobs WHERE seen_at < ?1 ORDER BY seen_at LIMIT ?2)";

/// A watch that is older than such an erasure has ended.
pub(super) const PURGE_ERASURES: &str = "DELETE FROM erasures WHERE erased_at < ?1";

const COUNTS: &str = "SELECT \
    (SELECT count(*) FROM due_jobs WHERE urgency = 0 AND ready_at <= ?1) \
    + (SELECT count(*) FROM due_jobs WHERE urgency = 1 AND ready_at <= ?1) \
    + (SELECT count(*) FROM due_jobs WHERE urgency = 2 AND ready_at <= ?1) \
    + (SELECT count(*) FROM due_jobs WHERE urgency = 3 AND ready_at <= ?1) AS due_jobs, \
    (SELECT count(*) FROM outbox WHERE ready_at <= ?1) AS due_deliveries, \
    (SELECT count(*) FROM outbox) AS pending_deliveries, \
    (SELECT count(*) FROM clients c CROSS JOIN events e ON e.client_id = c.client_id \
     AND e.state = 'dead') \
    + (SELECT count(*) FROM events e WHERE e.client_id = 0 AND e.state = 'dead') \
    AS dead_deliveries, \
    (SELECT count(*) FROM due_lists WHERE ready_at <= ?1) AS due_lists, \
    (SELECT count(*) FROM subscriptions WHERE ifnull(ended_at, 0) = 0) AS subscriptions, \
    (SELECT count(*) FROM failing_hosts WHERE paused_until > ?1 AND paused_until > 0) \
    AS paused_hosts";

/// Counts each client's dead deliveries by the partial index of rare states. Client 0 owns the messages of Basiq's.
pub(super) const DEAD: &str = "SELECT \
    (SELECT count(*) FROM clients c CROSS JOIN events e ON e.client_id = c.client_id \
     AND e.state = 'dead') \
    + (SELECT count(*) FROM events e WHERE e.client_id = 0 AND e.state = 'dead') \
    AS dead_deliveries";

pub(super) const PAUSED_HOSTS: &str = "SELECT f.host, f.paused_since FROM failing_hosts f \
    WHERE f.paused_since > 0 AND f.paused_since <= ?1 \
    AND EXISTS (SELECT 1 FROM outbox o WHERE o.host = f.host) \
    ORDER BY f.paused_since, f.host LIMIT ?2";

const FREE_LEASES: [&str; 5] = [
    "UPDATE due_jobs SET lease_id = NULL, lease_until = NULL WHERE lease_until IS NOT NULL",
    "UPDATE due_lists SET lease_id = NULL, lease_until = NULL WHERE lease_until IS NOT NULL",
    "UPDATE outages SET lease_id = NULL, lease_until = NULL WHERE lease_until IS NOT NULL",
    "UPDATE failing_hosts SET probing = 0, paused_until = 0 WHERE probing",
    "UPDATE outbox SET lease_id = NULL, lease_until = NULL WHERE lease_until IS NOT NULL",
];

const PING: &str = "INSERT INTO heartbeat (one, beats) VALUES (1, 1) \
    ON CONFLICT (one) DO UPDATE SET beats = beats + 1";

const SEEN: &str = "SELECT seen_at FROM heartbeat";

const SEE: &str = "INSERT INTO heartbeat (one, beats, seen_at) VALUES (1, 0, ?1) \
    ON CONFLICT (one) DO UPDATE SET seen_at = excluded.seen_at";

#[async_trait]
impl UpkeepStore for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.0.health.check_place()?;
        sqlx::query("SELECT 1 FROM clients LIMIT 1")
            .fetch_optional(self.readers()?)
            .await?;
        self.write(|connection| Ok(execute(connection, PING, [])?))
            .await?;
        self.0.health.ensure_undamaged()
    }

    async fn examine(&self, patience: Duration) -> Result<(), StoreError> {
        let ended = examine::begin(self)?;
        if tokio::time::timeout(patience, ended).await.is_err() {
            info!("the database is large: it is examined for damage beside the work");
        }
        Ok(())
    }

    async fn note_time(&self, now: Timestamp) -> Result<Option<ClockStep>, StoreError> {
        self.write(move |connection| {
            let before = scalar::<Option<i64>>(connection, SEEN, [])?;
            let step = time(before.flatten()).and_then(|before| ClockStep::between(before, now));
            let back = step.filter(|step| step.is_back());
            if back.is_none() {
                execute(connection, SEE, params![now.as_millisecond()])?;
            }
            Ok(back)
        })
        .await
    }

    async fn move_times(&self, step: ClockStep) -> Result<u64, StoreError> {
        let mut moved = 0;
        for unit in clock_step::units(step) {
            moved += skip_damage(self.write(unit).await)?;
        }
        let now = step.to.as_millisecond();
        let noted = self.write(move |connection| Ok(execute(connection, SEE, params![now])?));
        skip_damage(noted.await)?;
        Ok(moved)
    }

    async fn free_leases(&self) -> Result<u64, StoreError> {
        // a relay that was killed during an erasure may have left erased rows in the write-ahead log
        self.0.writer.log_mark().store(true, Ordering::Relaxed);
        let mut freed = 0;
        // a lease that damage keeps in place expires by itself
        for statement in FREE_LEASES {
            let unit = self.write(move |connection| Ok(execute(connection, statement, [])?));
            freed += skip_damage(unit.await)?;
        }
        Ok(freed)
    }

    async fn purge_ended(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let purged = self.write(move |connection| purge(connection, before, limit));
        // if damage stops the purge, old watches stay
        skip_damage(purged.await)
    }

    async fn census(&self, now: Timestamp) -> Result<Census, StoreError> {
        let mut view = self.read().await?;
        let rows = sqlx::query(
            "SELECT state, sum(n) AS n FROM watch_counts GROUP BY state ORDER BY state",
        )
        .fetch_all(&mut *view)
        .await?;
        let counts = sqlx::query(COUNTS)
            .bind(now.as_millisecond())
            .fetch_one(&mut *view)
            .await?;
        rows::census(&rows, &counts)
    }

    async fn troubles(
        &self,
        paused_before: Timestamp,
        limit: usize,
    ) -> Result<StoreTroubles, StoreError> {
        let mut view = self.read().await?;
        let dead = sqlx::query(DEAD).fetch_one(&mut *view).await?;
        let hosts = sqlx::query(PAUSED_HOSTS)
            .bind(paused_before.as_millisecond())
            .bind(int(limit))
            .fetch_all(&mut *view)
            .await?;
        rows::troubles(&dead, &hosts)
    }

    /// Also moves the write-ahead log into the database file.
    async fn close(&self) {
        self.0.readers.close().await;
        self.0.reader.close().await;
        self.0.writer.close().await;
    }
}

fn purge(connection: &Connection, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let rows = fetch_all(
        connection,
        PURGE,
        params![
            before.as_millisecond(),
            int(limit),
            WatchId::first_of(before).to_bytes()
        ],
    )?;
    let jobs: Vec<i64> = rows
        .iter()
        .map(|row| ColumnReader::of("watches", "job_no", row).get("job_no"))
        .collect::<Result<_, StoreError>>()?;
    let purged = u64::try_from(jobs.len()).unwrap_or(u64::MAX);
    let jobs = json_list(jobs);
    execute(connection, PURGE_DUE, (&jobs,))?;
    execute(connection, PURGE_JOBS, (&jobs,))?;
    purge_from_basiq(connection, before, limit)?;
    execute(
        connection,
        "DELETE FROM failing_hosts WHERE failed_at < ?1",
        params![before.as_millisecond()],
    )?;
    execute(
        connection,
        "DELETE FROM connection_failures WHERE failed_at < ?1",
        params![millis_earlier(before, FAILURES_COUNT_FOR)],
    )?;
    Ok(purged)
}

/// Deletes old subscriptions, notices, messages of Basiq's, and jobs that lists no longer have.
fn purge_from_basiq(
    connection: &Connection,
    before: Timestamp,
    limit: usize,
) -> Result<(), StoreError> {
    let values = (before.as_millisecond(), int(limit));
    for statement in [PURGE_SUBSCRIPTIONS, PURGE_MESSAGES, PURGE_FROM_BASIQ] {
        execute(connection, statement, values)?;
    }
    let seen = (millis_earlier(before, LISTED_FOR), int(limit));
    execute(connection, PURGE_SEEN, seen)?;
    execute(
        connection,
        PURGE_ERASURES,
        (millis_earlier(before, LISTED_FOR),),
    )?;
    Ok(())
}
