//! Merges lists of deliveries.

use std::cmp::Reverse;

use relay_domain::{DeliveryState, EventId, SubscriptionId, WatchId};

use crate::{DeliveryEntry, DeliveryQuery, rows::IdBytes};

/// Merges the lists of several statements into one page. Only lists by source come from more than one statement.
pub(crate) fn merged(mut entries: Vec<DeliveryEntry>, query: &DeliveryQuery) -> Vec<DeliveryEntry> {
    if query.state == DeliveryState::Delivered {
        entries.sort_by_key(|entry| Reverse(place(entry)));
        entries.truncate(query.limit);
    }
    entries
}

/// Returns the place of an event in a list by source.
fn place(entry: &DeliveryEntry) -> (Option<IdBytes>, EventId) {
    let source = entry.body().and_then(|body| {
        let watch = body.watch_id.map(WatchId::to_bytes);
        watch.or(body.context.subscription_id.map(SubscriptionId::to_bytes))
    });
    (source, entry.event_id)
}
