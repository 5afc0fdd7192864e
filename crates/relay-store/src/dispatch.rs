//! Sends new work to a worker directly. The transaction that creates the work also claims it for a worker with free
//! capacity, so no later query has to find and claim it.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use relay_domain::clock::Clock;
use relay_runtime::Wake;

use crate::{Claim, DueDelivery, DueJob, HostLimits};

/// Sends new jobs to the tracker.
pub type NewJobs = Dispatch<DueJob>;

/// Sends the deliveries of new events to the delivery worker.
pub type NewDeliveries = Dispatch<DueDelivery>;

/// The free capacity of a worker.
#[derive(Debug, Clone)]
pub struct Capacity {
    /// The clock that gives the start of each claim.
    pub clock: Clock,
    /// The duration of each claim.
    pub lease: Duration,
    /// The number of free permits.
    pub limit: usize,
    /// The permits of each host: how many there are, and how many are in use.
    pub hosts: HostLimits,
}

/// A worker publishes its free capacity here, and receives new work. Clones share one state. No work depends on this:
/// without free capacity, work is stored as due and claimed later.
#[derive(Debug)]
pub struct Dispatch<T> {
    dispatch: Arc<Mutex<DispatchState<T>>>,
    bell: Wake,
}

#[derive(Debug)]
struct DispatchState<T> {
    /// The capacity that is left, and the `Wake` of the worker that published it.
    room: Option<(Capacity, Wake)>,
    /// Permits in use by host: their work is not committed yet, or the worker has not received it yet.
    reserved: HashMap<String, usize>,
    sent: Vec<T>,
}

/// Work that was claimed in the transaction that created it, and its permits. It is sent after the commit. None if
/// there was no free capacity.
pub(super) type Dispatched<T> = Option<(CapacityPermit<T>, Vec<T>)>;

/// Permits for work that has not reached the worker yet. Permits whose work does not come are freed on drop.
#[derive(Debug)]
pub(super) struct CapacityPermit<T> {
    to: Dispatch<T>,
    claim: Claim,
    wake: Wake,
    hosts: Vec<String>,
}

impl<T> Clone for Dispatch<T> {
    fn clone(&self) -> Self {
        Self {
            dispatch: Arc::clone(&self.dispatch),
            bell: self.bell.clone(),
        }
    }
}

impl<T> Default for Dispatch<T> {
    fn default() -> Self {
        let dispatch = DispatchState {
            room: None,
            reserved: HashMap::new(),
            sent: Vec::new(),
        };
        Self {
            dispatch: Arc::new(Mutex::new(dispatch)),
            bell: Wake::new(),
        }
    }
}

impl<T> Dispatch<T> {
    /// Publishes a worker's capacity. `wake` is notified when work is sent. A capacity of zero is ignored.
    pub fn set_capacity(&self, room: Capacity, wake: Wake) {
        if room.limit > 0 {
            self.dispatch().room = Some((room, wake));
        }
    }

    /// Withdraws the capacity that is left, so that the worker can use it for claims.
    pub fn clear_capacity(&self) {
        self.dispatch().room = None;
    }

    /// Returns the work that was sent since the last call, and frees its permits.
    #[must_use]
    pub fn receive(&self) -> Vec<T>
    where
        T: HasHost,
    {
        let mut dispatch = self.dispatch();
        let sent = std::mem::take(&mut dispatch.sent);
        for work in &sent {
            dispatch.free(work.host());
        }
        sent
    }

    /// Returns the permits in use by host. Their work has not reached the worker yet.
    #[must_use]
    pub fn reserved(&self) -> HashMap<String, usize> {
        self.dispatch().reserved.clone()
    }

