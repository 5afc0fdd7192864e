//! A map of limited size that forgets its oldest entry.

use std::collections::{HashMap, VecDeque};

/// A map by id that forgets its oldest entry when there are more than `most`.
#[derive(Debug)]
pub(super) struct BoundedMap<T> {
    things: HashMap<String, T>,
    order: VecDeque<String>,
    most: usize,
}

impl<T> BoundedMap<T> {
    /// Creates an empty map of at most `most` entries.
    pub(super) fn at_most(most: usize) -> Self {
        Self {
            things: HashMap::new(),
            order: VecDeque::new(),
            most,
        }
    }

    /// Adds an entry, or replaces the entry with that id.
    pub(super) fn keep(&mut self, id: String, thing: T) {
        if self.things.insert(id.clone(), thing).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.things.remove(&oldest);
            }
        }
    }

    /// Removes an entry.
    pub(super) fn forget(&mut self, id: &str) {
        if self.things.remove(id).is_some() {
            self.order.retain(|kept| kept != id);
        }
    }

    /// Removes all entries for which `stays` returns false.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        self.things.retain(|_, thing| stays(thing));
        self.order.retain(|id| self.things.contains_key(id));
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.things.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.things.get_mut(id)
    }

    /// Iterates over the entries, oldest first.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.order.iter().filter_map(|id| self.things.get(id))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.things.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_a_replaced_one_stays() {
        let mut kept = BoundedMap::at_most(2);
        for (id, thing) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            kept.keep(id.to_owned(), thing);
        }
        assert_eq!(kept.values().copied().collect::<Vec<_>>(), [2, 4]);
        kept.forget("b");
        kept.keep("d".to_owned(), 5);
        assert_eq!(kept.values().copied().collect::<Vec<_>>(), [4, 5]);
        assert_eq!(kept.get("a"), None);
        kept.retain(|thing| *thing > 4);
        assert_eq!(kept.values().copied().collect::<Vec<_>>(), [5]);
        kept.keep("e".to_owned(), 6);
        assert_eq!(kept.values().copied().collect::<Vec<_>>(), [5, 6]);
    }
}
