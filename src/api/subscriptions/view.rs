//! Subscriptions as clients see them.

use jiff::Timestamp;
use relay_domain::{
    BasiqId, Locale, Metadata, NoticeKind, Status, SubscriptionId, SubscriptionState,
};
use relay_store::SubscriptionDetails;
use serde::Serialize;

/// A subscription.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Subscription)]
pub(crate) struct SubscriptionView {
    /// The id of the subscription.
    #[schema(value_type = String, example = "sub_01KAR2D3CV9Z8X7W6V5T4S3R2Q")]
    pub id: SubscriptionId,
    /// Basiq's id of the user.
    #[schema(value_type = String)]
    pub user_id: BasiqId,
    /// Basiq's id of the only connection of interest. Null for all connections of the user.
    #[schema(value_type = Option<String>, required = true)]
    pub connection_id: Option<BasiqId>,
    /// The URL to which events are posted.
    #[schema(format = "uri")]
    pub callback_url: String,
    /// The statuses of jobs that cause events.
    pub events: Vec<Status>,
    /// The notices that the relay sends.
    pub notices: Vec<NoticeKind>,
    /// The language of `userMessage`.
    #[schema(value_type = String, example = "en")]
    pub locale: Locale,
    /// The metadata that each event repeats.
    #[schema(value_type = HashMap<String, Value>)]
    pub metadata: Metadata,
    /// Whether the subscription is active.
    pub state: SubscriptionState,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended. Null while it is active.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub ended_at: Option<Timestamp>,
    /// When the user's jobs were last listed. Null before the first list, and once the subscription has ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_listed_at: Option<Timestamp>,
    /// When they are listed next. Null once the subscription has ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_list_at: Option<Timestamp>,
    /// The number of its watches that are open.
    pub open_watches: u64,
}

/// A page of subscriptions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionPage {
    /// The subscriptions, newest first.
    pub items: Vec<SubscriptionView>,
    /// The cursor of the next page. Null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

impl From<SubscriptionDetails> for SubscriptionView {
    fn from(details: SubscriptionDetails) -> Self {
        let subscription = details.subscription;
        let request = subscription.request;
        let statuses = Status::ALL.iter().copied();
        Self {
            id: subscription.id,
            user_id: request.user_id,
            connection_id: request.connection_id,
            callback_url: request.callback_url.to_string(),
            events: statuses
                .filter(|status| request.events.includes(*status))
                .collect(),
            notices: request.notices.kinds().collect(),
            locale: request.locale,
            metadata: request.metadata,
            state: subscription.state,
            created_at: subscription.created_at,
            ended_at: subscription.ended_at,
            last_listed_at: details.last_listed_at,
            next_list_at: details.next_list_at,
            open_watches: details.open_watches,
        }
    }
}
