//! What it means that Basiq gives no token, and how long none is asked for then.

use std::time::Duration;

use crate::basiq::{
    BasiqError,
    response::BasiqResponse,
    throttle::Throttle,
    token::{FAILURE_PAUSES, KEY_PAUSE, LONGEST_REST},
};

/// What it means that no token was given. Basiq tells a wrong key by 404 or 400 and a disabled one by
/// 403; a page of something in between says nothing of the key.
pub(super) fn refusal(answer: &BasiqResponse, throttle: &Throttle) -> BasiqError {
    let complaint = answer.complaint();
    let status = answer.status;
    let retry_after = answer.retry_after.map(|asked| asked.min(LONGEST_REST));
    let throttled = |retry_after| BasiqError::Throttled {
        status,
        retry_after,
    };
    let rest = Some(retry_after.unwrap_or(LONGEST_REST));
    let error = match status {
        // Basiq's word for too many tokens, whatever else it says
        403 if complaint.says_too_many_tokens() => throttled(rest),
        429 => {
            throttle.pause(status, retry_after, answer.sent_at);
            throttled(retry_after)
        }
        400 | 401 | 404 if complaint.is_basiqs() => BasiqError::KeyRefused,
        403 if complaint.is_basiqs() && complaint.says_disabled() => BasiqError::KeyRefused,
        403 if complaint.is_basiqs() => throttled(rest),
        _ => complaint.status(status),
    };
    answer.judge(matches!(
        error,
        BasiqError::KeyRefused | BasiqError::Throttled { .. }
    ));
    error
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
        BasiqError::Unreachable(unreached) => BasiqError::Unreachable(unreached.clone()),
        BasiqError::Unreadable(reason) => BasiqError::Unreadable(reason.clone()),
    }
}
