//! Jobs to look at: claimed when they are due.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use tracing::error;

use crate::{
    domain::{JobId, JobMemory, LeaseId, Phase, Watch},
    store::{
        Claim, DueJob, JobStore, Look, StoreError,
        sqlite::{
            SqliteStore, looks,
            row::{Cells, int, json_list},
            stories::{self, watch_columns},
        },
    },
};

/// How many kinds of urgency there are: 0 for first looks, 1 for open challenges, 2 for young jobs,
/// 3 for all others.
const KINDS: usize = 4;

/// The part of claims that each kind but the first gets if it wants it, whatever waits before it: a
/// fifth. Two fifths are left for the most urgent.
const SHARE: usize = 5;

/// How long a row that cannot be read is left alone.
const REST_OF_UNREADABLE: Duration = Duration::from_hours(1);

/// How far back failures of a connection count.
const FAILURES_COUNT_FOR: Duration = Duration::from_hours(24);

pub(super) const DUE: &str = "SELECT job_id FROM jobs WHERE urgency = ?1 AND ready_at <= ?2 \
    ORDER BY ready_at LIMIT ?3";

pub(super) const LEASE: &str = "UPDATE jobs SET lease_id = ?2, lease_until = ?3, joined = 0 \
    WHERE job_id IN (SELECT value FROM json_each(?1)) \
    RETURNING job_id, next_look_at, memory, waits_for";

pub(super) const OPEN_WATCHES: &str = concat!(
    "SELECT ",
    watch_columns!(),
    " FROM json_each(?1) i CROSS JOIN watches w ON w.job_id = i.value AND w.settled_at IS NULL"
);

const PUT_OFF: &str = "UPDATE jobs SET lease_id = NULL, lease_until = NULL, \
    next_look_at = iif(EXISTS (SELECT 1 FROM watches w WHERE w.job_id = jobs.job_id \
        AND w.settled_at IS NULL), ?2, NULL) \
    WHERE job_id IN (SELECT value FROM json_each(?1))";

/// The least of those that are there.
pub(super) const NEXT_DUE: &str = "SELECT min(due) FROM (\
    SELECT min(ready_at) AS due FROM jobs WHERE urgency = 0 AND ready_at IS NOT NULL UNION ALL \
    SELECT min(ready_at) FROM jobs WHERE urgency = 1 AND ready_at IS NOT NULL UNION ALL \
    SELECT min(ready_at) FROM jobs WHERE urgency = 2 AND ready_at IS NOT NULL UNION ALL \
    SELECT min(ready_at) FROM jobs WHERE urgency = 3 AND ready_at IS NOT NULL)";

pub(super) const FAILURES: &str = "SELECT count(*) FROM connection_failures \
    WHERE connection_id = ?1 AND job_id <> ?2 AND failed_at > ?3";

#[async_trait]
impl JobStore for SqliteStore {
    async fn claim_due_jobs(&self, claim: Claim) -> Result<Vec<DueJob>, StoreError> {
        self.write(move |connection| Box::pin(claim_due(connection, claim)))
            .await
    }

    async fn record_looks(&self, looks: Vec<Look>) -> Result<Vec<JobId>, StoreError> {
        self.write(move |connection| Box::pin(looks::record(connection, looks)))
            .await
    }

