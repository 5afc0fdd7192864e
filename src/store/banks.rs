//! Banks that are down for everybody, each looked at once for all the jobs that wait for it.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    domain::{Bank, LeaseId},
    store::{Claim, DurationStore, JobStore, StoreError},
};

/// Banks in major outage: for the tracker. A bank is here from the look that found it out until a
/// look finds it serving, or until no job waits for it any more.
#[async_trait]
pub trait BankStore: Send + Sync {
    /// Claims banks that are due for a look.
    async fn claim_due_banks(&self, claim: Claim) -> Result<Vec<DueBank>, StoreError>;

    /// Records what looks brought, in one transaction. The jobs that wait for a bank that serves
    /// again are due at once. A look whose lease was lost changes nothing. Says how many jobs are
    /// due by it.
    async fn record_bank_looks(&self, looks: Vec<BankLook>) -> Result<u64, StoreError>;

    /// When the next bank can be claimed, which may be past.
    async fn next_bank_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Whether a bank is known to be out.
    async fn is_bank_out(&self, bank: &Bank) -> Result<bool, StoreError>;
}

/// What a look at a job needs: the job's connection, its bank, and how long such jobs take.
pub trait TrackerStore: JobStore + BankStore + DurationStore {}

impl<S: JobStore + BankStore + DurationStore + ?Sized> TrackerStore for S {}

/// A claimed bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueBank {
    /// The bank.
    pub bank: Bank,
    /// Names the claim.
    pub lease: LeaseId,
}

/// What a look at a bank brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BankLook {
    /// The bank.
    pub bank: Bank,
    /// The claim under which it was looked at.
    pub lease: LeaseId,
    /// When.
    pub at: Timestamp,
    /// When to look again; none if it serves again.
    pub next_look_at: Option<Timestamp>,
}

/// What a look at a job says about the outage of its bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutageChange {
    /// The job waits for no bank.
    None,
    /// It waits for its bank as before, or its bank has come back since.
    Unchanged,
    /// It waits for this bank from now on, which is looked at then, unless it is looked at already.
    Began(Bank, Timestamp),
}
