//! Basiq's webhooks. Each counts once: it makes watched jobs and lists of jobs due, may be a notice, and may be passed
//! on.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{BasiqId, CallbackUrl, SubscriptionId, signing::SignatureHeaders};

use crate::{NewNotice, StoreError};

/// Records hints: webhooks of Basiq's that make looks and lists due sooner.
#[async_trait]
pub trait HintStore: Send + Sync {
    /// Remembers a hint in one transaction. The same transaction makes the hint's open jobs and the list of its
    /// person's jobs due, and queues its notices and the message to pass on. A hint that was taken before changes
    /// nothing. Hints make a job due at most once in each interval. A further hint makes the job due at the end of the
    /// interval.
    async fn take_hint(&self, hint: Hint) -> Result<HintOutcome, StoreError>;

    /// Sends all stored messages of Basiq's to this URL from now on. Returns how many had another one.
    async fn redirect_messages(&self, url: &CallbackUrl) -> Result<u64, StoreError>;
}

/// A webhook of Basiq's that says that something of a person changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Hint {
    /// Basiq's id of the message. It is the same each time Basiq sends the message again.
    pub id: String,
    /// The subject of the hint. None if it names nobody: then it is only passed on.
    pub subject: Option<HintSubject>,
    /// When the hint arrived.
    pub at: Timestamp,
    /// The minimum time between two looks at one job that follow from hints.
    pub interval: Duration,
    /// Basiq's id of the event. Of several hints with the same id, only the first has notices and ends subscriptions.
    pub fact: Option<String>,
    /// The notices that the hint is.
    pub notices: Vec<NewNotice>,
    /// The person who is gone from Basiq.
    pub removed_user: Option<RemovedUser>,
    /// The message to pass on, if Basiq's messages are passed on.
    pub forward: Option<ForwardedMessage>,
}

/// A person who is gone from Basiq. A subscription that began after the hint's notices were made is not among those
/// that end. Its next list finds the person gone, and ends it with a notice of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedUser {
    /// The person, by Basiq's id.
    pub user_id: BasiqId,
    /// The subscriptions that end, whether or not they want a last notice.
    pub subscriptions: Vec<SubscriptionId>,
}

/// A message of Basiq's to pass on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedMessage {
    /// The URL to post it to.
    pub callback_url: CallbackUrl,
    /// The headers with Basiq's signature.
    pub headers: SignatureHeaders,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// The type of Basiq's event.
    pub event_type: String,
}

/// The subject of a hint, by Basiq's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintSubject {
    /// One connection. If its user is known, this includes jobs of the user that name no connection.
    Connection {
        /// Basiq's id of the connection.
        connection_id: String,
        /// Basiq's id of the user.
        user_id: Option<String>,
    },
    /// All jobs of a user, by Basiq's id.
    User(String),
}

/// The result of taking a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintOutcome {
    /// The hint was taken before.
    Again,
    /// The person or the connection was erased after the hint arrived. So the hint changes nothing and tells nobody.
    Erased,
    /// The hint is new.
    Taken {
        /// How many watched jobs are due because of it.
        jobs: u64,
        /// How many notices were queued.
        notices: u64,
        /// Whether a list of the person's jobs is due because of it.
        lists: bool,
    },
}
