//! How Basiq answers, as one shared word that calls set and health checks read.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
};

use crate::domain::outcome::closed_words;

closed_words! {
    /// How Basiq answers.
    UpstreamHealth {
        /// As it should.
        Ok => "ok",
        /// It asks for fewer calls.
        Throttled => "throttled",
        /// Errors, time-outs or unreadable answers.
        Failing => "failing",
        /// It refuses the API key.
        KeyRefused => "key-refused",
    }
}

/// The latest word on how Basiq answers.
#[derive(Debug, Clone, Default)]
pub struct Upstream(Arc<Word>);

#[derive(Debug, Default)]
struct Word {
    health: AtomicU8,
    breaker_open: AtomicBool,
    /// How much of the budget is not used, in thousandths.
    held_back: AtomicU32,
}

impl Upstream {
    /// A pace that uses the whole budget.
    pub const WHOLE: u32 = 1000;

    /// The latest word; [`UpstreamHealth::Ok`] until a call says otherwise.
    #[must_use]
    pub fn health(&self) -> UpstreamHealth {
        let index = usize::from(self.0.health.load(Ordering::Relaxed));
        UpstreamHealth::ALL
            .get(index)
            .copied()
            .unwrap_or(UpstreamHealth::Ok)
    }

    /// Says how Basiq answers now, and returns what was said before.
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
        before
    }

    /// Whether calls rest because Basiq brought nothing usable.
    #[must_use]
    pub fn is_breaker_open(&self) -> bool {
        self.0.breaker_open.load(Ordering::Relaxed)
    }

    /// How much of the budget is used, in thousandths: less than all of it after Basiq asked for fewer
    /// calls.
    #[must_use]
    pub fn pace(&self) -> u32 {
        Self::WHOLE.saturating_sub(self.0.held_back.load(Ordering::Relaxed))
    }

    /// Says how much of the budget is used, in thousandths.
    pub fn set_spacing(&self, thousandths: u32) {
        let held_back = Self::WHOLE.saturating_sub(thousandths);
        self.0.held_back.store(held_back, Ordering::Relaxed);
    }

    /// Says whether calls rest.
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
        assert_eq!(
            shared.report(UpstreamHealth::KeyRefused),
            UpstreamHealth::Ok
        );
        assert_eq!(upstream.health(), UpstreamHealth::KeyRefused);
        shared.set_breaker_open(true);
        assert!(upstream.is_breaker_open());
        assert_eq!(upstream.pace(), Upstream::WHOLE);
        shared.set_spacing(500);
        assert_eq!(upstream.pace(), 500);
    }
}
