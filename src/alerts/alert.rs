//! One alert: what it says, and how it is written.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The type of the message, as events have one.
const TYPE: &str = "relay.alert";

/// What an operator is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertKind {
    /// Deliveries are dead.
    DeliveriesDead,
    /// A callback host has been paused for long.
    HostPaused,
    /// Basiq refuses the API key.
    KeyRefused,
    /// The circuit breaker towards Basiq has been open for long.
    BreakerOpen,
    /// The store cannot be written.
    StoreUnwritable,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::DeliveriesDead,
        Self::HostPaused,
        Self::KeyRefused,
        Self::BreakerOpen,
        Self::StoreUnwritable,
    ];

    /// Returns the kind as it is written in messages and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeliveriesDead => "deliveries-dead",
            Self::HostPaused => "host-paused",
            Self::KeyRefused => "key-refused",
            Self::BreakerOpen => "breaker-open",
            Self::StoreUnwritable => "store-unwritable",
        }
    }

    /// Whether all relays on a store see the same, because they read it there. One of them tells it.
    #[must_use]
    pub fn is_shared(self) -> bool {
        match self {
            Self::DeliveriesDead | Self::HostPaused => true,
            Self::KeyRefused | Self::BreakerOpen | Self::StoreUnwritable => false,
        }
    }
}

/// Whether what an alert tells of begins or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// It began.
    Firing,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// Returns the state as it is written in messages and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What an alert is about. Two alerts about the same are its begin and its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertSubject {
    /// The kind of alert.
    pub kind: AlertKind,
    /// The callback host, of an alert about one.
    pub host: Option<String>,
}

/// A message to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What it is about.
    pub subject: AlertSubject,
    /// Whether that begins or is over.
    pub state: AlertState,
    /// When it began.
    pub since: Timestamp,
    /// When the relay noticed that it began or was over.
    pub at: Timestamp,
    /// The number of dead deliveries, of an alert about them.
    pub dead: Option<u64>,
}

impl Alert {
    /// Returns the `webhook-id`, which is the same on every attempt. Relays that tell the same of one host use the same.
    #[must_use]
    pub fn id(&self, relay: &str) -> String {
        let told_by = match self.subject.kind {
            // its time is the store's, so all relays know the same
            AlertKind::HostPaused => "",
            AlertKind::DeliveriesDead
            | AlertKind::KeyRefused
            | AlertKind::BreakerOpen
            | AlertKind::StoreUnwritable => relay,
        };
        let hash = Sha256::new()
            .chain_update(self.subject.kind.as_str())
            .chain_update([0])
            .chain_update(self.subject.host.as_deref().unwrap_or_default())
            .chain_update([0])
            .chain_update(self.state.as_str())
            .chain_update(self.since.as_millisecond().to_be_bytes())
            .chain_update(told_by)
            .finalize();
        let short = hash.get(..18).unwrap_or_default();
        format!("alr_{}", BASE64_URL_SAFE_NO_PAD.encode(short))
    }

    /// Returns the exact bytes to sign and post. `relay` names the relay that tells it.
    #[must_use]
    pub fn to_json(&self, relay: &str) -> Vec<u8> {
        let text = format!("basiq-relay {relay}: {}", self.sentence());
        let body = json!({
            "type": TYPE,
            "text": text,
            "kind": self.subject.kind.as_str(),
            "state": self.state.as_str(),
            "since": self.since,
            "timestamp": self.at,
            "relay": relay,
            "details": self.details(),
        });
        body.to_string().into_bytes()
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        if let Some(host) = &self.subject.host {
            details.insert("host".to_owned(), host.as_str().into());
        }
        if let Some(dead) = self.dead {
            details.insert("deadDeliveries".to_owned(), dead.into());
        }
        details
    }

