//! The changes that come with time, without a call: which, and when.

use std::collections::BTreeSet;

use jiff::Timestamp;

/// The maximum number of items. Beyond it, the one furthest in the future is forgotten.
const REMEMBERED: usize = 400_000;

/// What changes at a time, by its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AgendaItem {
    /// A step of this job changes.
    Job(String),
    /// This connection is refreshed.
    Refresh(String),
    /// Basiq reminds of this consent, warns of its end, or ends it.
    Consent(String),
}

/// Items in the order of their times. An item that no longer holds is ignored when its time comes.
#[derive(Debug, Default)]
pub(super) struct Agenda(BTreeSet<(Timestamp, AgendaItem)>);

impl Agenda {
    /// Adds an item. The same item at the same time is kept once.
    pub(super) fn add(&mut self, at: Timestamp, item: AgendaItem) {
        self.0.insert((at, item));
        while self.0.len() > REMEMBERED {
            self.0.pop_last();
        }
    }

    /// Removes and returns the earliest item that is due at `now`.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<(Timestamp, AgendaItem)> {
        let (at, _) = self.0.first()?;
        if *at > now {
            return None;
        }
        self.0.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_the_order_of_their_times_once_each_and_not_before() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let job = |id: &str| AgendaItem::Job(id.to_owned());
        let mut agenda = Agenda::default();
        for (second, id) in [(3, "c"), (1, "a"), (2, "b"), (1, "a")] {
            agenda.add(at(second), job(id));
        }
        assert_eq!(agenda.take_due(at(0)), None);
        assert_eq!(agenda.take_due(at(2)), Some((at(1), job("a"))));
        assert_eq!(agenda.take_due(at(2)), Some((at(2), job("b"))));
        assert_eq!(agenda.take_due(at(2)), None);
        assert_eq!(agenda.take_due(at(9)), Some((at(3), job("c"))));
    }
}
