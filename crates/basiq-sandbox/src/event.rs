//! Basiq's events: their types, what each is about, and their documents.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::view::date;

/// The types of events for which Basiq has webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SandboxEventType {
    /// An account was read.
    AccountUpdated,
    /// A connection works: its login was accepted.
    ConnectionActivated,
    /// A connection was created.
    ConnectionCreated,
    /// A connection was deleted.
    ConnectionDeleted,
    /// A connection that worked stopped working, for a reason that only the person can remove.
    ConnectionInvalidated,
    /// A person gave a consent.
    ConsentCreated,
    /// A consent's time is over.
    ConsentExpired,
    /// 90 days have passed since a consent was last updated.
    ConsentReminder,
    /// A person took back a consent.
    ConsentRevoked,
    /// A person renewed a consent.
    ConsentUpdated,
    /// A consent ends in seven days.
    ConsentWarning,
    /// A connection has new transactions.
    TransactionsUpdated,
    /// A user was created.
    UserCreated,
    /// A user was deleted.
    UserDeleted,
    /// A user's details changed.
    UserUpdated,
}

/// A text that is no type of Basiq's events.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no event type of Basiq's; allowed are {allowed}", allowed = SandboxEventType::all_names())]
pub struct UnknownEventType(String);

impl SandboxEventType {
    /// All types, in Basiq's order.
    pub const ALL: [Self; 15] = [
        Self::AccountUpdated,
        Self::ConnectionActivated,
        Self::ConnectionCreated,
        Self::ConnectionDeleted,
        Self::ConnectionInvalidated,
        Self::ConsentCreated,
        Self::ConsentExpired,
        Self::ConsentReminder,
        Self::ConsentRevoked,
        Self::ConsentUpdated,
        Self::ConsentWarning,
        Self::TransactionsUpdated,
        Self::UserCreated,
        Self::UserDeleted,
        Self::UserUpdated,
    ];

    /// The types to which a receiver is subscribed by default: new data, and things that end or are about to
    /// end.
    pub const USUAL: [Self; 8] = [
        Self::ConnectionDeleted,
        Self::ConnectionInvalidated,
        Self::ConsentExpired,
        Self::ConsentReminder,
        Self::ConsentRevoked,
        Self::ConsentWarning,
        Self::TransactionsUpdated,
        Self::UserDeleted,
    ];

    /// Returns Basiq's id of the type, such as `connection.invalidated`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.id_and_description().0
    }

    /// Returns a sentence that says when such an event happens.
    pub(super) fn description(self) -> &'static str {
        self.id_and_description().1
    }

    fn id_and_description(self) -> (&'static str, &'static str) {
        match self {
            Self::AccountUpdated => ("account.updated", "An account was read."),
            Self::ConnectionActivated => ("connection.activated", "A connection works."),
            Self::ConnectionCreated => ("connection.created", "A connection was created."),
            Self::ConnectionDeleted => ("connection.deleted", "A connection was deleted."),
            Self::ConnectionInvalidated => {
                ("connection.invalidated", "A connection stopped working.")
            }
            Self::ConsentCreated => ("consent.created", "A consent was given."),
            Self::ConsentExpired => ("consent.expired", "A consent's time is over."),
            Self::ConsentReminder => ("consent.reminder", "A consent is 90 days old."),
            Self::ConsentRevoked => ("consent.revoked", "A consent was taken back."),
            Self::ConsentUpdated => ("consent.updated", "A consent was renewed."),
            Self::ConsentWarning => ("consent.warning", "A consent ends in seven days."),
            Self::TransactionsUpdated => ("transactions.updated", "Transactions were read."),
            Self::UserCreated => ("user.created", "A user was created."),
            Self::UserDeleted => ("user.deleted", "A user was deleted."),
            Self::UserUpdated => ("user.updated", "A user's details changed."),
        }
    }

    /// Returns the two parts of the id: what the event is about, and what happened to it.
    pub(super) fn parts(self) -> (&'static str, &'static str) {
        self.as_str().split_once('.').unwrap_or_default()
    }

    /// Returns the path of what an event of this type is about. Returns `None` if `subject` does not name it.
    pub(super) fn entity(self, subject: &EventSubject) -> Option<String> {
        let user = format!("/users/{}", subject.user);
        let connection = subject.connection.as_deref();
        match self.parts().0 {
            "user" => Some(user),
            "connection" => connection.map(|id| format!("{user}/connections/{id}")),
            "transactions" => {
                connection.map(|id| format!("{user}/transactions?filter=connection.id.eq('{id}')"))
            }
            "consent" => {
                let consent = subject.consent.as_deref();
                consent.map(|id| format!("{user}/consents/{id}"))
            }
            _ => {
                let account = subject.account.as_deref();
                account.map(|id| format!("{user}/accounts/{id}"))
            }
        }
    }

    fn all_names() -> String {
        Self::ALL.map(|known| format!("`{known}`")).join(", ")
    }
}

