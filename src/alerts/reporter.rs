//! Decides which relay of a fleet tells what all of them see. Pure.
//!
//! Without a leader, the relay that started first tells it. The others hold what they would have told for a while. A
//! relay that becomes the first tells what it holds, because the relay before it may have died before it told that.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use crate::alerts::alert::Alert;

/// How long a message is held. A relay that died counts as alive for five seconds, and facts are read every five.
const HOLD: SignedDuration = SignedDuration::from_secs(15);

/// The maximum number of messages to hold.
const MOST_HELD: usize = 64;

/// The messages that another relay should have told.
#[derive(Debug, Default)]
pub(super) struct AlertReporter {
    held: VecDeque<Alert>,
}

impl AlertReporter {
    /// Returns which messages this relay tells now. `is_first` says whether it started before all others.
    pub(super) fn choose(
        &mut self,
        alerts: Vec<Alert>,
        is_first: bool,
        now: Timestamp,
    ) -> Vec<Alert> {
        self.held
            .retain(|alert| now.duration_since(alert.at) < HOLD);
        let mut told = Vec::new();
        if is_first {
            told.extend(self.held.drain(..));
        }
        for alert in alerts {
            if is_first || !alert.subject.kind.is_shared() {
                told.push(alert);
            } else {
                self.held.push_back(alert);
            }
        }
        while self.held.len() > MOST_HELD {
            self.held.pop_front();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::alert::{AlertKind, AlertState, AlertSubject};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn alert(kind: AlertKind, second: i64) -> Alert {
        Alert {
            subject: AlertSubject { kind, host: None },
            state: AlertState::Firing,
            since: at(second),
            at: at(second),
            dead: None,
        }
    }

    #[test]
    fn what_all_relays_see_is_told_by_the_first_and_the_rest_by_each() {
        let (shared, own) = (
            alert(AlertKind::DeliveriesDead, 0),
            alert(AlertKind::BreakerOpen, 0),
        );
        let both = || vec![shared.clone(), own.clone()];
        let mut first = AlertReporter::default();
        assert_eq!(first.choose(both(), true, at(0)), both());
        assert!(first.choose(vec![], true, at(1)).is_empty());
        let mut second = AlertReporter::default();
        assert_eq!(second.choose(both(), false, at(0)), vec![own.clone()]);
        assert!(second.choose(vec![], false, at(1)).is_empty());
    }

    #[test]
    fn a_relay_that_becomes_the_first_tells_what_is_fresh_once() {
        let mut second = AlertReporter::default();
        let (old, fresh) = (
            alert(AlertKind::DeliveriesDead, 0),
            alert(AlertKind::HostPaused, 10),
        );
        second.choose(vec![old], false, at(0));
        second.choose(vec![fresh.clone()], false, at(10));
        assert_eq!(second.choose(vec![], true, at(16)), vec![fresh]);
        assert!(second.choose(vec![], true, at(17)).is_empty());
    }

    #[test]
    fn few_messages_are_held() {
        let mut second = AlertReporter::default();
        for _ in 0..1000 {
            second.choose(vec![alert(AlertKind::HostPaused, 0)], false, at(0));
        }
        assert_eq!(second.held.len(), MOST_HELD);
    }
}
