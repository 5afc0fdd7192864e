//! The outbox: deliveries that are due, and the results of attempts.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{
    Attempt, CallbackAuth, CallbackUrl, DeliveryId, EventId, EventSource, LeaseId, SigningSecret,
    SubscriptionId, TraceContext, signing::SignatureHeaders,
};

use crate::{Claim, NewDeliveries, StoreError};

/// Deliveries to send, for the delivery worker.
#[async_trait]
pub trait OutboxStore: Send + Sync {
    /// Claims due deliveries, the longest due first. Claims no more for a host than `hosts` allows, and never two of
    /// one source at a time.
    async fn claim_due_deliveries(
        &self,
        claim: Claim,
        hosts: &HostLimits,
    ) -> Result<Vec<DueDelivery>, StoreError>;

    /// Returns the dispatch of new deliveries. Looks claim them for the delivery worker while it has free capacity.
    fn new_deliveries(&self) -> &NewDeliveries;

    /// Records attempts. Each attempt and its effect on the delivery are one write.
    async fn record_attempts(&self, results: Vec<AttemptResult>) -> Result<(), StoreError>;

    /// Gives up deliveries that have waited for a paused host as long as their whole schedule takes. They become
    /// dead, as if each attempt had been made. Deliveries with a deadline are left out, because they end at their
    /// deadline.
    async fn give_up_waiting(
        &self,
        waiting: WaitLimit,
    ) -> Result<Vec<AbandonedDelivery>, StoreError>;

    /// Returns when the next delivery can be claimed, which may be in the past. Leaves out hosts without a free
    /// permit. A claimed delivery counts from the end of its lease; so does a delivery that waits for another of its
    /// source.
    async fn next_delivery_due(&self, hosts: &HostLimits) -> Result<Option<Timestamp>, StoreError>;
}

/// How many deliveries may be claimed for each host.
#[derive(Debug, Clone, Default)]
pub struct HostLimits {
    /// The maximum number of attempts in flight to one host.
    pub per_host: usize,
    /// The number of slots that are taken, by host. Hosts without any are left out. Each attempt in flight takes one.
    /// Slots that a silent host lost count as taken, and so do slots that other deliveries may use.
    pub taken: HashMap<String, usize>,
}

impl HostLimits {
    /// Returns how many more attempts may go to a host.
    #[must_use]
    pub fn free_at(&self, host: &str) -> usize {
        let taken = self.taken.get(host).copied().unwrap_or(0);
        self.per_host.saturating_sub(taken)
    }
}

/// A claimed delivery, with everything that is needed to send it.
#[derive(Debug, Clone)]
pub struct DueDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// The id of the claim.
    pub lease: LeaseId,
    /// The event, whose id is the `webhook-id`.
    pub event_id: EventId,
    /// What the event reports on, for the log.
    pub source: EventSource,
    /// The name of the client that gets the event. None for a message of Basiq's.
    pub client: Option<String>,
    /// The exact body to post.
    pub body: Vec<u8>,
    /// When the event was stored.
    pub created_at: Timestamp,
    /// The URL to post to.
    pub callback_url: CallbackUrl,
    /// Who signs the body.
    pub signer: DeliverySigner,
    /// The credentials that the relay presents to the client's callback. None for a forwarded webhook of Basiq's.
    pub auth: CallbackAuth,
    /// When the event expires.
    pub deadline: Option<Timestamp>,
    /// The number of attempts made so far, from which the next one gets its number.
    pub attempts: u32,
    /// The number of attempts in this round of the schedule. A redelivery starts a new round.
    pub round_attempts: u32,
    /// The trace of the call that registered the watch.
    pub trace: Option<TraceContext>,
}

/// Who signs the body of a delivery.
#[derive(Debug, Clone)]
pub enum DeliverySigner {
    /// The relay signs it at each attempt, with the client's secrets.
    Relay {
        /// The secret that signs the body.
        secret: SigningSecret,
        /// The previous secret, which also signs until the time given.
        previous: Option<(SigningSecret, Timestamp)>,
    },
    /// Basiq signed it. These headers are sent as Basiq wrote them.
    Basiq(SignatureHeaders),
}

/// The result of a claimed delivery.
#[derive(Debug, Clone)]
pub struct AttemptResult {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The lease under which the attempt was made. If the lease was lost, the attempt is still recorded and an
    /// acceptance counts, but nothing is scheduled.
    pub lease: LeaseId,
    /// The subscription, if the event is a notice.
    pub subscription_id: Option<SubscriptionId>,
    /// The attempt; none if the delivery expired before an attempt, or is only postponed.
    pub attempt: Option<Attempt>,
    /// What happens to the delivery next.
    pub next: AfterAttempt,
    /// Whether a failure counts towards a pause of the host. If not, earlier failures are dropped and a pause ends.
    pub counts_against_host: bool,
}

/// Selects deliveries that have waited for a paused host for too long.
#[derive(Debug, Clone, Copy)]
pub struct WaitLimit {
    /// Only deliveries that are due at this time or earlier.
    pub now: Timestamp,
    /// Only deliveries that were first due at this time or earlier.
    pub since: Timestamp,
    /// The maximum number of deliveries to give up.
    pub limit: usize,
}

/// A delivery that was given up without another attempt, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedDelivery {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The id of the event.
    pub event_id: EventId,
    /// What the event reports on.
    pub source: EventSource,
    /// The paused host.
    pub host: String,
}

/// What happens to a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAttempt {
    /// The callback accepted the delivery.
    Delivered,
    /// The next attempt is due at this time.
    RetryAt(Timestamp),
    /// The retry schedule is used up.
    Dead,
    /// The deadline leaves no time for another attempt.
    Expired,
    /// The callback is gone for good, so the watch is cancelled or the subscription ends.
    Gone,
}
