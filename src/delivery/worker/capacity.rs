//! Divides the free slots for attempts between two kinds of deliveries. The worker claims due ones in the store; the
//! store sends new ones to the worker after the commit that stores them.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use relay_store::{Capacity, DueDelivery, HostLimits};

use crate::delivery::worker::DeliveryWorker;

impl DeliveryWorker {
    /// Divides the free slots between claims and new deliveries. Publishes the part of new deliveries as capacity,
    /// and returns the limits for the next claim.
    ///
    /// * New deliveries get all free slots while claims can wait, and half of them otherwise.
    /// * They get none while the latest claim may have left due deliveries, and never slots of a saturated host.
    /// * If other relays share the store, they get none while a saturated host has free slots.
    ///
    /// While claims wait, also returns for how long.
    pub(super) fn divide_room(&mut self) -> ((usize, HostLimits), Option<Duration>) {
        let nothing = (0, HostLimits::default());
        self.store.new_deliveries().clear_capacity();
        let new = self.store.new_deliveries().receive();
        self.send(new);
        let (mut hosts, reserved) = (self.limits(), self.store.new_deliveries().reserved());
        let taken = self.in_flight() + reserved.values().sum::<usize>();
        let free = self.concurrency.saturating_sub(taken);
        if free == 0 || self.refused {
            return (nothing, None);
        }
        for (host, count) in reserved {
            *hosts.in_flight.entry(host).or_default() += count;
        }
        if self.search.left_some() {
            return ((free, hosts), None);
        }
        let is_waited_for = self
            .saturated_hosts
            .iter()
            .any(|host| hosts.room_at(host) > 0);
        // with other relays, a slot that is left free now stays free until they have used the store
        if is_waited_for && self.hosts.is_shared() {
            return ((free, hosts), None);
        }
        if let Some(wait) = self.search.can_wait().filter(|_| !is_waited_for) {
            self.set_capacity(free, hosts);
            return (nothing, Some(wait));
        }
        let (claimed, offered) = halves(&hosts, &self.saturated_hosts);
        self.set_capacity(free / 2, offered);
        ((free - free / 2, claimed), None)
    }

    /// Publishes free slots to new deliveries.
    fn set_capacity(&self, limit: usize, hosts: HostLimits) {
        let room = Capacity {
            clock: self.clock.clone(),
            lease: self.lease,
            limit,
            hosts,
        };
        self.store
            .new_deliveries()
            .set_capacity(room, self.wake.clone());
    }

    /// Starts attempts of new deliveries that the store sent.
    pub(super) fn send(&mut self, new: Vec<DueDelivery>) {
        if !new.is_empty() {
            self.search.handed();
            self.start_all(new, self.clock.now());
        }
    }

    /// Notes the result of a claim that had the given limits. Returns whether due deliveries may be left for which
    /// slots are free.
    pub(super) fn left_some(
        &mut self,
        limit: usize,
        hosts: &HostLimits,
        claimed: &[DueDelivery],
    ) -> bool {
        let is_full = claimed.len() == limit;
        self.search.searched(is_full);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for due in claimed {
            *counts.entry(due.callback_url.host()).or_default() += 1;
        }
        // a claim shows nothing about a host without free slots, so it stays in the set
        self.saturated_hosts.retain(|host| hosts.room_at(host) == 0);
        let used_up = counts
            .into_iter()
            .filter(|(host, count)| *count >= hosts.room_at(host));
        let used_up: Vec<_> = used_up.map(|(host, _)| host.to_owned()).collect();
        let more = is_full || !used_up.is_empty();
        self.saturated_hosts.extend(used_up);
        more
    }

    pub(super) fn start_all(&mut self, due: Vec<DueDelivery>, now: Timestamp) {
        for due in due {
            if due.deadline.is_some_and(|deadline| deadline <= now) {
                self.expire(&due);
            } else {
                self.start(due);
            }
        }
    }
}

/// Divides the free slots of each host: the larger part for claims, the smaller part for new deliveries. New
/// deliveries get no slots of saturated hosts.
fn halves(hosts: &HostLimits, saturated_hosts: &HashSet<String>) -> (HostLimits, HostLimits) {
    let smaller = hosts.per_host / 2;
    let larger = hosts.per_host - smaller;
    let (mut claims, mut new) = (HashMap::new(), HashMap::new());
    for host in hosts.in_flight.keys().chain(saturated_hosts) {
        let free = hosts.room_at(host);
        let for_new = if saturated_hosts.contains(host) {
            0
        } else {
            free / 2
        };
        let for_claims = (free - for_new).min(larger);
        claims.insert(host.clone(), larger - for_claims);
        new.insert(host.clone(), smaller - for_new);
    }
    let part = |per_host, in_flight| HostLimits {
        per_host,
        in_flight,
    };
    (part(larger, claims), part(smaller, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_host: usize, taken: &[(&str, usize)]) -> HostLimits {
        let taken = taken
            .iter()
            .map(|(host, taken)| ((*host).to_owned(), *taken));
        HostLimits {
            per_host,
            in_flight: taken.collect(),
        }
    }

    #[test]
    fn two_halves_of_a_hosts_room_are_as_much_as_the_whole_and_new_ones_get_nothing_of_a_crowded_host()
     {
        let cases = (1..9).flat_map(|per_host| (0..=per_host).map(move |taken| (per_host, taken)));
        for (per_host, taken) in cases {
            let hosts = limits(per_host, &[("busy", taken)]);
            let (larger, smaller) = halves(&hosts, &HashSet::new());
            for (host, whole) in [("busy", per_host - taken), ("idle", per_host)] {
                let parts = (larger.room_at(host), smaller.room_at(host));
                assert_eq!(parts, (whole - whole / 2, whole / 2), "{host} {taken}");
            }
            let saturated_hosts = HashSet::from(["busy".to_owned(), "idle".to_owned()]);
            let (larger, smaller) = halves(&hosts, &saturated_hosts);
            for host in ["busy", "idle"] {
                let most = larger.per_host.min(hosts.room_at(host));
                let parts = (larger.room_at(host), smaller.room_at(host));
                assert_eq!(parts, (most, 0), "crowded {host} {taken}");
            }
        }
    }
}
