//! Keeps the word on how Basiq answers, and logs when it changes.

use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering},
};

use tracing::{info, warn};

use crate::{
    basiq::BasiqError,
    domain::{Upstream, UpstreamHealth},
};

/// Turns the results of calls into the shared word.
#[derive(Debug)]
pub(super) struct Health {
    upstream: Upstream,
    /// Whether the latest call was not made for want of resources.
    lacks_resources: AtomicBool,
}

impl Health {
    pub(super) fn new(upstream: Upstream) -> Self {
        set_gauges(upstream.health());
        Self {
            upstream,
            lacks_resources: AtomicBool::new(false),
        }
    }

    /// Notes how much of the budget is used, in thousandths.
    pub(super) fn note_pace(&self, thousandths: u32) {
        self.upstream.set_pace(thousandths);
    }

    /// Notes how a call ended.
    pub(super) fn note<T>(&self, result: &Result<T, BasiqError>) {
        if let Err(BasiqError::Resting { .. }) = result {
            // Basiq was not asked: the breaker is open, which its failures before say, or the relay's own store
            // is away
            return;
        }
        let error = result.as_ref().err();
        if let Some(error @ BasiqError::NoResources(_)) = error {
            self.note_lack(error);
            return;
        }
        if self.lacks_resources.swap(false, Ordering::Relaxed) {
            info!("Basiq can be asked again");
        }
        let health = error.map_or(UpstreamHealth::Ok, health_of);
        let before = self.upstream.report(health);
        if health == before {
            return;
        }
        set_gauges(health);
        match error {
            Some(error) if severity(health) > severity(before) => {
                let cause = error.source().map(ToString::to_string);
                warn!(upstream.health = %health, %error, cause, "Basiq answers worse than before");
            }
            _ => info!(upstream.health = %health, "Basiq answers better than before"),
        }
    }

    /// Says once that Basiq cannot be asked, and not for each call. It says nothing about how Basiq answers.
    fn note_lack(&self, error: &BasiqError) {
        if self.lacks_resources.swap(true, Ordering::Relaxed) {
            return;
        }
        let cause = error.source().map(ToString::to_string);
        warn!(%error, cause, "Basiq cannot be asked");
    }
}

fn health_of(error: &BasiqError) -> UpstreamHealth {
    match error {
        BasiqError::NotFound { .. } | BasiqError::Forbidden { .. } => UpstreamHealth::Ok,
        BasiqError::Status { status, .. } if *status < 500 && !matches!(status, 401 | 403) => {
            UpstreamHealth::Ok
        }
        BasiqError::Throttled { .. } => UpstreamHealth::Throttled,
        BasiqError::KeyRefused => UpstreamHealth::KeyRefused,
        BasiqError::Resting { .. }
        | BasiqError::NoResources(_)
        | BasiqError::Status { .. }
        | BasiqError::TimedOut
        | BasiqError::Unreachable(_)
        | BasiqError::Unreadable(_) => UpstreamHealth::Failing,
    }
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

    use super::*;

    #[test]
    fn a_call_that_was_not_made_says_nothing_about_basiq() {
        let upstream = Upstream::default();
        let health = Health::new(upstream.clone());
        let remaining = Duration::from_secs(1);
        health.note::<()>(&Err(BasiqError::Resting { remaining }));
        assert_eq!(upstream.health(), UpstreamHealth::Ok);
        health.note::<()>(&Err(BasiqError::TimedOut));
        assert_eq!(upstream.health(), UpstreamHealth::Failing);
        health.note::<()>(&Err(BasiqError::Resting { remaining }));
        assert_eq!(upstream.health(), UpstreamHealth::Failing);
    }
}
