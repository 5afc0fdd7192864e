//! Discovery: lists of people's jobs, whose new jobs become watches.

use std::iter::Sum;

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{BasiqId, JobId, LeaseId, SubscriptionId};

use crate::{Claim, NewNotice, StoreError};

/// People whose jobs are to be listed, for the discovery worker.
#[async_trait]
pub trait DiscoveryStore: Send + Sync {
    /// Claims due lists, the longest due first. A list that cannot be read is put off.
    async fn claim_due_lists(&self, claim: Claim) -> Result<Vec<DueList>, StoreError>;

    /// Records lists in one transaction. Each job that a subscription has not seen becomes a watch, and counts as seen
    /// from then on. A list whose lease was lost changes nothing. A subscription that cannot be read is left out.
    async fn record_lists(&self, lists: Vec<JobListResult>) -> Result<RecordedLists, StoreError>;

    /// Returns when the next list can be claimed, which may be in the past. A claimed list counts from the end of its
    /// lease.
    async fn next_list_due(&self) -> Result<Option<Timestamp>, StoreError>;
}

/// A person whose jobs this relay has claimed to list now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueList {
    /// The person, by Basiq's id.
    pub user_id: BasiqId,
    /// The id of the claim.
    pub lease: LeaseId,
    /// When the list became due.
    pub due_at: Timestamp,
    /// Since when Basiq does not know the person.
    pub missing_since: Option<Timestamp>,
}

/// The result of a claimed list.
#[derive(Debug, Clone)]
pub struct JobListResult {
    /// The person, by Basiq's id.
    pub user_id: BasiqId,
    /// The lease under which the list was read.
    pub lease: LeaseId,
    /// When the call to Basiq began.
    pub at: Timestamp,
    /// When to list next.
    pub next_list_at: Timestamp,
    /// What Basiq answered.
    pub result: ListResult,
    /// Each client's limit on open watches.
    pub max_open: u64,
}

/// What Basiq answered to a request for a person's jobs.
#[derive(Debug, Clone)]
pub enum ListResult {
    /// The person's jobs.
    Listed(Vec<FoundJob>),
    /// No answer that counts.
    Failed,
    /// Basiq does not know the person.
    Unknown {
        /// Since when.
        since: Timestamp,
        /// The subscriptions that end. The person's other subscriptions stay active.
        ended: Vec<SubscriptionId>,
        /// A last notice for each of them that wants one.
        last_notices: Vec<NewNotice>,
    },
}

/// A job that a list showed, and that may become a watch of each subscription to the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundJob {
    /// Basiq's id of the job.
    pub job_id: JobId,
    /// Basiq's id of the job's connection, if the list has it.
    pub connection_id: Option<String>,
    /// When the job ended. None if it is running, or if the list does not say.
    pub ended_at: Option<Timestamp>,
}

/// The effect of recorded lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordedLists {
    /// The number of new watches.
    pub watches: u64,
    /// The number of notices.
    pub notices: u64,
    /// The number of jobs that wait until their client has fewer open watches.
    pub waiting_for_room: u64,
}

impl Sum for RecordedLists {
    fn sum<I: Iterator<Item = Self>>(lists: I) -> Self {
        lists.fold(Self::default(), |all, one| Self {
            watches: all.watches + one.watches,
            notices: all.notices + one.notices,
            waiting_for_room: all.waiting_for_room + one.waiting_for_room,
        })
    }
}
