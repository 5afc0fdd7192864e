//! The durable state of the relay. There is one trait for each topic, so that each part of the relay sees only the
//! operations that it needs.
//!
//! Every method is one complete unit of work, and takes a batch where work comes in batches. No transaction leaves
//! this module, and none stays open across a network call.

mod activity;
mod alerts;
mod answers;
mod audit;
mod banks;
mod batch;
mod clients;
mod console;
mod deliveries;
mod discovery;
mod dispatch;
mod durations;
mod erasure;
mod error;
mod follows;
mod hints;
mod host_pauses;
mod isolation;
mod migrations;
mod outbox;
pub mod postgres;
mod rows;
mod rules;
mod seal;
mod slots;
pub mod sqlite;
mod store;
mod subscriptions;
pub mod transfer;
mod upkeep;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{
    Attempt, ClientId, DeliveryId, DeliveryState, Event, EventBody, EventId, JobId, JobMemory,
    LeaseId, Requester, SubscriptionId, ToldSoFar, TraceContext, Watch, WatchId, WatchRequest,
    WatchState,
};
use thiserror::Error;

pub use self::{
    activity::ActivityStore,
    alerts::{AlertStore, ToldAlert},
    answers::{AnswerClaim, AnswerEnd, AnswerStore},
    audit::{AuditEntry, AuditQuery, AuditStore},
    banks::{BankLook, BankStore, DueBank, OutageChange, TrackerStore},
    clients::{CallbackAuthChange, ClientStore, PartChange},
    console::{ConsoleStore, FailingHost, HostFailure, WatchSearch},
    deliveries::{
        DeliveryContent, DeliveryEntry, DeliveryQuery, DeliveryStore, MessageSummary, Redelivery,
    },
    discovery::{DiscoveryStore, DueList, FoundJob, JobListResult, ListResult, RecordedLists},
    dispatch::{Dispatch, DispatchReceiver, NewDeliveries, NewJobs},
    durations::{DurationSample, DurationStore, DurationsFound},
    erasure::{ErasureCounts, ErasureStore, ErasureSubject},
    follows::{EarlierLook, FollowStore, WatchVersion},
    hints::{ForwardedMessage, Hint, HintOutcome, HintStore, HintSubject, RemovedUser},
    host_pauses::{HostPause, HostPauseStore, ManualPause},
    isolation::{record_attempts, record_bank_looks, record_lists, record_looks},
    outbox::{
        AbandonedDelivery, AfterAttempt, AttemptResult, DeliverySigner, DueDelivery, HostLimits,
        OutboxStore, WaitLimit,
    },
    seal::{KeyError, Sealer},
    slots::{Permit, ReservedSlots, Slots},
    store::Store,
    subscriptions::{
        NewNotice, NewSubscription, SubscriptionDetails, SubscriptionQuery, SubscriptionResult,
        SubscriptionStore,
    },
    upkeep::{Census, ClockStep, PausedHost, StoreTroubles, UpkeepStore},
};

/// Why a store operation failed. Clones share the cause, so that one failure can go to every caller of a batch.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// The database is out of reach, busy for too long, or stopping. A retry may succeed.
    #[error("the store cannot be used now")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The database refused a statement. The cause is an error in the relay, or a damaged database.
    #[error("the store refused a statement")]
    Refused(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The database's file is damaged: a part of it cannot be read, and new writes may be lost.
    #[error("the database is damaged")]
    Damaged(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A row does not hold a value that the relay could have written.
    #[error("inconsistent row {row} in {table}: column {column}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column that cannot be read.
        column: &'static str,
        /// The key of the row.
        row: String,
    },
}

/// A cause that is not shared yet.
type Cause = Box<dyn std::error::Error + Send + Sync>;

impl StoreError {
    /// Makes the error of a store that cannot be used now.
    #[must_use]
    pub fn unavailable(cause: impl Into<Cause>) -> Self {
        Self::Unavailable(Arc::from(cause.into()))
    }

    /// Makes the error of a statement that was refused.
    #[must_use]
    pub fn refused(cause: impl Into<Cause>) -> Self {
        Self::Refused(Arc::from(cause.into()))
    }

