//! How the relays on one store divide shared limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The longest time for which a relay leaves the store to the others after one piece of work.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The number of relays on a store, and one relay's share of their limits. Clones share one state.
#[derive(Debug, Clone)]
pub struct Fleet(Arc<Members>);

#[derive(Debug)]
struct Members {
    relays: AtomicUsize,
    is_first: AtomicBool,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::alone()
    }
}

impl Fleet {
    /// Makes a fleet of one relay, whose share is everything.
    #[must_use]
    pub fn alone() -> Self {
        Self(Arc::new(Members {
            relays: AtomicUsize::new(1),
            is_first: AtomicBool::new(true),
        }))
    }

    /// Sets the number of relays.
    pub fn set_size(&self, relays: usize) {
        self.0.relays.store(relays.max(1), Ordering::Relaxed);
    }

    /// Returns the number of relays, including this one.
    #[must_use]
    pub fn relays(&self) -> usize {
        self.0.relays.load(Ordering::Relaxed)
    }

    /// Sets whether this relay started before all others that are alive.
    pub fn set_first(&self, is_first: bool) {
        self.0.is_first.store(is_first, Ordering::Relaxed);
    }

    /// Returns whether this relay started before all others that are alive. Only that relay sends alerts about what all
    /// relays see.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.0.is_first.load(Ordering::Relaxed)
    }

    /// Returns this relay's share of a limit, at least 1. Except for this minimum, the shares of all relays together
    /// do not exceed the limit.
    #[must_use]
    pub fn of(&self, whole: usize) -> usize {
        (whole / self.relays()).max(1)
    }

    /// Returns how long this relay waits after it kept the store busy for `took`. With *n* relays the wait is (n − 1)
    /// × `took`, at most 50 ms. A relay then does more work in each transaction, and many relays need few more
    /// transactions. A relay that is alone does not wait.
    #[must_use]
    pub fn pause_after(&self, took: Duration) -> Duration {
        let others = u32::try_from(self.relays() - 1).unwrap_or(u32::MAX);
        took.saturating_mul(others).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_others_gets_as_long_as_this_one_took() {
        let (fleet, millis) = (Fleet::alone(), Duration::from_millis);
        assert_eq!(fleet.pause_after(millis(7)), Duration::ZERO);
        fleet.set_size(3);
        assert_eq!(fleet.pause_after(millis(7)), millis(14));
        assert_eq!(fleet.pause_after(Duration::from_secs(1)), LONGEST_PAUSE);
        fleet.set_size(usize::MAX);
        assert_eq!(fleet.pause_after(Duration::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn shares_are_never_more_than_there_is_and_never_nothing() {
        let fleet = Fleet::alone();
        assert_eq!(fleet.of(16), 16);
        let clone = fleet.clone();
        for (relays, part) in [(2, 8), (3, 5), (16, 1), (40, 1), (0, 16)] {
            clone.set_size(relays);
            assert_eq!(fleet.of(16), part, "{relays}");
        }
    }
}