    async fn next_look_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due = sqlx::query_scalar(NEXT_DUE).fetch_one(&self.0.readers);
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
            .bind(earlier(now, FAILURES_COUNT_FOR))
            .fetch_one(&self.0.readers)
            .await?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

async fn claim_due(
    connection: &mut SqliteConnection,
    claim: Claim,
) -> Result<Vec<DueJob>, StoreError> {
    let ids = due(connection, claim).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let lease = LeaseId::new(claim.now);
    let rows = sqlx::query(LEASE)
        .bind(json_list(&ids))
        .bind(lease.to_string())
        .bind(later(claim.now, claim.lease))
        .fetch_all(&mut *connection)
        .await?;
    let mut watches = open_watches(connection, &ids).await?;
    let mut jobs: HashMap<String, DueJob> = HashMap::with_capacity(rows.len());
    for row in &rows {
        match due_job(row, lease, &mut watches) {
            Ok(job) if job.watches.is_empty() => {}
            Ok(job) => drop(jobs.insert(job.job_id.to_string(), job)),
            Err(failure) => error!(error = %failure, "a job cannot be read and is put off"),
        }
    }
    let left: Vec<_> = ids.iter().filter(|id| !jobs.contains_key(*id)).collect();
    if !left.is_empty() {
        put_off(connection, &json_list(left), claim.now).await?;
    }
    Ok(ids.iter().filter_map(|id| jobs.remove(id)).collect())
}

/// The due jobs to claim: the more urgent first, each kind by how long it has been due.
async fn due(connection: &mut SqliteConnection, claim: Claim) -> Result<Vec<String>, StoreError> {
    let mut kinds: [Vec<String>; KINDS] = Default::default();
    for (urgency, ids) in (0_i64..).zip(&mut kinds) {
        *ids = sqlx::query_scalar(DUE)
            .bind(urgency)
            .bind(claim.now.as_millisecond())
            .bind(int(claim.limit))
            .fetch_all(&mut *connection)
            .await?;
    }
    let parts = divide(kinds.each_ref().map(Vec::len), claim);
    let taken = kinds.into_iter().zip(parts);
    let taken = taken.flat_map(|(ids, part)| ids.into_iter().take(part));
    Ok(taken.collect())
}

/// How a claim is divided among the kinds, of which so many wait.
fn divide(waiting: [usize; KINDS], claim: Claim) -> [usize; KINDS] {
    let mut parts = shares(claim);
    for (part, waiting) in parts.iter_mut().zip(waiting) {
        *part = (*part).min(waiting);
    }
    let mut room = claim.limit.saturating_sub(parts.iter().sum());
    for (part, waiting) in parts.iter_mut().zip(waiting) {
        let more = (waiting - *part).min(room);
        *part += more;
        room -= more;
    }
    parts
}

/// What of a claim is kept for each kind: a fifth, but for the first. Small claims cannot be divided
/// so; each kind then has a fifth of their times.
fn shares(claim: Claim) -> [usize; KINDS] {
    let share = claim.limit / SHARE;
    if share > 0 {
        return [0, share, share, share];
    }
    match claim.now.as_millisecond().rem_euclid(5) {
        0 => [0, 0, 0, 1],
        1 => [0, 0, 1, 0],
        2 => [0, 1, 0, 0],
        _ => [0; KINDS],
    }
}

async fn open_watches(
    connection: &mut SqliteConnection,
    jobs: &[String],
) -> Result<HashMap<JobId, Vec<Watch>>, StoreError> {
    let rows = sqlx::query(OPEN_WATCHES)
        .bind(json_list(jobs))
        .fetch_all(connection)
        .await?;
    let mut watches: HashMap<_, Vec<_>> = HashMap::new();
    for row in &rows {
        match stories::watch(row) {
            Ok(watch) => watches
                .entry(watch.request.job_id.clone())
                .or_default()
                .push(watch),
            Err(failure) => error!(error = %failure, "a watch cannot be read and is left out"),
        }
    }
    Ok(watches)
}

fn due_job(
    row: &SqliteRow,
    lease: LeaseId,
    watches: &mut HashMap<JobId, Vec<Watch>>,
) -> Result<DueJob, StoreError> {
    let cells = Cells::of("jobs", "job_id", row);
    let job_id: JobId = cells.parse("job_id")?;
    let memory: JobMemory = cells.json("memory")?;
    let waits = cells.get::<Option<&str>>("waits_for")?.is_some();
    Ok(DueJob {
        lease,
        due_at: cells.time("next_look_at")?,
        bank_is_back: matches!(memory.phase, Phase::Outage { .. }) && !waits,
        memory,
        watches: watches.remove(&job_id).unwrap_or_default(),
        job_id,
    })
}

/// Frees jobs that cannot be looked at: without an open watch for good, unreadable for a while.
async fn put_off(
    connection: &mut SqliteConnection,
    jobs: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(PUT_OFF)
        .bind(jobs)
        .bind(later(now, REST_OF_UNREADABLE))
        .execute(connection)
        .await?;
    Ok(())
}

/// A time so much later, in the store's milliseconds.
pub(super) fn later(now: Timestamp, by: Duration) -> i64 {
    now.as_millisecond()
        .saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

/// A time so much earlier, in the store's milliseconds.
pub(super) fn earlier(now: Timestamp, by: Duration) -> i64 {
    now.as_millisecond()
        .saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

/// The time of the store's milliseconds; none if no time is as late or as early.
pub(super) fn time(millis: Option<i64>) -> Option<Timestamp> {
    millis.and_then(|millis| Timestamp::from_millisecond(millis).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(limit: usize, millis: i64) -> Claim {
        Claim {
            now: Timestamp::from_millisecond(millis).unwrap(),
            lease: Duration::from_mins(1),
            limit,
        }
    }

    #[test]
    fn the_more_urgent_go_first_and_each_kind_has_its_share() {
        for (waiting, limit, parts) in [
            ([0, 0, 0, 0], 10, [0, 0, 0, 0]),
            ([3, 2, 1, 9], 20, [3, 2, 1, 9]),
            ([99, 99, 99, 99], 10, [4, 2, 2, 2]),
            ([0, 99, 99, 99], 10, [0, 6, 2, 2]),
            ([0, 0, 99, 99], 10, [0, 0, 8, 2]),
            ([99, 0, 0, 1], 10, [9, 0, 0, 1]),
            ([0, 0, 0, 99], 10, [0, 0, 0, 10]),
            ([1, 1, 99, 1], 10, [1, 1, 7, 1]),
        ] {
            assert_eq!(divide(waiting, claim(limit, 3)), parts, "{waiting:?}");
        }
    }

    #[test]
    fn small_claims_serve_each_kind_in_turn() {
        for limit in 1..5 {
            let mut served = [0; KINDS];
            for millis in 0..100 {
                let parts = divide([99; KINDS], claim(limit, millis));
                assert_eq!(parts.iter().sum::<usize>(), limit);
                served = std::array::from_fn(|kind| served[kind] + parts[kind]);
            }
            assert_eq!(served[1..], [20, 20, 20], "{limit}");
            assert_eq!(served[0], 100 * limit - 60, "{limit}");
        }
    }
}
