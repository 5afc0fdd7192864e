//! Banks in major outage, and the jobs that wait for them.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Bank, ErrorChain};
use rusqlite::{Connection, params};
use tracing::error;

use crate::{
    BankLook, BankStore, Claim, DueBank, StoreError,
    rows::due_bank,
    sqlite::{SqliteStore, due_rows::DueRows, salvage::skip_damage, statement::execute},
};

/// Forgets outages that no job waits for, because all their jobs have ended.
pub(super) const FORGET_UNWAITED: &str = "DELETE FROM outages WHERE ready_at <= ?1 \
    AND NOT EXISTS (SELECT 1 FROM due_jobs j WHERE j.waits_for = outages.institution_id \
        AND j.waits_for_method = outages.method)";

pub(super) const DUE: &str =
    "SELECT rowid FROM outages WHERE ready_at <= ?1 ORDER BY ready_at LIMIT ?2";

/// Finds the due banks from the other end of the index.
pub(super) const LATEST_DUE: &str =
    "SELECT rowid FROM outages WHERE ready_at <= ?1 ORDER BY ready_at DESC LIMIT ?2";

pub(super) const CLAIMED: &str = "SELECT institution_id, method FROM outages WHERE rowid = ?1";

pub(super) const LEASE: &str =
    "UPDATE outages SET lease_id = ?2, lease_until = ?3 WHERE rowid = ?1";

pub(super) const PUT_OFF: &str = "UPDATE outages SET lease_id = NULL, lease_until = NULL, next_look_at = ?2 \
    WHERE rowid = ?1";

const DUE_BANKS: DueRows<i64, DueBank> = DueRows {
    due: [DUE, LATEST_DUE],
    row: CLAIMED,
    lease: LEASE,
    put_off: PUT_OFF,
    read: |row, lease| due_bank(row, lease),
    report: |failure| {
        error!(error = %ErrorChain(failure), "a bank cannot be read and is put off");
    },
    skipped: |rows| &mut rows.banks,
};

pub(super) const LOOK_AGAIN: &str = "UPDATE outages SET next_look_at = ?4, lease_id = NULL, \
    lease_until = NULL WHERE institution_id = ?1 AND method = ?2 AND lease_id = ?3";

pub(super) const END: &str =
    "DELETE FROM outages WHERE institution_id = ?1 AND method = ?2 AND lease_id = ?3";

/// A look in flight does not know yet that the bank is back. `joined` makes another look follow it.
pub(super) const WAKE_JOBS: &str = "UPDATE due_jobs SET waits_for = NULL, waits_for_method = NULL, \
    joined = 1, next_look_at = min(next_look_at, ?3) \
    WHERE waits_for = ?1 AND waits_for_method = ?2";

/// A bank whose outage is already known keeps its planned look.
pub(super) const BEGIN: &str = "INSERT INTO outages (institution_id, method, next_look_at) \
    VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

const NEXT_DUE: &str = "SELECT min(ready_at) FROM outages";

const IS_OUT: &str =
    "SELECT EXISTS (SELECT 1 FROM outages WHERE institution_id = ?1 AND method = ?2)";

#[async_trait]
impl BankStore for SqliteStore {
    async fn claim_due_banks(&self, claim: Claim) -> Result<Vec<DueBank>, StoreError> {
        let now = claim.now.as_millisecond();
        let forgotten =
            self.write(move |connection| Ok(execute(connection, FORGET_UNWAITED, (now,))?));
        skip_damage(forgotten.await)?;
        self.claim_rows(&DUE_BANKS, claim).await
    }

    async fn record_bank_looks(&self, looks: Vec<BankLook>) -> Result<u64, StoreError> {
        self.write(move |connection| record(connection, looks))
            .await
    }

    async fn next_bank_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due = sqlx::query_scalar(NEXT_DUE).fetch_one(self.readers()?);
        self.due_if_undamaged(due.await)
    }

    async fn is_bank_out(&self, bank: &Bank) -> Result<bool, StoreError> {
        let is_out = sqlx::query_scalar(IS_OUT)
            .bind(&bank.institution_id)
            .bind(&bank.method)
            .fetch_one(self.readers()?);
        Ok(is_out.await?)
    }
}

fn record(connection: &Connection, looks: Vec<BankLook>) -> Result<u64, StoreError> {
    let mut due = 0;
    for look in looks {
        due += record_one(connection, &look)?;
    }
    Ok(due)
}

fn record_one(connection: &Connection, look: &BankLook) -> Result<u64, StoreError> {
    let Bank {
        institution_id,
        method,
    } = &look.bank;
    let lease = look.lease.to_bytes();
    if let Some(next) = look.next_look_at {
        execute(
            connection,
            LOOK_AGAIN,
            params![institution_id, method, lease, next.as_millisecond()],
        )?;
        return Ok(0);
    }
    let ended = execute(connection, END, params![institution_id, method, lease])?;
    if ended == 0 {
        return Ok(0);
    }
    let woken = execute(
        connection,
        WAKE_JOBS,
        params![institution_id, method, look.at.as_millisecond()],
    )?;
    Ok(woken)
}

/// Notes that a bank is out, unless that is known.
pub(super) fn begin_outage(
    connection: &Connection,
    bank: &Bank,
    next_look_at: Timestamp,
) -> Result<(), StoreError> {
    execute(
        connection,
        BEGIN,
        params![
            &bank.institution_id,
            &bank.method,
            next_look_at.as_millisecond()
        ],
    )?;
    Ok(())
}
