//! Remembers: one trait for each consumer, so that each part of the relay sees only its own work.
//!
//! Every method is one whole unit of work, and takes a batch where work comes in batches. No
//! transaction leaves this module and none stays open across a network call.

mod answers;
mod banks;
mod clients;
mod common;
mod console;
mod deliveries;
mod dispatch;
mod durations;
mod follows;
mod hints;
mod isolation;
mod outbox;
pub mod postgres;
mod seal;
pub mod sqlite;
pub mod transfer;
mod upkeep;
mod whole;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;

pub use self::{
    answers::{AnswerClaim, AnswerEnd, AnswerStore},
    banks::{BankLook, BankStore, DueBank, OutageChange, TrackerStore},
    clients::ClientStore,
    console::{ConsoleStore, FailingHost, HostFailure, WatchSearch},
    deliveries::{DeliveryEntry, DeliveryQuery, DeliveryStore, Redelivery},
    dispatch::{Capacity, Dispatch, HasHost, NewDeliveries, NewJobs},
    durations::{DurationSample, DurationStore, DurationsFound},
    follows::{FollowStore, WatchVersion},
    hints::{Hint, HintOutcome, HintStore, HintSubject},
    isolation::{record_attempts, record_looks},
    outbox::{
        AbandonedDelivery, AfterAttempt, AttemptResult, DueDelivery, HostLimits, OutboxStore,
        WaitLimit,
    },
    seal::{KeyError, Sealer},
    upkeep::{Census, ClockStep, UpkeepStore},
    whole::Store,
};
use crate::domain::{
    Attempt, ClientId, DeliveryId, DeliveryState, Event, EventBody, EventId, JobId, JobMemory,
    LeaseId, ToldSoFar, TraceContext, Watch, WatchId, WatchRequest, WatchState,
};

/// Why the store could not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database is out of reach, busy for too long, or stopping; worth another try.
    #[error("the store cannot be used now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused a statement: an error of the relay itself, or a damaged database.
    #[error("the store refused a statement")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database's file is damaged: a part of it cannot be read, and what is written may be lost.
    #[error("the database is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row does not hold what the relay wrote there.
    #[error("inconsistent row {row} in {table}: column {column}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column that cannot be read.
        column: &'static str,
        /// Names the row.
        row: String,
    },
}

impl StoreError {
    /// Whether something that was stored cannot be read any more.
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
    /// Work due by now is claimed.
    pub now: Timestamp,
    /// How long the claim holds; it outlasts the longest attempt.
    pub lease: Duration,
    /// At most so much is claimed.
    pub limit: usize,
}

// ---------------------------------------------------------------------------- watches

/// Watches as their clients see them: for the API.
#[async_trait]
pub trait WatchStore: Send + Sync {
    /// Registers watches durably, in one commit, and makes their jobs due. Says in order what each came to.
    async fn register_watches(&self, new: Vec<NewWatch>) -> Result<Vec<Registration>, StoreError>;

    /// Registers one watch.
    async fn register_watch(&self, new: NewWatch) -> Result<Registration, StoreError> {
        let registered = self.register_watches(vec![new]).await?.pop();
        registered.ok_or_else(|| StoreError::Refused("a registration was not answered".into()))
    }

    /// One watch with its story; only its owner's, if an owner is given.
    async fn find_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
    ) -> Result<Option<WatchDetails>, StoreError>;

    /// Watches with their details, newest first, at most `query.limit` of them.
    async fn list_watches(&self, query: &WatchQuery) -> Result<Vec<WatchDetails>, StoreError>;

    /// Cancels a watch if it is open, and its pending deliveries; only its owner's, if an owner is
    /// given. False if there is none such.
    async fn cancel_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// A watch to register.
#[derive(Debug, Clone)]
pub struct NewWatch {
    /// Its id.
    pub id: WatchId,
    /// Whose it is.
    pub client_id: ClientId,
    /// What is asked for.
    pub request: WatchRequest,
    /// The client's cap on open watches.
    pub max_open: u64,
    /// When it was asked for.
    pub now: Timestamp,
    /// The trace of the call that asks for it.
    pub trace: Option<TraceContext>,
}

/// What registering a watch came to.
#[derive(Debug, Clone)]
pub enum Registration {
    /// It is new.
    Created(Box<Watch>),
    /// The same client watches the same job for the same callback already.
    Existing(Box<WatchDetails>),
    /// The client has as many open watches as it may have.
    AtCap,
    /// The client was revoked since it asked.
    Revoked,
}

