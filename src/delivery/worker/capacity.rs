//! Divides the free slots for attempts between two kinds of deliveries. The worker claims due ones in the store; the
//! store sends new ones to the worker after the commit that stores them.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use relay_runtime::{HostBacklog, SlotDivision};
use relay_store::{DueDelivery, HostLimits, Permit, ReservedSlots};

use crate::delivery::worker::DeliveryWorker;

impl DeliveryWorker {
    /// Divides the free slots between the next claim and new deliveries, see [`SlotDivision`]. Offers one part to new
    /// deliveries, which never get slots of a saturated host. Returns the part of the claim, which is empty while
    /// claims wait, and for how long they wait.
    pub(super) fn divide_slots(&mut self) -> (ReservedSlots, Option<Duration>) {
        for new in self.new_deliveries.withdraw() {
            self.start_new(new);
        }
        let free = self.slots.free();
        if free == 0 || self.record_failed {
            return (self.slots.set_aside(0), None);
        }
        let limits = self.limits();
        let division = self.pacer.divide(self.host_backlog(&limits));
        let ((claimed, new), wait) = match division {
            SlotDivision::ClaimOnly => ((limits, HostLimits::default()), None),
            SlotDivision::Halves => (halves(&limits, &self.saturated_hosts), None),
            SlotDivision::NewWorkOnly(wait) => ((HostLimits::default(), limits), Some(wait)),
        };
        let for_new = division.for_new_work(free);
        self.new_deliveries
            .offer(self.slots.set_aside(for_new).within(new));
        let claim = self.slots.set_aside(free - for_new).within(claimed);
        (claim, wait)
    }

    /// Returns whether deliveries may wait for a saturated host that has free slots again.
    fn host_backlog(&self, limits: &HostLimits) -> HostBacklog {
        let mut hosts = self.saturated_hosts.iter();
        if !hosts.any(|host| limits.free_at(host) > 0) {
            HostBacklog::None
        } else if self.hosts.is_shared() {
            HostBacklog::ManyRelays
        } else {
            HostBacklog::OneRelay
        }
    }

    /// Starts a new delivery that the store sent.
    pub(super) fn start_new(&mut self, (due, permit): (DueDelivery, Permit)) {
        self.pacer.received();
        self.start_or_expire(due, permit, self.clock.now());
    }

    /// Starts the deliveries that were claimed for `slots`. Returns whether due deliveries may be left for which slots
    /// are free.
    pub(super) fn start_claimed(
        &mut self,
        claimed: Vec<DueDelivery>,
        mut slots: ReservedSlots,
        now: Timestamp,
    ) -> bool {
        if slots.is_empty() {
            return false;
        }
        let mut hosts = HashSet::new();
        for due in claimed {
            // the claim stayed within the limits, so there is a permit for each delivery
            if let Some(permit) = slots.permit_for(due.callback_url.host()) {
                hosts.insert(due.callback_url.host().to_owned());
                self.start_or_expire(due, permit, now);
            }
        }
        let is_full = slots.is_empty();
        self.pacer.claimed(is_full);
        let is_saturated = |host: &String| slots.limits().free_at(host) == 0;
        hosts.retain(is_saturated);
        let more = is_full || !hosts.is_empty();
        // a claim shows nothing about a host without free slots, so it stays in the set
        self.saturated_hosts.retain(is_saturated);
        self.saturated_hosts.extend(hosts);
        more
    }

    fn start_or_expire(&mut self, due: DueDelivery, permit: Permit, now: Timestamp) {
        if due.deadline.is_some_and(|deadline| deadline <= now) {
            self.expire(&due);
        } else {
            self.start(due, permit);
        }
    }
}

/// Divides the free slots of each host: the larger part for claims, the smaller part for new deliveries. New
/// deliveries get no slots of saturated hosts.
fn halves(hosts: &HostLimits, saturated_hosts: &HashSet<String>) -> (HostLimits, HostLimits) {
    let smaller = hosts.per_host / 2;
    let larger = hosts.per_host - smaller;
    let (mut claims, mut new) = (HashMap::new(), HashMap::new());
    for host in hosts.taken.keys().chain(saturated_hosts) {
        let free = hosts.free_at(host);
        let for_new = if saturated_hosts.contains(host) {
            0
        } else {
            free / 2
        };
        let for_claims = (free - for_new).min(larger);
        claims.insert(host.clone(), larger - for_claims);
        new.insert(host.clone(), smaller - for_new);
    }
    let part = |per_host, taken| HostLimits { per_host, taken };
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
            taken: taken.collect(),
        }
    }

    #[test]
    fn the_halves_of_a_hosts_free_slots_add_up_and_new_deliveries_get_none_of_a_saturated_host() {
        let cases = (1..9).flat_map(|per_host| (0..=per_host).map(move |taken| (per_host, taken)));
        for (per_host, taken) in cases {
            let hosts = limits(per_host, &[("busy", taken)]);
            let (larger, smaller) = halves(&hosts, &HashSet::new());
            for (host, whole) in [("busy", per_host - taken), ("idle", per_host)] {
                let parts = (larger.free_at(host), smaller.free_at(host));
                assert_eq!(parts, (whole - whole / 2, whole / 2), "{host} {taken}");
            }
            let saturated_hosts = HashSet::from(["busy".to_owned(), "idle".to_owned()]);
            let (larger, smaller) = halves(&hosts, &saturated_hosts);
            for host in ["busy", "idle"] {
                let most = larger.per_host.min(hosts.free_at(host));
                let parts = (larger.free_at(host), smaller.free_at(host));
                assert_eq!(parts, (most, 0), "saturated {host} {taken}");
            }
        }
    }
}
