//! Banks that are down for everybody. One look at a bank serves all the jobs that wait for it.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Bank, LeaseId};

use crate::{Claim, DurationStore, JobStore, StoreError};

/// Banks in major outage, for the tracker. The store keeps a bank from the look that found the outage until a look
/// finds the bank serving. It also removes a bank for which no job waits any more.
#[async_trait]
pub trait BankStore: Send + Sync {
    /// Claims banks that are due for a look. A bank that cannot be read is left out.
    async fn claim_due_banks(&self, claim: Claim) -> Result<Vec<DueBank>, StoreError>;

    /// Records the results of bank looks in one transaction, and returns how many jobs this made due. When a bank
    /// serves again, the jobs that wait for it become due at once. A look whose lease was lost changes nothing.
    async fn record_bank_looks(&self, looks: Vec<BankLook>) -> Result<u64, StoreError>;

    /// Returns when the next bank can be claimed. The time may be in the past.
    async fn next_bank_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Returns whether the store knows that a bank is out.
    async fn is_bank_out(&self, bank: &Bank) -> Result<bool, StoreError>;
}

/// The store operations that a look at a job needs: on the job's connection, its bank, and the durations of such
/// jobs.
pub trait TrackerStore: JobStore + BankStore + DurationStore {}

impl<S: JobStore + BankStore + DurationStore + ?Sized> TrackerStore for S {}

/// A bank in major outage that this relay has claimed, to look whether the bank works again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueBank {
    /// The bank.
    pub bank: Bank,
    /// The id of the claim.
    pub lease: LeaseId,
}

/// The result of a look at a bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BankLook {
    /// The bank.
    pub bank: Bank,
    /// The lease under which the bank was looked at.
    pub lease: LeaseId,
    /// When the look was made.
    pub at: Timestamp,
    /// When to look again; none if the bank serves again.
    pub next_look_at: Option<Timestamp>,
}

/// How a look at a job changes the outage of its bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutageChange {
    /// The job waits for no bank.
    None,
    /// The job waits for its bank as before, or its bank has come back since.
    Unchanged,
    /// The job waits for this bank from now on. The time is when to look at the bank, unless a look is already
    /// scheduled.
    Began(Bank, Timestamp),
}
