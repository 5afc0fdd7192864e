//! Reads what an event reports on.

use relay_domain::EventSource;

use crate::{StoreError, rows::ColumnReader};

/// What an event's source is. The words are those of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// The source is a watch.
    Job,
    /// The source is a subscription.
    Notice,
    /// The event is a message of Basiq's that is passed on.
    Message,
}

impl EventKind {
    /// Reads the word of the store.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        match word {
            "job" => Some(Self::Job),
            "notice" => Some(Self::Notice),
            "message" => Some(Self::Message),
            _ => None,
        }
    }
}

/// Reads the source of an event: its kind, the id of the source, and the job of a watch.
pub(crate) fn source(event: &ColumnReader<'_>) -> Result<EventSource, StoreError> {
    Ok(match event.read("kind", EventKind::from_word)? {
        EventKind::Job => EventSource::Watch {
            watch_id: event.id("source_id")?,
            job_id: event.parse("job_id")?,
        },
        EventKind::Notice => EventSource::Subscription(event.id("source_id")?),
        EventKind::Message => EventSource::BasiqMessage,
    })
}
