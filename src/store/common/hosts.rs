//! When a callback host fails, and for how long it is paused.

use std::time::Duration;

use crate::domain::{Attempt, AttemptError};

/// So many attempts in a row must have failed before a host is paused. A single event takes eight
/// attempts in a day, so that one bad callback alone pauses nobody.
pub(in crate::store) const FAILURES: i64 = 10;

/// The first pause, which doubles with each vain probe, and how often it does. The longest is 80 s:
/// short against the waits between attempts, and long against the time a probe takes.
pub(in crate::store) const PAUSE: Duration = Duration::from_secs(5);
pub(in crate::store) const DOUBLINGS: i64 = 4;

/// Whether an attempt shows that its host fails; nothing is known where the relay did not ask it.
/// An answer that refuses one callback says that the host works.
pub(in crate::store) fn is_failing(attempt: &Attempt) -> Option<bool> {
    if let Some(status) = attempt.status {
        return Some(status >= 500);
    }
    let asked = attempt.error.is_some_and(|error| {
        !matches!(
            error,
            AttemptError::Internal | AttemptError::AddressRefused | AttemptError::Proxy
        )
    });
    asked.then_some(true)
}
