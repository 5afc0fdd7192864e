//! Limits how often a worker claims from the store while new work is sent to it directly.

use std::time::Duration;

use tokio::time::Instant;

/// The minimum time between two claims while new work is sent directly. A claim then finds little, and new work gets
/// only half of the capacity during a claim.
const INTERVAL: Duration = Duration::from_millis(10);

/// When a worker last claimed from the store, and what has happened since.
#[derive(Debug, Default)]
pub struct ClaimPacer {
    latest: Option<Instant>,
    /// The claim found as much as it asked for, so there may be more.
    full: bool,
    /// New work was sent directly since the claim.
    handed: bool,
}

impl ClaimPacer {
    /// Returns how long the next claim can wait; none if it is due.
    #[must_use]
    pub fn can_wait(&self) -> Option<Duration> {
        let latest = self.latest.filter(|_| self.handed && !self.full)?;
        let rest = INTERVAL.saturating_sub(latest.elapsed());
        (!rest.is_zero()).then_some(rest)
    }

    /// Records a claim. `full` means that the store may have more work.
    pub fn searched(&mut self, full: bool) {
        *self = Self {
            latest: Some(Instant::now()),
            full,
            handed: false,
        };
    }

    /// Returns whether the latest claim may have left work in the store.
    #[must_use]
    pub fn left_some(&self) -> bool {
        self.full
    }

    /// Records that new work was sent directly.
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
