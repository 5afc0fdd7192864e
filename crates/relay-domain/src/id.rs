//! Ids. The relay's own ids have a prefix and are ordered by time; Basiq's ids are opaque.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use ulid::Ulid;

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// The text lacks the prefix of its kind, or the rest is not an id.
    #[error("`{text}` is not such an id: it is `{prefix}` and 26 letters and digits")]
    Malformed {
        /// The text.
        text: String,
        /// The prefix of the expected kind.
        prefix: &'static str,
    },
    /// The text is not an id of Basiq's that is safe in a URL path.
    #[error("must be 1 to 128 of `A-Z a-z 0-9 . _ -`, and not `.` or `..`")]
    Basiq,
}

macro_rules! prefixed_id {
    ($name:ident, $prefix:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Ulid);

        impl $name {
            /// The prefix of every id of this kind.
            pub const PREFIX: &'static str = $prefix;

            /// Makes a new id. Ids sort by the time at which they were made.
            #[must_use]
            pub fn new(now: Timestamp) -> Self {
                Self(Ulid::from_parts(epoch_millis(now), rand::rng().random()))
            }

            /// Returns the least id of this time: ids made before it sort before this one.
            #[must_use]
            pub fn first_of(time: Timestamp) -> Self {
                Self(Ulid::from_parts(epoch_millis(time), 0))
            }

            /// Returns the id as bytes. They sort as the ids do.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }
        }

        impl From<[u8; 16]> for $name {
            fn from(bytes: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .and_then(|rest| Ulid::from_string(rest).ok())
                    .map(Self)
                    .filter(|id| id.to_string() == text)
                    .ok_or_else(|| IdError::Malformed {
                        text: text.to_owned(),
                        prefix: $prefix,
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

prefixed_id!(WatchId, "wch_", "Names a watch: `wch_` and 26 characters.");
prefixed_id!(
    EventId,
    "evt_",
    "Names an event: `evt_` and 26 characters; it is its `webhook-id`."
);
prefixed_id!(
    DeliveryId,
    "dlv_",
    "Names the delivery of an event: `dlv_` and the 26 characters of the event's id."
);
prefixed_id!(
    LeaseId,
    "lse_",
    "Names one claim of work, so that a late record is told apart."
);
prefixed_id!(
    SubscriptionId,
    "sub_",
    "Names a subscription: `sub_` and 26 characters."
);

prefixed_id!(
    AuditId,
    "aud_",
    "Names an entry of the audit log: `aud_` and 26 characters."
);

/// The delivery of an event. Each event has one.
impl From<EventId> for DeliveryId {
    fn from(event: EventId) -> Self {
        Self(event.0)
    }
}

/// The event that is delivered.
impl From<DeliveryId> for EventId {
    fn from(delivery: DeliveryId) -> Self {
        Self(delivery.0)
    }
}

impl EventId {
    /// Derives the id of an event from its watch and the number of the watch's change, counted from 1. The result is
    /// always the same. So a crash between two writes cannot make two events of one change.
    ///
    /// The id contains the watch's time, then the transition, then a hash of both. So the events of one watch sort by
    /// their order.
    #[must_use]
    pub fn derive(watch: WatchId, transition: u32) -> Self {
        Self::of_source(watch.0, transition)
    }

    /// Derives the id of a notice from its subscription and the number of the notice, as [`Self::derive`] does.
    #[must_use]
    pub fn of_notice(subscription: SubscriptionId, sequence: u32) -> Self {
        Self::of_source(subscription.0, sequence)
    }

    fn of_source(source: Ulid, number: u32) -> Self {
        let hash = Sha256::new()
            .chain_update(source.to_bytes())
            .chain_update(number.to_be_bytes())
            .finalize();
        let tail = hash
            .iter()
            .take(8)
            .fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
        let order = u128::from(number.min(u32::from(u16::MAX)));
        Self(Ulid::from_parts(
            source.timestamp_ms(),
            (order << 64) | tail,
        ))
    }
}

fn epoch_millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

/// The id of a client inside the store. It is never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub i64);

macro_rules! basiq_id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Returns the id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_basiq_id(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError::Basiq)
                }
            }
        }
    };
}

basiq_id!(
    JobId,
    "Basiq's id of a job: 1 to 128 of `A-Z a-z 0-9 . _ -`, safe as one segment of a URL path."
);
basiq_id!(
    BasiqId,
    "Basiq's id of a user, a connection, a consent or an event. The rule is the one of [`JobId`]."
);

/// Returns whether a text can be an id of Basiq's: 1 to 128 of `A-Z a-z 0-9 . _ -`, and not `.` or `..`. Such an id
/// is safe as one segment of a URL path.
#[must_use]
pub fn is_basiq_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed) && text != "." && text != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_written_and_read() {
        let id = WatchId::new(Timestamp::from_second(1_800_000_000).unwrap());
        assert!(id.to_string().starts_with("wch_01"));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_or_shape_is_refused() {
        for text in [
            "",
            "wch_",
            "evt_01JD0000000000000000000000",
            "wch_01jd0000000000000000000000",
        ] {
            assert!(text.parse::<WatchId>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let early = WatchId::new(Timestamp::from_second(1_800_000_000).unwrap());
        let late = WatchId::new(Timestamp::from_second(1_800_000_001).unwrap());
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn event_ids_are_derived_ordered_and_distinct() {
        let watch = WatchId::new(Timestamp::from_second(1_800_000_000).unwrap());
        let other = WatchId::new(Timestamp::from_second(1_800_000_000).unwrap());
        assert_eq!(EventId::derive(watch, 1), EventId::derive(watch, 1));
        assert!(EventId::derive(watch, 1).to_string() < EventId::derive(watch, 2).to_string());
        assert_ne!(EventId::derive(watch, 1), EventId::derive(other, 1));
    }

    #[test]
    fn an_id_of_basiqs_is_one_safe_path_segment() {
        for good in [
            "61723",
            "248b2883-2a6b-4e8a-9591-76565d23ba5a",
            "a.b_c",
            &"x".repeat(128),
        ] {
            assert!(good.parse::<JobId>().is_ok(), "{good}");
            assert_eq!(good.parse::<BasiqId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "a%2f", "é", &"x".repeat(129)] {
            assert_eq!(bad.parse::<JobId>(), Err(IdError::Basiq), "{bad}");
            assert_eq!(bad.parse::<BasiqId>(), Err(IdError::Basiq), "{bad}");
        }
    }
}
