//! Subscriptions: requests for events and notices about a person.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{
    BasiqId, ClientId, Locale, Requester, Subscription, SubscriptionId, SubscriptionRequest,
    UserNotice,
};

use crate::StoreError;

/// Subscriptions, for the API. If an owner is given, only the subscriptions of that owner exist.
#[async_trait]
pub trait SubscriptionStore: Send + Sync {
    /// Registers a subscription durably, and makes a list of the person's jobs due.
    async fn subscribe(&self, new: NewSubscription) -> Result<SubscriptionResult, StoreError>;

    /// Returns one subscription.
    async fn find_subscription(
        &self,
        owner: Option<ClientId>,
        id: SubscriptionId,
    ) -> Result<Option<SubscriptionDetails>, StoreError>;

    /// Returns subscriptions, newest first, at most `query.limit` of them.
    async fn list_subscriptions(
        &self,
        query: &SubscriptionQuery,
    ) -> Result<Vec<SubscriptionDetails>, StoreError>;

    /// Returns the active subscriptions of all clients to a person. One that cannot be read is left out.
    async fn subscriptions_to(&self, user_id: &BasiqId) -> Result<Vec<Subscription>, StoreError>;

    /// Ends a subscription, and cancels its open watches and its undelivered notices. Returns false if no such
    /// subscription exists. Changes nothing if the subscription has ended. What an operator ends is
    /// recorded in the audit log.
    async fn end_subscription(
        &self,
        by: &Requester,
        id: SubscriptionId,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// A subscription to register.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// The id of the subscription.
    pub id: SubscriptionId,
    /// The client that owns the subscription.
    pub client_id: ClientId,
    /// The client's request.
    pub request: SubscriptionRequest,
    /// The client's limit on active subscriptions.
    pub max_active: u64,
    /// When the client sent the request.
    pub now: Timestamp,
}

/// The result of a request to subscribe.
#[derive(Debug, Clone)]
pub enum SubscriptionResult {
    /// The subscription is new.
    Created(Box<SubscriptionDetails>),
    /// The client has the same subscription already.
    Existing(Box<SubscriptionDetails>),
    /// The client has reached its limit on active subscriptions.
    AtCap,
    /// The client was revoked after it sent the request.
    Revoked,
}

/// A subscription and what is known of its lists.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionDetails {
    /// The subscription.
    pub subscription: Subscription,
    /// When the person's jobs were last listed for it.
    pub last_listed_at: Option<Timestamp>,
    /// When they are listed next. None once the subscription has ended.
    pub next_list_at: Option<Timestamp>,
    /// The number of its watches that are open.
    pub open_watches: u64,
}

/// Which subscriptions to list.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionQuery {
    /// Only subscriptions of this client.
    pub owner: Option<ClientId>,
    /// Only subscriptions to this person.
    pub user_id: Option<BasiqId>,
    /// Only subscriptions older than this one. Their ids sort by time.
    pub before: Option<SubscriptionId>,
    /// The maximum number of subscriptions to return.
    pub limit: usize,
}

/// A notice to send to one subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct NewNotice {
    /// The subscription, as it was when the notice was made.
    pub subscription: Subscription,
    /// What the notice says.
    pub notice: UserNotice,
    /// The text for the person, in the subscription's locale.
    pub user_message: String,
}

impl NewNotice {
    /// Makes a notice for each of these subscriptions that wants it. `text` is the text for the person by locale.
    #[must_use]
    pub fn for_each(
        notice: &UserNotice,
        subscriptions: Vec<Subscription>,
        text: impl Fn(&Locale) -> String,
    ) -> Vec<Self> {
        let wanting = subscriptions
            .into_iter()
            .filter(|subscription| subscription.wants(notice));
        let new = wanting.map(|subscription| Self {
            user_message: text(&subscription.request.locale),
            notice: notice.clone(),
            subscription,
        });
        new.collect()
    }
}
