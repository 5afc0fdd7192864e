//! What can go wrong when Basiq is asked, as far as callers act on it.

use std::{error::Error as _, time::Duration};

use reqwest_retry::RetryError;
use thiserror::Error;
use tracing::warn;

use crate::{
    basiq::{breaker::Open, throttle::Paused, turns::OutOfReach},
    domain::ErrorChain,
    runtime::{lacks_handles, lacks_resources},
};

/// When to ask again after the budget that relays share could not be reached.
const OUT_OF_REACH: Duration = Duration::from_secs(1);

/// Why a call to Basiq brought no usable answer.
#[derive(Debug, Error)]
pub enum BasiqError {
    /// Basiq does not know what was asked for: 404, or 400 `resource-not-found`.
    #[error("Basiq does not know it (HTTP {status}, correlation id {correlation_id:?})")]
    NotFound {
        /// The HTTP status.
        status: u16,
        /// Basiq's id of the call, for its support.
        correlation_id: Option<String>,
    },
    /// What was asked for is not ours: 403 `forbidden-access` and the like.
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
    /// The call was not made: Basiq brought nothing usable of late.
    #[error("calls to Basiq rest until it works again")]
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
    #[error("Basiq cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The call was not made: the relay has no file handle, thread or memory left.
    #[error("the relay has no file handle, thread or memory left to ask Basiq with")]
    NoResources(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An answer that is not what the contract says, or larger than any honest one.
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
            Ok(Open { remaining }) => return Self::Resting { remaining },
            Err(cause) => cause,
        };
        let cause = match cause.downcast() {
            Ok(error @ OutOfReach { .. }) => {
                let cause = error.source().map(|source| ErrorChain(source).to_string());
                warn!(cause, "{error}");
                return Self::Resting {
                    remaining: OUT_OF_REACH,
                };
            }
            Err(cause) => cause,
        };
        match cause.downcast() {
            Ok(Paused {
                status, remaining, ..
            }) => Self::Throttled {
                status,
                retry_after: Some(remaining),
            },
            Err(cause) => Self::Unreachable(cause.into()),
        }
    }

    /// Why the connection failed.
    pub(super) fn from_transport(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::TimedOut
        } else if error.is_connect() && is_for_want_of_resources(&error) {
            Self::NoResources(error.into())
        } else {
            Self::Unreachable(error.into())
        }
    }
}

/// Whether nobody was asked, for want of the relay's own resources. A resolver that has no file handle says only that
/// it failed.
pub(super) fn is_for_want_of_resources(error: &(dyn std::error::Error + 'static)) -> bool {
    lacks_resources(error) || lacks_handles()
}
