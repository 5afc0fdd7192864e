//! A label whose number of values is limited, so that no input can make the metrics grow without bound.

use std::collections::HashSet;

use metrics::SharedString;
use parking_lot::Mutex;

/// What every value beyond the limit counts as.
const OTHER: &str = "other";

/// A label with a limited number of values. The first ones keep their names, and all later ones are `other`.
#[derive(Debug)]
pub struct BoundedLabel {
    limit: usize,
    known: Mutex<Option<HashSet<String>>>,
}

impl BoundedLabel {
    /// Creates a label with at most this many values and `other`.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            known: Mutex::new(None),
        }
    }

    /// Returns the value to count under.
    pub fn value(&self, value: &str) -> SharedString {
        let mut known = self.known.lock();
        let known = known.get_or_insert_default();
        if known.contains(value) {
            return SharedString::from(value.to_owned());
        }
        if known.len() >= self.limit {
            return SharedString::const_str(OTHER);
        }
        known.insert(value.to_owned());
        SharedString::from(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_are_told_apart_and_the_others_are_not() {
        let label = BoundedLabel::new(2);
        let value = |text| label.value(text).to_string();
        assert_eq!(value("a"), "a");
        assert_eq!(value("b"), "b");
        assert_eq!(value("c"), "other");
        assert_eq!(value("a"), "a");
        assert_eq!(value("d"), "other");
    }
}
