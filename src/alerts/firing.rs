//! Decides which problems begin and which are over. Pure: the facts and the time are arguments.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relay_domain::UpstreamHealth;
use relay_store::StoreTroubles;

use crate::{
    alerts::alert::{Alert, AlertKind, AlertState, AlertSubject},
    config::AlertTiming,
};

/// What a relay sees at one moment.
#[derive(Debug, Clone)]
pub struct AlertFacts {
    /// How Basiq answers this relay.
    pub upstream: UpstreamHealth,
    /// Whether this relay's circuit breaker is open.
    pub is_breaker_open: bool,
    /// When this relay last wrote to the store.
    pub written_at: Timestamp,
    /// The problems in the store. None if the relay did not read the store, which changes nothing.
    pub troubles: Option<StoreTroubles>,
}

/// The problems that have begun and are not over. Each causes one alert at its begin, and one when it is over.
#[derive(Debug)]
pub struct FiringAlerts {
    timing: AlertTiming,
    breaker_open_since: Option<Timestamp>,
    /// When each problem began.
    since: BTreeMap<AlertSubject, Timestamp>,
}

impl FiringAlerts {
    /// Starts without a problem.
    #[must_use]
    pub fn new(timing: AlertTiming) -> Self {
        Self {
            timing,
            breaker_open_since: None,
            since: BTreeMap::new(),
        }
    }

    /// Evaluates the facts of this moment. Returns an alert for each problem that begins or is over.
    pub fn update(&mut self, facts: &AlertFacts, now: Timestamp) -> Vec<Alert> {
        let mut alerts = Vec::new();
        // other failures do not show whether Basiq accepts the key
        match facts.upstream {
            UpstreamHealth::KeyRefused => {
                self.set(AlertKind::KeyRefused, Some(now), now, &mut alerts);
            }
            UpstreamHealth::Ok | UpstreamHealth::Throttled => {
                self.set(AlertKind::KeyRefused, None, now, &mut alerts);
            }
            UpstreamHealth::Failing => {}
        }
        self.breaker_open_since = facts
            .is_breaker_open
            .then(|| self.breaker_open_since.unwrap_or(now));
        let open = self.breaker_open_since;
        let open = open.filter(|since| lasts(*since, now, self.timing.breaker_open));
        self.set(AlertKind::BreakerOpen, open, now, &mut alerts);
        let unwritable = Some(facts.written_at);
        let unwritable =
            unwritable.filter(|since| lasts(*since, now, self.timing.store_unwritable));
        self.set(AlertKind::StoreUnwritable, unwritable, now, &mut alerts);
        if let Some(troubles) = &facts.troubles {
            self.update_from_store(troubles, now, &mut alerts);
        }
        alerts
    }

    fn update_from_store(
        &mut self,
        troubles: &StoreTroubles,
        now: Timestamp,
        alerts: &mut Vec<Alert>,
    ) {
        let dead = troubles.dead_deliveries;
        let before = alerts.len();
        let since = (dead > 0).then_some(now);
        self.set(AlertKind::DeliveriesDead, since, now, alerts);
        for alert in alerts.iter_mut().skip(before) {
            alert.dead = Some(dead);
        }
        let is_paused = |host: &str| troubles.paused_hosts.iter().any(|one| one.host == host);
        let ended = self.since.keys().filter(|subject| {
            let host = subject.host.as_deref();
            host.is_some_and(|host| !is_paused(host))
        });
        for subject in ended.cloned().collect::<Vec<_>>() {
            self.change(subject, None, now, alerts);
        }
        for paused in &troubles.paused_hosts {
            let subject = AlertSubject {
                kind: AlertKind::HostPaused,
                host: Some(paused.host.clone()),
            };
            self.change(subject, Some(paused.since), now, alerts);
        }
    }

    fn set(
        &mut self,
        kind: AlertKind,
        since: Option<Timestamp>,
        now: Timestamp,
        alerts: &mut Vec<Alert>,
    ) {
        self.change(AlertSubject { kind, host: None }, since, now, alerts);
    }

