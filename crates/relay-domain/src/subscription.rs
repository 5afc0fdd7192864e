//! A subscription: a client's request for notices about a person and events of all the person's jobs.

use jiff::Timestamp;

use crate::{
    BasiqId, CallbackUrl, ClientId, EventFilter, Locale, Metadata, NoticeFilter, SubscriptionId,
    UserNotice, outcome::closed_words,
};

closed_words! {
    /// Whether a subscription is active.
    SubscriptionState {
        /// The relay looks for the person's jobs and sends notices.
        Active => "active",
        /// Nothing new begins: the client ended the subscription or was revoked, or Basiq no longer knows the person.
        Ended => "ended",
    }
}

/// A valid request to subscribe to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionRequest {
    /// Basiq's id of the person.
    pub user_id: BasiqId,
    /// Basiq's id of the only connection of interest. None for all of the person's.
    pub connection_id: Option<BasiqId>,
    /// The URL to post events to.
    pub callback_url: CallbackUrl,
    /// The statuses to send events of jobs for.
    pub events: EventFilter,
    /// The notices to send.
    pub notices: NoticeFilter,
    /// The language of `userMessage`.
    pub locale: Locale,
    /// The client's data, which each event returns.
    pub metadata: Metadata,
}

/// A subscription as the store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// The id of the subscription.
    pub id: SubscriptionId,
    /// The client that owns the subscription.
    pub client_id: ClientId,
    /// The client's request.
    pub request: SubscriptionRequest,
    /// Whether the subscription is active.
    pub state: SubscriptionState,
    /// When it was registered. The relay does not report jobs that ended before.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Subscription {
    /// Makes a subscription in its initial state, at its registration.
    #[must_use]
    pub fn begun(
        id: SubscriptionId,
        client_id: ClientId,
        request: SubscriptionRequest,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            client_id,
            request,
            state: SubscriptionState::Active,
            created_at: now,
            ended_at: None,
        }
    }

    /// Returns whether the client wants a notice. A subscription to one connection gets the notices about this
    /// connection. It also gets those about the person, because a consent covers all connections of the person.
    #[must_use]
    pub fn wants(&self, notice: &UserNotice) -> bool {
        let connection = notice.connection_id.as_ref().map(BasiqId::as_str);
        let is_about_it = !notice.kind.is_about_connection() || self.covers(connection);
        self.state == SubscriptionState::Active
            && self.request.user_id == notice.user_id
            && is_about_it
            && self.request.notices.includes(notice.kind)
    }

    /// Returns whether the subscription is about this connection. Upper and lower case are the same.
    #[must_use]
    pub fn covers(&self, connection_id: Option<&str>) -> bool {
        let wanted = self.request.connection_id.as_ref();
        wanted.is_none_or(|wanted| {
            connection_id.is_some_and(|id| id.eq_ignore_ascii_case(wanted.as_str()))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{CallbackRules, NoticeKind};

    fn id(text: &str) -> BasiqId {
        text.parse().unwrap()
    }

    /// Makes an active subscription to all that happens to the user `u-1`.
    pub(crate) fn subscription() -> Subscription {
        let url = "https://app.example/hooks/bank";
        let request = SubscriptionRequest {
            user_id: id("u-1"),
            connection_id: None,
            callback_url: CallbackUrl::parse(url, &CallbackRules::default()).unwrap(),
            events: EventFilter::ALL,
            notices: NoticeFilter::ALL,
            locale: Locale::default(),
            metadata: Metadata::default(),
        };
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        Subscription::begun(SubscriptionId::new(now), ClientId(1), request, now)
    }

    #[test]
    fn a_subscription_begins_active() {
        let begun = subscription();
        assert_eq!(
            (begun.state, begun.ended_at),
            (SubscriptionState::Active, None)
        );
        assert!(begun.id.to_string().starts_with("sub_"), "{}", begun.id);
        assert_eq!(begun.id.to_string().parse(), Ok(begun.id));
    }

    #[test]
    fn a_subscription_gets_the_notices_about_its_person_and_connection() {
        let all = subscription();
        let mut one = subscription();
        one.request.connection_id = Some(id("c-1"));
        for kind in NoticeKind::ALL {
            let notice = |user, connection| UserNotice::new(*kind, id(user), Some(id(connection)));
            assert!(all.wants(&notice("u-1", "c-1")), "{kind}");
            assert!(all.wants(&notice("u-1", "c-2")), "{kind}");
            assert!(one.wants(&notice("u-1", "c-1")), "{kind}");
            assert!(one.wants(&notice("u-1", "C-1")), "{kind}");
            let is_about_all = !kind.is_about_connection();
            assert_eq!(one.wants(&notice("u-1", "c-2")), is_about_all, "{kind}");
            assert!(!all.wants(&notice("u-2", "c-1")), "{kind}");
            assert!(!one.wants(&notice("u-2", "c-1")), "{kind}");
        }
    }

    #[test]
    fn an_ended_subscription_and_a_filter_keep_notices_back() {
        let kind = NoticeKind::ConsentExpired;
        let notice = UserNotice::new(kind, id("u-1"), None);
        let mut ended = subscription();
        ended.state = SubscriptionState::Ended;
        let mut filtered = subscription();
        filtered.request.notices = NoticeFilter::only(&[NoticeKind::UserRemoved]);
        assert!(subscription().wants(&notice));
        assert!(!ended.wants(&notice) && !filtered.wants(&notice));
    }
}