impl fmt::Display for SandboxEventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SandboxEventType {
    type Err = UnknownEventType;

    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        let mut known = Self::ALL.into_iter();
        known
            .find(|known| known.as_str() == text)
            .ok_or_else(|| UnknownEventType(text.to_owned()))
    }
}

/// Whom and what an event is about, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EventSubject {
    pub(super) user: String,
    pub(super) connection: Option<String>,
    pub(super) consent: Option<String>,
    pub(super) account: Option<String>,
}

/// An event that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SandboxEvent {
    pub(super) id: String,
    pub(super) event_type: SandboxEventType,
    pub(super) user_id: String,
    pub(super) connection_id: Option<String>,
    /// The path of what it is about.
    pub(super) entity: String,
    pub(super) created: Timestamp,
    /// The id of its webhook, the same however often it is sent.
    pub(super) webhook_id: String,
}

impl SandboxEvent {
    /// Returns the body of the event's webhook. Links begin with `base`.
    pub(super) fn webhook_body(&self, base: &str) -> String {
        let links = json!({
            "event": format!("{base}/events/{}", self.id),
            "eventEntity": format!("{base}{}", self.entity),
        });
        let body = json!({
            "eventTypeId": self.event_type.as_str(),
            "eventId": self.id,
            "links": links,
        });
        body.to_string()
    }

    /// Returns the event's document. Links begin with `base`.
    pub(super) fn view(&self, base: &str) -> Value {
        let (entity, event_type) = self.event_type.parts();
        let data_ref = format!("{base}{}", self.entity);
        let mut data = Map::new();
        data.insert("type".to_owned(), json!(entity));
        if entity != "transactions" {
            let (_, id) = self.entity.rsplit_once('/').unwrap_or_default();
            data.insert("id".to_owned(), json!(id));
        }
        if let Some(connection) = &self.connection_id {
            data.insert("connection".to_owned(), json!(connection));
        }
        data.insert("links".to_owned(), json!({"self": data_ref}));
        json!({
            "type": "event",
            "id": self.id,
            "createdDate": date(self.created),
            "entity": entity,
            "eventType": event_type,
            "userId": self.user_id,
            "dataRef": data_ref,
            "data": data,
            "links": {"self": format!("{base}/events/{}", self.id)},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> EventSubject {
        EventSubject {
            user: "u".to_owned(),
            connection: Some("c".to_owned()),
            consent: Some("k".to_owned()),
            account: Some("a".to_owned()),
        }
    }

    #[test]
    fn each_type_is_read_and_written_alike_and_others_are_refused() {
        for known in SandboxEventType::ALL {
            assert_eq!(known.as_str().parse(), Ok(known));
        }
        for text in ["", "connection.updated", "job.success", "User.Created"] {
            let error = text.parse::<SandboxEventType>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
            assert!(error.contains("`consent.warning`"), "{error}");
        }
    }

    #[test]
    fn each_type_links_to_what_it_is_about() {
        for (event, entity) in [
            ("user.deleted", "/users/u"),
            ("connection.activated", "/users/u/connections/c"),
            ("consent.reminder", "/users/u/consents/k"),
            ("account.updated", "/users/u/accounts/a"),
            (
                "transactions.updated",
                "/users/u/transactions?filter=connection.id.eq('c')",
            ),
        ] {
            let event: SandboxEventType = event.parse().unwrap();
            assert_eq!(event.entity(&subject()).as_deref(), Some(entity));
        }
        let bare = EventSubject {
            user: "u".to_owned(),
            ..EventSubject::default()
        };
        let named = SandboxEventType::ALL
            .into_iter()
            .filter(|event| event.entity(&bare).is_some());
        assert_eq!(named.count(), 3, "only a user's events need no other id");
    }

    #[test]
    fn a_webhook_is_thin_and_its_event_tells_more() {
        let event = SandboxEvent {
            id: "e".to_owned(),
            event_type: SandboxEventType::AccountUpdated,
            user_id: "u".to_owned(),
            connection_id: Some("c".to_owned()),
            entity: "/users/u/accounts/a".to_owned(),
            created: Timestamp::from_second(1_800_000_000).unwrap(),
            webhook_id: "w".to_owned(),
        };
        let body: Value = serde_json::from_str(&event.webhook_body("http://s")).unwrap();
        let links = json!({
            "event": "http://s/events/e",
            "eventEntity": "http://s/users/u/accounts/a",
        });
        let thin = json!({"eventTypeId": "account.updated", "eventId": "e", "links": links});
        assert_eq!(body, thin);
        let view = event.view("http://s");
        assert_eq!(view["entity"], "account");
        assert_eq!(view["eventType"], "updated");
        assert_eq!(view["createdDate"], "2027-01-15T08:00:00.000Z");
        assert_eq!(view["dataRef"], "http://s/users/u/accounts/a");
        assert_eq!(
            (&view["data"]["id"], &view["data"]["connection"]),
            (&json!("a"), &json!("c"))
        );
    }
}
