//! The errors of calls to Basiq, as far as callers distinguish them.

use std::time::Duration;

use relay_runtime::{lacks_handles, lacks_resources};
use reqwest_retry::RetryError;
use thiserror::Error;

use crate::{
    breaker::BreakerOpen, call_limiter::CoordinatorUnreachable, connect_failure::ConnectError,
    throttle::UpstreamPaused,
};

/// When to try again after the budget that relays share could not be reached.
const OUT_OF_REACH: Duration = Duration::from_secs(1);

/// The codes with which Basiq says that there is no such job.
const JOB_NOT_FOUND: [&str; 3] = ["not-found", "resource-not-found", "job-not-found"];

/// The codes with which Basiq refuses the id in `GET /jobs/{jobId}`, which has no other parameter.
const NO_JOB_ID: [&str; 2] = ["parameter-not-valid", "path-parameter-not-valid"];

/// Why a call to Basiq brought no usable response.
#[derive(Debug, Error)]
pub enum BasiqError {
    /// Basiq itself reports that the resource does not exist: 404, or 400 `resource-not-found`.
    #[error(
        "Basiq does not know it (HTTP {status}, code {code:?}, correlation id {correlation_id:?})"
    )]
    NotFound {
        /// The HTTP status.
        status: u16,
        /// The error code that Basiq sent.
        code: Option<String>,
        /// Basiq's correlation id of the call, for Basiq's support.
        correlation_id: Option<String>,
    },
    /// Basiq itself reports that the resource belongs to another account: 403 `forbidden-access` and similar
    /// codes.
    #[error(
        "Basiq does not let us (HTTP {status}, code {code:?}, correlation id {correlation_id:?})"
    )]
    Forbidden {
        /// The HTTP status.
        status: u16,
        /// The error code that Basiq sent.
        code: Option<String>,
        /// Basiq's correlation id of the call, for Basiq's support.
        correlation_id: Option<String>,
    },
    /// Too many calls: 429, 403 with a text about limits, or 403 on the token endpoint.
    #[error("Basiq asks for fewer calls (HTTP {status})")]
    Throttled {
        /// The HTTP status.
        status: u16,
        /// How long Basiq asks to wait.
        retry_after: Option<Duration>,
    },
    /// Basiq refuses the API key. No call is made until the key is tried again.
    #[error("Basiq refuses the API key")]
    KeyRefused,
    /// The call was not made: recent calls brought nothing usable, or the shared budget cannot be reached. This
    /// error says nothing new about Basiq.
    #[error("calls to Basiq rest")]
    Resting {
        /// How long to wait before the next call.
        remaining: Duration,
    },
    /// Any other status, mostly 5xx.
    #[error("Basiq answered HTTP {status} (code {code:?}, correlation id {correlation_id:?})")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The error code that Basiq sent.
        code: Option<String>,
        /// Basiq's correlation id of the call, for Basiq's support.
        correlation_id: Option<String>,
    },
    /// No complete response within the time limit.
    #[error("Basiq did not answer in time")]
    TimedOut,
    /// The connection could not be established, or it broke.
    #[error("Basiq cannot be reached: {0}")]
    Unreachable(ConnectError),
    /// The call was not made: the relay has no file handle, thread or memory left.
    #[error("the relay has no file handle, thread or memory left to ask Basiq with")]
    NoResources(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The response is not one that Basiq documents, is larger than 1 MiB, or comes from another sender, such as a
    /// gateway.
    #[error("Basiq's answer cannot be read: {0}")]
    Unreadable(String),
}

impl BasiqError {
    /// Converts an error from any layer of the client: why a request was not sent or got no response.
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
            // Without a handle to reach the store, which holds the budget, the relay has none to reach Basiq
            // either.
            Ok(error @ CoordinatorUnreachable { .. }) if is_lack_of_resources(&error) => {
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

    /// Converts an error of the HTTP client: why the connection failed.
    pub(super) fn from_transport(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::TimedOut
        } else if error.is_connect() && is_lack_of_resources(&error) {
            Self::NoResources(error.into())
        } else {
            // With the URL, each job's failure would count as a different one.
            Self::Unreachable(ConnectError::of(&error.without_url()))
        }
    }

    /// Returns one word for the failure. Calls that fail for the same reason return the same word.
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

    /// Returns this error of a call for a job, judged by the code that Basiq sent. An id that is not valid belongs to no
    /// job. A code about a user or a connection says nothing about the job.
    pub(super) fn about_job(self) -> Self {
        match self {
            Self::NotFound {
                status,
                code: Some(code),
                correlation_id,
            } if !JOB_NOT_FOUND.contains(&canonical(&code).as_str()) => Self::Status {
                status,
                code: Some(code),
                correlation_id,
            },
            Self::Status {
                status: 400,
                code: Some(code),
                correlation_id,
            } if NO_JOB_ID.contains(&canonical(&code).as_str()) => Self::NotFound {
                status: 400,
                code: Some(code),
                correlation_id,
            },
            error => error,
        }
    }

    /// Returns why the call failed, in words for an operator.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::NotFound { status, .. }
            | Self::Forbidden { status, .. }
            | Self::Throttled { status, .. }
            | Self::Status { status, .. } => format!("it answers HTTP {status}"),
            Self::KeyRefused => "it refuses the API key".to_owned(),
            Self::Resting { .. } => "calls rest".to_owned(),
            Self::TimedOut => "it does not answer in time".to_owned(),
            Self::NoResources(_) => "the relay has no resources left to call it".to_owned(),
            Self::Unreachable(unreached) => unreached.kind().in_words().to_owned(),
            Self::Unreadable(_) => "its answers cannot be read".to_owned(),
        }
    }

    /// Returns whether no response came, or the call was not even sent. The client logs this once for all calls: when
    /// it begins and when the reason changes.
    #[must_use]
    pub fn got_no_response(&self) -> bool {
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

/// Returns a code in its usual spelling. Codes have several, such as `Resource not found` and `resource_not_found`.
pub(super) fn canonical(code: &str) -> String {
    code.trim().to_lowercase().replace([' ', '_'], "-")
}

/// Returns whether the request was not sent because the relay lacks resources. A resolver without a file handle
/// reports only that it failed, so free handles are checked too.
pub(super) fn is_lack_of_resources(error: &(dyn std::error::Error + 'static)) -> bool {
    lacks_resources(error) || lacks_handles()
}
