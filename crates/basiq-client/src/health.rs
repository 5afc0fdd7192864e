//! Tracks how Basiq responds, and logs each change. Calls that fail for the same reason cause one log line.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use relay_domain::{Upstream, UpstreamHealth, clock::Clock};
use relay_runtime::causes;
use tracing::{info, warn};

use crate::BasiqError;

/// Derives the shared health of Basiq from the results of calls.
#[derive(Debug)]
pub(super) struct HealthTracker {
    upstream: Upstream,
    clock: Clock,
    /// Why the latest call failed. `None` if the latest call succeeded.
    reason: Mutex<Option<&'static str>>,
    /// Whether the relay lacked the resources to make the latest call.
    lacks_resources: AtomicBool,
}

impl HealthTracker {
    pub(super) fn new(upstream: Upstream, clock: Clock) -> Self {
        set_gauges(upstream.health());
        Self {
            upstream,
            clock,
            reason: Mutex::default(),
            lacks_resources: AtomicBool::new(false),
        }
    }

    /// Records how much of the budget is used, in thousandths.
    pub(super) fn note_budget_share(&self, thousandths: u32) {
        self.upstream.set_budget_share(thousandths);
    }

    /// Records the result of a call. A call that was not made does not change the health.
    pub(super) fn note<T>(&self, result: &Result<T, BasiqError>) {
        let error = result.as_ref().err();
        if let Some(error @ BasiqError::NoResources(_)) = error {
            self.note_lack(error);
            return;
        }
        if self.lacks_resources.swap(false, Ordering::Relaxed) {
            info!("Basiq can be asked again");
        }
        let Some(health) = error.map_or(Some(UpstreamHealth::Ok), health_of) else {
            return;
        };
        let reason = error
            .filter(|_| health != UpstreamHealth::Ok)
            .map(BasiqError::reason);
        let mut known = self.reason.lock();
        let before = self.upstream.report(health);
        if health == before && reason == *known {
            return;
        }
        *known = reason;
        let trouble = error.filter(|_| health != UpstreamHealth::Ok);
        let why = trouble.map(BasiqError::in_words);
        self.upstream.set_trouble(why, self.clock.now());
        drop(known);
        set_gauges(health);
        match error {
            Some(error) if severity(health) >= severity(before) => log_worse(health, error),
            _ => info!(upstream.health = %health, reason, "Basiq answers better than before"),
        }
    }

    /// Logs once that the relay lacks the resources to call Basiq. This does not change the health of Basiq.
    fn note_lack(&self, error: &BasiqError) {
        if self.lacks_resources.swap(true, Ordering::Relaxed) {
            return;
        }
        // The end of the chain names the resource.
        let cause = causes(error).last().map(ToString::to_string);
        warn!(%error, cause, "Basiq cannot be asked");
    }
}

/// Logs how Basiq responds from now on, and why.
fn log_worse(health: UpstreamHealth, error: &BasiqError) {
    let reason = error.reason();
    if error.got_no_response() {
        warn!(upstream.health = %health, reason, %error, "no answer from Basiq");
    } else {
        warn!(upstream.health = %health, reason, %error, "Basiq answers worse than before");
    }
}

/// Returns what a failed call shows about Basiq. Returns `None` if the call was not made.
fn health_of(error: &BasiqError) -> Option<UpstreamHealth> {
    Some(match error {
        // Basiq was not called: the breaker is open, or the relay lacks resources, or the shared budget cannot
        // be reached. Earlier failures already set the health that an open breaker implies.
        BasiqError::Resting { .. } | BasiqError::NoResources(_) => return None,
        // A refused token (401, 403) is no usable response, even if Basiq wrote it.
        BasiqError::NotFound { .. }
        | BasiqError::Forbidden { .. }
        | BasiqError::Status {
            status: 400 | 402 | 404..500,
            ..
        } => UpstreamHealth::Ok,
        BasiqError::Throttled { .. } => UpstreamHealth::Throttled,
        BasiqError::KeyRefused => UpstreamHealth::KeyRefused,
        BasiqError::Status { .. }
        | BasiqError::TimedOut
        | BasiqError::Unreachable(_)
        | BasiqError::Unreadable(_) => UpstreamHealth::Failing,
    })
}

fn severity(health: UpstreamHealth) -> u8 {
    match health {
        UpstreamHealth::Ok => 0,
        UpstreamHealth::Throttled => 1,
        UpstreamHealth::Failing => 2,
        UpstreamHealth::KeyRefused => 3,
    }
}

fn set_gauges(health: UpstreamHealth) {
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    metrics::gauge!("relay_upstream_throttled").set(flag(health == UpstreamHealth::Throttled));
    metrics::gauge!("relay_upstream_key_refused").set(flag(health == UpstreamHealth::KeyRefused));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_call_that_was_not_made_says_nothing_about_basiq() {
        let upstream = Upstream::default();
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let health = HealthTracker::new(upstream.clone(), clock);
        let remaining = Duration::from_secs(1);
        health.note::<()>(&Err(BasiqError::Resting { remaining }));
        assert_eq!(upstream.health(), UpstreamHealth::Ok);
        health.note::<()>(&Err(BasiqError::TimedOut));
        assert_eq!(upstream.health(), UpstreamHealth::Failing);
        health.note::<()>(&Err(BasiqError::Resting { remaining }));
        assert_eq!(upstream.health(), UpstreamHealth::Failing);
    }

    #[test]
    fn it_is_known_since_when_basiq_fails_and_why() {
        let (upstream, start) = (Upstream::default(), Timestamp::UNIX_EPOCH);
        let clock = Clock::manual(start);
        let health = HealthTracker::new(upstream.clone(), clock.clone());
        health.note::<()>(&Err(BasiqError::TimedOut));
        clock.advance(Duration::from_secs(9));
        let status = |status| BasiqError::Status {
            status,
            code: None,
            correlation_id: None,
        };
        health.note::<()>(&Err(status(503)));
        let trouble = upstream.trouble().unwrap();
        assert_eq!(
            (trouble.since, trouble.why.as_str()),
            (start, "it answers HTTP 503")
        );
        // a refusal of one call is an answer
        health.note::<()>(&Err(status(404)));
        assert_eq!(upstream.trouble(), None);
    }
}
