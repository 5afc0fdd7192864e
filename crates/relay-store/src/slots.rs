//! The slots of a worker, and the permits to use them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::HostLimits;

/// The number of permits in use by each host. Hosts without any are left out.
type PermitsByHost = Arc<Mutex<HashMap<String, usize>>>;

/// The slots of a worker, which limit how much work it has in flight. Clones share the slots.
///
/// A slot is free, or set aside for a claim or for new work ([`ReservedSlots`]), or used by work ([`Permit`]).
#[derive(Debug, Clone)]
pub struct Slots {
    count: usize,
    free: Arc<Semaphore>,
    by_host: PermitsByHost,
}

/// Slots that are set aside for a claim or for new work, which takes permits from them. The rest is freed on drop.
#[derive(Debug)]
pub struct ReservedSlots {
    slots: Option<OwnedSemaphorePermit>,
    limits: HostLimits,
    by_host: PermitsByHost,
}

/// The permission to use one slot. It travels inside the work. Dropping it frees the slot.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
    _host: Option<HostPermit>,
}

/// One of the permits that are counted by host.
#[derive(Debug)]
struct HostPermit {
    host: String,
    by_host: PermitsByHost,
}

impl Slots {
    /// Makes this number of free slots.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self {
            count,
            free: Arc::new(Semaphore::new(count)),
            by_host: PermitsByHost::default(),
        }
    }

    /// Makes this number of further free slots. Their permits count together with the permits of these slots by host.
    #[must_use]
    pub fn beside(&self, count: usize) -> Self {
        Self {
            by_host: Arc::clone(&self.by_host),
            ..Self::new(count)
        }
    }

    /// Returns the number of free slots.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Returns the number of slots that are used or set aside.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.count - self.free()
    }

    /// Returns the number of permits in use by each host. Hosts without any are left out.
    #[must_use]
    pub fn by_host(&self) -> HashMap<String, usize> {
        self.by_host.lock().clone()
    }

    /// Sets free slots aside: `count`, or all if there are fewer.
    #[must_use]
    pub fn set_aside(&self, count: usize) -> ReservedSlots {
        let count = u32::try_from(count.min(self.free())).unwrap_or(u32::MAX);
        ReservedSlots {
            slots: Arc::clone(&self.free).try_acquire_many_owned(count).ok(),
            limits: HostLimits::default(),
            by_host: Arc::clone(&self.by_host),
        }
    }
}

impl ReservedSlots {
    /// Sets how many of these slots each host may get.
    #[must_use]
    pub fn within(self, limits: HostLimits) -> Self {
        Self { limits, ..self }
    }

    /// Returns how many of these slots each host may get.
    #[must_use]
    pub fn limits(&self) -> &HostLimits {
        &self.limits
    }

    /// Returns the number of slots that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Whether no slot is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a permit. Returns none if no slot is left.
    pub fn permit(&mut self) -> Option<Permit> {
        Some(Permit {
            _slot: self.slots.as_mut()?.split(1)?,
            _host: None,
        })
    }

    /// Takes a permit for work at this host. Returns none if no slot is left, or none for this host.
    pub fn permit_for(&mut self, host: &str) -> Option<Permit> {
        if self.limits.free_at(host) == 0 {
            return None;
        }
        let slot = self.slots.as_mut()?.split(1)?;
        *self.limits.taken.entry(host.to_owned()).or_default() += 1;
        *self.by_host.lock().entry(host.to_owned()).or_default() += 1;
        Some(Permit {
            _slot: slot,
            _host: Some(HostPermit {
                host: host.to_owned(),
                by_host: Arc::clone(&self.by_host),
            }),
        })
    }
}

impl Drop for HostPermit {
    fn drop(&mut self) {
        let mut by_host = self.by_host.lock();
        if let Some(count) = by_host.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                by_host.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_given_out_once_and_is_free_again_when_its_permit_is_dropped() {
        let slots = Slots::new(3);
        let (mut claim, mut new) = (slots.set_aside(2), slots.set_aside(9));
        assert_eq!((claim.len(), new.len(), slots.free()), (2, 1, 0));
        let permits = [claim.permit(), claim.permit(), new.permit()];
        assert!(permits.iter().all(Option::is_some));
        assert!(claim.permit().is_none() && new.permit().is_none());
        drop(permits);
        assert_eq!((slots.free(), claim.len()), (3, 0), "they are not reused");
    }

    #[test]
    fn slots_that_are_left_are_freed() {
        let slots = Slots::new(3);
        let mut claim = slots.set_aside(3);
        let permit = claim.permit();
        drop(claim);
        assert_eq!((slots.free(), slots.taken()), (2, 1));
        drop(permit);
        assert_eq!((slots.free(), slots.taken()), (3, 0));
    }

    #[test]
    fn a_host_gets_no_more_permits_than_its_limit() {
        let slots = Slots::new(9);
        let limits = HostLimits {
            per_host: 2,
            taken: HashMap::from([("busy".to_owned(), 1)]),
        };
        let mut free = slots.set_aside(4).within(limits);
        let hosts = ["busy", "busy", "idle", "idle", "idle", "other", "other"];
        let permits = hosts.map(|host| free.permit_for(host));
        assert_eq!(
            permits.each_ref().map(Option::is_some),
            [true, false, true, true, false, true, false],
            "four, two of a host"
        );
        let counts = [("busy", 1), ("idle", 2), ("other", 1)];
        let counts = counts.map(|(host, count)| (host.to_owned(), count));
        assert_eq!(slots.by_host(), HashMap::from(counts));
        drop(permits);
        assert!(slots.by_host().is_empty());
    }

    #[test]
    fn slots_beside_others_count_with_them_by_host_alone() {
        let slots = Slots::new(1);
        let beside = slots.beside(2);
        let one_each = |slots: &Slots| HostLimits {
            per_host: 1,
            taken: slots.by_host(),
        };
        let permit = beside
            .set_aside(1)
            .within(one_each(&beside))
            .permit_for("a.example");
        assert!(permit.is_some());
        assert_eq!((slots.free(), beside.free()), (1, 1));
        let mut free = slots.set_aside(1).within(one_each(&slots));
        assert!(free.permit_for("a.example").is_none(), "the host is full");
        assert!(free.permit_for("b.example").is_some());
        drop(permit);
        assert!(!slots.by_host().contains_key("a.example"));
    }
}
