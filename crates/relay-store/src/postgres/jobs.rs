//! Jobs to look at: each relay claims jobs when they are due.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ErrorChain, JobId, LeaseId, Watch};
use sqlx::Row;
use tracing::error;

use crate::{
    Claim, DueJob, JobStore, Look, NewJobs, StoreError,
    postgres::{
        PgSession, PgStore, clock::claim_now, details::watch_columns, indexes::is_unwatched, looks,
    },
    rows::{self, UNREADABLE_RETRY_AFTER, int, millis, millis_earlier, millis_later, time},
    rules::{FAILURES_COUNT_FOR, KINDS, divide},
};

/// Counts the due jobs of one urgency, up to the limit of the claim (`$2`).
macro_rules! waiting {
    ($urgency:literal) => {
        concat!(
            "(SELECT count(*) FROM (SELECT 1 FROM due_jobs WHERE urgency = ",
            $urgency,
            " AND ready_at <= ",
            claim_now!("$1"),
            " LIMIT $2) k)"
        )
    };
}

pub(super) const WAITING: &str = concat!(
    "SELECT ARRAY[",
    waiting!("0"),
    ", ",
    waiting!("1"),
    ", ",
    waiting!("2"),
    ", ",
    waiting!("3"),
    "] AS waiting"
);

/// Locks the jobs of one urgency that have been due longest. Jobs that another relay is claiming are skipped.
macro_rules! due {
    ($urgency:literal, $limit:literal) => {
        concat!(
            "(SELECT job_id FROM due_jobs WHERE urgency = ",
            $urgency,
            " AND ready_at <= ",
            claim_now!("$1"),
            " ORDER BY ready_at LIMIT $",
            $limit,
            " FOR UPDATE SKIP LOCKED)"
        )
    };
}

pub(super) const LEASE: &str = concat!(
    "WITH first AS ",
    due!("0", "4"),
    ", urgent AS ",
    due!("1", "5"),
    ", young AS ",
    due!("2", "6"),
    ", other AS ",
    due!("3", "7"),
    " UPDATE due_jobs d SET lease_id = $2, joined = FALSE, lease_until = ",
    claim_now!("$1"),
    " + $3 WHERE job_id = ANY(ARRAY(SELECT job_id FROM first UNION ALL SELECT job_id FROM urgent \
       UNION ALL SELECT job_id FROM young UNION ALL SELECT job_id FROM other)) \
     RETURNING job_id, urgency, next_look_at, hinted_at, waits_for, \
         (SELECT j.memory FROM jobs j WHERE j.job_id = d.job_id) AS memory"
);

pub(super) const OPEN_WATCHES: &str = concat!(
    "SELECT ",
    watch_columns!(),
    " FROM watches w WHERE w.watch_id = ANY(ARRAY(SELECT u.watch_id FROM unsettled_watches u \
        WHERE u.job_id = ANY($1) AND u.state <> 'cancelled'))"
);

/// Frees jobs that cannot be looked at. A job without an open watch is not due any more, and an unreadable job is put
/// off.
pub(super) const PUT_OFF: &str = concat!(
    "WITH ended AS (DELETE FROM due_jobs d WHERE job_id = ANY($1) AND ",
    is_unwatched!("d.job_id"),
    ") UPDATE due_jobs d SET lease_id = NULL, lease_until = NULL, next_look_at = $2 \
     WHERE job_id = ANY($1) AND NOT (",
    is_unwatched!("d.job_id"),
    ")"
);

/// The earliest time of all urgencies. `least` ignores an urgency that has no job.
pub(super) const NEXT_DUE: &str = "SELECT least(\
    (SELECT min(ready_at) FROM due_jobs WHERE urgency = 0), \
    (SELECT min(ready_at) FROM due_jobs WHERE urgency = 1), \
    (SELECT min(ready_at) FROM due_jobs WHERE urgency = 2), \
    (SELECT min(ready_at) FROM due_jobs WHERE urgency = 3))";

/// Counts the recent failures of one connection, which has few. `+ 0` keeps PostgreSQL from searching the recent
/// failures of all connections.
pub(super) const FAILURES: &str = "SELECT count(*) FROM connection_failures \
    WHERE connection_id = $1 AND job_id <> $2 AND failed_at + 0 > $3";

