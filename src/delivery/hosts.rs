//! Counts attempts in flight by host, and gives fewer slots to hosts that do not answer.
//!
//! Each further failure to answer halves a host's slots, down to one. The first response restores all of them. So
//! many dead hosts together cannot hold every slot.

use relay_domain::Fleet;
use relay_store::HostLimits;
use std::collections::HashMap;

/// The maximum number of silent hosts without an attempt in flight to remember.
const REMEMBERED: usize = 256;

/// The attempts in flight by host. They are kept in memory, because they describe this process only.
#[derive(Debug)]
pub(super) struct HostLoad {
    per_host: usize,
    /// The relays that share the slots of each host.
    share: Fleet,
    total: usize,
    hosts: HashMap<String, AttemptCounts>,
}

/// The attempts in flight to one target: a host or an address.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct AttemptCounts {
    in_flight: usize,
    /// The number of attempts in a row without a response.
    silent: u32,
}

impl AttemptCounts {
    /// Counts an attempt that begins.
    pub(super) fn began(&mut self) {
        self.in_flight += 1;
    }

    /// Counts an attempt that ended: with a response of any kind, without one, or before a request was sent.
    pub(super) fn ended(&mut self, answered: Option<bool>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match answered {
            Some(true) => self.silent = 0,
            Some(false) => self.silent = self.silent.saturating_add(1),
            None => {}
        }
    }

    /// Whether there is nothing to remember: no attempt in flight and no failure to answer.
    pub(super) fn is_idle(self) -> bool {
        self.in_flight == 0 && self.silent == 0
    }

    /// Whether an attempt is in flight.
    pub(super) fn is_used(self) -> bool {
        self.in_flight > 0
    }

    /// Returns how many of `of` slots are taken. Slots that the target lost by silence count as taken.
    pub(super) fn taken(self, of: usize) -> usize {
        let allowed = of.checked_shr(self.silent).unwrap_or(0).max(1);
        self.in_flight + of.saturating_sub(allowed)
    }
}

impl HostLoad {
    /// Creates an empty count. At most `per_host` attempts may be in flight to one host.
    pub(super) fn new(per_host: usize) -> Self {
        Self {
            per_host,
            share: Fleet::alone(),
            total: 0,
            hosts: HashMap::new(),
        }
    }

    /// Divides the slots of each host among the relays of `share`.
    pub(super) fn share_with(&mut self, share: Fleet) {
        self.share = share;
    }

    /// Whether other relays share the slots of each host.
    pub(super) fn is_shared(&self) -> bool {
        self.share.relays() > 1
    }

    /// Returns the number of attempts in flight to all hosts.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Counts an attempt that begins.
    pub(super) fn began(&mut self, host: &str) {
        self.total += 1;
        self.hosts.entry(host.to_owned()).or_default().began();
    }

    /// Counts an attempt that ended; see [`AttemptCounts::ended`].
    pub(super) fn ended(&mut self, host: &str, answered: Option<bool>) {
        self.total = self.total.saturating_sub(1);
        let Some(slots) = self.hosts.get_mut(host) else {
            return;
        };
        slots.ended(answered);
        if slots.is_idle() {
            self.hosts.remove(host);
        }
        if self.hosts.len() > self.total + REMEMBERED {
            self.hosts.retain(|_, slots| slots.is_used());
        }
    }

    /// Returns the limits for claims. Nothing is claimed for `full` hosts, which are full for another reason. Slots
    /// that a silent host lost count as taken.
    pub(super) fn limits(&self, full: Vec<String>) -> HostLimits {
        let per_host = self.share.of(self.per_host);
        let taken = |slots: &AttemptCounts| slots.taken(per_host);
        let mut in_flight: HashMap<_, _> = self
            .hosts
            .iter()
            .map(|(name, slots)| (name.clone(), taken(slots)))
            .filter(|(_, taken)| *taken > 0)
            .collect();
        in_flight.extend(full.into_iter().map(|name| (name, per_host)));
        HostLimits {
            per_host,
            in_flight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(load: &HostLoad, host: &str) -> usize {
        load.limits(Vec::new())
            .in_flight
            .get(host)
            .copied()
            .unwrap_or(0)
    }

    #[test]
    fn attempts_are_counted_by_host_and_in_all() {
        let mut load = HostLoad::new(16);
        for host in ["a.example", "a.example", "b.example"] {
            load.began(host);
        }
        assert_eq!((load.total(), taken(&load, "a.example")), (3, 2));
        load.ended("a.example", Some(true));
        load.ended("b.example", Some(true));
        assert_eq!((load.total(), taken(&load, "a.example")), (1, 1));
        assert!(!load.limits(Vec::new()).in_flight.contains_key("b.example"));
    }

    #[test]
    fn relays_divide_the_slots_of_a_host() {
        let (mut load, share) = (HostLoad::new(16), Fleet::alone());
        load.share_with(share.clone());
        load.began("a.example");
        for (relays, slots) in [(1, 16), (2, 8), (5, 3), (1, 16)] {
            share.set_size(relays);
            let limits = load.limits(vec!["full.example".to_owned()]);
            assert_eq!(limits.per_host, slots);
            assert_eq!(limits.in_flight["a.example"], 1);
            assert_eq!(limits.in_flight["full.example"], slots);
        }
    }

    #[test]
    fn a_silent_host_is_narrowed_to_one_slot_until_it_answers() {
        let mut load = HostLoad::new(16);
        for free in [8, 4, 2, 1, 1, 1] {
            load.began("dead.example");
            load.ended("dead.example", Some(false));
            assert_eq!(16 - taken(&load, "dead.example"), free);
        }
        load.began("dead.example");
        assert_eq!(taken(&load, "dead.example"), 16);
        load.ended("dead.example", Some(true));
        assert_eq!(taken(&load, "dead.example"), 0);
    }

    #[test]
    fn only_so_many_silent_hosts_are_remembered() {
        let mut load = HostLoad::new(16);
        for number in 0..10_000 {
            let host = format!("{number}.example");
            load.began(&host);
            load.ended(&host, Some(false));
            assert!(load.hosts.len() <= REMEMBERED + 1);
        }
    }
}
