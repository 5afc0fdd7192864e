//! Tests which problems begin and which are over.

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
        upstream: Some(UpstreamHealth::Ok),
        is_breaker_open: false,
        written_at: now,
        shared: SharedFacts::Read(StoreTroubles::default()),
        told_before: Vec::new(),
    }
}

fn shared(troubles: Option<StoreTroubles>) -> SharedFacts {
    troubles.map_or(SharedFacts::NotRead, SharedFacts::Read)
}

fn dead_deliveries(dead_deliveries: u64) -> StoreTroubles {
    StoreTroubles {
        dead_deliveries,
        ..StoreTroubles::default()
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
            upstream: Some(upstream),
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
            shared: SharedFacts::NotRead,
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
            shared: shared(dead.map(dead_deliveries)),
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
            shared: shared(troubles),
            ..well(at(second))
        };
        assert_eq!(alerts_of(&mut state, &facts, second), expected, "{second}");
    }
}

/// Facts of a relay that reads at this time what operators were told before.
fn told_before(subjects: &[(AlertKind, Option<&str>)], second: i64) -> AlertFacts {
    let told = subjects.iter().map(|(kind, host)| {
        let subject = host.map_or_else(
            || AlertSubject::of(*kind),
            |host| AlertSubject::paused(host.to_owned()),
        );
        (subject, at(-50))
    });
    AlertFacts {
        told_before: told.collect(),
        ..well(at(second))
    }
}

#[test]
fn what_operators_were_told_before_a_restart_is_told_to_be_over_and_not_again() {
    let told = [
        (AlertKind::DeliveriesDead, None),
        (AlertKind::HostPaused, Some("a")),
        (AlertKind::HostPaused, Some("b")),
        (AlertKind::KeyRefused, None),
        (AlertKind::BreakerOpen, None),
    ];
    let mut state = none_firing();
    let still = AlertFacts {
        upstream: None,
        shared: SharedFacts::Read(StoreTroubles {
            dead_deliveries: 3,
            ..paused(&[("a", -50)])
        }),
        ..told_before(&told, 0)
    };
    let over = ["host-paused b resolved since -50"];
    assert_eq!(alerts_of(&mut state, &still, 0), over);
    let over = [
        "key-refused  resolved since -50",
        "breaker-open  resolved since -50",
        "deliveries-dead  resolved since -50",
        "host-paused a resolved since -50",
    ];
    assert_eq!(alerts_of(&mut state, &well(at(1)), 1), over);
    assert!(alerts_of(&mut state, &well(at(2)), 2).is_empty());
}

#[test]
fn what_basiq_was_told_to_do_before_a_restart_is_over_when_it_answers() {
    let mut state = none_firing();
    let told = [
        (AlertKind::KeyRefused, None),
        (AlertKind::BreakerOpen, None),
    ];
    for (second, upstream, is_breaker_open, expected) in [
        (0, None, false, vec![]),
        (1, Some(UpstreamHealth::Failing), false, vec![]),
        // the breaker has not been open for a minute again
        (2, Some(UpstreamHealth::Failing), true, vec![]),
        (70, Some(UpstreamHealth::Failing), true, vec![]),
        (
            71,
            Some(UpstreamHealth::KeyRefused),
            false,
            vec!["breaker-open  resolved since -50"],
        ),
        (
            72,
            Some(UpstreamHealth::Ok),
            false,
            vec!["key-refused  resolved since -50"],
        ),
    ] {
        let told = if second == 0 { &told[..] } else { &[] };
        let facts = AlertFacts {
            upstream,
            is_breaker_open,
            written_at: at(second),
            ..told_before(told, second)
        };
        assert_eq!(alerts_of(&mut state, &facts, second), expected, "{second}");
    }
}

#[test]
fn what_other_relays_told_of_basiq_is_over_with_what_this_relay_sees() {
    let mut state = none_firing();
    let refused = AlertFacts {
        upstream: Some(UpstreamHealth::KeyRefused),
        ..well(at(0))
    };
    let began = ["key-refused  firing since 0"];
    assert_eq!(alerts_of(&mut state, &refused, 0), began);
    let of = |relay: &str| AlertSubject {
        relay: Some(relay.to_owned()),
        ..AlertSubject::of(AlertKind::KeyRefused)
    };
    let takes_over = AlertFacts {
        told_before: vec![(of("a"), at(-7)), (of("b"), at(-5))],
        ..refused
    };
    assert!(alerts_of(&mut state, &takes_over, 1).is_empty());
    let over = [
        "key-refused  resolved since 0",
        "key-refused  resolved since -7",
        "key-refused  resolved since -5",
    ];
    assert_eq!(alerts_of(&mut state, &well(at(2)), 2), over);
}

#[test]
fn a_relay_that_takes_over_goes_on_with_what_the_other_told() {
    let mut state = none_firing();
    let left = AlertFacts {
        shared: SharedFacts::LeftToAnother,
        ..well(at(0))
    };
    assert!(alerts_of(&mut state, &left, 0).is_empty());
    let dead = |told: &[_], second| AlertFacts {
        shared: SharedFacts::Read(dead_deliveries(1)),
        ..told_before(told, second)
    };
    let told = [(AlertKind::DeliveriesDead, None)];
    assert!(alerts_of(&mut state, &dead(&told, 1), 1).is_empty());
    // a relay that started earlier is back, and tells the end
    assert!(alerts_of(&mut state, &left, 2).is_empty());
    let began = ["deliveries-dead  firing since 3"];
    assert_eq!(alerts_of(&mut state, &dead(&[], 3), 3), began);
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
                upstream: Some(upstream),
                is_breaker_open,
                written_at: at(written),
                shared: shared(troubles),
                told_before: Vec::new(),
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
