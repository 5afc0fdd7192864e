//! Finds watches by what an operator has of them: an id of the relay's or of Basiq's, or the beginning of one, a callback
//! host, or a key and a value of the metadata.

use std::ops::RangeInclusive;

use relay_domain::{DeliveryId, EventId, SubscriptionId, WatchId};
use relay_store::{Store, StoreError, SubscriptionQuery, WatchDetails, WatchQuery, WatchSearch};

use crate::console::{
    fault::ErrorPage,
    filter::ConsoleFilter,
    scan::Scanned,
    visit::{subscription_page, watch_page},
};

/// The minimum length of a text that is taken as the beginning of an id.
const SHORTEST: usize = 3;

/// The number of characters of an id of the relay's that tell its time. An event has the time of its watch or
/// subscription.
const TIME: usize = 10;

/// The maximum number of watches, subscriptions and notices that are searched for an event.
const MOST_WATCHES: usize = 500;
const MOST_SUBSCRIPTIONS: usize = 20;
const MOST_NOTICES: usize = 100;

/// Where the search field of the console leads: to a page, or to a list of watches.
pub(super) enum Found {
    /// One thing that has a page of its own.
    Page(String),
    /// The search is for metadata, which is a filter.
    Metadata(Box<ConsoleFilter>),
    /// Watches with exactly this id or host.
    Watches(Scanned<WatchDetails, WatchId>),
    /// Watches with an id or a host that begins so.
    Beginning(Scanned<WatchDetails, WatchId>),
}

/// Searches for a text. Returns at most `page` watches older than `before`.
pub(super) async fn find(
    store: &dyn Store,
    text: &str,
    before: Option<WatchId>,
    page: usize,
) -> Result<Found, ErrorPage> {
    if text.contains('=') {
        let filter = ConsoleFilter::read(|name| match name {
            "metadata" => text.to_owned(),
            _ => String::new(),
        });
        return Ok(Found::Metadata(Box::new(filter?)));
    }
    if let Ok(id) = text.parse()
        && store.find_watch(None, id).await?.is_some()
    {
        return Ok(Found::Page(watch_page(id)));
    }
    if let Some(found) = by_own_id(store, text, page).await? {
        return Ok(found);
    }
    let search = WatchSearch {
        text: text.to_owned(),
        before,
        limit: page + 1,
    };
    let found = store.search_watches(&search).await?;
    if !found.is_empty() || before.is_some() || text.len() < SHORTEST {
        return Ok(Found::Watches(cut(found, page)));
    }
    let found = store.search_by_prefix(text, page).await?;
    Ok(Found::Beginning(cut(found, page)))
}

/// Searches for the id of a watch, an event, a delivery or a subscription, or the beginning of one. Returns none if the
/// text is no such beginning.
async fn by_own_id(
    store: &dyn Store,
    text: &str,
    page: usize,
) -> Result<Option<Found>, StoreError> {
    if let Some(rest) = text.strip_prefix(WatchId::PREFIX) {
        let mut found = watches_between(store, rest, page).await?;
        found.truncate(page);
        return Ok(Some(Found::Beginning(cut(found, page))));
    }
    if let Some(rest) = text.strip_prefix(SubscriptionId::PREFIX) {
        let whole = text.parse().ok();
        if let Some(id) = whole
            && store.find_subscription(None, id).await?.is_some()
        {
            return Ok(Some(Found::Page(subscription_page(id))));
        }
        let found = subscriptions_between(store, rest).await?;
        let first = found.first().map(|id| Found::Page(subscription_page(*id)));
        return Ok(first);
    }
    let event = [EventId::PREFIX, DeliveryId::PREFIX]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    match event {
        Some(rest) => of_event(store, rest, page).await,
        None => Ok(None),
    }
}