    /// Runs `work`, and passes on new work that is sent while it runs.
    pub async fn receive_during<O>(
        &self,
        work: impl Future<Output = O>,
        mut take: impl FnMut(Vec<T>),
    ) -> O
    where
        T: HasHost,
    {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.bell.rung() => take(self.receive()),
            }
        }
    }

    /// Withdraws the capacity, and waits for work that permits are held for.
    pub async fn close(&self, mut take: impl FnMut(Vec<T>))
    where
        T: HasHost,
    {
        self.clear_capacity();
        take(self.receive());
        while !self.reserved().is_empty() {
            self.bell.rung().await;
            take(self.receive());
        }
    }

    /// Returns an empty set of permits; none if no worker has published capacity.
    pub(super) fn permits(&self) -> Option<CapacityPermit<T>> {
        let dispatch = self.dispatch();
        let (room, wake) = dispatch.room.as_ref()?;
        Some(CapacityPermit {
            to: self.clone(),
            claim: Claim {
                now: room.clock.now(),
                lease: room.lease,
                limit: room.limit,
            },
            wake: wake.clone(),
            hosts: Vec::new(),
        })
    }

    /// Sends one piece of work, if there is capacity. Returns whether there was. Used by tests of workers.
    pub fn hand_one(&self, work: T) -> bool
    where
        T: HasHost,
    {
        let Some(mut permits) = self.permits() else {
            return false;
        };
        let taken = permits.take(work.host());
        if taken {
            permits.hand(vec![work]);
        }
        taken
    }

    fn dispatch(&self) -> MutexGuard<'_, DispatchState<T>> {
        self.dispatch.lock()
    }
}

impl<T> DispatchState<T> {
    fn free(&mut self, host: &str) {
        if let Some(taken) = self.reserved.get_mut(host) {
            *taken -= 1;
            if *taken == 0 {
                self.reserved.remove(host);
            }
        }
    }
}

impl<T> CapacityPermit<T> {
    /// Returns the claim for the work that these permits are for.
    pub(super) fn claim(&self) -> Claim {
        self.claim
    }

    /// Takes one more permit for this host. Returns false if there is no capacity.
    pub(super) fn take(&mut self, host: &str) -> bool {
        let mut dispatch = self.to.dispatch();
        let Some((room, _)) = &mut dispatch.room else {
            return false;
        };
        let taken = room.hosts.in_flight.entry(host.to_owned()).or_default();
        if room.limit == 0 || *taken >= room.hosts.per_host {
            return false;
        }
        room.limit -= 1;
        *taken += 1;
        *dispatch.reserved.entry(host.to_owned()).or_default() += 1;
        drop(dispatch);
        self.hosts.push(host.to_owned());
        true
    }

    /// Sends the work for which the permits were taken.
    pub(super) fn hand(mut self, work: Vec<T>)
    where
        T: HasHost,
    {
        if work.is_empty() {
            return;
        }
        let mut dispatch = self.to.dispatch();
        for work in work {
            // the permit stays in use until the worker receives the work
            if let Some(place) = self.hosts.iter().position(|host| host == work.host()) {
                self.hosts.swap_remove(place);
                dispatch.sent.push(work);
            }
        }
        drop(dispatch);
        self.to.bell.ring();
        self.wake.ring();
    }
}

impl<T> Drop for CapacityPermit<T> {
    fn drop(&mut self) {
        if self.hosts.is_empty() {
            return;
        }
        let mut dispatch = self.to.dispatch();
        for host in &self.hosts {
            dispatch.free(host);
        }
        drop(dispatch);
        self.to.bell.ring();
    }
}

/// Work that needs a permit of a host.
pub trait HasHost {
    /// Returns the host.
    fn host(&self) -> &str;
}

impl HasHost for DueDelivery {
    fn host(&self) -> &str {
        self.callback_url.host()
    }
}

/// All jobs are looked at on Basiq, so they share one host.
impl HasHost for DueJob {
    fn host(&self) -> &str {
        BASIQ
    }
}

/// The host of all jobs.
pub(super) const BASIQ: &str = "";

#[cfg(test)]
mod tests {
    use super::*;

    impl HasHost for &str {
        fn host(&self) -> &str {
            self
        }
    }

