//! Deliveries for the API: listing them, and putting them back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{
    CallbackUrl, ClientId, DeliveryId, DeliveryState, EventBody, EventId, Requester, WatchId,
};
use serde::{Deserialize, Serialize};

use crate::{DeliveryDetails, StoreError};

/// Deliveries, for the API. A client finds only its own deliveries and watches. What an operator queues again is
/// recorded in the audit log.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// Returns the deliveries in one state. Undelivered ones are sorted by their latest change, newest first.
    /// Pending and delivered ones are sorted by their watch or subscription, newest first. A notice that waits for an
    /// earlier one of its subscription is left out, and so are delivered messages of Basiq's.
    async fn list_deliveries(
        &self,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryEntry>, StoreError>;

    /// Queues the latest event of a watch once more.
    async fn redeliver_watch(
        &self,
        by: &Requester,
        id: WatchId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError>;

    /// Queues one delivery once more. An event about a job must be the latest of its watch.
    async fn redeliver_one(
        &self,
        by: &Requester,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError>;

    /// Queues again all deliveries that became dead at or after `since`, and returns their number. Skips events about
    /// jobs that are not the latest of their watch, cancelled watches and revoked clients. For an operator, this
    /// includes messages of Basiq's.
    async fn redeliver_dead(
        &self,
        by: &Requester,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError>;
}

/// Which deliveries to list.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    /// Only deliveries of this client; those of all clients if none is given.
    pub owner: Option<ClientId>,
    /// Only deliveries in this state.
    pub state: DeliveryState,
    /// Only deliveries after this position in the list: the latest change and the id of the last one.
    pub after: Option<(Timestamp, DeliveryId)>,
    /// The maximum number of deliveries to return.
    pub limit: usize,
}

/// One row of a list of deliveries: what is sent to whom, and how the attempts went.
#[derive(Debug, Clone)]
pub struct DeliveryEntry {
    /// The client that owns the delivery. None for a message of Basiq's.
    pub client_id: Option<ClientId>,
    /// The delivery with its attempts.
    pub delivery: DeliveryDetails,
    /// When the delivery's state last changed.
    pub updated_at: Timestamp,
    /// The id of the event.
    pub event_id: EventId,
    /// The event, or the message of Basiq's.
    pub content: DeliveryContent,
    /// The URL that the body is posted to.
    pub callback_url: CallbackUrl,
}

impl DeliveryEntry {
    /// Returns the body of the event. Returns none for a message of Basiq's.
    #[must_use]
    pub fn body(&self) -> Option<&EventBody> {
        match &self.content {
            DeliveryContent::Event(body) => Some(body),
            DeliveryContent::Message(_) => None,
        }
    }
}

/// What a delivery carries.
#[derive(Debug, Clone)]
pub enum DeliveryContent {
    /// An event about a job, or a notice.
    Event(Box<EventBody>),
    /// A message of Basiq's that is passed on.
    Message(MessageSummary),
}

/// A message of Basiq's that the relay passes on, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageSummary {
    /// Basiq's id of the message, which is its `webhook-id`.
    pub message_id: String,
    /// The type of Basiq's event, such as `transactions.updated`. Empty if the message has none.
    pub event_type: String,
}

/// The result of a request for a redelivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redelivery {
    /// The event will be posted again at once.
    Queued(EventId),
    /// There is no such watch or delivery.
    NotFound,
    /// The watch has no event yet.
    NoEvent,
    /// The watch has a newer event, whose id this is. Only the newer event can be delivered.
    Superseded(EventId),
    /// The watch is cancelled, or its client is revoked.
    Cancelled,
}

impl Redelivery {
    /// Returns whether the event will be posted again.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self, Self::Queued(_))
    }
}
