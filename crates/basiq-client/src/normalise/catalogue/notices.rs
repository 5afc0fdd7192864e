//! The notices in the catalogue: the text of each, and its entry.

use relay_domain::{Action, Locale, NoticeKind, UserNotice};

use crate::normalise::catalogue::{Catalogue, CatalogueEntry};

impl Catalogue {
    /// Returns the text of a notice in a locale, or in the nearest locale that has it.
    #[must_use]
    pub fn notice_message(&self, notice: &UserNotice, locale: &Locale) -> &str {
        self.user_message(message(notice.kind, notice.action), locale)
    }

    /// Returns an entry for each kind of notice, with its usual action.
    pub(super) fn notice_entries(&self, locale: &Locale) -> impl Iterator<Item = CatalogueEntry> {
        NoticeKind::ALL.iter().map(|kind| {
            let action = kind.default_action();
            CatalogueEntry {
                error_code: kind.as_str().to_owned(),
                status: kind.status(),
                action,
                user_message: self.user_message(message(*kind, action), locale).to_owned(),
            }
        })
    }
}

/// Returns the name of a notice's message. An invalid connection has two, because the person does one thing or the
/// other.
pub(super) fn message(kind: NoticeKind, action: Action) -> &'static str {
    match kind {
        NoticeKind::ConsentExpiring => "consent-expiring",
        NoticeKind::ConsentExpired => "consent-expired",
        NoticeKind::ConsentRevoked => "consent-revoked",
        NoticeKind::ConnectionInvalid if action == Action::ResubmitCredentials => "login-outdated",
        NoticeKind::ConnectionInvalid => "connection-ended",
        NoticeKind::ConnectionRemoved => "connection-removed",
        NoticeKind::UserRemoved => "user-removed",
    }
}
