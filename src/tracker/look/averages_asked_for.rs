//! Remembers for which kinds of jobs this relay fetched Basiq's averages.

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;

use relay_domain::clock::between;

use crate::tracker::look::durations::AVERAGES_LAST;

/// The maximum number of kinds that are remembered. Basiq has about 200 banks. No averages are fetched for
/// further kinds, which costs their jobs a few looks.
const MOST_KINDS: usize = 2000;

/// The kinds of jobs, by bank and job type, for which this relay fetched averages within a day.
///
/// The store records this too, across restarts and relays, but only some time after the response. Until then,
/// each of many looks at jobs of one bank would fetch the averages again.
#[derive(Debug, Default)]
pub(super) struct AveragesAskedFor(Mutex<HashMap<(String, String), Timestamp>>);

impl AveragesAskedFor {
    /// Returns whether the caller should fetch the averages, and records that it does. Returns false if a caller of
    /// this relay did so less than 24 hours ago.
    pub(super) fn claim_fetch(&self, bank: &str, job_type: &str, now: Timestamp) -> bool {
        let mut asked = self.0.lock();
        let lasts = |at: &Timestamp| between(*at, now) < AVERAGES_LAST;
        let kind = (bank.to_owned(), job_type.to_owned());
        if asked.get(&kind).is_some_and(lasts) {
            return false;
        }
        if asked.len() >= MOST_KINDS {
            asked.retain(|_, at| lasts(at));
        }
        let is_remembered = asked.len() < MOST_KINDS;
        if is_remembered {
            asked.insert(kind, now);
        }
        is_remembered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3600).unwrap()
    }

    #[test]
    fn each_kind_has_a_turn_once_a_day() {
        let asked = AveragesAskedFor::default();
        let due = [0, 0, 23, 24, 47]
            .map(|hour| asked.claim_fetch("AU00000", "update-connection", at(hour)));
        assert_eq!(due, [true, false, false, true, false]);
        assert!(asked.claim_fetch("AU00000", "create-connection", at(47)));
        assert!(asked.claim_fetch("AU00001", "update-connection", at(47)));
    }

    #[test]
    fn no_more_kinds_are_remembered_than_there_is_room_for_and_the_old_make_room() {
        let asked = AveragesAskedFor::default();
        let due = |hour| {
            let banks = 0..2 * MOST_KINDS;
            banks
                .filter(|n| asked.claim_fetch(&n.to_string(), "", at(hour)))
                .count()
        };
        assert_eq!((due(0), due(1)), (MOST_KINDS, 0));
        assert_eq!(due(24), MOST_KINDS);
        assert_eq!(asked.0.lock().len(), MOST_KINDS);
    }
}