    /// Makes the error of a damaged database.
    #[must_use]
    pub fn damaged(cause: impl Into<Cause>) -> Self {
        Self::Damaged(Arc::from(cause.into()))
    }

    /// Returns whether the store cannot be used now. Any other failure is about one of the rows of a batch, and the
    /// other rows may succeed without it.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused(_) | Self::Damaged(_) | Self::Inconsistent { .. } => false,
        }
    }

    /// Returns whether stored data can no longer be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Inconsistent { .. } => true,
            Self::Unavailable(_) | Self::Refused(_) => false,
        }
    }
}

/// A claim of due work.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Work that is due at this time or earlier is claimed.
    pub now: Timestamp,
    /// The duration of the lease. It is longer than the longest attempt.
    pub lease: Duration,
    /// The maximum number of items to claim.
    pub limit: usize,
}

// ---------------------------------------------------------------------------- watches

/// Watches, for the API.
#[async_trait]
pub trait WatchStore: Send + Sync {
    /// Registers watches durably in one commit, and makes their jobs due. Returns one result for each watch, in
    /// order.
    async fn register_watches(&self, new: Vec<NewWatch>) -> Result<Vec<Registration>, StoreError>;

    /// Registers one watch.
    async fn register_watch(&self, new: NewWatch) -> Result<Registration, StoreError> {
        let registered = self.register_watches(vec![new]).await?.pop();
        registered.ok_or_else(|| StoreError::refused("a registration was not answered"))
    }

    /// Returns one watch with its details. If an owner is given, only a watch of that owner is found.
    async fn find_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
    ) -> Result<Option<WatchDetails>, StoreError>;

    /// Returns watches with their details, newest first, at most `query.limit` of them.
    async fn list_watches(&self, query: &WatchQuery) -> Result<Vec<WatchDetails>, StoreError>;

    /// Cancels a watch if it is open, and its pending deliveries. A client finds only its own watches. What an operator
    /// cancels is recorded in the audit log, unless nothing changes. Returns false if there is no such watch.
    async fn cancel_watch(
        &self,
        by: &Requester,
        id: WatchId,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// A watch to register.
#[derive(Debug, Clone)]
pub struct NewWatch {
    /// The id of the watch.
    pub id: WatchId,
    /// The client that owns the watch.
    pub client_id: ClientId,
    /// The client's request.
    pub request: WatchRequest,
    /// The client's limit on open watches.
    pub max_open: u64,
    /// When the client sent the request.
    pub now: Timestamp,
    /// The trace of the API call that registers the watch.
    pub trace: Option<TraceContext>,
    /// The subscription that found the job. None if a client registers the watch.
    pub subscription_id: Option<SubscriptionId>,
}

/// The result of a registration.
#[derive(Debug, Clone)]
pub enum Registration {
    /// The watch is new.
    Created(Box<Watch>),
    /// The same client already watches the same job for the same callback.
    Existing(Box<WatchDetails>),
    /// The client has reached its limit on open watches.
    AtCap,
    /// The client was revoked after it sent the request.
    Revoked,
}

/// A watch with its job, its events and their deliveries.
#[derive(Debug, Clone)]
pub struct WatchDetails {
    /// The watch.
    pub watch: Watch,
    /// What the relay remembers of the job.
    pub job: JobMemory,
    /// When the next look at the job is due; none once the watch is settled or cancelled.
    pub next_look_at: Option<Timestamp>,
    /// The events of the watch, oldest first.
    pub events: Vec<EventDetails>,
}

/// An event and its delivery to the callback.
#[derive(Debug, Clone)]
pub struct EventDetails {
    /// The id of the event.
    pub id: EventId,
    /// The body that is posted.
    pub body: EventBody,
    /// The delivery of the event.
    pub delivery: DeliveryDetails,
}

/// A delivery and its attempts.
#[derive(Debug, Clone)]
pub struct DeliveryDetails {
    /// The id of the delivery.
    pub id: DeliveryId,
    /// The state of the delivery.
    pub state: DeliveryState,
    /// When the next attempt is due, while the delivery is pending.
    pub next_attempt_at: Option<Timestamp>,
    /// The attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

/// Which watches to list.
#[derive(Debug, Clone, Default)]
pub struct WatchQuery {
    /// Only watches of this client.
    pub owner: Option<ClientId>,
    /// Only watches of this job.
    pub job_id: Option<JobId>,
    /// Only watches in this state.
    pub state: Option<WatchState>,
    /// Only watches older than this one. Watch ids sort by time.
    pub before: Option<WatchId>,
    /// The maximum number of watches to return.
    pub limit: usize,
}

// ---------------------------------------------------------------------------- jobs

/// Jobs to look at, for the tracker.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Claims due jobs with their open watches. First looks come first, then open challenges, then young jobs, then
    /// all others. Each of these kinds gets a share of the limit.
    async fn claim_due_jobs(&self, claim: Claim) -> Result<Vec<DueJob>, StoreError>;

    /// Records the results of looks in one transaction: jobs, watches, events and their deliveries. Returns the ids
    /// of the recorded jobs. A look whose lease was lost changes nothing, and its job is not returned.
    async fn record_looks(&self, looks: Arc<[Look]>) -> Result<Vec<JobId>, StoreError>;

    /// Returns the dispatch of new jobs. Registrations claim new jobs for the tracker while it has free capacity.
    fn new_jobs(&self) -> &NewJobs;

    /// Returns when the next job can be claimed, which may be in the past. A claimed job counts from the end of its
    /// lease.
    async fn next_look_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Returns how many jobs of this connection failed in a row within 24 hours because the bank was unavailable. The
    /// job `job_id` does not count.
    async fn connection_failures(
        &self,
        connection_id: &str,
        job_id: &JobId,
        now: Timestamp,
    ) -> Result<u32, StoreError>;
}

/// A job that this relay has claimed to look at now, with its open watches.
#[derive(Debug, Clone)]
pub struct DueJob {
    /// The job.
    pub job_id: JobId,
    /// The id of the claim.
    pub lease: LeaseId,
    /// When the look became due.
    pub due_at: Timestamp,
    /// What the relay remembers of the job. It is large, and jobs are moved often.
    pub memory: Box<JobMemory>,
    /// The job's open watches; at least one.
    pub watches: Vec<Watch>,
    /// Whether the job waited for a bank that serves again.
    pub bank_is_back: bool,
    /// When the latest look that follows from a hint was due or is due.
    pub hinted_at: Option<Timestamp>,
}

/// How urgent a job's next look is when more looks are due than the budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Jobs with an open challenge. The store puts first looks before these by itself.
    High,
    /// Jobs that began a short time ago.
    Young,
    /// All other jobs.
    Normal,
}

