//! A delivery: an event on its way to a callback, and its attempts.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::outcome::closed_words;

closed_words! {
    /// Where a delivery stands.
    DeliveryState {
        /// Waits for its next attempt.
        Pending => "pending",
        /// The callback accepted it.
        Delivered => "delivered",
        /// Given up after the whole retry schedule; may be redelivered.
        Dead => "dead",
        /// Its deadline passed before it was accepted.
        Expired => "expired",
        /// A newer event of the watch took its place.
        Superseded => "superseded",
        /// Its watch was cancelled.
        Cancelled => "cancelled",
    }
}

closed_words! {
    /// Why an attempt brought no answer, or none that counts.
    AttemptError {
        /// The callback answered, but not with 2xx.
        Refused => "refused",
        /// The callback answered with a redirect, which is never followed.
        Redirected => "redirected",
        /// No complete answer within the time limit.
        TimedOut => "timed-out",
        /// The name did not resolve.
        Dns => "dns",
        /// The address is private and not allowed.
        AddressRefused => "address-refused",
        /// No connection.
        Connect => "connect",
        /// The TLS handshake failed.
        Tls => "tls",
        /// The egress proxy could not be used; the callback was not asked.
        Proxy => "proxy",
        /// The connection broke, or the answer was no HTTP.
        Broken => "broken",
        /// The relay had no file handle, thread or memory left to ask the callback with. No record has it: such an
        /// attempt is made again.
        #[serde(skip)]
        NoResources => "no-resources",
        /// The request could not be built or signed: an error of the relay itself.
        Internal => "internal",
    }
}

/// One `POST` of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Counts a delivery's attempts from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// Why it failed; none if it was accepted.
    pub error: Option<AttemptError>,
    /// What exactly failed where there was no answer, in the words of the layer that failed, at most 1 KiB.
    pub error_detail: Option<String>,
    /// The beginning of the answer's body as text, at most 1 KiB.
    pub response: Option<String>,
}
