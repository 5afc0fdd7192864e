//! Jobs to look at: claims the due ones and records their looks.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ErrorChain, JobId, LeaseId, Watch};
use rusqlite::{Connection, params};
use tracing::error;

use crate::{
    Claim, DueJob, JobStore, Look, NewJobs, StoreError,
    rows::{self, ColumnReader, UNREADABLE_RETRY_AFTER, int, millis_earlier, millis_later},
    rules::{FAILURES_COUNT_FOR, KINDS, divide},
    sqlite::{
        SqliteStore,
        details::watch_columns,
        file_health::FileHealth,
        looks,
        row::json_list,
        salvage::RecordScope,
        statement::{execute, fetch_all, scalars},
    },
};

pub(super) const DUE: &str = "SELECT job_no FROM due_jobs WHERE urgency = ?1 AND ready_at <= ?2 \
    ORDER BY ready_at LIMIT ?3";

pub(super) const LEASE: &str = "UPDATE due_jobs SET lease_id = ?2, lease_until = ?3, joined = 0 \
    WHERE job_no IN (SELECT value FROM json_each(?1))";

pub(super) const CLAIMED: &str = "SELECT d.job_no, j.job_id, d.next_look_at, d.hinted_at, j.memory, \
    d.waits_for FROM json_each(?1) i CROSS JOIN due_jobs d ON d.job_no = i.value \
    CROSS JOIN jobs j ON j.job_no = d.job_no";

pub(super) const OPEN_WATCHES: &str = concat!(
    "SELECT ",
    watch_columns!(),
    " FROM json_each(?1) i CROSS JOIN watches w ON w.job_no = i.value AND w.settled_at IS NULL \
     CROSS JOIN jobs j ON j.job_no = w.job_no"
);

const PUT_OFF: &str = "UPDATE due_jobs SET lease_id = NULL, lease_until = NULL, next_look_at = ?2 \
    WHERE job_no IN (SELECT value FROM json_each(?1))";

/// Ends the work on jobs without an open watch.
const END_WITHOUT_WATCH: &str = "DELETE FROM due_jobs WHERE job_no IN (SELECT value FROM json_each(?1)) \
    AND NOT EXISTS (SELECT 1 FROM watches w WHERE w.job_no = due_jobs.job_no \
        AND w.settled_at IS NULL)";

/// The earliest due time. `min` ignores the urgencies that have no due job.
pub(super) const NEXT_DUE: &str = "SELECT min(due) FROM (\
    SELECT min(ready_at) AS due FROM due_jobs WHERE urgency = 0 UNION ALL \
    SELECT min(ready_at) FROM due_jobs WHERE urgency = 1 UNION ALL \
    SELECT min(ready_at) FROM due_jobs WHERE urgency = 2 UNION ALL \
    SELECT min(ready_at) FROM due_jobs WHERE urgency = 3)";

pub(super) const FAILURES: &str = "SELECT count(*) FROM connection_failures \
    WHERE connection_id = ?1 AND job_id <> ?2 AND failed_at > ?3";

#[async_trait]
impl JobStore for SqliteStore {
    async fn claim_due_jobs(&self, claim: Claim) -> Result<Vec<DueJob>, StoreError> {
        let turn = self.0.claims.fetch_add(1, Ordering::Relaxed);
        let health = self.0.health.clone();
        let claimed = self.write(move |connection| claim_due(connection, claim, turn, &health));
        match claimed.await {
            Err(failure) if failure.is_damage() => self.claim_undamaged_jobs(claim, turn).await,
            claimed => claimed,
        }
    }

    async fn record_looks(&self, looks: Arc<[Look]>) -> Result<Vec<JobId>, StoreError> {
        let dispatch = (self.0.new_deliveries.clone(), self.0.sealer.clone());
        let all = Arc::clone(&looks);
        let recorded = self.write(move |connection| {
            looks::record(connection, &all, &dispatch, RecordScope::Everything)
        });
        let (recorded, claim) = match recorded.await {
            Err(failure) if failure.is_damage() => return self.record_undamaged_looks(looks).await,
            recorded => recorded?,
        };
        if let Some(claim) = claim {
            claim.send();
        }
        Ok(recorded)
    }