/// What the store records after a look: what to remember, when to look next, and what changed for each watch.
#[derive(Debug, Clone)]
pub struct Look {
    /// The job.
    pub job_id: JobId,
    /// The lease under which the job was looked at.
    pub lease: LeaseId,
    /// When the look began. It may have missed what a later hint announces.
    pub began: Timestamp,
    /// When the look ended.
    pub at: Timestamp,
    /// What to remember of the job.
    pub memory: Box<JobMemory>,
    /// When to look next, if watches stay open. A watch that joined during the look makes the job due at once.
    pub next_look_at: Timestamp,
    /// How urgent the next look is.
    pub urgency: Urgency,
    /// The changes of the job's watches. A watch that ended during the look is not changed.
    pub changes: Vec<WatchChange>,
    /// How the look changes the outage of the job's bank.
    pub outage: OutageChange,
    /// The look's contribution to the duration statistics, if there is one.
    pub sample: Option<DurationSample>,
    /// What the look found out about the connection, if anything.
    pub connection: Option<ConnectionFailureChange>,
}

/// A watch's transition, and the event for it.
#[derive(Debug, Clone)]
pub struct WatchChange {
    /// The watch.
    pub watch_id: WatchId,
    /// The new state of the watch.
    pub state: WatchState,
    /// The events that the client got so far, including this change.
    pub progress: ToldSoFar,
    /// The event; none if the client's filter leaves it out.
    pub event: Option<Event>,
}

/// Adds a failure of a connection to its count of failures in a row, or resets the count. A failure is a job to which
/// the bank was unavailable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFailureChange {
    /// Basiq's id of the connection.
    pub connection_id: String,
    /// True: one more failure, counted once for each job. False: a success, which resets the count.
    pub unavailable: bool,
}