    fn room(limit: usize, per_host: usize) -> Capacity {
        Capacity {
            clock: Clock::system(),
            lease: Duration::from_secs(30),
            limit,
            hosts: HostLimits {
                per_host,
                in_flight: HashMap::from([("busy".to_owned(), 1)]),
            },
        }
    }

    fn reserved(dispatch: &Dispatch<&str>) -> Vec<(String, usize)> {
        let mut reserved: Vec<_> = dispatch.reserved().into_iter().collect();
        reserved.sort();
        reserved
    }

    #[tokio::test]
    async fn work_is_handed_to_whom_has_room_and_rings() {
        let (dispatch, wake) = (Dispatch::default(), Wake::new());
        assert!(dispatch.permits().is_none(), "nobody has room");
        dispatch.set_capacity(room(3, 2), wake.clone());
        let mut permits = dispatch.permits().unwrap();
        let taken = ["busy", "busy", "idle", "idle", "other"].map(|host| permits.take(host));
        assert_eq!(
            taken,
            [true, false, true, true, false],
            "three, two of a host"
        );
        permits.hand(vec!["busy", "idle"]);
        wake.rung().await;
        let lie_there = [("busy".to_owned(), 1), ("idle".to_owned(), 1)];
        assert_eq!(reserved(&dispatch), lie_there, "the third did not come");
        assert_eq!(dispatch.receive(), ["busy", "idle"]);
        assert_eq!((dispatch.receive(), reserved(&dispatch)), (vec![], vec![]));
    }

    #[test]
    fn slots_are_of_the_room_there_is_when_they_are_taken() {
        let dispatch: Dispatch<&str> = Dispatch::default();
        dispatch.set_capacity(room(1, 2), Wake::new());
        let (mut one, mut two) = (dispatch.permits().unwrap(), dispatch.permits().unwrap());
        assert!(one.take("idle") && !two.take("idle"), "each slot once");
        dispatch.clear_capacity();
        assert!(dispatch.permits().is_none() && !two.take("idle"));
        assert_eq!(reserved(&dispatch), [("idle".to_owned(), 1)], "on its way");
        dispatch.set_capacity(room(0, 2), Wake::new());
        assert!(dispatch.permits().is_none(), "that is none");
        drop((one, two));
        assert_eq!(reserved(&dispatch), []);
    }

    #[tokio::test]
    async fn what_is_on_its_way_is_taken_before_a_desk_closes_and_what_will_not_come_is_not_waited_for()
     {
        let (dispatch, mut taken) = (Dispatch::default(), Vec::new());
        dispatch.set_capacity(room(9, 9), Wake::new());
        let (mut comes, mut fails) = (dispatch.permits().unwrap(), dispatch.permits().unwrap());
        assert!(comes.take("idle") && fails.take("idle"));
        let (working, others) = (dispatch.clone(), async {
            tokio::task::yield_now().await;
            comes.hand(vec!["idle"]);
            tokio::task::yield_now().await;
            drop(fails);
        });
        tokio::join!(working.close(|new| taken.extend(new)), others);
        assert_eq!(taken, ["idle"]);
        assert!(dispatch.permits().is_none());
    }

    #[tokio::test]
    async fn what_is_handed_over_during_other_work_is_taken_before_that_ends() {
        let (dispatch, mut taken) = (Dispatch::default(), Vec::new());
        dispatch.set_capacity(room(9, 9), Wake::new());
        let (done, waits) = tokio::sync::oneshot::channel();
        let mut permits = dispatch.permits().unwrap();
        assert!(permits.take("idle"));
        permits.hand(vec!["idle"]);
        let mut done = Some(done);
        let ended = dispatch.receive_during(waits, |new| {
            taken.extend(new);
            done.take().unwrap().send(7).unwrap();
        });
        assert_eq!(ended.await, Ok(7));
        assert_eq!(taken, ["idle"]);
    }
}
