//! One alert: its content and its JSON.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use relay_store::ToldAlert;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The type of the message, as events have one.
const TYPE: &str = "relay.alert";

/// The kind of problem that an alert is about.
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

    /// Whether all relays on a store see the problem, because they read it there. Then only one of them sends an alert.
    #[must_use]
    pub fn is_shared(self) -> bool {
        match self {
            Self::DeliveriesDead | Self::HostPaused => true,
            Self::KeyRefused | Self::BreakerOpen | Self::StoreUnwritable => false,
        }
    }

    /// Whether the store remembers the alert. It cannot while it cannot be written.
    pub(super) fn is_remembered(self) -> bool {
        self != Self::StoreUnwritable
    }
}

/// Whether the problem of an alert begins or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// The problem began.
    Firing,
    /// The problem is over.
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

/// The problem that an alert is about. It has two alerts: one at its begin and one at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertSubject {
    /// The kind of alert.
    pub kind: AlertKind,
    /// The callback host, of an alert about one.
    pub host: Option<String>,
    /// The relay that told of what it alone saw, if it was another one and this relay goes on in its place.
    pub relay: Option<String>,
}

impl AlertSubject {
    /// Returns the problem of a kind that a relay has once at most.
    #[must_use]
    pub fn of(kind: AlertKind) -> Self {
        Self {
            kind,
            host: None,
            relay: None,
        }
    }

    /// Returns the problem that a callback host is paused.
    #[must_use]
    pub fn paused(host: String) -> Self {
        Self {
            host: Some(host),
            ..Self::of(AlertKind::HostPaused)
        }
    }

    /// Returns the problem of an alert that the store remembers. `relay` names this relay. None if this version does
    /// not know its kind.
    pub(super) fn of_told(told: &ToldAlert, relay: &str) -> Option<Self> {
        let mut kinds = AlertKind::ALL.into_iter();
        let kind = kinds.find(|kind| kind.as_str() == told.kind)?;
        let subject = told.subject.clone();
        Some(match kind {
            AlertKind::HostPaused => Self::paused(subject),
            kind if kind.is_shared() || subject == relay => Self::of(kind),
            kind => Self {
                relay: Some(subject),
                ..Self::of(kind)
            },
        })
    }

    /// Returns the problem as the store remembers it. `relay` names this relay.
    pub(super) fn told(&self, since: Timestamp, relay: &str) -> ToldAlert {
        let subject = match self.kind {
            AlertKind::HostPaused => self.host.as_deref().unwrap_or_default(),
            kind if kind.is_shared() => "",
            _ => self.relay.as_deref().unwrap_or(relay),
        };
        ToldAlert {
            kind: self.kind.as_str().to_owned(),
            subject: subject.to_owned(),
            since,
        }
    }

    /// Whether this relay alone sees the problem.
    pub(super) fn is_own(&self) -> bool {
        !self.kind.is_shared() && self.relay.is_none()
    }
}

/// A message to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The problem.
    pub subject: AlertSubject,
    /// Whether the problem begins or is over.
    pub state: AlertState,
    /// When the problem began.
    pub since: Timestamp,
    /// When the relay noticed that it began or was over.
    pub at: Timestamp,
    /// The number of dead deliveries, of an alert about them.
    pub dead: Option<u64>,
}

impl Alert {
    /// Returns the `webhook-id`, which is the same on every attempt. All relays use one id for an alert about a host.
    #[must_use]
    pub fn id(&self, relay: &str) -> String {
        let sent_by = match self.subject.kind {
            // the time comes from the store, so all relays have the same
            AlertKind::HostPaused => "",
            AlertKind::DeliveriesDead
            | AlertKind::KeyRefused
            | AlertKind::BreakerOpen
            | AlertKind::StoreUnwritable => self.subject.relay.as_deref().unwrap_or(relay),
        };
        let hash = Sha256::new()
            .chain_update(self.subject.kind.as_str())
            .chain_update([0])
            .chain_update(self.subject.host.as_deref().unwrap_or_default())
            .chain_update([0])
            .chain_update(self.state.as_str())
            .chain_update(self.since.as_millisecond().to_be_bytes())
            .chain_update(sent_by)
            .finalize();
        let short = hash.get(..18).unwrap_or_default();
        format!("alr_{}", BASE64_URL_SAFE_NO_PAD.encode(short))
    }

    /// Returns the exact bytes to sign and post. `relay` names the relay that sends it.
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

    /// Returns a sentence for people: the problem, and what to do.
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
                host: (kind == AlertKind::HostPaused).then(|| "app.example".to_owned()),
                ..AlertSubject::of(kind)
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
    fn the_store_remembers_a_problem_and_which_relay_told_of_it() {
        for kind in AlertKind::ALL {
            let Alert { subject, since, .. } = alert(kind, AlertState::Firing);
            let told = subject.told(since, "one");
            assert_eq!(AlertSubject::of_told(&told, "one"), Some(subject.clone()));
            let elsewhere = AlertSubject::of_told(&told, "two").unwrap();
            assert_eq!(elsewhere == subject, kind.is_shared(), "{kind:?}");
            assert_eq!(elsewhere.told(since, "two"), told, "the row is the same");
            let unknown = ToldAlert {
                kind: "of-tomorrow".to_owned(),
                ..told
            };
            assert_eq!(AlertSubject::of_told(&unknown, "one"), None);
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
    fn relays_that_alert_about_the_same_host_use_one_id() {
        let paused = alert(AlertKind::HostPaused, AlertState::Firing);
        assert_eq!(paused.id("one"), paused.id("two"));
        let refused = alert(AlertKind::KeyRefused, AlertState::Firing);
        assert_ne!(refused.id("one"), refused.id("two"));
        assert_eq!(refused.id("one"), refused.id("one"));
    }
}
