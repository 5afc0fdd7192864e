//! The life of a consent: when Basiq reminds of it, warns of its end, and ends it. Pure.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::clock::later;

use crate::event::SandboxEventType;

/// The days of a year, after which a consent ends by default.
const YEAR: u32 = 365;
/// The day on which Basiq reminds of a consent, counted from its last update.
const REMINDER: u32 = 90;
/// The day on which Basiq warns of a consent's end: seven days before it.
const WARNING: u32 = YEAR - 7;

/// How long a consent lasts by default: a year.
pub(super) const CONSENT_LASTS: Duration = Duration::from_hours(24 * YEAR as u64);

/// A change of a consent. Basiq sends a webhook about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentChange {
    /// Basiq reminds of it. It stays active.
    Reminder,
    /// Basiq warns of its end. It stays active.
    Warning,
    /// Its time is over.
    Expired,
    /// The person took it back.
    Revoked,
    /// The person renewed it, so its time starts again. An expired consent is active again.
    Updated,
}

impl ConsentChange {
    const ALL: [Self; 5] = [
        Self::Reminder,
        Self::Warning,
        Self::Expired,
        Self::Revoked,
        Self::Updated,
    ];

    /// Returns the type of Basiq's event about this change.
    #[must_use]
    pub fn event_type(self) -> SandboxEventType {
        match self {
            Self::Reminder => SandboxEventType::ConsentReminder,
            Self::Warning => SandboxEventType::ConsentWarning,
            Self::Expired => SandboxEventType::ConsentExpired,
            Self::Revoked => SandboxEventType::ConsentRevoked,
            Self::Updated => SandboxEventType::ConsentUpdated,
        }
    }

    /// Returns the change whose event's type has this second word, such as `warning`.
    pub(super) fn named(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|change| change.event_type().parts().1 == text)
    }
}

/// The status of a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsentStatus {
    Active,
    Expired,
    Revoked,
}

impl ConsentStatus {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A person's consent that their data is read.
#[derive(Debug, Clone)]
pub(super) struct SandboxConsent {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) created: Timestamp,
    /// The time of the last change of its status or its end.
    pub(super) updated: Timestamp,
    pub(super) status: ConsentStatus,
    /// When the person gave or renewed it.
    given: Timestamp,
    /// How long it lasts from then on.
    lasts: Duration,
    is_reminded: bool,
    is_warned: bool,
}

impl SandboxConsent {
    /// Creates a consent that is given at `now` and lasts this long.
    pub(super) fn new(id: String, user_id: String, now: Timestamp, lasts: Duration) -> Self {
        Self {
            id,
            user_id,
            created: now,
            updated: now,
            status: ConsentStatus::Active,
            given: now,
            lasts,
            is_reminded: false,
            is_warned: false,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.status == ConsentStatus::Active
    }

    /// Returns when it ends.
    pub(super) fn expires(&self) -> Timestamp {
        self.on_day(YEAR)
    }

    /// Returns the next change that comes with time, and when it comes. A consent that does not last a year has the
    /// same changes in the same proportions.
    pub(super) fn next(&self) -> Option<(Timestamp, ConsentChange)> {
        if !self.is_active() {
            return None;
        }
        let (day, change) = if !self.is_reminded {
            (REMINDER, ConsentChange::Reminder)
        } else if !self.is_warned {
            (WARNING, ConsentChange::Warning)
        } else {
            (YEAR, ConsentChange::Expired)
        };
        Some((self.on_day(day), change))
    }

    /// Applies a change. Returns false if the consent is over and cannot change so.
    pub(super) fn apply(&mut self, change: ConsentChange, now: Timestamp) -> bool {
        let is_possible = match self.status {
            ConsentStatus::Active => true,
            ConsentStatus::Expired => change == ConsentChange::Updated,
            ConsentStatus::Revoked => false,
        };
        if !is_possible {
            return false;
        }
        match change {
            ConsentChange::Reminder => self.is_reminded = true,
            ConsentChange::Warning => self.is_warned = true,
            ConsentChange::Expired => self.status = ConsentStatus::Expired,
            ConsentChange::Revoked => self.status = ConsentStatus::Revoked,
            ConsentChange::Updated => {
                let (id, user_id) = (self.id.clone(), self.user_id.clone());
                let renewed = Self::new(id, user_id, now, self.lasts);
                let created = self.created;
                *self = Self { created, ..renewed };
            }
        }
        if !matches!(change, ConsentChange::Reminder | ConsentChange::Warning) {
            self.updated = now;
        }
        true
    }

    fn on_day(&self, day: u32) -> Timestamp {
        // First divided, so that no duration is too long to be multiplied.
        later(self.given, self.lasts / YEAR * day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + number * DAY).unwrap()
    }

    fn consent() -> SandboxConsent {
        SandboxConsent::new("k".to_owned(), "u".to_owned(), day(0), CONSENT_LASTS)
    }

    #[test]
    fn a_consent_is_reminded_of_then_warned_of_then_over() {
        let mut consent = consent();
        assert_eq!(consent.expires(), day(365));
        for (number, change) in [
            (90, ConsentChange::Reminder),
            (358, ConsentChange::Warning),
            (365, ConsentChange::Expired),
        ] {
            assert_eq!(consent.next(), Some((day(number), change)));
            assert!(consent.is_active());
            assert!(consent.apply(change, day(number)));
        }
        assert_eq!(consent.next(), None);
        assert_eq!(consent.status.as_str(), "expired");
        assert_eq!(consent.updated, day(365));
    }

    #[test]
    fn a_renewed_consent_begins_anew_unless_it_was_revoked() {
        let mut consent = consent();
        assert!(consent.apply(ConsentChange::Reminder, day(90)));
        assert_eq!(consent.updated, day(0), "a reminder updates nothing");
        assert!(consent.apply(ConsentChange::Expired, day(100)));
        assert!(!consent.apply(ConsentChange::Warning, day(101)));
        assert!(consent.apply(ConsentChange::Updated, day(200)));
        assert_eq!(consent.next(), Some((day(290), ConsentChange::Reminder)));
        assert_eq!((consent.created, consent.expires()), (day(0), day(565)));
        assert!(consent.apply(ConsentChange::Revoked, day(201)));
        for change in ConsentChange::ALL {
            assert!(!consent.apply(change, day(202)), "{change:?}");
        }
    }

    #[test]
    fn a_short_consent_has_the_same_proportions() {
        let mut short = consent();
        short.lasts = Duration::from_secs(365);
        let second = |number: i64| Timestamp::from_second(1_800_000_000 + number).unwrap();
        assert_eq!(short.next(), Some((second(90), ConsentChange::Reminder)));
        assert_eq!(short.expires(), second(365));
    }

    #[test]
    fn a_change_is_named_as_in_its_event() {
        let named = ConsentChange::named;
        assert_eq!(named("warning"), Some(ConsentChange::Warning));
        assert_eq!(named("updated"), Some(ConsentChange::Updated));
        for text in ["", "created", "warn"] {
            assert_eq!(named(text), None, "{text}");
        }
    }
}
