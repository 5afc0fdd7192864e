//! A delivery: an event on its way to a callback, and its attempts.

use std::time::Duration;

use jiff::Timestamp;

use crate::outcome::closed_words;

closed_words! {
    /// The state of a delivery.
    DeliveryState {
        /// The delivery waits for its next attempt.
        Pending => "pending",
        /// The callback accepted it.
        Delivered => "delivered",
        /// The relay gave up after the whole retry schedule. The delivery may be queued again.
        Dead => "dead",
        /// The deadline passed before the callback accepted the delivery.
        Expired => "expired",
        /// The watch has a newer event, which replaces this one.
        Superseded => "superseded",
        /// The watch was cancelled.
        Cancelled => "cancelled",
    }
}

closed_words! {
    /// Why an attempt failed: no answer, or an answer other than 2xx.
    AttemptError {
        /// The callback answered, but not with 2xx.
        Refused => "refused",
        /// The callback answered with a redirect, which is never followed.
        Redirected => "redirected",
        /// There was no complete response within the time limit.
        TimedOut => "timed-out",
        /// The host name did not resolve.
        Dns => "dns",
        /// The address is private and not allowed.
        AddressRefused => "address-refused",
        /// The connection could not be opened.
        Connect => "connect",
        /// The TLS handshake failed.
        Tls => "tls",
        /// The egress proxy could not be used, so the callback got no request.
        Proxy => "proxy",
        /// The connection broke, or the response was not HTTP.
        Broken => "broken",
        /// The relay had no file handle, thread or memory left for the request. No such attempt is recorded; the
        /// relay makes it again.
        #[serde(skip)]
        NoResources => "no-resources",
        /// The request could not be built or signed. The cause is an error in the relay.
        Internal => "internal",
    }
}

/// One `POST` of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The number of the attempt, counted from 1 for each delivery.
    pub number: u32,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// How long the attempt took.
    pub duration: Duration,
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
    /// Why the attempt failed; none if the callback accepted it.
    pub error: Option<AttemptError>,
    /// The error text of the layer that failed, if there was no response; at most 1 KiB.
    pub error_detail: Option<String>,
    /// The start of the response's body as text, at most 1 KiB.
    pub response: Option<String>,
}
