//! Reads what a webhook of Basiq's says. The caller has verified the signature before.
//!
//! A webhook has a type, the id of an event and links. All that it says about a person is in its type, and in the ids
//! in its link to the resource. Some types are notices, and any type is a hint that the person's jobs may have changed.

use relay_domain::{BasiqId, NoticeKind, UserNotice};
use serde_json::Value;

use crate::{
    lenient::parse_leniently,
    normalise::{clean, consent_of_link, event_of_link, ids_of_link},
};

/// The maximum size of a webhook's body, in bytes. Basiq's have less than 1 KiB.
pub const MAX_WEBHOOK: usize = 16 * 1024;
/// The maximum length of the type of an event, in characters.
const MAX_TYPE: usize = 128;

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident => $word:literal,)+) => {
        /// The type of an event that Basiq sends webhooks about.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum BasiqEventType {
            $($(#[$doc])* $variant,)+
            /// A type that Basiq does not document, cleaned and cut at 128 characters. Empty if the webhook has none.
            Other(String),
        }

        impl BasiqEventType {
            /// Every type that Basiq documents, in alphabetical order.
            pub const DOCUMENTED: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the type as Basiq writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }
    };
}

event_types! {
    /// An account changed.
    AccountUpdated => "account.updated",
    /// A connection became active.
    ConnectionActivated => "connection.activated",
    /// A connection was created.
    ConnectionCreated => "connection.created",
    /// A connection was deleted.
    ConnectionDeleted => "connection.deleted",
    /// An active connection became invalid, for a reason that the person can resolve.
    ConnectionInvalidated => "connection.invalidated",
    /// A consent was given.
    ConsentCreated => "consent.created",
    /// A consent ended.
    ConsentExpired => "consent.expired",
    /// A consent has not been renewed for 90 days.
    ConsentReminder => "consent.reminder",
    /// A consent was withdrawn.
    ConsentRevoked => "consent.revoked",
    /// A consent changed.
    ConsentUpdated => "consent.updated",
    /// A consent is about to end.
    ConsentWarning => "consent.warning",
    /// A connection has new transactions.
    TransactionsUpdated => "transactions.updated",
    /// A user was created.
    UserCreated => "user.created",
    /// A user was deleted.
    UserDeleted => "user.deleted",
    /// A user changed.
    UserUpdated => "user.updated",
}

impl BasiqEventType {
    /// Reads a type in any case.
    fn read(value: Option<&Value>) -> Self {
        let text = value.and_then(Value::as_str).unwrap_or_default();
        let word = clean(text, MAX_TYPE);
        let mut documented = Self::DOCUMENTED.iter();
        let known = documented.find(|known| known.as_str().eq_ignore_ascii_case(&word));
        known.cloned().unwrap_or(Self::Other(word))
    }

    /// Returns the notice that an event of this type is, or `None` if it only hints at jobs.
    #[must_use]
    pub fn notice_kind(&self) -> Option<NoticeKind> {
        match self {
            Self::ConsentWarning | Self::ConsentReminder => Some(NoticeKind::ConsentExpiring),
            Self::ConsentExpired => Some(NoticeKind::ConsentExpired),
            Self::ConsentRevoked => Some(NoticeKind::ConsentRevoked),
            Self::ConnectionInvalidated => Some(NoticeKind::ConnectionInvalid),
            Self::ConnectionDeleted => Some(NoticeKind::ConnectionRemoved),
            Self::UserDeleted => Some(NoticeKind::UserRemoved),
            Self::AccountUpdated
            | Self::ConnectionActivated
            | Self::ConnectionCreated
            | Self::ConsentCreated
            | Self::ConsentUpdated
            | Self::TransactionsUpdated
            | Self::UserCreated
            | Self::UserUpdated
            | Self::Other(_) => None,
        }
    }
}

/// What a webhook says. It names a user, a connection or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookContents {
    /// The type of the event.
    pub event_type: BasiqEventType,
    /// Basiq's id of the event, the same however often Basiq reports it. If it is absent, the `webhook-id` of the
    /// message distinguishes facts.
    pub event_id: Option<BasiqId>,
    /// The user that the event is about.
    pub user_id: Option<BasiqId>,
    /// The connection that the event is about.
    pub connection_id: Option<BasiqId>,
    /// The consent that the event is about.
    pub consent_id: Option<BasiqId>,
}

impl WebhookContents {
    /// Returns the notice that the webhook is, with its usual action.
    ///
    /// Returns `None` for the types that are no notices. A webhook without a user is no notice either, and nor is one
    /// about a connection without the connection, because its receiver would be unknown.
    #[must_use]
    pub fn notice(&self) -> Option<UserNotice> {
        let kind = self.event_type.notice_kind()?;
        let user_id = self.user_id.clone()?;
        let is_complete = self.connection_id.is_some() || !kind.is_about_connection();
        is_complete.then(|| UserNotice::new(kind, user_id, self.connection_id.clone()))
    }
}

/// The result of reading a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookReading {
    /// The webhook is about a user or a connection.
    Says(WebhookContents),
    /// The webhook says nothing that the relay can use.
    SaysNothing(UselessWebhook),
}

/// Why a webhook says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UselessWebhook {
    /// The body is larger than [`MAX_WEBHOOK`].
    TooLarge,
    /// The body is not a JSON object.
    Unreadable,
    /// The body names neither a user nor a connection.
    NamesNobody,
}

impl UselessWebhook {
    /// Returns the reason as logs and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::Unreadable => "unreadable",
            Self::NamesNobody => "names-nobody",
        }
    }
}

/// Reads the body of a webhook whose signature was verified.
///
/// The function is total. Unknown fields are ignored, and a field whose type is not the documented one counts as
/// missing. A type that Basiq does not document is read as any other, because it is a hint too.
#[must_use]
pub fn read_webhook(body: &[u8]) -> WebhookReading {
    match read(body) {
        Ok(contents) => WebhookReading::Says(contents),
        Err(reason) => WebhookReading::SaysNothing(reason),
    }
}

fn read(body: &[u8]) -> Result<WebhookContents, UselessWebhook> {
    if body.len() > MAX_WEBHOOK {
        return Err(UselessWebhook::TooLarge);
    }
    let webhook = parse_leniently(body)
        .ok()
        .filter(Value::is_object)
        .ok_or(UselessWebhook::Unreadable)?;
    let link = |name: &str| webhook.get("links")?.get(name)?.as_str();
    let entity = link("eventEntity").unwrap_or_default();
    let ids = ids_of_link(entity);
    let contents = WebhookContents {
        event_type: BasiqEventType::read(webhook.get("eventTypeId")),
        event_id: event_id(webhook.get("eventId")).or_else(|| id(event_of_link(link("event")?))),
        user_id: id(ids.user_id),
        connection_id: id(ids.connection_id),
        consent_id: id(consent_of_link(entity)),
    };
    if contents.user_id.is_none() && contents.connection_id.is_none() {
        return Err(UselessWebhook::NamesNobody);
    }
    Ok(contents)
}

fn event_id(value: Option<&Value>) -> Option<BasiqId> {
    match value? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn id(text: Option<String>) -> Option<BasiqId> {
    text?.parse().ok()
}

#[cfg(test)]
mod tests;
