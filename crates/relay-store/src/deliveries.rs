//! Deliveries for the API: listing them, and putting them back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{CallbackUrl, ClientId, DeliveryId, DeliveryState, EventBody, EventId, WatchId};

use crate::{DeliveryDetails, StoreError};

/// Deliveries, for the API. If an owner is given, only the deliveries and watches of that owner exist.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// Returns the deliveries in one state. Undelivered ones are sorted by their latest change, newest first.
    /// Pending and delivered ones are sorted by their watch, newest first.
    async fn list_deliveries(
        &self,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryEntry>, StoreError>;

    /// Queues the latest event of a watch once more.
    async fn redeliver_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError>;

    /// Queues one delivery once more, if its event is the latest of its watch.
    async fn redeliver_one(
        &self,
        owner: Option<ClientId>,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError>;

    /// Queues again all deliveries that became dead at or after `since`, and returns their number. Skips events that
    /// are not the latest of their watch, cancelled watches and revoked clients.
    async fn redeliver_dead(
        &self,
        owner: Option<ClientId>,
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

/// A delivery in a list.
#[derive(Debug, Clone)]
pub struct DeliveryEntry {
    /// The client that owns the delivery.
    pub client_id: ClientId,
    /// The delivery with its attempts.
    pub delivery: DeliveryDetails,
    /// When the delivery's state last changed.
    pub updated_at: Timestamp,
    /// The id of the event.
    pub event_id: EventId,
    /// The body that is posted.
    pub body: EventBody,
    /// The URL that the body is posted to.
    pub callback_url: CallbackUrl,
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
