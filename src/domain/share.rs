//! How relays divide what they may do together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// One relay's share of a bound that holds for all relays on a store. Clones share it.
#[derive(Debug, Clone)]
pub struct Share(Arc<AtomicUsize>);

impl Default for Share {
    fn default() -> Self {
        Self::alone()
    }
}

impl Share {
    /// The share of a relay that is alone: everything.
    #[must_use]
    pub fn alone() -> Self {
        Self(Arc::new(AtomicUsize::new(1)))
    }

    /// Says how many relays there are now.
    pub fn divide_by(&self, relays: usize) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_never_more_than_there_is_and_never_nothing() {
        let share = Share::alone();
        assert_eq!(share.of(16), 16);
        let clone = share.clone();
        for (relays, part) in [(2, 8), (3, 5), (16, 1), (40, 1), (0, 16)] {
            clone.divide_by(relays);
            assert_eq!(share.of(16), part, "{relays}");
        }
    }
}
