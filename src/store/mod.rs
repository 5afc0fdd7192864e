//! Remembers: one trait for each consumer, so that each part of the relay sees only its own work.
//!
//! Every method is one whole unit of work, and takes a batch where work comes in batches. No
//! transaction leaves this module and none stays open across a network call.

mod answers;
mod banks;
mod hints;
mod paces;
mod seal;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;

pub use self::{
    answers::{AnswerClaim, AnswerEnd, AnswerStore},
    banks::{BankLook, BankStore, DueBank, OutageChange, TrackerStore},
    hints::{Hint, HintStore, HintSubject, HintTaken},
    paces::{Lesson, PaceFound, PaceStore},
    seal::{KeyError, Sealer},
};
use crate::domain::{
    ApiKeyHash, Attempt, CallbackUrl, Client, ClientId, ClientName, DeliveryId, DeliveryState,
    Event, EventBody, EventId, JobId, JobMemory, LeaseId, Progress, SigningSecret, Watch, WatchId,
    WatchRequest, WatchState,
};

/// Why the store could not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database is out of reach, busy for too long, or stopping; worth another try.
    #[error("the store cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused a statement: an error of the relay itself, or a damaged database.
    #[error("the store refused a statement")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
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

// ---------------------------------------------------------------------------- clients

/// Clients and their secrets: for the command line and for authentication.
#[async_trait]
pub trait ClientStore: Send + Sync {
    /// Adds a client; none if the name is taken, by a revoked client too.
    async fn add_client(
        &self,
        name: &ClientName,
        key: &ApiKeyHash,
        secret: &SigningSecret,
        now: Timestamp,
    ) -> Result<Option<ClientId>, StoreError>;

    /// All clients by name, revoked ones too.
    async fn list_clients(&self) -> Result<Vec<Client>, StoreError>;

    /// The client with this key, unless it is revoked.
    async fn find_client_by_key(&self, key: &ApiKeyHash) -> Result<Option<Client>, StoreError>;

