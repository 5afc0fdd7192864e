//! The share of the budget of calls that lists may use.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::clock::{between, later};

/// Lists are the least urgent calls: of this many calls, one may be a list.
const SHARE: u32 = 4;

/// How far ahead lists are claimed, so that a batch shares a commit.
const AHEAD: Duration = Duration::from_millis(500);

/// Spreads lists, so that they use a quarter of the budget at most.
#[derive(Debug)]
pub(super) struct ListPace {
    /// The time between two lists of all relays together.
    spacing: Duration,
    /// When this relay may begin the next list.
    next_at: Timestamp,
}

impl ListPace {
    /// Spreads lists within this budget of calls a second.
    pub(super) fn new(calls_per_second: u32) -> Self {
        Self {
            spacing: Duration::from_secs(1) * SHARE / calls_per_second.max(1),
            next_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// Returns how many lists this relay may begin now, and how long to wait if it may begin none. `relays` share the
    /// budget.
    pub(super) fn allowed(&self, now: Timestamp, relays: u32) -> Result<usize, Duration> {
        // after the clock was set back, `next_at` is further ahead than it can be
        let wait = between(now, self.next_at).min(self.spacing_of(relays) + AHEAD);
        if !wait.is_zero() {
            return Err(wait);
        }
        let ahead = AHEAD.as_nanos() / self.spacing_of(relays).as_nanos().max(1);
        Ok(usize::try_from(ahead)
            .unwrap_or(usize::MAX)
            .saturating_add(1))
    }

    /// Notes that lists begin now.
    pub(super) fn begun(&mut self, lists: usize, now: Timestamp, relays: u32) {
        let lists = u32::try_from(lists).unwrap_or(u32::MAX);
        self.next_at = later(now, self.spacing_of(relays).saturating_mul(lists));
    }

    fn spacing_of(&self, relays: u32) -> Duration {
        self.spacing.saturating_mul(relays.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    /// Begins lists whenever the pace allows it, for so many seconds. Returns their number.
    fn lists_in(seconds: i64, calls_per_second: u32, relays: u32) -> usize {
        let (mut pace, mut now, mut lists) = (ListPace::new(calls_per_second), at(0), 0);
        while now < at(seconds * 1000) {
            match pace.allowed(now, relays) {
                Ok(count) => {
                    pace.begun(count, now, relays);
                    lists += count;
                }
                Err(wait) => now = later(now, wait),
            }
        }
        lists
    }

    #[test]
    fn lists_use_a_quarter_of_the_budget_and_relays_divide_it() {
        for (calls, relays, expected) in [(20, 1, 500), (20, 3, 166), (1, 1, 25), (1000, 1, 25_000)]
        {
            let lists = lists_in(100, calls, relays);
            let most = expected + expected / 50 + 3;
            assert!(
                (expected..=most).contains(&lists),
                "{calls} {relays}: {lists}"
            );
        }
    }

    #[test]
    fn a_clock_that_was_set_back_stops_no_list() {
        let mut pace = ListPace::new(20);
        pace.begun(1, at(3_600_000), 1);
        assert!(pace.allowed(at(0), 1).unwrap_err() <= Duration::from_secs(1));
    }
}