#[async_trait]
impl JobStore for PgStore {
    async fn claim_due_jobs(&self, claim: Claim) -> Result<Vec<DueJob>, StoreError> {
        let now = self.now(claim.now);
        let turn = self.0.claims.fetch_add(1, Ordering::Relaxed);
        self.write((claim, now, turn), |connection, (claim, now, turn)| {
            Box::pin(claim_due(connection, *claim, *turn, *now))
        })
        .await
    }

    async fn record_looks(&self, looks: Arc<[Look]>) -> Result<Vec<JobId>, StoreError> {
        let context = looks::DispatchContext {
            dispatch: &self.0.new_deliveries,
            sealer: &self.0.sealer,
            lease_clock: self.0.lease_clock,
        };
        let (recorded, claim) = self
            .write((&looks, context), |connection, (looks, context)| {
                Box::pin(looks::record(connection, looks, context))
            })
            .await?;
        if let Some(claim) = claim {
            claim.send();
        }
        self.notify_of_events(&looks);
        self.record_durations(looks, recorded.clone());
        Ok(recorded)
    }

    fn new_jobs(&self) -> &NewJobs {
        &self.0.new_jobs
    }

    async fn next_look_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due = sqlx::query_scalar(NEXT_DUE).fetch_one(self.pool());
        Ok(time(due.await?))
    }

    async fn connection_failures(
        &self,
        connection_id: &str,
        job_id: &JobId,
        now: Timestamp,
    ) -> Result<u32, StoreError> {
        let count: i64 = sqlx::query_scalar(FAILURES)
            .bind(connection_id)
            .bind(job_id.as_str())
            .bind(millis_earlier(now, FAILURES_COUNT_FOR))
            .fetch_one(self.pool())
            .await?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

async fn claim_due(
    connection: &mut PgSession<'_>,
    claim: Claim,
    turn: u32,
    now: Option<i64>,
) -> Result<Vec<DueJob>, StoreError> {
    let parts = divide(waiting(connection, claim, now).await?, claim.limit, turn);
    if parts == [0; KINDS] {
        return Ok(Vec::new());
    }
    let lease = LeaseId::new(claim.now);
    let mut query = sqlx::query(LEASE)
        .bind(now)
        .bind(lease.to_bytes())
        .bind(millis(claim.lease));
    for part in parts {
        query = query.bind(int(part));
    }
    let mut rows = query.fetch_all(&mut *connection).await?;
    rows.sort_by_key(|row| {
        let number = |column| row.try_get::<i64, _>(column).unwrap_or_default();
        (number("urgency"), number("next_look_at"))
    });
    let mut left = Vec::with_capacity(rows.len());
    for row in &rows {
        left.push(row.try_get::<String, _>("job_id")?);
    }
    let mut watches = open_watches(connection, &left).await?;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        match rows::due_job(row, lease, &mut watches) {
            Ok(job) if job.watches.is_empty() => {}
            Ok(job) => jobs.push(job),
            Err(failure) => {
                error!(error = %ErrorChain(&failure), "a job cannot be read and is put off");
            }
        }
    }
    left.retain(|id| !jobs.iter().any(|job| job.job_id.as_str() == id));
    if !left.is_empty() {
        sqlx::query(PUT_OFF)
            .bind(left)
            .bind(millis_later(claim.now, UNREADABLE_RETRY_AFTER))
            .execute(connection)
            .await?;
    }
    Ok(jobs)
}

async fn waiting(
    connection: &mut PgSession<'_>,
    claim: Claim,
    now: Option<i64>,
) -> Result<[usize; KINDS], StoreError> {
    let counts: Vec<i64> = sqlx::query_scalar(WAITING)
        .bind(now)
        .bind(int(claim.limit))
        .fetch_one(connection)
        .await?;
    let mut waiting = [0; KINDS];
    for (kind, count) in waiting.iter_mut().zip(counts) {
        *kind = usize::try_from(count).unwrap_or(0);
    }
    Ok(waiting)
}

async fn open_watches(
    connection: &mut PgSession<'_>,
    jobs: &[String],
) -> Result<HashMap<JobId, Vec<Watch>>, StoreError> {
    let rows = sqlx::query(OPEN_WATCHES)
        .bind(jobs)
        .fetch_all(connection)
        .await?;
    Ok(rows::watches_by_job(&rows))
}
