//! Notices: facts about a person that only Basiq's webhooks report, and no job.

use crate::{Action, BasiqId, Status, outcome::closed_words};

closed_words! {
    /// What a notice says. The word is the notice's `errorCode`.
    NoticeKind {
        /// The person's consent ends unless the person renews it.
        ConsentExpiring => "consent-expiring",
        /// The person's consent has ended.
        ConsentExpired => "consent-expired",
        /// The person's consent was withdrawn.
        ConsentRevoked => "consent-revoked",
        /// A connection worked before, and the bank no longer accepts it.
        ConnectionInvalid => "connection-invalid",
        /// A connection was deleted at Basiq.
        ConnectionRemoved => "connection-removed",
        /// The person was deleted at Basiq, which ends the subscription.
        UserRemoved => "user-removed",
    }
}

impl NoticeKind {
    /// Returns the `type` of the notice's event: `notice.` and the error code.
    #[must_use]
    pub fn event_type(self) -> String {
        format!("notice.{self}")
    }

    /// Returns the `status` of the notice's event.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::ConsentExpiring | Self::ConsentExpired | Self::ConnectionInvalid => {
                Status::ActionRequired
            }
            Self::ConsentRevoked | Self::ConnectionRemoved | Self::UserRemoved => Status::Failed,
        }
    }

    /// Returns the usual action. An invalid connection by open banking needs [`Action::Reauthorise`] instead.
    #[must_use]
    pub fn default_action(self) -> Action {
        match self {
            Self::ConsentExpiring | Self::ConsentExpired => Action::Reauthorise,
            Self::ConnectionInvalid => Action::ResubmitCredentials,
            Self::ConsentRevoked | Self::ConnectionRemoved | Self::UserRemoved => Action::None,
        }
    }

    /// Returns whether nothing follows: the notice is the last event of its subscription.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::UserRemoved => true,
            Self::ConsentExpiring
            | Self::ConsentExpired
            | Self::ConsentRevoked
            | Self::ConnectionInvalid
            | Self::ConnectionRemoved => false,
        }
    }

    /// Returns whether the notice is about one connection. All others are about the person: Basiq's consents name no
    /// connection, and cover all of the person's.
    #[must_use]
    pub fn is_about_connection(self) -> bool {
        match self {
            Self::ConnectionInvalid | Self::ConnectionRemoved => true,
            Self::ConsentExpiring
            | Self::ConsentExpired
            | Self::ConsentRevoked
            | Self::UserRemoved => false,
        }
    }
}

/// Which kinds of notices a subscription passes on to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeFilter(u8);

impl NoticeFilter {
    /// All notices.
    pub const ALL: Self = Self(0b11_1111);

    /// Selects these notices only.
    #[must_use]
    pub fn only(kinds: &[NoticeKind]) -> Self {
        Self(kinds.iter().fold(0, |bits, kind| bits | Self::bit(*kind)))
    }

    /// Returns whether the client wants notices of this kind.
    #[must_use]
    pub fn includes(self, kind: NoticeKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    /// Returns the wanted kinds in the order of the API's documentation.
    pub fn kinds(self) -> impl Iterator<Item = NoticeKind> {
        let all = NoticeKind::ALL.iter().copied();
        all.filter(move |kind| self.includes(*kind))
    }

    /// Returns the filter as a small number, for the store.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Makes the filter from its number. Bits without a meaning are dropped.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Returns the bit of a kind. Filters are stored, so a kind keeps its bit for ever.
    fn bit(kind: NoticeKind) -> u8 {
        match kind {
            NoticeKind::ConsentExpiring => 1,
            NoticeKind::ConsentExpired => 2,
            NoticeKind::ConsentRevoked => 4,
            NoticeKind::ConnectionInvalid => 8,
            NoticeKind::ConnectionRemoved => 16,
            NoticeKind::UserRemoved => 32,
        }
    }
}

impl Default for NoticeFilter {
    fn default() -> Self {
        Self::ALL
    }
}

/// A fact about a person, for all subscriptions that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNotice {
    /// What the notice says.
    pub kind: NoticeKind,
    /// What the receiver should do next.
    pub action: Action,
    /// Basiq's id of the person.
    pub user_id: BasiqId,
    /// Basiq's id of the connection, if the notice is about one.
    pub connection_id: Option<BasiqId>,
    /// Basiq's id of the connection's bank, if Basiq was asked about the connection.
    pub institution_id: Option<String>,
}

