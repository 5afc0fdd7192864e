//! Deliveries as their clients see them: listed, and put back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    domain::{CallbackUrl, ClientId, DeliveryId, DeliveryState, EventBody, EventId, WatchId},
    store::{DeliveryDetails, StoreError},
};

/// Deliveries: for the API. Where an owner is given, only what is its own exists.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// Deliveries in one state, the latest change first.
    async fn list_deliveries(
        &self,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryEntry>, StoreError>;

    /// Queues a watch's latest event once more.
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

    /// Queues again all deliveries that died at or after `since` and are the latest event of their
    /// watch, and says how many. Watches that were cancelled are left alone, and revoked clients.
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
    /// Only this client's.
    pub owner: Option<ClientId>,
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
    /// Whose it is.
    pub client_id: ClientId,
    /// The delivery with its attempts.
    pub delivery: DeliveryDetails,
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
    /// There is no such watch or delivery.
    NotFound,
    /// The watch has no event yet.
    NoEvent,
    /// The watch has a newer event, which is the one to deliver.
    Superseded(EventId),
    /// The watch is cancelled, or its client revoked.
    Cancelled,
}
