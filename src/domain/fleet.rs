//! How relays divide what they may do together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The longest that one piece of work leaves the store to the other relays.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// One relay's share of a bound that holds for all relays on a store. Clones share it.
#[derive(Debug, Clone)]
pub struct Fleet(Arc<AtomicUsize>);

impl Default for Fleet {
    fn default() -> Self {
        Self::alone()
    }
}

impl Fleet {
    /// The share of a relay that is alone: everything.
    #[must_use]
    pub fn alone() -> Self {
        Self(Arc::new(AtomicUsize::new(1)))
    }

    /// Says how many relays there are now.
    pub fn set_size(&self, relays: usize) {
        self.0.store(relays.max(1), Ordering::Relaxed);
    }

    /// How many relays there are, this one included.
    #[must_use]
    pub fn relays(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// This relay's part of so much: never nothing, and otherwise not more in all than there is.
    #[must_use]
    pub fn of(&self, whole: usize) -> usize {
        (whole / self.relays()).max(1)
    }

    /// How long to leave a store to the others after it was busy with this relay's work for so long: as long
    /// for each of them. Relays that are many do more at a time then instead of more often, and the store has
    /// no more transactions for it. Not at all for one that is alone.
    #[must_use]
    pub fn rest_after(&self, took: Duration) -> Duration {
        let others = u32::try_from(self.relays() - 1).unwrap_or(u32::MAX);
        took.saturating_mul(others).min(LONGEST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_others_gets_as_long_as_this_one_took() {
        let (share, millis) = (Fleet::alone(), Duration::from_millis);
        assert_eq!(share.rest_after(millis(7)), Duration::ZERO);
        share.set_size(3);
        assert_eq!(share.rest_after(millis(7)), millis(14));
        assert_eq!(share.rest_after(Duration::from_secs(1)), LONGEST_REST);
        share.set_size(usize::MAX);
        assert_eq!(share.rest_after(Duration::MAX), LONGEST_REST);
    }

    #[test]
    fn shares_are_never_more_than_there_is_and_never_nothing() {
        let share = Fleet::alone();
        assert_eq!(share.of(16), 16);
        let clone = share.clone();
        for (relays, part) in [(2, 8), (3, 5), (16, 1), (40, 1), (0, 16)] {
            clone.set_size(relays);
            assert_eq!(share.of(16), part, "{relays}");
        }
    }
}
