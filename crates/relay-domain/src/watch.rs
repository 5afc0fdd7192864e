//! A watch: a client's request for the events of one job.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    CallbackUrl, ClientId, JobId, Metadata, Status, SubscriptionId, TraceContext, WatchId,
    outcome::closed_words,
};

closed_words! {
    /// The state of a watch.
    WatchState {
        /// The relay looks at the job.
        Watching => "watching",
        /// A challenge is open: the person must answer.
        AwaitingUser => "awaiting-user",
        /// Basiq will retry, or the bank is down.
        Delayed => "delayed",
        /// The final outcome is known.
        Settled => "settled",
        /// The watch ended without a final outcome: by its client, by `410 Gone`, or because its client was revoked.
        Cancelled => "cancelled",
    }
}

impl WatchState {
    /// Returns whether the watch may still have something to report.
    #[must_use]
    pub fn is_open(self) -> bool {
        match self {
            Self::Watching | Self::AwaitingUser | Self::Delayed => true,
            Self::Settled | Self::Cancelled => false,
        }
    }
}

closed_words! {
    /// What started a job. Only `update` changes what the relay does.
    Operation {
        /// A new connection.
        Create => "create",
        /// New credentials for a connection. Basiq queues the update if the bank is unavailable.
        Update => "update",
        /// A refresh of a connection.
        Refresh => "refresh",
        /// A statement upload.
        Statement => "statement",
        /// A report.
        Report => "report",
    }
}

/// The statuses that a client wants events for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventFilter(u8);

impl EventFilter {
    /// All statuses.
    pub const ALL: Self = Self(0b1111);

    /// Selects these statuses only.
    #[must_use]
    pub fn only(statuses: &[Status]) -> Self {
        Self(
            statuses
                .iter()
                .fold(0, |bits, status| bits | Self::bit(*status)),
        )
    }

    /// Returns whether the client wants events with this status.
    #[must_use]
    pub fn includes(self, status: Status) -> bool {
        self.0 & Self::bit(status) != 0
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

    fn bit(status: Status) -> u8 {
        match status {
            Status::Success => 1,
            Status::Failed => 2,
            Status::ActionRequired => 4,
            Status::Delayed => 8,
        }
    }
}

/// A BCP 47 language tag of 2 to 35 letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Locale(String);

impl Locale {
    /// Parses a tag. Returns none if `text` does not have the form of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let language = parts.next()?;
        let language_ok = (2..=8).contains(&language.len())
            && language.bytes().all(|byte| byte.is_ascii_alphabetic());
        let rest_ok = parts.all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        (language_ok && rest_ok && text.len() <= 35).then(|| Self(text.to_owned()))
    }

    /// Returns the tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Locale {
    fn default() -> Self {
        Self("en".to_owned())
    }
}

/// A client's choices for a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchOptions {
    /// What started the job.
    pub operation: Option<Operation>,
    /// The statuses to send events for.
    pub events: EventFilter,
    /// The title of the step that is enough. The watch succeeds once every step up to it has succeeded.
    pub until: Option<String>,
    /// The language of `userMessage`.
    pub locale: Locale,
    /// The client's data, which each event returns.
    pub metadata: Metadata,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            operation: None,
            events: EventFilter::ALL,
            until: None,
            locale: Locale::default(),
            metadata: Metadata::default(),
        }
    }
}

/// A valid request to watch a job.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchRequest {
    /// The job.
    pub job_id: JobId,
    /// The URL to post events to.
    pub callback_url: CallbackUrl,
    /// The client's choices.
    pub options: WatchOptions,
}

/// A client's wish to be told of a job, and how far it has got.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// The id of the watch.
    pub id: WatchId,
    /// The client that owns the watch.
    pub client_id: ClientId,
    /// The client's request.
    pub request: WatchRequest,
    /// The state of the watch.
    pub state: WatchState,
    /// The events that the client got so far.
    pub progress: ToldSoFar,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When the state last changed.
    pub updated_at: Timestamp,
    /// When the final outcome was recorded, or the watch was cancelled.
    pub settled_at: Option<Timestamp>,
    /// The trace of the API call that registered the watch.
    pub trace: Option<TraceContext>,
    /// The subscription that found the job. None if a client registered the watch.
    pub subscription_id: Option<SubscriptionId>,
}

impl Watch {
    /// Makes a watch in its initial state, at its registration.
    #[must_use]
    pub fn begun(id: WatchId, client_id: ClientId, request: WatchRequest, now: Timestamp) -> Self {
        Self {
            id,
            client_id,
            request,
            state: WatchState::Watching,
            progress: ToldSoFar::default(),
            created_at: now,
            updated_at: now,
            settled_at: None,
            trace: None,
            subscription_id: None,
        }
    }
}

/// What a watch has reported so far. Its events may still wait for their delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ToldSoFar {
    /// The number of transitions so far, including filtered ones. The next event's id is derived from it.
    pub transitions: u32,
    /// The latest `sequence`.
    pub sequence: u32,
    /// The number of the last reported challenge ([`crate::ChallengeMemory::count`]).
    pub told_challenge: u32,
    /// Whether the delay by Basiq's queue of updates was reported.
    pub told_delay: bool,
    /// Whether the bank's outage was reported.
    pub told_outage: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_includes_what_it_lists() {
        let filter = EventFilter::only(&[Status::Success, Status::Delayed]);
        assert!(filter.includes(Status::Success) && filter.includes(Status::Delayed));
        assert!(!filter.includes(Status::Failed) && !filter.includes(Status::ActionRequired));
        assert_eq!(EventFilter::from_bits(filter.bits()), filter);
        assert_eq!(EventFilter::only(Status::ALL), EventFilter::ALL);
    }

    #[test]
    fn a_locale_has_the_form_of_a_language_tag() {
        for good in ["en", "en-AU", "zh-Hans", "de-CH-1996"] {
            assert!(Locale::parse(good).is_some(), "{good}");
        }
        for bad in ["", "e", "en_AU", "en-", "12", "en-abcdefghi", "a language"] {
            assert!(Locale::parse(bad).is_none(), "{bad}");
        }
    }
}
