//! Divides the room there is for attempts between deliveries that are claimed in the store and new ones, which are
//! handed over as they are stored.

use std::{pin::pin, time::Duration};

use jiff::Timestamp;

use crate::{
    delivery::worker::DeliveryWorker,
    store::{DueDelivery, HostLimits, Room},
};

impl DeliveryWorker {
    /// Has room for claims, and offers new deliveries the rest: half of it, or all while claims can wait; while
    /// there is more to claim than room, none. Says for how long claims wait, if there are none.
    pub(super) fn divide_room(&mut self) -> ((usize, HostLimits), Option<Duration>) {
        let nothing = (0, HostLimits::default());
        self.store.new_deliveries().withdraw();
        self.receive();
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
        if let Some(wait) = self.search.can_wait() {
            self.offer(free, hosts);
            return (nothing, Some(wait));
        }
        let (claimed, offered) = halves(&hosts);
        self.offer(free / 2, offered);
        ((free - free / 2, claimed), None)
    }

    /// Offers room to new deliveries.
    fn offer(&self, limit: usize, hosts: HostLimits) {
        let room = Room {
            clock: self.clock.clone(),
            lease: self.lease,
            limit,
            hosts,
        };
        self.store.new_deliveries().offer(room, self.wake.clone());
    }

    /// Sends what was handed over.
    fn receive(&mut self) {
        let new = self.store.new_deliveries().receive();
        if !new.is_empty() {
            self.search.handed();
            self.start_all(new, self.clock.now());
        }
    }

    /// Sends new deliveries while the store is at work.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let (mut work, store) = (pin!(work), self.store.clone());
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = store.new_deliveries().handed() => self.receive(),
            }
        }
    }

    /// Offers no more room, and sends what is on its way.
    pub(super) async fn close(&mut self) {
        let desk = self.store.clone();
        desk.new_deliveries().withdraw();
        self.receive();
        while !desk.new_deliveries().reserved().is_empty() {
            desk.new_deliveries().handed().await;
            self.receive();
        }
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

/// The room of each host in two parts, the larger one first.
fn halves(hosts: &HostLimits) -> (HostLimits, HostLimits) {
    let smaller = hosts.per_host / 2;
    let larger = hosts.per_host - smaller;
    let part = |per_host: usize, room: &dyn Fn(usize) -> usize| {
        let in_flight = hosts.in_flight.iter().map(|(host, taken)| {
            let free = room(hosts.per_host.saturating_sub(*taken));
            (host.clone(), per_host.saturating_sub(free))
        });
        HostLimits {
            per_host,
            in_flight: in_flight.collect(),
        }
    };
    (
        part(larger, &|free| free - free / 2),
        part(smaller, &|free| free / 2),
    )
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

    /// What a host has left.
    fn room(limits: &HostLimits, host: &str) -> usize {
        let taken = limits.in_flight.get(host).copied().unwrap_or(0);
        limits.per_host.saturating_sub(taken)
    }

    #[test]
    fn two_halves_of_a_hosts_room_are_as_much_as_the_whole() {
        let cases = (1..9).flat_map(|per_host| (0..=per_host).map(move |taken| (per_host, taken)));
        for (per_host, taken) in cases {
            let hosts = limits(per_host, &[("busy", taken)]);
            let (larger, smaller) = halves(&hosts);
            for (host, whole) in [("busy", per_host - taken), ("idle", per_host)] {
                let parts = (room(&larger, host), room(&smaller, host));
                assert_eq!(parts, (whole - whole / 2, whole / 2), "{host} {taken}");
            }
        }
    }
}
