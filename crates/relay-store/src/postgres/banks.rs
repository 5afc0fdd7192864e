//! Banks in a major outage, and the jobs that wait for them.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Bank, ErrorChain, LeaseId};
use sqlx::postgres::PgRow;
use tracing::error;

use crate::{
    BankLook, BankStore, Claim, DueBank, StoreError,
    postgres::{PgSession, PgStore, clock::claim_now, indexes::none},
    rows::{due_bank, int, millis, time},
};

pub(super) const LEASE: &str = concat!(
    "UPDATE outages o SET lease_id = $3, lease_until = ",
    claim_now!("$1"),
    " + $4 FROM (SELECT institution_id, method FROM outages WHERE ready_at <= ",
    claim_now!("$1"),
    " ORDER BY ready_at LIMIT $2 FOR UPDATE SKIP LOCKED) due \
     WHERE o.institution_id = due.institution_id AND o.method = due.method \
     RETURNING o.institution_id, o.method"
);

/// Deletes claimed outages that no job waits for, because all their jobs have ended. The claim has locked them, so no job
/// begins to wait for one meanwhile.
pub(super) const FORGET_UNWAITED: &str = concat!(
    "DELETE FROM outages WHERE institution_id = ANY($1) AND lease_id = $2 AND ",
    none!(
        "due_jobs d WHERE d.waits_for = outages.institution_id \
         AND d.waits_for_method = outages.method"
    ),
    " RETURNING institution_id, method"
);

pub(super) const LOOK_AGAIN: &str = "UPDATE outages SET next_look_at = $4, lease_id = NULL, \
    lease_until = NULL WHERE institution_id = $1 AND method = $2 AND lease_id = $3";

pub(super) const END: &str =
    "DELETE FROM outages WHERE institution_id = $1 AND method = $2 AND lease_id = $3";

/// Wakes the jobs that wait for a bank. A look that is under way does not know of the end of the outage yet, so
/// `joined` makes another look follow it.
pub(super) const WAKE_JOBS: &str = "UPDATE due_jobs SET waits_for = NULL, waits_for_method = NULL, \
    joined = TRUE, next_look_at = least(next_look_at, $3) \
    WHERE waits_for = $1 AND waits_for_method = $2";

/// Adds an outage. A bank that is already out keeps its planned look. Its row is locked until the job that waits for
/// it is committed, so the end of the outage finds the job.
pub(super) const BEGIN: &str = "INSERT INTO outages (institution_id, method, next_look_at) VALUES ($1, $2, $3) \
    ON CONFLICT (institution_id, method) DO UPDATE SET next_look_at = outages.next_look_at";

pub(super) const NEXT_DUE: &str = "SELECT min(ready_at) FROM outages";

pub(super) const IS_OUT: &str =
    "SELECT EXISTS (SELECT 1 FROM outages WHERE institution_id = $1 AND method = $2)";

#[async_trait]
impl BankStore for PgStore {
    async fn claim_due_banks(&self, claim: Claim) -> Result<Vec<DueBank>, StoreError> {
        let now = self.now(claim.now);
        self.write((claim, now), |connection, (claim, now)| {
            Box::pin(claim_due(connection, *claim, *now))
        })
        .await
    }

    async fn record_bank_looks(&self, looks: Vec<BankLook>) -> Result<u64, StoreError> {
        self.write(looks, |connection, looks| {
            Box::pin(record(connection, looks))
        })
        .await
    }

    async fn next_bank_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due = sqlx::query_scalar(NEXT_DUE).fetch_one(self.pool());
        Ok(time(due.await?))
    }

    async fn is_bank_out(&self, bank: &Bank) -> Result<bool, StoreError> {
        let is_out = sqlx::query_scalar(IS_OUT)
            .bind(&bank.institution_id)
            .bind(&bank.method)
            .fetch_one(self.pool());
        Ok(is_out.await?)
    }
}

async fn claim_due(
    connection: &mut PgSession<'_>,
    claim: Claim,
    now: Option<i64>,
) -> Result<Vec<DueBank>, StoreError> {
    let lease = LeaseId::new(claim.now);
    let rows = sqlx::query(LEASE)
        .bind(now)
        .bind(int(claim.limit))
        .bind(lease.to_bytes())
        .bind(millis(claim.lease))
        .fetch_all(&mut *connection)
        .await?;
    forget_unwaited(connection, readable(&rows, lease), lease).await
}

/// Returns the claimed banks. One that cannot be read is left out, and its lease puts it off.
fn readable(rows: &[PgRow], lease: LeaseId) -> Vec<DueBank> {
    let mut banks = Vec::with_capacity(rows.len());
    for row in rows {
        match due_bank(row, lease) {
            Ok(bank) => banks.push(bank),
            Err(failure) => {
                error!(error = %ErrorChain(&failure), "a bank cannot be read and is put off");
            }
        }
    }
    banks
}

/// Deletes the claimed outages that no job waits for, and returns the others.
async fn forget_unwaited(
    connection: &mut PgSession<'_>,
    mut claimed: Vec<DueBank>,
    lease: LeaseId,
) -> Result<Vec<DueBank>, StoreError> {
    if claimed.is_empty() {
        return Ok(claimed);
    }
    let institutions = claimed.iter().map(|due| due.bank.institution_id.as_str());
    let forgotten = sqlx::query(FORGET_UNWAITED)
        .bind(institutions.collect::<Vec<_>>())
        .bind(lease.to_bytes())
        .fetch_all(connection)
        .await?;
    for unwaited in readable(&forgotten, lease) {
        claimed.retain(|due| due.bank != unwaited.bank);
    }
    Ok(claimed)
}

async fn record(connection: &mut PgSession<'_>, looks: &[BankLook]) -> Result<u64, StoreError> {
    let mut due = 0;
    for look in looks {
        due += record_one(connection, look).await?;
    }
    Ok(due)
}

async fn record_one(connection: &mut PgSession<'_>, look: &BankLook) -> Result<u64, StoreError> {
    let Bank {
        institution_id,
        method,
    } = &look.bank;
    let lease = look.lease.to_bytes();
    if let Some(next) = look.next_look_at {
        sqlx::query(LOOK_AGAIN)
            .bind(institution_id)
            .bind(method)
            .bind(lease)
            .bind(next.as_millisecond())
            .execute(connection)
            .await?;
        return Ok(0);
    }
    let ended = sqlx::query(END)
        .bind(institution_id)
        .bind(method)
        .bind(lease)
        .execute(&mut *connection)
        .await?;
    if ended.rows_affected() == 0 {
        return Ok(0);
    }
    let woken = sqlx::query(WAKE_JOBS)
        .bind(institution_id)
        .bind(method)
        .bind(look.at.as_millisecond())
        .execute(connection)
        .await?;
    Ok(woken.rows_affected())
}

/// Records that a bank is out, if that is not known yet.
pub(super) async fn begin_outage(
    connection: &mut PgSession<'_>,
    bank: &Bank,
    next_look_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(BEGIN)
        .bind(&bank.institution_id)
        .bind(&bank.method)
        .bind(next_look_at.as_millisecond())
        .execute(connection)
        .await?;
    Ok(())
}
