//! Decides which relay of a fleet sends an alert about a problem that all of them see. Pure.
//!
//! There is no leader. The relay that started first sends the alert, and the others hold theirs for a while. A relay
//! that becomes the first sends the alerts that it holds, because the previous one may have died before it sent them.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use crate::alerts::alert::Alert;

/// How long an alert is held. A dead relay counts as alive for five seconds, and the store is read every five seconds.
const HOLD: SignedDuration = SignedDuration::from_secs(15);

/// The maximum number of alerts to hold.
const MOST_HELD: usize = 64;

/// The alerts that another relay should have sent.
#[derive(Debug, Default)]
pub(super) struct AlertHolder {
    held: VecDeque<Alert>,
}

impl AlertHolder {
    /// Returns the alerts that this relay sends now. `is_first` says whether it started before all others.
    pub(super) fn choose(
        &mut self,
        alerts: Vec<Alert>,
        is_first: bool,
        now: Timestamp,
    ) -> Vec<Alert> {
        self.held
            .retain(|alert| now.duration_since(alert.at) < HOLD);
        let mut chosen = Vec::new();
        if is_first {
            chosen.extend(self.held.drain(..));
        }
        for alert in alerts {
            if is_first || !alert.subject.kind.is_shared() {
                chosen.push(alert);
            } else {
                self.held.push_back(alert);
            }
        }
        while self.held.len() > MOST_HELD {
            self.held.pop_front();
        }
        chosen
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
    fn the_first_relay_sends_what_all_see_and_each_sends_the_rest() {
        let (shared, own) = (
            alert(AlertKind::DeliveriesDead, 0),
            alert(AlertKind::BreakerOpen, 0),
        );
        let both = || vec![shared.clone(), own.clone()];
        let mut first = AlertHolder::default();
        assert_eq!(first.choose(both(), true, at(0)), both());
        assert!(first.choose(vec![], true, at(1)).is_empty());
        let mut second = AlertHolder::default();
        assert_eq!(second.choose(both(), false, at(0)), vec![own.clone()]);
        assert!(second.choose(vec![], false, at(1)).is_empty());
    }

    #[test]
    fn a_relay_that_becomes_the_first_sends_fresh_alerts_once() {
        let mut second = AlertHolder::default();
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
    fn few_alerts_are_held() {
        let mut second = AlertHolder::default();
        for _ in 0..1000 {
            second.choose(vec![alert(AlertKind::HostPaused, 0)], false, at(0));
        }
        assert_eq!(second.held.len(), MOST_HELD);
    }
}