    fn new_jobs(&self) -> &NewJobs {
        &self.0.new_jobs
    }

    async fn next_look_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due = sqlx::query_scalar(NEXT_DUE).fetch_one(self.readers()?);
        self.due_if_undamaged(due.await)
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
            .fetch_one(self.readers()?)
            .await?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

fn claim_due(
    connection: &Connection,
    claim: Claim,
    turn: u32,
    health: &FileHealth,
) -> Result<Vec<DueJob>, StoreError> {
    let due = due(connection, claim, turn)?;
    take(connection, &due, claim, health)
}

/// Claims these jobs with their open watches.
pub(super) fn take(
    connection: &Connection,
    due: &[i64],
    claim: Claim,
    health: &FileHealth,
) -> Result<Vec<DueJob>, StoreError> {
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let lease = LeaseId::new(claim.now);
    let listed = json_list(due);
    let until = millis_later(claim.now, claim.lease);
    execute(connection, LEASE, (&listed, lease.to_bytes(), until))?;
    let rows = fetch_all(connection, CLAIMED, (&listed,))?;
    let mut watches = open_watches(connection, due)?;
    let mut jobs: HashMap<i64, DueJob> = HashMap::with_capacity(rows.len());
    for row in &rows {
        match rows::due_job(row, lease, &mut watches) {
            Ok(job) if job.watches.is_empty() => {}
            Ok(job) => {
                drop(jobs.insert(ColumnReader::of("jobs", "job_id", row).get("job_no")?, job));
            }
            Err(failure) => {
                health.note(&failure);
                error!(error = %ErrorChain(&failure), "a job cannot be read and is put off");
            }
        }
    }
    let left: Vec<_> = due.iter().filter(|no| !jobs.contains_key(no)).collect();
    if !left.is_empty() {
        put_off(connection, &json_list(left), claim.now)?;
    }
    Ok(due.iter().filter_map(|no| jobs.remove(no)).collect())
}

/// Returns the numbers of the due jobs to claim: more urgent kinds first, and the longest due first within a kind.
fn due(connection: &Connection, claim: Claim, turn: u32) -> Result<Vec<i64>, StoreError> {
    let mut kinds: [Vec<i64>; KINDS] = Default::default();
    for (urgency, due) in (0_i64..).zip(&mut kinds) {
        *due = scalars(
            connection,
            DUE,
            params![urgency, claim.now.as_millisecond(), int(claim.limit)],
        )?;
    }
    Ok(shares(kinds, claim, turn))
}

/// Chooses which due jobs of each kind are claimed.
pub(super) fn shares(kinds: [Vec<i64>; KINDS], claim: Claim, turn: u32) -> Vec<i64> {
    let parts = divide(kinds.each_ref().map(Vec::len), claim.limit, turn);
    let taken = kinds.into_iter().zip(parts);
    let taken = taken.flat_map(|(due, part)| due.into_iter().take(part));
    taken.collect()
}

fn open_watches(
    connection: &Connection,
    jobs: &[i64],
) -> Result<HashMap<JobId, Vec<Watch>>, StoreError> {
    let rows = fetch_all(connection, OPEN_WATCHES, params![json_list(jobs)])?;
    Ok(rows::watches_by_job(&rows))
}

/// Frees jobs that cannot be looked at. A job without an open watch is not looked at again. An unreadable one waits.
fn put_off(connection: &Connection, jobs: &str, now: Timestamp) -> Result<(), StoreError> {
    execute(connection, END_WITHOUT_WATCH, (jobs,))?;
    let until = millis_later(now, UNREADABLE_RETRY_AFTER);
    execute(connection, PUT_OFF, (jobs, until))?;
    Ok(())
}
