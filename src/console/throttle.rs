//! Slows log-ins from addresses whose log-ins failed.
//!
//! A log-in waits before its token is looked at, so a guess takes as long as the right token. Nobody is locked out: the
//! wait is short, and the right token ends it for the address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;

/// The number of log-ins of an address that may fail before others wait.
const FREE: u32 = 3;

/// The wait of the first log-in that waits. It doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long a failure counts.
const COUNTS_FOR: Duration = Duration::from_mins(15);

/// The maximum number of addresses whose failures are kept. At the limit, the one that failed longest ago is forgotten.
const MOST_ADDRESSES: usize = 1024;

/// The failures of each address. An address that the relay does not know is one as well.
#[derive(Debug, Default)]
pub(super) struct LogInThrottle(Mutex<HashMap<Option<IpAddr>, Failures>>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    latest: Timestamp,
}

impl LogInThrottle {
    /// Returns how long a log-in from this address must wait. It counts as failed until [`Self::succeeded`] is called,
    /// so that log-ins at the same time wait too.
    pub(super) fn begin(&self, from: Option<IpAddr>, now: Timestamp) -> Duration {
        let mut all = self.0.lock();
        all.retain(|_, failures| counts(*failures, now));
        let from = from.map(network);
        if all.len() >= MOST_ADDRESSES && !all.contains_key(&from) {
            let oldest = all.iter().min_by_key(|(_, failures)| failures.latest);
            let oldest = oldest.map(|(address, _)| *address);
            oldest.and_then(|address| all.remove(&address));
        }
        let failures = all.entry(from).or_insert(Failures {
            count: 0,
            latest: now,
        });
        let wait = wait_after(failures.count);
        failures.count = failures.count.saturating_add(1);
        failures.latest = now;
        wait
    }

    /// Forgets the failures of an address from which somebody logged in.
    pub(super) fn succeeded(&self, from: Option<IpAddr>) {
        self.0.lock().remove(&from.map(network));
    }
}

fn counts(failures: Failures, now: Timestamp) -> bool {
    let age = now.duration_since(failures.latest);
    Duration::try_from(age).unwrap_or_default() < COUNTS_FOR
}

/// Returns the wait of a log-in after this number of failures.
fn wait_after(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(FREE) else {
        return Duration::ZERO;
    };
    let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
}

/// Returns the network that counts as one address: an IPv6 user has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_waits_longer_with_each_failure_and_others_do_not() {
        let throttle = LogInThrottle::default();
        let attacker = Some(address("192.0.2.1"));
        let waits: Vec<_> = (0..8).map(|_| throttle.begin(attacker, at(0))).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 5, 5].map(Duration::from_secs));
        for other in [Some(address("192.0.2.2")), None] {
            assert_eq!(throttle.begin(other, at(0)), Duration::ZERO);
        }
        throttle.succeeded(attacker);
        assert_eq!(throttle.begin(attacker, at(0)), Duration::ZERO);
    }

    #[test]
    fn failures_are_forgotten_after_a_while() {
        let throttle = LogInThrottle::default();
        for _ in 0..5 {
            throttle.begin(None, at(0));
        }
        assert!(throttle.begin(None, at(899)) > Duration::ZERO);
        assert!(throttle.begin(None, at(1700)) > Duration::ZERO);
        assert_eq!(throttle.begin(None, at(2600)), Duration::ZERO);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let throttle = LogInThrottle::default();
        for last in 1..=4 {
            throttle.begin(Some(address(&format!("2001:db8::{last}"))), at(0));
        }
        assert!(throttle.begin(Some(address("2001:db8::ffff")), at(0)) > Duration::ZERO);
        assert_eq!(
            throttle.begin(Some(address("2001:db8:0:1::1")), at(0)),
            Duration::ZERO
        );
    }

    #[test]
    fn only_so_many_addresses_are_kept() {
        let throttle = LogInThrottle::default();
        for number in 0..5000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            throttle.begin(Some(address), at(i64::from(number / 100)));
        }
        assert_eq!(throttle.0.lock().len(), MOST_ADDRESSES);
    }
}
