//! The outbox: deliveries that are due, and what came of the attempts.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    domain::{
        Attempt, CallbackUrl, DeliveryId, EventId, JobId, LeaseId, SigningSecret, TraceContext,
        WatchId,
    },
    store::{Claim, NewDeliveries, StoreError},
};

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

    /// Where new events' deliveries find room at the delivery worker: they are claimed for it as they are stored.
    fn new_deliveries(&self) -> &NewDeliveries;

    /// Records attempts: each attempt and what it means for its delivery are one write.
    async fn record_attempts(&self, results: Vec<AttemptResult>) -> Result<(), StoreError>;

    /// Gives up deliveries that wait for a paused host and have waited for their whole schedule: dead, as if each
    /// attempt had been made. Those with a deadline end by it.
    async fn give_up_waiting(
        &self,
        waiting: WaitLimit,
    ) -> Result<Vec<AbandonedDelivery>, StoreError>;

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
    pub in_flight: HashMap<String, usize>,
}

impl HostLimits {
    /// How many more may go to a host.
    #[must_use]
    pub fn room_at(&self, host: &str) -> usize {
        let taken = self.in_flight.get(host).copied().unwrap_or(0);
        self.per_host.saturating_sub(taken)
    }
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
    /// The trace of the call that registered the watch.
    pub trace: Option<TraceContext>,
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

/// Which deliveries wait for a paused host for too long.
#[derive(Debug, Clone, Copy)]
pub struct WaitLimit {
    /// Those that are due by now ...
    pub now: Timestamp,
    /// ... and were first due by then.
    pub since: Timestamp,
    /// At most so many.
    pub limit: usize,
}

/// A delivery that was given up without another attempt, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedDelivery {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// Its event.
    pub event_id: EventId,
    /// The watch.
    pub watch_id: WatchId,
    /// The job.
    pub job_id: JobId,
    /// The host that is paused.
    pub host: String,
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
