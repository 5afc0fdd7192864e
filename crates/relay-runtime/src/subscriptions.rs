//! Records which of the followed keys have changed, for a worker.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

use crate::Wake;

/// Records changes of followed keys and wakes a worker. Its size is bounded by the number of followed keys, however
/// much changes. Clones share one state.
#[derive(Debug)]
pub struct SubscriptionTable<K> {
    noted: Arc<Mutex<Noted<K>>>,
    wake: Wake,
}

#[derive(Debug)]
struct Noted<K> {
    /// The number of subscriptions of each key.
    followed: HashMap<K, usize>,
    changed: HashSet<K>,
    /// Something changed, and the keys are not known.
    anything: bool,
}

/// The changes since the last call of [`SubscriptionTable::take`].
#[derive(Debug, PartialEq, Eq)]
pub struct ChangedKeys<K: Eq + Hash> {
    /// The keys that are known to have changed.
    pub these: HashSet<K>,
    /// Whether other keys may have changed too.
    pub anything: bool,
}

/// Follows one key until it is dropped.
#[derive(Debug)]
pub struct Subscription<K: Eq + Hash> {
    key: K,
    noted: Arc<Mutex<Noted<K>>>,
}

impl<K: Eq + Hash> Subscription<K> {
    /// Returns the followed key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Eq + Hash + Clone> SubscriptionTable<K> {
    /// Makes a table without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        let noted = Noted {
            followed: HashMap::new(),
            changed: HashSet::new(),
            anything: false,
        };
        Self {
            noted: Arc::new(Mutex::new(noted)),
            wake: Wake::new(),
        }
    }

    /// Returns the `Wake` that is notified when a followed key changed, or may have changed.
    #[must_use]
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Records that these keys changed.
    pub fn ring<'k>(&self, changed: impl IntoIterator<Item = &'k K>)
    where
        K: 'k,
    {
        let mut noted = lock(&self.noted);
        if noted.followed.is_empty() {
            return;
        }
        let mut is_news = false;
        for key in changed {
            if noted.followed.contains_key(key) {
                noted.changed.insert(key.clone());
                is_news = true;
            }
        }
        drop(noted);
        if is_news {
            self.wake.ring();
        }
    }

    /// Records that something changed whose keys are not known.
    pub fn ring_for_anything(&self) {
        let mut noted = lock(&self.noted);
        let is_news = !noted.followed.is_empty();
        noted.anything |= is_news;
        drop(noted);
        if is_news {
            self.wake.ring();
        }
    }

    /// Follows a key. Changes from now on are recorded.
    #[must_use]
    pub fn follow(&self, key: K) -> Subscription<K> {
        *lock(&self.noted).followed.entry(key.clone()).or_insert(0) += 1;
        Subscription {
            key,
            noted: Arc::clone(&self.noted),
        }
    }

    /// Returns the changes since the last call.
    #[must_use]
    pub fn take(&self) -> ChangedKeys<K> {
        let mut noted = lock(&self.noted);
        ChangedKeys {
            these: std::mem::take(&mut noted.changed),
            anything: std::mem::take(&mut noted.anything),
        }
    }
}

impl<K: Eq + Hash + Clone> Default for SubscriptionTable<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Clone for SubscriptionTable<K> {
    fn clone(&self) -> Self {
        Self {
            noted: Arc::clone(&self.noted),
            wake: self.wake.clone(),
        }
    }
}

impl<K: Eq + Hash> Drop for Subscription<K> {
    fn drop(&mut self) {
        let mut noted = lock(&self.noted);
        let left = noted.followed.get_mut(&self.key).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            noted.followed.remove(&self.key);
            noted.changed.remove(&self.key);
        }
    }
}

fn lock<K>(noted: &Mutex<Noted<K>>) -> MutexGuard<'_, Noted<K>> {
    noted.lock()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn changed<const N: usize>(
        these: [&'static str; N],
        anything: bool,
    ) -> ChangedKeys<&'static str> {
        ChangedKeys {
            these: these.into(),
            anything,
        }
    }

    #[test]
    fn what_nobody_follows_is_not_noted_and_rings_nobody() {
        let changes = SubscriptionTable::new();
        changes.ring([&"a"]);
        changes.ring_for_anything();
        let followed = changes.follow("b");
        changes.ring([&"a"]);
        assert_eq!(changes.take(), changed([], false));
        assert!(changes.wake().rung().now_or_never().is_none());
        drop(followed);
    }

    #[test]
    fn what_is_followed_is_noted_until_the_last_lets_go() {
        let changes = SubscriptionTable::new();
        let (first, second) = (changes.follow("a"), changes.follow("a"));
        drop(first);
        changes.ring([&"a", &"b"]);
        assert!(changes.wake().rung().now_or_never().is_some());
        assert_eq!(changes.take(), changed(["a"], false));
        assert_eq!(changes.take(), changed([], false));
        changes.clone().ring([&"a"]);
        changes.ring_for_anything();
        drop(second);
        assert_eq!(changes.take(), changed([], true));
        changes.ring([&"a"]);
        assert_eq!(changes.take(), changed([], false));
    }
}
