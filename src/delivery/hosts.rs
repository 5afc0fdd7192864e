//! Limits the attempts in flight to each host, and gives fewer slots to hosts that do not answer.
//!
//! Each further failure to answer halves a host's slots, down to one. The first response restores all of them. So
//! many dead hosts together cannot hold every slot.

use relay_domain::Fleet;
use relay_store::{HostLimits, Slots};
use std::collections::HashMap;

use crate::delivery::{CallbackSender, SingleSender};

/// The maximum number of silent hosts without an attempt in flight to remember.
const REMEMBERED: usize = 256;

/// The limits of hosts, and the hosts that do not answer. They are kept in memory, because they describe this process
/// only.
#[derive(Debug)]
pub(super) struct HostLoad {
    per_host: usize,
    /// The relays that share the slots of each host.
    fleet: Fleet,
    /// Knows the attempts in flight to each host.
    slots: Slots,
    silent: HashMap<String, Silence>,
}

/// The number of attempts in a row to which a host or an address did not respond.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence(u32);

impl Silence {
    /// Notes an attempt that ended with a response of any kind, or without one.
    pub(super) fn note(&mut self, answered: bool) {
        self.0 = if answered {
            0
        } else {
            self.0.saturating_add(1)
        };
    }

    /// Returns how many of `of` slots are lost.
    pub(super) fn lost(self, of: usize) -> usize {
        let allowed = of.checked_shr(self.0).unwrap_or(0).max(1);
        of.saturating_sub(allowed)
    }
}

impl HostLoad {
    /// Allows at most `per_host` of the `slots` for each host.
    pub(super) fn new(per_host: usize, slots: Slots) -> Self {
        Self {
            per_host,
            fleet: Fleet::alone(),
            slots,
            silent: HashMap::new(),
        }
    }

    /// Divides the slots of each host among the relays of `fleet`.
    pub(super) fn join_fleet(&mut self, fleet: Fleet) {
        self.fleet = fleet;
    }

    /// Returns a sender of single messages, which count with these attempts against the limits of each host.
    pub(super) fn single_sender(&self, sender: CallbackSender) -> SingleSender {
        SingleSender::new(sender, &self.slots, self.per_host, self.fleet.clone())
    }

    /// Whether other relays share the slots of each host.
    pub(super) fn is_shared(&self) -> bool {
        self.fleet.relays() > 1
    }

    /// Notes an attempt that ended with a response of any kind, or without one.
    pub(super) fn note(&mut self, host: &str, answered: bool) {
        if answered {
            self.silent.remove(host);
            return;
        }
        self.silent.entry(host.to_owned()).or_default().note(false);
        if self.silent.len() > REMEMBERED {
            let in_use = self.slots.by_host();
            if self.silent.len() > REMEMBERED + in_use.len() {
                self.silent.retain(|host, _| in_use.contains_key(host));
            }
        }
    }

    /// Returns the limits for claims and new deliveries. `full` hosts get none, because they are full for another
    /// reason. Slots that a silent host lost count as taken.
    pub(super) fn limits(&self, full: Vec<String>) -> HostLimits {
        let per_host = self.fleet.of(self.per_host);
        let mut taken = self.slots.by_host();
        for (host, silence) in &self.silent {
            let lost = silence.lost(per_host);
            if lost > 0 {
                *taken.entry(host.clone()).or_default() += lost;
            }
        }
        taken.extend(full.into_iter().map(|name| (name, per_host)));
        HostLimits { per_host, taken }
    }
}

#[cfg(test)]
mod tests {
    use relay_store::Permit;

    use super::*;

    fn load() -> HostLoad {
        HostLoad::new(16, Slots::new(usize::from(u16::MAX)))
    }

    /// Begins an attempt, within the host's limit.
    fn begin(load: &HostLoad, host: &str) -> Option<Permit> {
        let slots = load.slots.set_aside(1).within(load.limits(Vec::new()));
        { slots }.permit_for(host)
    }

    fn free(load: &HostLoad, host: &str) -> usize {
        load.limits(Vec::new()).free_at(host)
    }

    #[test]
    fn attempts_are_counted_by_host() {
        let load = load();
        let first = ["a.example", "b.example"].map(|host| begin(&load, host));
        let second = begin(&load, "a.example");
        assert_eq!(
            (free(&load, "a.example"), free(&load, "c.example")),
            (14, 16)
        );
        drop(first);
        assert_eq!(free(&load, "a.example"), 15);
        assert!(!load.limits(Vec::new()).taken.contains_key("b.example"));
        drop(second);
    }

    #[test]
    fn relays_divide_the_slots_of_a_host() {
        let (mut load, fleet) = (load(), Fleet::alone());
        load.join_fleet(fleet.clone());
        let _attempt = begin(&load, "a.example");
        for (relays, slots) in [(1, 16), (2, 8), (5, 3), (1, 16)] {
            fleet.set_size(relays);
            let limits = load.limits(vec!["full.example".to_owned()]);
            assert_eq!(limits.per_host, slots);
            assert_eq!(limits.taken["a.example"], 1);
            assert_eq!(limits.taken["full.example"], slots);
        }
    }

    #[test]
    fn a_host_keeps_the_attempts_in_flight_when_another_relay_takes_a_share_of_its_slots() {
        let (mut load, fleet) = (load(), Fleet::alone());
        load.join_fleet(fleet.clone());
        let attempts: Vec<_> = (0..12).map(|_| begin(&load, "a.example")).collect();
        fleet.set_size(2);
        assert_eq!(free(&load, "a.example"), 0);
        assert!(begin(&load, "a.example").is_none());
        drop(attempts);
        assert_eq!(free(&load, "a.example"), 8);
    }

    #[test]
    fn a_silent_host_is_narrowed_to_one_slot_until_it_answers() {
        let mut load = load();
        for slots in [8, 4, 2, 1, 1, 1] {
            load.note("dead.example", false);
            assert_eq!(free(&load, "dead.example"), slots);
        }
        let attempt = begin(&load, "dead.example");
        assert!(attempt.is_some());
        assert_eq!(free(&load, "dead.example"), 0);
        load.note("dead.example", true);
        drop(attempt);
        assert_eq!(free(&load, "dead.example"), 16);
    }

    #[test]
    fn only_so_many_silent_hosts_are_remembered() {
        let mut load = load();
        load.note("used.example", false);
        let _attempt = begin(&load, "used.example");
        for number in 0..10_000 {
            load.note(&format!("{number}.example"), false);
            assert!(load.silent.len() <= REMEMBERED + 1);
        }
        assert!(load.silent.contains_key("used.example"));
    }
}