/// Searches for the watches, or for the subscription, of events whose ids begin so.
async fn of_event(store: &dyn Store, rest: &str, page: usize) -> Result<Option<Found>, StoreError> {
    let rest = rest.to_uppercase();
    let begins = |id: EventId| {
        let id = id.to_string();
        let id = id.strip_prefix(EventId::PREFIX).unwrap_or_default();
        id.starts_with(&rest)
    };
    let time: String = rest.chars().take(TIME).collect();
    let mut found = watches_between(store, &time, MOST_WATCHES).await?;
    found.retain(|details| details.events.iter().any(|event| begins(event.id)));
    found.truncate(page);
    if let [only] = &*found {
        return Ok(Some(Found::Page(watch_page(only.watch.id))));
    }
    if found.is_empty() && rest.len() >= TIME {
        for id in subscriptions_between(store, &time).await? {
            let notices = store.notices_of(id, MOST_NOTICES).await?;
            if notices.iter().any(|notice| begins(notice.id)) {
                return Ok(Some(Found::Page(subscription_page(id))));
            }
        }
    }
    Ok(Some(Found::Beginning(cut(found, page))))
}

/// Returns the newest watches whose ids begin so, after their prefix.
async fn watches_between(
    store: &dyn Store,
    rest: &str,
    limit: usize,
) -> Result<Vec<WatchDetails>, StoreError> {
    let Some(range) = id_range::<WatchId>(WatchId::PREFIX, rest) else {
        return Ok(Vec::new());
    };
    let query = WatchQuery {
        before: Some(*range.end()),
        limit,
        ..WatchQuery::default()
    };
    let mut found = store.list_watches(&query).await?;
    found.retain(|details| details.watch.id >= *range.start());
    Ok(found)
}

/// Returns the newest subscriptions whose ids begin so, after their prefix.
async fn subscriptions_between(
    store: &dyn Store,
    rest: &str,
) -> Result<Vec<SubscriptionId>, StoreError> {
    let range = id_range::<SubscriptionId>(SubscriptionId::PREFIX, rest);
    let Some(range) = range else {
        return Ok(Vec::new());
    };
    let query = SubscriptionQuery {
        before: Some(*range.end()),
        limit: MOST_SUBSCRIPTIONS,
        ..SubscriptionQuery::default()
    };
    let found = store.list_subscriptions(&query).await?.into_iter();
    let ids = found.map(|details| details.subscription.id);
    Ok(ids.filter(|id| id >= range.start()).collect())
}

/// Returns the ids that begin with `prefix` and `rest`. Returns none if no id does.
fn id_range<T: std::str::FromStr>(prefix: &str, rest: &str) -> Option<RangeInclusive<T>> {
    let rest = rest.to_uppercase();
    let id = |filler: &str| {
        let missing = 26_usize.checked_sub(rest.len())?;
        let filler = filler.repeat(missing);
        format!("{prefix}{rest}{filler}").parse().ok()
    };
    let is_long = rest.len() >= SHORTEST && rest.is_ascii();
    is_long.then(|| Some(id("0")?..=id("Z")?)).flatten()
}

/// Returns what was found as a page. If there is one watch more, the list goes on.
fn cut(mut found: Vec<WatchDetails>, page: usize) -> Scanned<WatchDetails, WatchId> {
    let has_more = found.len() > page;
    found.truncate(page);
    let last = found.last();
    Scanned {
        looked_at: found.len(),
        rest: last.filter(|_| has_more).map(|details| details.watch.id),
        back_to: last.map(|details| details.watch.created_at),
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_begin_alike_lie_between_two() {
        let id: WatchId = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q".parse().unwrap();
        for rest in ["01K", "01KAR2D3CV", "01kar2d3cv9z8x7w6v5t4s3r2q"] {
            let range = id_range::<WatchId>("wch_", rest).unwrap();
            assert!(range.contains(&id), "{rest}");
        }
        let range = id_range::<WatchId>("wch_", "01KB").unwrap();
        assert!(id < *range.start() && id < *range.end());
        for none in [
            "",
            "01",
            "ZZZ",
            "01K/",
            "01KAR2D3CV9Z8X7W6V5T4S3R2QX",
            "ééé",
        ] {
            assert!(id_range::<WatchId>("wch_", none).is_none(), "{none}");
        }
    }
}
