//! Counts attempts in flight by their address, because many names can lead to one machine.
//!
//! An address has more slots than a name, because a load balancer may stand behind it. The rules for silent hosts in
//! [`super::hosts`] apply to addresses too.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use relay_domain::Fleet;

use crate::{config::DeliveryConfig, delivery::hosts::Silence};

/// An address has this many times the slots of one name, but at most a quarter of all slots.
const HOSTS_PER_ADDRESS: usize = 4;

/// The maximum number of names to remember with their address, and of silent addresses.
const REMEMBERED: usize = 4096;

/// The attempts in flight by address, and the latest address of each name.
#[derive(Debug, Clone)]
pub(super) struct AddressLoad {
    per_address: usize,
    /// The relays that share the slots of each address.
    fleet: Fleet,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    slots: HashMap<IpAddr, AddressSlots>,
    homes: HashMap<String, IpAddr>,
}

/// The slots of one address.
#[derive(Debug, Default)]
struct AddressSlots {
    in_flight: usize,
    silence: Silence,
}

impl AddressSlots {
    /// Returns how many of the slots of one address are taken. Slots that it lost by silence count as taken.
    fn taken(&self, per_address: usize) -> usize {
        self.in_flight + self.silence.lost(per_address)
    }
}

impl AddressLoad {
    pub(super) fn new(config: &DeliveryConfig) -> Self {
        let per_host = config.concurrency_per_host;
        let quarter = (config.concurrency / 4).max(per_host);
        Self {
            per_address: per_host.saturating_mul(HOSTS_PER_ADDRESS).min(quarter),
            fleet: Fleet::alone(),
            known: Arc::default(),
        }
    }

    /// Divides the slots of each address among the relays of `fleet`.
    pub(super) fn join_fleet(&mut self, fleet: Fleet) {
        self.fleet = fleet;
    }

    fn per_address(&self) -> usize {
        self.fleet.of(self.per_address)
    }

    /// Takes a slot for an attempt to `host` at `address`. Returns none if all slots are taken.
    pub(super) fn enter(&self, host: &str, address: IpAddr) -> Option<AddressPermit> {
        let address = machine(address);
        let mut known = self.lock();
        if known.homes.len() >= REMEMBERED && !known.homes.contains_key(host) {
            known.homes.clear();
        }
        known.homes.insert(host.to_owned(), address);
        let slots = known.slots.entry(address).or_default();
        if slots.taken(self.per_address()) >= self.per_address() {
            return None;
        }
        slots.in_flight += 1;
        Some(AddressPermit {
            load: self.clone(),
            address,
            answered: None,
        })
    }

    /// Returns the names whose latest address has no free slot.
    pub(super) fn full_hosts(&self) -> Vec<String> {
        let known = self.lock();
        let is_full = |slots: &AddressSlots| slots.taken(self.per_address()) >= self.per_address();
        if !known.slots.values().any(is_full) {
            return Vec::new();
        }
        let homes = known.homes.iter();
        homes
            .filter(|(_, address)| known.slots.get(*address).is_some_and(is_full))
            .map(|(host, _)| host.clone())
            .collect()
    }

    fn leave(&self, address: IpAddr, answered: Option<bool>) {
        let mut known = self.lock();
        let Some(slots) = known.slots.get_mut(&address) else {
            return;
        };
        slots.in_flight -= 1;
        if let Some(answered) = answered {
            slots.silence.note(answered);
        }
        if slots.in_flight == 0 && slots.silence == Silence::default() {
            known.slots.remove(&address);
        }
        if known.slots.len() > REMEMBERED {
            known.slots.retain(|_, slots| slots.in_flight > 0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }
}

/// A permit for one attempt to an address. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct AddressPermit {
    load: AddressLoad,
    address: IpAddr,
    answered: Option<bool>,
}

impl AddressPermit {
    /// Frees the slot and notes whether the address sent a response of any kind.
    pub(super) fn ended(mut self, answered: bool) {
        self.answered = Some(answered);
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        self.load.leave(self.address, self.answered);
    }
}

/// Returns the key that attempts to one machine are counted by. This is an IPv4 address or an IPv6 /64 network, of
/// which one machine has many addresses.
fn machine(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn load() -> AddressLoad {
        AddressLoad::new(&Settings::default().delivery)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_a_quarter_of_all_slots_whatever_it_is_called() {
        let load = load();
        let enter = |number: usize| load.enter(&format!("{}.example", number % 40), ip("1.1.1.1"));
        let seats: Vec<_> = (0..64).map_while(enter).collect();
        assert_eq!(seats.len(), 64);
        assert!(load.enter("new.example", ip("::ffff:1.1.1.1")).is_none());
        assert_eq!(load.full_hosts().len(), 41);
        assert!(load.enter("other.example", ip("1.1.1.2")).is_some());
        drop(seats);
        assert!(load.full_hosts().is_empty());
        assert!(load.lock().slots.is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_machine() {
        let load = load();
        let enter = |number: usize| load.enter("a.example", ip(&format!("2606:4700::{number}")));
        let seats: Vec<_> = (1..=65).map(enter).collect();
        assert!(seats.iter().take(64).all(Option::is_some) && seats[64].is_none());
        assert!(load.enter("a.example", ip("2606:4700:0:1::1")).is_some());
    }

    #[test]
    fn a_silent_address_is_narrowed_until_it_answers() {
        let load = load();
        for _ in 0..6 {
            let permit = load.enter("a.example", ip("1.1.1.1"));
            permit.unwrap().ended(false);
        }
        let only = load.enter("b.example", ip("1.1.1.1")).unwrap();
        assert!(load.enter("c.example", ip("1.1.1.1")).is_none());
        only.ended(true);
        let first = load.enter("b.example", ip("1.1.1.1"));
        assert!(load.enter("c.example", ip("1.1.1.1")).is_some() && first.is_some());
    }

    #[test]
    fn only_so_many_names_and_addresses_are_remembered() {
        let load = load();
        for number in 0..10_000_u32 {
            let address = IpAddr::V4(number.into());
            let permit = load.enter(&format!("{number}.example"), address).unwrap();
            permit.ended(false);
        }
        let known = load.lock();
        assert!(known.homes.len() <= REMEMBERED && known.slots.len() <= REMEMBERED + 1);
    }
}
