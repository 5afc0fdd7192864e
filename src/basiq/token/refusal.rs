//! What it means that Basiq gives no token, and how long none is asked for then.

use std::time::Duration;

use crate::basiq::{
    BasiqError,
    answer::Answer,
    throttle::Throttle,
    token::{FAILURE_PAUSES, KEY_PAUSE, THROTTLE_PAUSE},
};

/// What it means that no token was given. A wrong key is told by 404 or 400.
pub(super) fn refusal(answer: &Answer, throttle: &Throttle) -> BasiqError {
    let complaint = answer.complaint();
    let status = answer.status;
    answer.judge(status < 500);
    match status {
        400 | 401 | 404 => BasiqError::KeyRefused,
        403 if complaint.says("disabled") || complaint.says("forbidden") => BasiqError::KeyRefused,
        403 => BasiqError::Throttled {
            status,
            retry_after: Some(answer.retry_after.unwrap_or_default().max(THROTTLE_PAUSE)),
        },
        429 => {
            throttle.pause(status, answer.retry_after, answer.sent_at);
            BasiqError::Throttled {
                status,
                retry_after: answer.retry_after,
            }
        }
        _ => complaint.status(status),
    }
}

/// How long no token is asked for after so many requests in a row that brought none.
pub(super) fn pause_after(error: &BasiqError, failures: u32) -> Duration {
    let (shortest, longest) = FAILURE_PAUSES;
    let doubled = shortest
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)))
        .min(longest);
    match error {
        BasiqError::KeyRefused => KEY_PAUSE,
        BasiqError::Throttled { retry_after, .. } => retry_after.unwrap_or(doubled),
        BasiqError::Resting { remaining } => *remaining,
        BasiqError::NoResources(_) => shortest,
        BasiqError::NotFound { .. }
        | BasiqError::Forbidden { .. }
        | BasiqError::Status { .. }
        | BasiqError::TimedOut
        | BasiqError::Unreachable(_)
        | BasiqError::Unreadable(_) => doubled,
    }
}

/// The same failure for another caller; a throttled one is told how long it still lasts.
pub(super) fn repeat(error: &BasiqError, remaining: Duration) -> BasiqError {
    match error {
        BasiqError::KeyRefused => BasiqError::KeyRefused,
        BasiqError::TimedOut => BasiqError::TimedOut,
        BasiqError::Resting { .. } => BasiqError::Resting { remaining },
        BasiqError::Throttled { status, .. } => BasiqError::Throttled {
            status: *status,
            retry_after: Some(remaining),
        },
        BasiqError::Status {
            status,
            code,
            correlation_id,
        }
        | BasiqError::Forbidden {
            status,
            code,
            correlation_id,
        } => BasiqError::Status {
            status: *status,
            code: code.clone(),
            correlation_id: correlation_id.clone(),
        },
        BasiqError::NotFound {
            status,
            correlation_id,
        } => BasiqError::Status {
            status: *status,
            code: None,
            correlation_id: correlation_id.clone(),
        },
        BasiqError::NoResources(source) => BasiqError::NoResources(source.to_string().into()),
        BasiqError::Unreachable(source) => BasiqError::Unreachable(source.to_string().into()),
        BasiqError::Unreadable(reason) => BasiqError::Unreadable(reason.clone()),
    }
}
