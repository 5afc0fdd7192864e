//! Interprets the responses in which Basiq refuses a token, and derives how long to wait before the next
//! request.

use std::time::Duration;

use crate::{
    BasiqError,
    response::BasiqResponse,
    throttle::Throttle,
    token::{FAILURE_PAUSES, KEY_PAUSE, LONGEST_THROTTLED_PAUSE},
};

/// Returns the error that a refused token request means. For a wrong key, Basiq responds with 404 or 400, and
/// for a disabled one with 403. An error page of a gateway says nothing about the key.
pub(super) fn refusal(answer: &BasiqResponse, throttle: &Throttle) -> BasiqError {
    let error_body = answer.error_body();
    let status = answer.status;
    let retry_after = answer
        .retry_after
        .map(|requested| requested.min(LONGEST_THROTTLED_PAUSE));
    let throttled = |retry_after| BasiqError::Throttled {
        status,
        retry_after,
    };
    let long_pause = Some(retry_after.unwrap_or(LONGEST_THROTTLED_PAUSE));
    let error = match status {
        // Basiq uses this text for too many token requests, whatever else the body says.
        403 if error_body.says_too_many_tokens() => throttled(long_pause),
        429 => {
            throttle.pause(status, retry_after, answer.sent_at);
            throttled(retry_after)
        }
        400 | 401 | 404 if error_body.is_basiqs() => BasiqError::KeyRefused,
        403 if error_body.is_basiqs() && error_body.says_disabled() => BasiqError::KeyRefused,
        403 if error_body.is_basiqs() => throttled(long_pause),
        _ => error_body.status(status),
    };
    answer.report_usable(matches!(
        error,
        BasiqError::KeyRefused | BasiqError::Throttled { .. }
    ));
    error
}

/// Returns how long to request no token, after `failures` failed requests in a row.
pub(super) fn pause_after(error: &BasiqError, failures: u32) -> Duration {
    let doubled = FAILURE_PAUSES.after(failures);
    match error {
        BasiqError::KeyRefused => KEY_PAUSE,
        BasiqError::Throttled { retry_after, .. } => retry_after.unwrap_or(doubled),
        BasiqError::Resting { remaining } => *remaining,
        BasiqError::NoResources(_) => FAILURE_PAUSES.shortest,
        BasiqError::NotFound { .. }
        | BasiqError::Forbidden { .. }
        | BasiqError::Status { .. }
        | BasiqError::TimedOut
        | BasiqError::Unreachable(_)
        | BasiqError::Unreadable(_) => doubled,
    }
}

/// Copies a failure for another caller. A throttled or resting one gets the time that remains.
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
        }
        | BasiqError::NotFound {
            status,
            code,
            correlation_id,
        } => BasiqError::Status {
            status: *status,
            code: code.clone(),
            correlation_id: correlation_id.clone(),
        },
        BasiqError::NoResources(source) => BasiqError::NoResources(source.to_string().into()),
        BasiqError::Unreachable(unreached) => BasiqError::Unreachable(unreached.clone()),
        BasiqError::Unreadable(reason) => BasiqError::Unreadable(reason.clone()),
    }
}