    /// Gives a client a new signing secret; the old one signs as well until `previous_until`.
    /// False if there is no such client or it is revoked.
    async fn rotate_secret(
        &self,
        name: &ClientName,
        secret: &SigningSecret,
        previous_until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Gives a client a new key; the old one stops working at once.
    /// False if there is no such client or it is revoked.
    async fn rotate_key(&self, name: &ClientName, key: &ApiKeyHash) -> Result<bool, StoreError>;

    /// Seals the secrets of all clients anew, with the current key; says how many clients there are.
    async fn reseal_secrets(&self) -> Result<u64, StoreError>;

    /// Revokes a client and cancels its open watches, and says how many those were.
    /// None if there is no such client or it is revoked already.
    async fn revoke_client(
        &self,
        name: &ClientName,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError>;
}

// ---------------------------------------------------------------------------- watches

/// Watches as their clients see them: for the API.
#[async_trait]
pub trait WatchStore: Send + Sync {
    /// Registers a watch, durably, and makes its job due at once.
    async fn register_watch(&self, new: NewWatch) -> Result<Registration, StoreError>;

    /// One watch with its story; only its owner's, if an owner is given.
    async fn find_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
    ) -> Result<Option<WatchStory>, StoreError>;

    /// Watches with their stories, newest first, at most `query.limit` of them.
    async fn list_watches(&self, query: &WatchQuery) -> Result<Vec<WatchStory>, StoreError>;

    /// Cancels a watch if it is open, and its pending deliveries. False if the client has none such.
    async fn cancel_watch(
        &self,
        owner: ClientId,
        id: WatchId,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Queues a watch's latest event once more.
    async fn redeliver_watch(
        &self,
        owner: ClientId,
        id: WatchId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError>;

    /// Deliveries of a client in one state, the latest change first.
    async fn list_deliveries(
        &self,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryEntry>, StoreError>;

    /// Queues again all deliveries of a client that died at or after `since` and are the latest
    /// event of their watch, and says how many. Watches that were cancelled are left alone.
    async fn redeliver_dead(
        &self,
        owner: ClientId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError>;
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
}

/// What registering a watch came to.
#[derive(Debug, Clone)]
pub enum Registration {
    /// It is new.
    Created(Box<Watch>),
    /// The same client watches the same job for the same callback already.
    Existing(Box<WatchStory>),
    /// The client has as many open watches as it may have.
    AtCap,
    /// The client was revoked since it asked.
    Revoked,
}

/// A watch and all that happened to it.
#[derive(Debug, Clone)]
pub struct WatchStory {
    /// The watch.
    pub watch: Watch,
    /// What the relay remembers of its job.
    pub job: JobMemory,
    /// When the job is looked at next; none once the watch is settled or cancelled.
    pub next_look_at: Option<Timestamp>,
    /// Its events, oldest first.
    pub events: Vec<EventStory>,
}

/// An event and its way to the callback.
#[derive(Debug, Clone)]
pub struct EventStory {
    /// Its id.
    pub id: EventId,
    /// What is posted.
    pub body: EventBody,
    /// Its delivery.
    pub delivery: DeliveryStory,
}

/// A delivery and its attempts.
#[derive(Debug, Clone)]
pub struct DeliveryStory {
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

/// Which deliveries to list.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    /// Whose.
    pub owner: ClientId,
    /// In which state.
    pub state: DeliveryState,
    /// Only those that come after this place in the list.
    pub after: Option<(Timestamp, DeliveryId)>,
    /// At most so many.
    pub limit: usize,
}

/// A delivery in a list.
#[derive(Debug, Clone)]
pub struct DeliveryEntry {
    /// The delivery with its attempts.
    pub delivery: DeliveryStory,
    /// When its state last changed; the list is ordered by it.
    pub updated_at: Timestamp,
    /// Its event.
    pub event_id: EventId,
    /// What is posted.
    pub body: EventBody,
    /// Where.
    pub callback_url: CallbackUrl,
}

/// What asking for a redelivery came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redelivery {
    /// The event will be posted again at once.
    Queued(EventId),
    /// The client has no such watch.
    NoSuchWatch,
    /// The watch has no event yet.
    NoEvent,
    /// The watch is cancelled.
    Cancelled,
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
    async fn record_looks(&self, looks: Vec<Look>) -> Result<Vec<JobId>, StoreError>;

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
    pub lesson: Option<Lesson>,
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
    pub progress: Progress,
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

// ---------------------------------------------------------------------------- outbox

/// Deliveries to send: for the delivery worker.
#[async_trait]
pub trait OutboxStore: Send + Sync {
    /// Claims due deliveries, the longest due first, skipping `full_hosts` and taking at most
    /// `per_host` of any one host, and never two of one watch at a time.
    async fn claim_due_deliveries(
        &self,
        claim: Claim,
        hosts: &HostLimits,
    ) -> Result<Vec<DueDelivery>, StoreError>;

    /// Records attempts: each attempt and what it means for its delivery are one write.
    async fn record_attempts(&self, results: Vec<AttemptResult>) -> Result<(), StoreError>;

    /// When the next delivery can be claimed, leaving out `full_hosts`; it may be past. A claimed
    /// one, or one that waits for another of its watch, counts from when that claim runs out.
    async fn next_delivery_due(&self, hosts: &HostLimits) -> Result<Option<Timestamp>, StoreError>;
}

/// How much may be claimed for each host.
#[derive(Debug, Clone, Default)]
pub struct HostLimits {
    /// The most attempts in flight to one host.
    pub per_host: usize,
    /// Slots taken now, by host; hosts without any are left out. Attempts in flight take one each,
    /// and a host that does not answer has fewer to give.
    pub in_flight: std::collections::HashMap<String, usize>,
}

/// A claimed delivery, with all that is needed to send it.
#[derive(Debug, Clone)]
pub struct DueDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Names the claim.
    pub lease: LeaseId,
    /// The event, whose id is the `webhook-id`.
    pub event_id: EventId,
    /// The watch, for the log.
    pub watch_id: WatchId,
    /// The job, for the log.
    pub job_id: JobId,
    /// The exact body.
    pub body: String,
    /// When the event was stored.
    pub created_at: Timestamp,
    /// Where to.
    pub callback_url: CallbackUrl,
    /// Signs it.
    pub secret: SigningSecret,
    /// Signs it as well, until the time given.
    pub previous_secret: Option<(SigningSecret, Timestamp)>,
    /// When it spoils.
    pub deadline: Option<Timestamp>,
    /// Attempts made so far, which number the next one.
    pub attempts: u32,
    /// Attempts made in this round of the schedule; a redelivery begins a new round.
    pub round_attempts: u32,
}

/// What came of a claimed delivery.
#[derive(Debug, Clone)]
pub struct AttemptResult {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The claim under which it was tried. If that was lost, the attempt is recorded all the same
    /// and an acceptance counts, but nothing is scheduled.
    pub lease: LeaseId,
    /// The attempt; none if the delivery spoiled before there was one, or is only put off.
    pub attempt: Option<Attempt>,
    /// What follows.
    pub next: AfterAttempt,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAttempt {
    /// It was accepted.
    Delivered,
    /// It is tried again.
    RetryAt(Timestamp),
    /// The schedule is used up.
    Dead,
    /// Its deadline leaves no room for another attempt.
    Expired,
    /// The callback is gone for good: the watch is cancelled.
    Gone,
}

// ---------------------------------------------------------------------------- upkeep

/// Upkeep: for health checks, metrics and retention.
#[async_trait]
pub trait UpkeepStore: Send + Sync {
    /// Whether the store can be read and written.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Frees the leases of a relay that ran on this store before, where only one can; returns how
    /// many there were.
    async fn free_leases(&self) -> Result<u64, StoreError>;

    /// Deletes up to `limit` watches that ended before `before`, with their events, and what
    /// nothing refers to any more. Says how many watches.
    async fn purge_ended(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Counts for the metrics.
    async fn census(&self, now: Timestamp) -> Result<Census, StoreError>;
}

/// What is in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Watches in each state.
    pub watches: Vec<(WatchState, u64)>,
    /// Jobs that are due now.
    pub due_jobs: u64,
    /// Deliveries that are due now.
    pub due_deliveries: u64,
    /// Deliveries that wait for any attempt.
    pub pending_deliveries: u64,
    /// Deliveries given up and kept.
    pub dead_deliveries: u64,
    /// Callback hosts that keep failing and are left alone for now.
    pub paused_hosts: u64,
}

/// Everything a store can do.
pub trait Store:
    ClientStore
    + WatchStore
    + AnswerStore
    + HintStore
    + JobStore
    + BankStore
    + PaceStore
    + OutboxStore
    + UpkeepStore
{
}

impl<S> Store for S where
    S: ClientStore
        + WatchStore
        + AnswerStore
        + HintStore
        + JobStore
        + BankStore
        + PaceStore
        + OutboxStore
        + UpkeepStore
{
}
