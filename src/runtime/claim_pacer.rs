//! How often a worker looks into the store while work is handed to it besides.

use std::time::Duration;

use tokio::time::Instant;

/// While work is handed over, the store is searched no more often than this: little is found there then, and
/// half as much can be handed over meanwhile.
const INTERVAL: Duration = Duration::from_millis(10);

/// When a worker searched the store, and what it met since.
#[derive(Debug, Default)]
pub struct ClaimPacer {
    latest: Option<Instant>,
    /// It found as much as was asked for: there may be more.
    full: bool,
    /// Work was handed over since.
    handed: bool,
}

impl ClaimPacer {
    /// How long the next search can wait; none if it is due.
    #[must_use]
    pub fn can_wait(&self) -> Option<Duration> {
        let latest = self.latest.filter(|_| self.handed && !self.full)?;
        let rest = INTERVAL.saturating_sub(latest.elapsed());
        (!rest.is_zero()).then_some(rest)
    }

    /// The store was searched, and may have more.
    pub fn searched(&mut self, full: bool) {
        *self = Self {
            latest: Some(Instant::now()),
            full,
            handed: false,
        };
    }

    /// Whether the latest search may have left something.
    #[must_use]
    pub fn left_some(&self) -> bool {
        self.full
    }

    /// Work was handed over.
    pub fn handed(&mut self) {
        self.handed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_search_waits_only_while_work_is_handed_over_and_nothing_was_left() {
        let mut search = ClaimPacer::default();
        assert_eq!(search.can_wait(), None, "there was none yet");
        search.searched(false);
        assert_eq!(search.can_wait(), None, "nothing is handed over");
        search.handed();
        tokio::time::advance(Duration::from_millis(4)).await;
        assert_eq!(search.can_wait(), Some(Duration::from_millis(6)));
        tokio::time::advance(Duration::from_millis(6)).await;
        assert_eq!(search.can_wait(), None, "it is due");
        search.searched(true);
        search.handed();
        assert_eq!(search.can_wait(), None, "something was left");
        assert!(search.left_some());
    }
}
