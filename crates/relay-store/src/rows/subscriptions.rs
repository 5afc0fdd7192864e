//! Reads subscriptions from rows.

use relay_domain::{
    CallbackUrl, ClientId, ErrorChain, EventFilter, LeaseId, Locale, NoticeFilter, Subscription,
    SubscriptionRequest, SubscriptionState,
};
use tracing::error;

use crate::{
    DueList, StoreError, SubscriptionDetails,
    rows::{AnyRow, ColumnReader},
};

/// Reads a subscription.
pub(crate) fn subscription(row: &dyn AnyRow) -> Result<Subscription, StoreError> {
    let cells = ColumnReader::of("subscriptions", "subscription_id", row);
    let ended_at = cells.time_opt("ended_at")?;
    Ok(Subscription {
        id: cells.id("subscription_id")?,
        client_id: ClientId(cells.get("client_id")?),
        request: SubscriptionRequest {
            user_id: cells.parse("user_id")?,
            connection_id: cells.read_opt("connection_id", |text| text.parse().ok())?,
            callback_url: cells.read("callback_url", CallbackUrl::from_stored)?,
            events: EventFilter::from_bits(cells.number("events")?),
            notices: NoticeFilter::from_bits(cells.number("notices")?),
            locale: cells.read("locale", Locale::parse)?,
            metadata: cells.json("metadata")?,
        },
        state: if ended_at.is_some() {
            SubscriptionState::Ended
        } else {
            SubscriptionState::Active
        },
        created_at: cells.time("created_at")?,
        ended_at,
    })
}

/// Reads the subscriptions that can be read. `note` gets the failure of each other one.
pub(crate) fn readable_subscriptions<R: AnyRow>(
    rows: &[R],
    note: impl Fn(&StoreError),
) -> Vec<Subscription> {
    let mut readable = Vec::with_capacity(rows.len());
    for row in rows {
        match subscription(row) {
            Ok(subscription) => readable.push(subscription),
            Err(failure) => {
                note(&failure);
                error!(error = %ErrorChain(&failure), "a subscription cannot be read and is left out");
            }
        }
    }
    readable
}

/// Reads a claimed list of a person's jobs.
pub(crate) fn due_list(row: &dyn AnyRow, lease: LeaseId) -> Result<DueList, StoreError> {
    let cells = ColumnReader::of("due_lists", "user_id", row);
    Ok(DueList {
        user_id: cells.parse("user_id")?,
        lease,
        due_at: cells.time("next_list_at")?,
        missing_since: cells.time_opt("missing_since")?,
    })
}

/// Reads a subscription with what is known of its lists.
pub(crate) fn subscription_details(row: &dyn AnyRow) -> Result<SubscriptionDetails, StoreError> {
    let cells = ColumnReader::of("subscriptions", "subscription_id", row);
    Ok(SubscriptionDetails {
        subscription: subscription(row)?,
        last_listed_at: cells.time_opt("listed_at")?,
        next_list_at: cells.time_opt("next_list_at")?,
        open_watches: cells.number("open_watches")?,
    })
}
