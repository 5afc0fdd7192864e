//! What can go wrong when Basiq is asked, as far as callers act on it.

use std::time::Duration;

use reqwest_retry::RetryError;
use thiserror::Error;

use crate::{
    basiq::{
        breaker::BreakerOpen, call_limiter::CoordinatorUnreachable, connect_failure::ConnectError,
        throttle::UpstreamPaused,
    },
    runtime::{lacks_handles, lacks_resources},
};

/// When to ask again after the budget that relays share could not be reached.
const OUT_OF_REACH: Duration = Duration::from_secs(1);

/// Why a call to Basiq brought no usable answer.
#[derive(Debug, Error)]
pub enum BasiqError {
    /// Basiq itself says that it does not know what was asked for: 404, or 400 `resource-not-found`.
    #[error("Basiq does not know it (HTTP {status}, correlation id {correlation_id:?})")]
    NotFound {
        /// The HTTP status.
        status: u16,
        /// Basiq's id of the call, for its support.
        correlation_id: Option<String>,
    },
    /// Basiq itself says that what was asked for is not ours: 403 `forbidden-access` and the like.
    #[error(
        "Basiq does not let us (HTTP {status}, code {code:?}, correlation id {correlation_id:?})"
    )]
    Forbidden {
        /// The HTTP status.
        status: u16,
        /// Basiq's code.
        code: Option<String>,
        /// Basiq's id of the call, for its support.
        correlation_id: Option<String>,
    },
    /// Too many calls: 429, 403 that speaks of limits, or 403 on the token endpoint.
    #[error("Basiq asks for fewer calls (HTTP {status})")]
    Throttled {
        /// The HTTP status.
        status: u16,
        /// How long Basiq asks to wait.
        retry_after: Option<Duration>,
    },
    /// The API key is not accepted; no call is made until it is tried again.
    #[error("Basiq refuses the API key")]
    KeyRefused,
    /// The call was not made: Basiq brought nothing usable of late, or the budget that relays share
    /// is out of reach. It says nothing new about Basiq.
    #[error("calls to Basiq rest")]
    Resting {
        /// How long until asking again makes sense.
        remaining: Duration,
    },
    /// Any other status, 5xx above all.
    #[error("Basiq answered HTTP {status} (code {code:?}, correlation id {correlation_id:?})")]
    Status {
        /// The HTTP status.
        status: u16,
        /// Basiq's code.
        code: Option<String>,
        /// Basiq's id of the call, for its support.
        correlation_id: Option<String>,
    },
    /// No complete answer within the time limit.
    #[error("Basiq did not answer in time")]
    TimedOut,
    /// No connection, or it broke.
    #[error("Basiq cannot be reached: {0}")]
    Unreachable(ConnectError),
    /// The call was not made: the relay has no file handle, thread or memory left.
    #[error("the relay has no file handle, thread or memory left to ask Basiq with")]
    NoResources(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An answer that is not what the contract says, larger than any honest one, or another's: a
    /// gateway's page, say.
    #[error("Basiq's answer cannot be read: {0}")]
    Unreadable(String),
}

impl BasiqError {
    /// Why a request was not sent or not answered, whichever layer says so.
    pub(super) fn from_sending(error: reqwest_middleware::Error) -> Self {
        let cause = match error {
            reqwest_middleware::Error::Reqwest(error) => return Self::from_transport(error),
            reqwest_middleware::Error::Middleware(cause) => cause,
        };
        let cause = match cause.downcast() {
            Ok(RetryError::Error(err) | RetryError::WithRetries { err, .. }) => {
                return Self::from_sending(err);
            }
            Err(cause) => cause,
        };
        let cause = match cause.downcast() {
            Ok(BreakerOpen { remaining }) => return Self::Resting { remaining },
            Err(cause) => cause,
        };
        let cause = match cause.downcast() {
            // no handle to reach the store with, which has the budget, is none to reach Basiq with
            Ok(error @ CoordinatorUnreachable { .. }) if is_for_want_of_resources(&error) => {
                return Self::NoResources(error.into());
            }
            Ok(CoordinatorUnreachable { .. }) => {
                return Self::Resting {
                    remaining: OUT_OF_REACH,
                };
            }
            Err(cause) => cause,
        };
        match cause.downcast() {
            Ok(UpstreamPaused {
                status, remaining, ..
            }) => Self::Throttled {
                status,
                retry_after: Some(remaining),
            },
            Err(cause) => Self::Unreachable(ConnectError::of(cause.as_ref())),
        }
    }

    /// Why the connection failed.
    pub(super) fn from_transport(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::TimedOut
        } else if error.is_connect() && is_for_want_of_resources(&error) {
            Self::NoResources(error.into())
        } else {
            // the address would make each job's failure another one
            Self::Unreachable(ConnectError::of(&error.without_url()))
        }
    }

    /// One word for what went wrong, the same for all calls that fail alike.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::Forbidden { .. } => "forbidden",
            Self::Throttled { .. } => "throttled",
            Self::KeyRefused => "key-refused",
            Self::Resting { .. } => "resting",
            Self::Status { .. } => "status",
            Self::TimedOut => "timed-out",
            Self::NoResources(_) => "no-resources",
            Self::Unreachable(unreached) => unreached.kind().as_str(),
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Whether no answer came at all. That is logged once for all calls, when it begins and when its
    /// reason changes.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        match self {
            Self::TimedOut | Self::Unreachable(_) | Self::NoResources(_) | Self::Resting { .. } => {
                true
            }
            Self::NotFound { .. }
            | Self::Forbidden { .. }
            | Self::Throttled { .. }
            | Self::KeyRefused
            | Self::Status { .. }
            | Self::Unreadable(_) => false,
        }
    }
}

/// Whether nobody was asked, for want of the relay's own resources. A resolver that has no file handle says only that
/// it failed.
pub(super) fn is_for_want_of_resources(error: &(dyn std::error::Error + 'static)) -> bool {
    lacks_resources(error) || lacks_handles()
}