impl UserNotice {
    /// Makes a notice with the usual action of its kind. `connection_id` is dropped if the kind is not about a
    /// connection.
    #[must_use]
    pub fn new(kind: NoticeKind, user_id: BasiqId, connection_id: Option<BasiqId>) -> Self {
        Self {
            kind,
            action: kind.default_action(),
            user_id,
            connection_id: connection_id.filter(|_| kind.is_about_connection()),
            institution_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_status_and_the_action_of_its_row() {
        use {Action as A, NoticeKind as K, Status as S};
        let reauthorise = (S::ActionRequired, A::Reauthorise);
        let resubmit = (S::ActionRequired, A::ResubmitCredentials);
        let table = [
            (K::ConsentExpiring, "consent-expiring", reauthorise),
            (K::ConsentExpired, "consent-expired", reauthorise),
            (K::ConsentRevoked, "consent-revoked", (S::Failed, A::None)),
            (K::ConnectionInvalid, "connection-invalid", resubmit),
            (
                K::ConnectionRemoved,
                "connection-removed",
                (S::Failed, A::None),
            ),
            (K::UserRemoved, "user-removed", (S::Failed, A::None)),
        ];
        let listed: Vec<NoticeKind> = table.iter().map(|row| row.0).collect();
        assert_eq!(listed, NoticeKind::ALL);
        for (kind, code, status_and_action) in table {
            assert_eq!(kind.as_str(), code);
            assert_eq!(NoticeKind::from_word(code), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), code);
            assert_eq!(kind.event_type(), format!("notice.{code}"));
            let told = (kind.status(), kind.default_action());
            assert_eq!(told, status_and_action, "{code}");
            assert_eq!(kind.is_final(), kind == K::UserRemoved, "{code}");
        }
        assert_eq!(NoticeKind::from_word("consent.expired"), None);
    }

    #[test]
    fn a_filter_tells_the_kinds_that_it_lists() {
        let wanted = [NoticeKind::ConsentExpired, NoticeKind::UserRemoved];
        let filter = NoticeFilter::only(&wanted);
        for kind in NoticeKind::ALL {
            assert_eq!(filter.includes(*kind), wanted.contains(kind), "{kind}");
        }
        assert_eq!(filter.kinds().collect::<Vec<_>>(), wanted);
        assert_eq!(NoticeFilter::only(NoticeKind::ALL), NoticeFilter::ALL);
        assert_eq!(NoticeFilter::default(), NoticeFilter::ALL);
    }

    #[test]
    fn a_filter_keeps_its_number_for_ever() {
        for (kind, bits) in NoticeKind::ALL.iter().zip([1, 2, 4, 8, 16, 32]) {
            let filter = NoticeFilter::only(&[*kind]);
            assert_eq!(filter.bits(), bits, "{kind}");
            assert_eq!(NoticeFilter::from_bits(bits), filter, "{kind}");
        }
        assert_eq!(NoticeFilter::from_bits(0xff), NoticeFilter::ALL);
    }

    #[test]
    fn only_a_notice_about_a_connection_names_one() {
        let id = |text: &str| text.parse::<BasiqId>().unwrap();
        for kind in NoticeKind::ALL {
            let notice = UserNotice::new(*kind, id("u-1"), Some(id("c-1")));
            assert_eq!(
                notice.connection_id.is_some(),
                kind.is_about_connection(),
                "{kind}"
            );
            assert_eq!(notice.action, kind.default_action(), "{kind}");
        }
    }
}
