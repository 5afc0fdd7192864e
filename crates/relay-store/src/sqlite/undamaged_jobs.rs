//! Jobs of a damaged file: claims and records the readable ones, and skips the others.

use std::sync::Arc;

use jiff::Timestamp;
use relay_domain::JobId;
use rusqlite::{Connection, params};

use crate::{
    Claim, DueJob, Look, NewDeliveries, StoreError,
    rows::{UNREADABLE_RETRY_AFTER, int, millis_later},
    rules::KINDS,
    sqlite::{
        SqliteStore,
        file_health::FileHealth,
        jobs::{DUE, shares, take},
        looks,
        salvage::{RecordScope, readable},
        statement::{execute, scalar},
    },
};

/// Reads the due jobs from the other end of the index.
const LATEST_DUE: &str = "SELECT job_no FROM due_jobs WHERE urgency = ?1 AND ready_at <= ?2 \
    ORDER BY ready_at DESC LIMIT ?3";

const NUMBER: &str = "SELECT job_no FROM jobs WHERE job_id = ?1";

const PUT_OFF: &str = "UPDATE due_jobs SET lease_id = NULL, lease_until = NULL, \
    next_look_at = ?2 WHERE job_no = ?1";

impl SqliteStore {
    /// Claims the due jobs that can be read, and puts off the damaged ones.
    pub(super) async fn claim_undamaged_jobs(
        &self,
        claim: Claim,
        turn: u32,
    ) -> Result<Vec<DueJob>, StoreError> {
        let health = self.0.health.clone();
        let due = self.0.reader.read(move |c| due(c, claim, turn, &health));
        let due: Arc<[i64]> = due.await?.into();
        let health = self.0.health.clone();
        let claimed = self.each_undamaged(&due, &[], move |connection, part, _| {
            take(connection, part, claim, &health)
        });
        let claimed = claimed.await?;
        for place in claimed.damaged {
            if let Some(job) = due.get(place) {
                self.skip_job(*job, claim.now).await?;
            }
        }
        Ok(claimed.done.into_iter().flatten().collect())
    }

    /// Records the looks that meet no damage. The others are missing in the result, and their jobs are put off. New
    /// deliveries are not dispatched: later claims find them.
    pub(super) async fn record_undamaged_looks(
        &self,
        all: Arc<[Look]>,
    ) -> Result<Vec<JobId>, StoreError> {
        let dispatch = (NewDeliveries::default(), self.0.sealer.clone());
        let recorded = self.each_undamaged(
            &all,
            RecordScope::SMALLER_OF_LOOK,
            move |connection, part, scope| looks::record(connection, part, &dispatch, scope),
        );
        let recorded = recorded.await?;
        for place in recorded.damaged {
            if let Some(look) = all.get(place) {
                self.skip_job_of(look).await?;
            }
        }
        let recorded = recorded.done.into_iter();
        Ok(recorded.flat_map(|(recorded, _)| recorded).collect())
    }

    async fn skip_job_of(&self, look: &Look) -> Result<(), StoreError> {
        let id = look.job_id.clone();
        let number = self
            .0
            .reader
            .read(move |connection| Ok(scalar(connection, NUMBER, params![id.as_str()])?));
        match number.await {
            Ok(Some(number)) => self.skip_job(number, look.at).await,
            Ok(None) => Ok(()),
            Err(failure) if failure.is_damage() => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Puts off a damaged job by its own row alone. If even that meets damage, skips the job until the next start.
    async fn skip_job(&self, job: i64, now: Timestamp) -> Result<(), StoreError> {
        let left = self.write(move |connection| {
            let until = millis_later(now, UNREADABLE_RETRY_AFTER);
            Ok(execute(connection, PUT_OFF, (job, until))?)
        });
        match left.await {
            Err(failure) if failure.is_damage() => self.0.health.skipped_rows().skip_job(job),
            left => drop(left?),
        }
        Ok(())
    }
}

/// Returns the numbers of the due jobs, as far as the index can be read from either end. Leaves out the skipped jobs.
fn due(
    connection: &Connection,
    claim: Claim,
    turn: u32,
    health: &FileHealth,
) -> Result<Vec<i64>, StoreError> {
    let skipped_rows = health.skipped_rows().jobs.clone();
    let limit = int(claim.limit.saturating_add(skipped_rows.len()));
    let mut kinds: [Vec<i64>; KINDS] = Default::default();
    for (urgency, due) in (0_i64..).zip(&mut kinds) {
        let values = (urgency, claim.now.as_millisecond(), limit);
        *due = readable(connection, [DUE, LATEST_DUE], values)?;
        due.retain(|job| !skipped_rows.contains(job));
        due.truncate(claim.limit);
    }
    Ok(shares(kinds, claim, turn))
}