/// A watch and all that happened to it.
#[derive(Debug, Clone)]
pub struct WatchDetails {
    /// The watch.
    pub watch: Watch,
    /// What the relay remembers of its job.
    pub job: JobMemory,
    /// When the job is looked at next; none once the watch is settled or cancelled.
    pub next_look_at: Option<Timestamp>,
    /// Its events, oldest first.
    pub events: Vec<EventDetails>,
}

/// An event and its way to the callback.
#[derive(Debug, Clone)]
pub struct EventDetails {
    /// Its id.
    pub id: EventId,
    /// What is posted.
    pub body: EventBody,
    /// Its delivery.
    pub delivery: DeliveryDetails,
}

/// A delivery and its attempts.
#[derive(Debug, Clone)]
pub struct DeliveryDetails {
    /// Its id.
    pub id: DeliveryId,
    /// Where it stands.
    pub state: DeliveryState,
    /// When it is tried next, while it is pending.
    pub next_attempt_at: Option<Timestamp>,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

/// Which watches to list.
#[derive(Debug, Clone, Default)]
pub struct WatchQuery {
    /// Only this client's.
    pub owner: Option<ClientId>,
    /// Only of this job.
    pub job_id: Option<JobId>,
    /// Only in this state.
    pub state: Option<WatchState>,
    /// Only those older than this one (watch ids sort by time).
    pub before: Option<WatchId>,
    /// At most so many.
    pub limit: usize,
}

// ---------------------------------------------------------------------------- jobs

/// Jobs to look at: for the tracker.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Claims due jobs with their open watches: first looks, then open challenges, then young jobs,
    /// then all others; but each of these kinds gets a share.
    async fn claim_due_jobs(&self, claim: Claim) -> Result<Vec<DueJob>, StoreError>;

    /// Records what looks brought: jobs, watches, events and their deliveries, in one transaction.
    /// A look whose lease was lost changes nothing; it is missing in the answer.
    async fn record_looks(&self, looks: Arc<[Look]>) -> Result<Vec<JobId>, StoreError>;

    /// Where new jobs find room at the tracker: they are claimed for it as they are registered.
    fn new_jobs(&self) -> &NewJobs;

    /// When the next job can be claimed, which may be past; a claimed one when its claim runs out.
    async fn next_look_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// How many jobs of this connection failed in a row because the bank was unavailable, within
    /// 24 hours, not counting `job_id` itself.
    async fn connection_failures(
        &self,
        connection_id: &str,
        job_id: &JobId,
        now: Timestamp,
    ) -> Result<u32, StoreError>;
}

/// A claimed job.
#[derive(Debug, Clone)]
pub struct DueJob {
    /// The job.
    pub job_id: JobId,
    /// Names the claim.
    pub lease: LeaseId,
    /// Since when the look was due.
    pub due_at: Timestamp,
    /// What is remembered of it.
    pub memory: JobMemory,
    /// Its open watches; at least one.
    pub watches: Vec<Watch>,
    /// Whether it waited for a bank that serves again.
    pub bank_is_back: bool,
}

/// How soon a job wants its next look when there is more to do than the budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Open challenges; a first look goes before them by itself.
    High,
    /// Jobs that began a short while ago.
    Young,
    /// All others.
    Normal,
}

/// What a look brought.
#[derive(Debug, Clone)]
pub struct Look {
    /// The job.
    pub job_id: JobId,
    /// The claim under which it was looked at.
    pub lease: LeaseId,
    /// When.
    pub at: Timestamp,
    /// What to remember of the job.
    pub memory: JobMemory,
    /// When to look next, if watches stay open. A watch that joined meanwhile makes it due at once.
    pub next_look_at: Timestamp,
    /// How soon.
    pub urgency: Urgency,
    /// What changes for its watches; a watch that ended meanwhile is left alone.
    pub changes: Vec<WatchChange>,
    /// What the look says about the outage of the job's bank.
    pub outage: OutageChange,
    /// What the look teaches about how long such jobs take.
    pub lesson: Option<DurationSample>,
    /// What the look says about the connection, if it says anything.
    pub connection: Option<ConnectionReport>,
}

/// A watch's transition, and the event that tells it.
#[derive(Debug, Clone)]
pub struct WatchChange {
    /// The watch.
    pub watch_id: WatchId,
    /// Its new state.
    pub state: WatchState,
    /// What it was told so far, this change included.
    pub progress: ToldSoFar,
    /// What is told, unless the client did not want to be.
    pub event: Option<Event>,
}

/// Whether a connection's job met an unavailable bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionReport {
    /// Basiq's id of the connection.
    pub connection_id: String,
    /// True: one more failure, counted once a job. False: a success, which resets the count.
    pub unavailable: bool,
}