    /// Says in words what begins or is over, and what to do.
    fn sentence(&self) -> String {
        let host = self.subject.host.as_deref().unwrap_or("?");
        let since = self.since.strftime("%Y-%m-%d %H:%M:%SZ");
        match (self.subject.kind, self.state) {
            (AlertKind::DeliveriesDead, AlertState::Firing) => format!(
                "dead deliveries: {}. Their callbacks did not accept them in time. Look at the deliveries in the \
                 console, and send them again when the callbacks answer.",
                self.dead.unwrap_or_default()
            ),
            (AlertKind::DeliveriesDead, AlertState::Resolved) => {
                "no delivery is dead any more.".to_owned()
            }
            (AlertKind::HostPaused, AlertState::Firing) => format!(
                "the callback host {host} has been paused since {since}, because it keeps failing. Tell the owner of \
                 the client."
            ),
            (AlertKind::HostPaused, AlertState::Resolved) => {
                format!("the callback host {host} answers again, or nothing waits for it any more.")
            }
            (AlertKind::KeyRefused, AlertState::Firing) => {
                "Basiq refuses the API key, so no job is looked at. Check RELAY_BASIQ_API_KEY."
                    .to_owned()
            }
            (AlertKind::KeyRefused, AlertState::Resolved) => {
                "Basiq accepts the API key again.".to_owned()
            }
            (AlertKind::BreakerOpen, AlertState::Firing) => format!(
                "Basiq has given no usable answer since {since}. Jobs are looked at again when it does."
            ),
            (AlertKind::BreakerOpen, AlertState::Resolved) => "Basiq answers again.".to_owned(),
            (AlertKind::StoreUnwritable, AlertState::Firing) => format!(
                "the store cannot be written since {since}, so no watch is accepted. The log says why."
            ),
            (AlertKind::StoreUnwritable, AlertState::Resolved) => {
                "the store can be written again.".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: AlertKind, state: AlertState) -> Alert {
        Alert {
            subject: AlertSubject {
                kind,
                host: (kind == AlertKind::HostPaused).then(|| "app.example".to_owned()),
            },
            state,
            since: "2026-11-23T09:14:28Z".parse().unwrap(),
            at: "2026-11-23T09:24:28Z".parse().unwrap(),
            dead: (kind == AlertKind::DeliveriesDead).then_some(3),
        }
    }

    #[test]
    fn each_alert_has_its_own_words_and_id() {
        let (mut texts, mut ids) = (Vec::new(), Vec::new());
        for kind in AlertKind::ALL {
            for state in [AlertState::Firing, AlertState::Resolved] {
                let alert = alert(kind, state);
                let body: Value = serde_json::from_slice(&alert.to_json("app-1:8080")).unwrap();
                assert_eq!(body["kind"], kind.as_str());
                assert_eq!(body["state"], state.as_str());
                assert_eq!(body["relay"], "app-1:8080");
                assert_eq!(body["since"], "2026-11-23T09:14:28Z");
                let text = body["text"].as_str().unwrap().to_owned();
                assert!(text.starts_with("basiq-relay app-1:8080: "), "{text}");
                texts.push(text);
                ids.push(alert.id("app-1:8080"));
            }
        }
        for mut all in [texts, ids] {
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 10);
        }
    }

    #[test]
    fn details_are_there_where_they_mean_something() {
        let details = |kind| alert(kind, AlertState::Firing).details();
        assert_eq!(
            Value::from(details(AlertKind::DeliveriesDead)),
            json!({ "deadDeliveries": 3 })
        );
        assert_eq!(
            Value::from(details(AlertKind::HostPaused)),
            json!({ "host": "app.example" })
        );
        assert!(details(AlertKind::KeyRefused).is_empty());
    }

    #[test]
    fn relays_that_tell_of_the_same_host_use_one_id() {
        let paused = alert(AlertKind::HostPaused, AlertState::Firing);
        assert_eq!(paused.id("one"), paused.id("two"));
        let refused = alert(AlertKind::KeyRefused, AlertState::Firing);
        assert_ne!(refused.id("one"), refused.id("two"));
        assert_eq!(refused.id("one"), refused.id("one"));
    }
}
