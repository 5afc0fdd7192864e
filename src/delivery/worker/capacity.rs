//! Divides the room there is for attempts between deliveries that are claimed in the store and new ones, which are
//! handed over as they are stored.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    delivery::worker::DeliveryWorker,
    store::{Capacity, DueDelivery, HostLimits},
};

impl DeliveryWorker {
    /// Has room for claims, and offers new deliveries the rest: half of it, or all while claims can wait; while
    /// there is more to claim than room, none, and none of hosts of which there is. Where other relays are, none either
    /// while more waits for a host that has room. Says for how long claims wait, if
    /// there are none.
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
        // what is left free now is so until others had the store
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

    /// Offers room to new deliveries.
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

    /// Sends new deliveries that were handed over.
    pub(super) fn send(&mut self, new: Vec<DueDelivery>) {
        if !new.is_empty() {
            self.search.handed();
            self.start_all(new, self.clock.now());
        }
    }

    /// Notes what a claim of so many brought, of hosts with so much room, and says whether there may be more that
    /// there is room for.
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
        // of a host without room nothing is learned
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

/// The room of each host in two parts: for claims, the larger one, and for new deliveries, which have none of crowded
/// hosts.
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