    /// Sets since when a problem lasts, or that it does not last. Adds an alert if that is new.
    fn change(
        &mut self,
        subject: AlertSubject,
        since: Option<Timestamp>,
        now: Timestamp,
        alerts: &mut Vec<Alert>,
    ) {
        let (state, since) = match (self.since.get(&subject).copied(), since) {
            (None, Some(since)) => {
                self.since.insert(subject.clone(), since);
                (AlertState::Firing, since)
            }
            (Some(since), None) => {
                self.since.remove(&subject);
                (AlertState::Resolved, since)
            }
            (None, None) | (Some(_), Some(_)) => return,
        };
        alerts.push(Alert {
            subject,
            state,
            since,
            at: now,
            dead: None,
        });
    }
}

/// Whether a problem that began at `since` lasts at least this long.
fn lasts(since: Timestamp, now: Timestamp, long: std::time::Duration) -> bool {
    let long = SignedDuration::try_from(long).unwrap_or(SignedDuration::MAX);
    now.duration_since(since) >= long
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use relay_store::PausedHost;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Facts of a relay that is well at this time.
    fn well(now: Timestamp) -> AlertFacts {
        AlertFacts {
            upstream: UpstreamHealth::Ok,
            is_breaker_open: false,
            written_at: now,
            troubles: Some(StoreTroubles::default()),
        }
    }

    fn none_firing() -> FiringAlerts {
        FiringAlerts::new(AlertTiming::default())
    }

    /// Evaluates the facts, and returns the alerts in short.
    fn alerts_of(state: &mut FiringAlerts, facts: &AlertFacts, second: i64) -> Vec<String> {
        let alerts = state.update(facts, at(second));
        let short = alerts.iter().map(|alert| {
            let host = alert.subject.host.as_deref().unwrap_or_default();
            let since = alert.since.as_second() - at(0).as_second();
            let kind = alert.subject.kind.as_str();
            format!("{kind} {host} {} since {since}", alert.state.as_str())
        });
        short.collect()
    }

    fn paused(hosts: &[(&str, i64)]) -> StoreTroubles {
        let hosts = hosts.iter().map(|(host, since)| PausedHost {
            host: (*host).to_owned(),
            since: at(*since),
        });
        StoreTroubles {
            dead_deliveries: 0,
            paused_hosts: hosts.collect(),
        }
    }

    #[test]
    fn a_refused_key_alerts_at_once_and_is_over_when_basiq_accepts_it() {
        let mut state = none_firing();
        for (second, upstream, expected) in [
            (0, UpstreamHealth::Ok, None),
            (1, UpstreamHealth::KeyRefused, Some("firing")),
            (2, UpstreamHealth::KeyRefused, None),
            (3, UpstreamHealth::Failing, None),
            (4, UpstreamHealth::KeyRefused, None),
            (5, UpstreamHealth::Throttled, Some("resolved")),
            (6, UpstreamHealth::Ok, None),
        ] {
            let facts = AlertFacts {
                upstream,
                ..well(at(second))
            };
            let expected = expected.map(|state| format!("key-refused  {state} since 1"));
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(alerts_of(&mut state, &facts, second), expected, "{second}");
        }
    }

    #[test]
    fn an_open_breaker_alerts_after_a_minute_without_a_break() {
        let mut state = none_firing();
        for (second, is_breaker_open, expected) in [
            (0, true, None),
            (59, true, None),
            (59, false, None),
            (60, true, None),
            (119, true, None),
            (120, true, Some("breaker-open  firing since 60")),
            (900, true, None),
            (901, false, Some("breaker-open  resolved since 60")),
            (902, false, None),
        ] {
            let facts = AlertFacts {
                is_breaker_open,
                ..well(at(second))
            };
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(alerts_of(&mut state, &facts, second), expected, "{second}");
        }
    }

    #[test]
    fn a_store_alerts_after_ten_seconds_without_a_write() {
        let mut state = none_firing();
        for (second, written_at, expected) in [
            (9, 0, None),
            (10, 0, Some("store-unwritable  firing since 0")),
            (11, 0, None),
            (12, 12, Some("store-unwritable  resolved since 0")),
            (21, 12, None),
        ] {
            let facts = AlertFacts {
                troubles: None,
                ..well(at(written_at))
            };
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(alerts_of(&mut state, &facts, second), expected, "{second}");
        }
    }

    #[test]
    fn dead_deliveries_alert_once_until_none_is_left() {
        let mut state = none_firing();
        for (second, dead, expected) in [
            (0, Some(0), None),
            (1, Some(2), Some("deliveries-dead  firing since 1")),
            (2, Some(7), None),
            (3, None, None),
            (4, Some(1), None),
            (5, Some(0), Some("deliveries-dead  resolved since 1")),
            (6, Some(1), Some("deliveries-dead  firing since 6")),
        ] {
            let facts = AlertFacts {
                troubles: dead.map(|dead_deliveries| StoreTroubles {
                    dead_deliveries,
                    ..StoreTroubles::default()
                }),
                ..well(at(second))
            };
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(alerts_of(&mut state, &facts, second), expected, "{second}");
        }
    }

    #[test]
    fn each_paused_host_alerts_by_itself() {
        let mut state = none_firing();
        for (second, troubles, expected) in [
            (
                700,
                Some(paused(&[("a", 50)])),
                vec!["host-paused a firing since 50"],
            ),
            (701, Some(paused(&[("a", 50)])), vec![]),
            (702, None, vec![]),
            (
                703,
                Some(paused(&[("a", 50), ("b", 90)])),
                vec!["host-paused b firing since 90"],
            ),
            (
                704,
                Some(paused(&[("b", 90), ("c", 91)])),
                vec![
                    "host-paused a resolved since 50",
                    "host-paused c firing since 91",
                ],
            ),
            (
                705,
                Some(paused(&[])),
                vec![
                    "host-paused b resolved since 90",
                    "host-paused c resolved since 91",
                ],
            ),
        ] {
            let facts = AlertFacts {
                troubles,
                ..well(at(second))
            };
            assert_eq!(alerts_of(&mut state, &facts, second), expected, "{second}");
        }
    }

    fn any_facts() -> impl Strategy<Value = (AlertFacts, i64)> {
        let health = prop::sample::select(UpstreamHealth::ALL);
        let hosts = prop::collection::btree_set("[a-c]", 0..3);
        let troubles = prop::option::of((0_u64..3, hosts));
        (health, any::<bool>(), 0_i64..200, troubles, 0_i64..30).prop_map(
            |(upstream, is_breaker_open, written, troubles, passed)| {
                let troubles = troubles.map(|(dead_deliveries, hosts)| StoreTroubles {
                    dead_deliveries,
                    paused_hosts: hosts
                        .into_iter()
                        .map(|host| PausedHost { host, since: at(0) })
                        .collect(),
                });
                let facts = AlertFacts {
                    upstream,
                    is_breaker_open,
                    written_at: at(written),
                    troubles,
                };
                (facts, passed)
            },
        )
    }

    proptest! {
        #[test]
        fn begin_and_end_of_each_subject_take_turns(
            steps in prop::collection::vec(any_facts(), 1..60),
        ) {
            let mut state = FiringAlerts::new(AlertTiming {
                breaker_open: Duration::from_secs(10),
                ..AlertTiming::default()
            });
            let (mut now, mut firing) = (0, std::collections::BTreeSet::new());
            for (facts, passed) in steps {
                now += passed;
                for alert in state.update(&facts, at(now)) {
                    let subject = format!("{:?}", alert.subject);
                    match alert.state {
                        AlertState::Firing => prop_assert!(firing.insert(subject)),
                        AlertState::Resolved => prop_assert!(firing.remove(&subject)),
                    }
                }
                prop_assert!(firing.len() <= 4 + 3);
            }
        }
    }
}
