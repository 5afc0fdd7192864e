//! Settings that can be replaced while the relay runs.

use std::sync::Arc;

use tokio::sync::watch;

/// A value of the settings that can be replaced. All clones share it.
#[derive(Debug, Clone)]
pub struct Reloadable<T>(Arc<watch::Sender<T>>);

impl<T: Clone + PartialEq> Reloadable<T> {
    /// Creates a setting with its first value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(watch::Sender::new(value)))
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> T {
        self.0.borrow().clone()
    }

    /// Replaces the value. Returns whether it changed.
    pub fn replace(&self, value: T) -> bool {
        self.0.send_if_modified(|current| {
            let differs = *current != value;
            *current = value;
            differs
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_sees_what_took_the_place() {
        let (live, clone) = {
            let live = Reloadable::new(1);
            (live.clone(), live)
        };
        assert!(live.replace(2));
        assert_eq!(clone.get(), 2);
        assert!(!clone.replace(2));
        assert_eq!(live.get(), 2);
    }
}
