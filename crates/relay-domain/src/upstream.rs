//! The health of Basiq. The calls to Basiq set it, and health checks read it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::outcome::closed_words;

closed_words! {
    /// How Basiq answers.
    UpstreamHealth {
        /// Basiq answers normally.
        Ok => "ok",
        /// Basiq asks for fewer calls.
        Throttled => "throttled",
        /// Calls end in errors, time-outs or unreadable responses.
        Failing => "failing",
        /// Basiq refuses the API key.
        KeyRefused => "key-refused",
    }
}

/// The latest health of Basiq, and how fast the relay calls it. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Upstream(Arc<Word>);

/// The numbers of calls to Basiq since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// All calls.
    pub all: u64,
    /// The calls that got no answer, 429 or 5xx.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Word {
    health: AtomicU8,
    is_reported: AtomicBool,
    breaker_open: AtomicBool,
    /// The share of the budget that is not used, in thousandths.
    held_back: AtomicU32,
    calls: AtomicU64,
    failed_calls: AtomicU64,
    trouble: Mutex<Option<UpstreamTrouble>>,
}

/// Calls to Basiq that are reserved for one relay of a fleet.
#[derive(Debug, Clone)]
pub struct ReservedCalls {
    /// When each call may be sent, in order. Empty if other relays hold all times up to the horizon.
    pub at: Vec<Timestamp>,
    /// The latest pause that Basiq asked any relay for. It may be over.
    pub pause: UpstreamPause,
}

/// A pause that Basiq asked a relay for, and that all relays of the fleet observe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamPause {
    /// The number of the pause: one more for each pause, and 0 before the first.
    pub number: i64,
    /// When the pause ends.
    pub until: Timestamp,
    /// The HTTP status that began the pause.
    pub status: u16,
}

/// Since when Basiq does not answer as usual, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTrouble {
    /// When the first of these answers came, or did not come.
    pub since: Timestamp,
    /// What is wrong, in words for an operator, without secrets.
    pub why: String,
}

impl Upstream {
    /// The pace that uses the whole budget.
    pub const WHOLE: u32 = 1000;

    /// Returns the latest health. The initial value is [`UpstreamHealth::Ok`].
    #[must_use]
    pub fn health(&self) -> UpstreamHealth {
        let index = usize::from(self.0.health.load(Ordering::Relaxed));
        UpstreamHealth::ALL
            .get(index)
            .copied()
            .unwrap_or(UpstreamHealth::Ok)
    }

    /// Returns the latest health, or none before the first call to Basiq has ended.
    #[must_use]
    pub fn reported_health(&self) -> Option<UpstreamHealth> {
        let is_reported = self.0.is_reported.load(Ordering::Acquire);
        is_reported.then(|| self.health())
    }

    /// Sets the health of Basiq, and returns the previous one.
    #[expect(clippy::must_use_candidate, reason = "most callers only report")]
    pub fn report(&self, health: UpstreamHealth) -> UpstreamHealth {
        let before = self.health();
        let index = UpstreamHealth::ALL
            .iter()
            .position(|known| *known == health)
            .unwrap_or(0);
        self.0
            .health
            .store(u8::try_from(index).unwrap_or(0), Ordering::Relaxed);
        self.0.is_reported.store(true, Ordering::Release);
        before
    }

    /// Sets why Basiq does not answer as usual, or clears it. The time of an existing trouble stays.
    pub fn set_trouble(&self, why: Option<String>, now: Timestamp) {
        let mut trouble = self.0.trouble.lock();
        let since = trouble.as_ref().map_or(now, |earlier| earlier.since);
        *trouble = why.map(|why| UpstreamTrouble { since, why });
    }

    /// Returns since when Basiq does not answer as usual, and why. None while it does.
    #[must_use]
    pub fn trouble(&self) -> Option<UpstreamTrouble> {
        self.0.trouble.lock().clone()
    }

    /// Counts a call.
    pub fn count_call(&self, failed: bool) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.0.failed_calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the numbers of calls since the start of the process.
    #[must_use]
    pub fn calls(&self) -> CallCounts {
        let failed = self.0.failed_calls.load(Ordering::Relaxed);
        CallCounts {
            all: self.0.calls.load(Ordering::Relaxed),
            failed,
        }
    }

    /// Returns whether calls are paused because Basiq gave no usable response.
    #[must_use]
    pub fn is_breaker_open(&self) -> bool {
        self.0.breaker_open.load(Ordering::Relaxed)
    }

    /// Returns the share of the budget that is used, in thousandths. After Basiq asked for fewer calls, the share is
    /// below [`Upstream::WHOLE`].
    #[must_use]
    pub fn budget_share(&self) -> u32 {
        Self::WHOLE.saturating_sub(self.0.held_back.load(Ordering::Relaxed))
    }

    /// Sets the share of the budget that is used, in thousandths.
    pub fn set_budget_share(&self, thousandths: u32) {
        let held_back = Self::WHOLE.saturating_sub(thousandths);
        self.0.held_back.store(held_back, Ordering::Relaxed);
    }

    /// Sets whether calls are paused.
    pub fn set_breaker_open(&self, open: bool) {
        self.0.breaker_open.store(open, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_counts_for_all_who_share_it() {
        let upstream = Upstream::default();
        let shared = upstream.clone();
        assert_eq!(upstream.reported_health(), None);
        assert_eq!(
            shared.report(UpstreamHealth::KeyRefused),
            UpstreamHealth::Ok
        );
        assert_eq!(upstream.health(), UpstreamHealth::KeyRefused);
        assert_eq!(upstream.reported_health(), Some(UpstreamHealth::KeyRefused));
        shared.set_breaker_open(true);
        assert!(upstream.is_breaker_open());
        assert_eq!(upstream.budget_share(), Upstream::WHOLE);
        shared.set_budget_share(500);
        assert_eq!(upstream.budget_share(), 500);
        shared.count_call(true);
        shared.count_call(false);
        assert_eq!(upstream.calls(), CallCounts { all: 2, failed: 1 });
    }

    #[test]
    fn a_trouble_keeps_the_time_of_its_beginning_until_it_is_over() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let upstream = Upstream::default();
        upstream.set_trouble(Some("HTTP 503".to_owned()), at(10));
        upstream.set_trouble(Some("HTTP 500".to_owned()), at(20));
        let trouble = upstream.trouble().unwrap();
        assert_eq!((trouble.since, trouble.why.as_str()), (at(10), "HTTP 500"));
        upstream.set_trouble(None, at(30));
        assert_eq!(upstream.trouble(), None);
        upstream.set_trouble(Some("HTTP 502".to_owned()), at(40));
        assert_eq!(upstream.trouble().unwrap().since, at(40));
    }
}
