//! How Basiq answers, as one shared word that calls set and health checks read.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
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
pub struct Upstream(Arc<AtomicU8>);

impl Upstream {
    /// The latest word; [`UpstreamHealth::Ok`] until a call says otherwise.
    #[must_use]
    pub fn health(&self) -> UpstreamHealth {
        let index = usize::from(self.0.load(Ordering::Relaxed));
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
            .store(u8::try_from(index).unwrap_or(0), Ordering::Relaxed);
        before
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
    }
}
