//! Counts attempts in flight by host, and narrows hosts that do not answer.
//!
//! A host that fails to answer gets half as many slots with each failure in a row, down to one, and
//! all of them again with its first answer: so many dead hosts together cannot hold every slot.

use std::collections::HashMap;

use crate::store::HostLimits;

/// How many hosts without an attempt in flight are remembered as silent.
const REMEMBERED: usize = 256;

/// Attempts in flight by host. It lives in memory: it says what this process is doing.
#[derive(Debug)]
pub(super) struct HostLoad {
    per_host: usize,
    total: usize,
    hosts: HashMap<String, Host>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Host {
    in_flight: usize,
    /// Attempts in a row that brought no answer.
    silent: u32,
}

impl HostLoad {
    /// No attempt in flight; at most `per_host` to any one host.
    pub(super) fn new(per_host: usize) -> Self {
        Self {
            per_host,
            total: 0,
            hosts: HashMap::new(),
        }
    }

    /// Attempts in flight, in all.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// An attempt began.
    pub(super) fn began(&mut self, host: &str) {
        self.total += 1;
        self.hosts.entry(host.to_owned()).or_default().in_flight += 1;
    }

    /// An attempt ended, with an answer of any kind or without one.
    pub(super) fn ended(&mut self, host: &str, answered: bool) {
        self.total = self.total.saturating_sub(1);
        let Some(entry) = self.hosts.get_mut(host) else {
            return;
        };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        entry.silent = if answered {
            0
        } else {
            entry.silent.saturating_add(1)
        };
        if entry.in_flight == 0 && entry.silent == 0 {
            self.hosts.remove(host);
        }
        if self.hosts.len() > self.total + REMEMBERED {
            self.hosts.retain(|_, host| host.in_flight > 0);
        }
    }

    /// What the store may hand out. Slots a silent host lost count as taken.
    pub(super) fn limits(&self) -> HostLimits {
        HostLimits {
            per_host: self.per_host,
            in_flight: self
                .hosts
                .iter()
                .map(|(name, host)| (name.clone(), self.taken(*host)))
                .filter(|(_, taken)| *taken > 0)
                .collect(),
        }
    }

    fn taken(&self, host: Host) -> usize {
        let allowed = self.per_host.checked_shr(host.silent).unwrap_or(0).max(1);
        host.in_flight + self.per_host.saturating_sub(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(load: &HostLoad, host: &str) -> usize {
        load.limits().in_flight.get(host).copied().unwrap_or(0)
    }

    #[test]
    fn attempts_are_counted_by_host_and_in_all() {
        let mut load = HostLoad::new(16);
        for host in ["a.example", "a.example", "b.example"] {
            load.began(host);
        }
        assert_eq!((load.total(), taken(&load, "a.example")), (3, 2));
        load.ended("a.example", true);
        load.ended("b.example", true);
        assert_eq!((load.total(), taken(&load, "a.example")), (1, 1));
        assert!(!load.limits().in_flight.contains_key("b.example"));
    }

    #[test]
    fn a_silent_host_is_narrowed_to_one_slot_until_it_answers() {
        let mut load = HostLoad::new(16);
        for free in [8, 4, 2, 1, 1, 1] {
            load.began("dead.example");
            load.ended("dead.example", false);
            assert_eq!(16 - taken(&load, "dead.example"), free);
        }
        load.began("dead.example");
        assert_eq!(taken(&load, "dead.example"), 16);
        load.ended("dead.example", true);
        assert_eq!(taken(&load, "dead.example"), 0);
    }

    #[test]
    fn only_so_many_silent_hosts_are_remembered() {
        let mut load = HostLoad::new(16);
        for number in 0..10_000 {
            let host = format!("{number}.example");
            load.began(&host);
            load.ended(&host, false);
            assert!(load.hosts.len() <= REMEMBERED + 1);
        }
    }
}
