//! Sends new work to a worker directly. The transaction that creates the work also claims it for a worker with free
//! slots, so no later query has to find and claim it.
//!
//! Each piece of work comes with its [`Permit`]. If the transaction fails, or the worker is gone, the permit is dropped
//! and its slot is free again. If the process dies after the commit, the lease expires and the work is claimed again.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use relay_domain::{LeaseId, clock::Clock};
use relay_runtime::Wake;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::{DueDelivery, DueJob, Permit, ReservedSlots};

/// Sends new jobs to the tracker.
pub type NewJobs = Dispatch<DueJob>;

/// Sends the deliveries of new events to the delivery worker.
pub type NewDeliveries = Dispatch<DueDelivery>;

/// Where a worker offers free slots, and transactions take them for new work. Clones share one offer. No work depends
/// on this: without an offer, work is stored as due and claimed later.
#[derive(Debug, Clone)]
pub struct Dispatch<T>(Arc<Mutex<Option<Offer<T>>>>);

/// Free slots, and the worker that offers them.
#[derive(Debug)]
struct Offer<T> {
    slots: ReservedSlots,
    worker: WorkerAddress<T>,
}

/// How transactions claim work for a worker and send it there.
#[derive(Debug, Clone)]
struct WorkerAddress<T> {
    clock: Clock,
    lease: Duration,
    sender: UnboundedSender<(T, Permit)>,
    wake: Wake,
}

/// A worker's end of a [`Dispatch`]: offers slots and receives new work with its permits.
#[derive(Debug)]
pub struct DispatchReceiver<T> {
    dispatch: Dispatch<T>,
    /// None after [`DispatchReceiver::close`].
    worker: Option<WorkerAddress<T>>,
    received: UnboundedReceiver<(T, Permit)>,
}

/// The claim of the new work of one transaction. It is sent after the commit. Dropped before, it frees its permits.
#[derive(Debug)]
pub(super) struct NewWorkClaim<T> {
    /// The id of the claim.
    pub(super) lease: LeaseId,
    /// The start of the claim.
    pub(super) now: Timestamp,
    /// The duration of the claim.
    pub(super) duration: Duration,
    /// The work to send.
    pub(super) claimed: Vec<(T, Permit)>,
    dispatch: Dispatch<T>,
    worker: WorkerAddress<T>,
}

impl<T> Default for Dispatch<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

impl<T: Clone> Dispatch<T> {
    /// Connects a worker. The `clock` gives the start of each claim, and the `lease` its duration. Each transaction
    /// that could claim notifies `wake` when it has ended.
    #[must_use]
    pub fn connect(&self, clock: Clock, lease: Duration, wake: Wake) -> DispatchReceiver<T> {
        let (sender, received) = mpsc::unbounded_channel();
        DispatchReceiver {
            dispatch: self.clone(),
            worker: Some(WorkerAddress {
                clock,
                lease,
                sender,
                wake,
            }),
            received,
        }
    }

    /// Begins a claim of new work. Returns none if no worker offers a slot.
    pub(super) fn claim(&self) -> Option<NewWorkClaim<T>> {
        let offer = self.0.lock();
        let offer = offer.as_ref().filter(|offer| !offer.slots.is_empty())?;
        let now = offer.worker.clock.now();
        Some(NewWorkClaim {
            lease: LeaseId::new(now),
            now,
            duration: offer.worker.lease,
            claimed: Vec::new(),
            dispatch: self.clone(),
            worker: offer.worker.clone(),
        })
    }
}

impl NewDeliveries {
    /// Sends a delivery, if a slot is offered. Returns whether it was. Tests of workers use it in place of a
    /// transaction.
    #[must_use]
    pub fn send_one(&self, due: DueDelivery) -> bool {
        let Some(mut claim) = self.claim() else {
            return false;
        };
        let permit = claim.permit_for(due.callback_url.host());
        claim.claimed.extend(permit.map(|permit| (due, permit)));
        let is_sent = !claim.claimed.is_empty();
        claim.send();
        is_sent
    }
}

impl<T: Clone> DispatchReceiver<T> {
    /// Offers slots to new work. This replaces the earlier offer.
    pub fn offer(&self, slots: ReservedSlots) {
        let worker = self.worker.clone();
        *self.dispatch.0.lock() = worker.map(|worker| Offer { slots, worker });
    }

    /// Returns the number of slots that are offered.
    #[must_use]
    pub fn offered(&self) -> usize {
        let offer = self.dispatch.0.lock();
        offer.as_ref().map_or(0, |offer| offer.slots.len())
    }

    /// Withdraws the offer, which frees its slots. Returns the work that has arrived.
    pub fn withdraw(&mut self) -> Vec<(T, Permit)> {
        *self.dispatch.0.lock() = None;
        std::iter::from_fn(|| self.received.try_recv().ok()).collect()
    }

    /// Waits for new work. After [`DispatchReceiver::close`], returns none once no transaction can send any more.
    pub async fn recv(&mut self) -> Option<(T, Permit)> {
        self.received.recv().await
    }

    /// Withdraws the offer for good. Transactions that have begun can still send their work.
    pub fn close(&mut self) {
        *self.dispatch.0.lock() = None;
        self.worker = None;
    }
}

impl<T> NewWorkClaim<T> {
    /// Takes a permit. Returns none if no slot is offered any more.
    pub(super) fn permit(&self) -> Option<Permit> {
        self.dispatch.0.lock().as_mut()?.slots.permit()
    }

    /// Takes a permit for work at this host. Returns none if no slot is offered for it.
    pub(super) fn permit_for(&self, host: &str) -> Option<Permit> {
        self.dispatch.0.lock().as_mut()?.slots.permit_for(host)
    }

    /// Sends the work to the worker. Call this after the commit.
    pub(super) fn send(mut self) {
        for work in self.claimed.drain(..) {
            // fails only if the worker is gone: then the lease expires
            self.worker.sender.send(work).ok();
        }
    }
}

/// Wakes the worker. Either work was sent, or permits were freed that its latest claim did not have.
impl<T> Drop for NewWorkClaim<T> {
    fn drop(&mut self) {
        self.claimed.clear();
        self.worker.wake.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slots;

    /// Returns a dispatch, and its receiver that offers all of these slots.
    fn dispatch(slots: &Slots) -> (Dispatch<&'static str>, DispatchReceiver<&'static str>) {
        let dispatch = Dispatch::default();
        let lease = Duration::from_secs(30);
        let receiver = dispatch.connect(Clock::system(), lease, Wake::new());
        receiver.offer(slots.set_aside(usize::MAX));
        (dispatch, receiver)
    }

    /// Claims one piece of work, if there is a permit.
    fn claim(claim: &mut NewWorkClaim<&'static str>, work: &'static str) {
        let permit = claim.permit();
        claim.claimed.extend(permit.map(|permit| (work, permit)));
    }

    fn works(arrived: Vec<(&'static str, Permit)>) -> Vec<&'static str> {
        arrived.into_iter().map(|(work, _)| work).collect()
    }

    async fn receive_all(
        receiver: &mut DispatchReceiver<&'static str>,
    ) -> Vec<(&'static str, Permit)> {
        let mut arrived = Vec::new();
        while let Some(work) = receiver.recv().await {
            arrived.push(work);
        }
        arrived
    }

    #[tokio::test]
    async fn work_is_sent_with_its_permit_and_wakes_the_worker() {
        let slots = Slots::new(2);
        let (dispatch, mut receiver) = dispatch(&slots);
        let mut claimed = dispatch.claim().unwrap();
        for work in ["one", "two", "three"] {
            claim(&mut claimed, work);
        }
        let wake = claimed.worker.wake.clone();
        claimed.send();
        wake.notified().await;
        let arrived = receiver.withdraw();
        assert_eq!((slots.taken(), arrived.len()), (2, 2));
        assert_eq!(works(arrived), ["one", "two"], "two slots");
        assert_eq!(slots.taken(), 0);
    }

    #[test]
    fn permits_come_from_the_present_offer() {
        let slots = Slots::new(1);
        let (dispatch, mut receiver) = dispatch(&slots);
        let (one, two) = (dispatch.claim().unwrap(), dispatch.claim().unwrap());
        let permit = one.permit();
        assert!(permit.is_some() && two.permit().is_none(), "each slot once");
        assert!(dispatch.claim().is_none(), "the offer is used up");
        drop(permit);
        assert!(two.permit().is_none(), "a free slot is not offered");
        receiver.offer(slots.set_aside(1));
        assert_eq!((receiver.offered(), slots.free()), (1, 0));
        assert!(two.permit().is_some());
        receiver.offer(slots.set_aside(1));
        receiver.withdraw();
        assert!(two.permit().is_none() && dispatch.claim().is_none());
        assert_eq!((receiver.offered(), slots.free()), (0, 1));
    }

    #[tokio::test]
    async fn a_transaction_that_fails_frees_its_permits_and_wakes_the_worker() {
        let slots = Slots::new(1);
        let (dispatch, mut receiver) = dispatch(&slots);
        let mut claimed = dispatch.claim().unwrap();
        claim(&mut claimed, "one");
        let wake = claimed.worker.wake.clone();
        drop(claimed);
        wake.notified().await;
        assert_eq!((slots.free(), receiver.withdraw().len()), (1, 0));
    }

    #[tokio::test]
    async fn a_closed_receiver_gets_work_that_is_on_its_way_and_does_not_wait_for_work_that_failed()
    {
        let slots = Slots::new(9);
        let (dispatch, mut receiver) = dispatch(&slots);
        let (mut comes, mut fails) = (dispatch.claim().unwrap(), dispatch.claim().unwrap());
        claim(&mut comes, "comes");
        claim(&mut fails, "fails");
        receiver.close();
        receiver.offer(slots.set_aside(1));
        assert!(dispatch.claim().is_none());
        let transactions = async {
            tokio::task::yield_now().await;
            comes.send();
            tokio::task::yield_now().await;
            drop(fails);
        };
        let (arrived, ()) = tokio::join!(receive_all(&mut receiver), transactions);
        assert_eq!(works(arrived), ["comes"]);
        assert_eq!(slots.free(), 9);
    }

    #[test]
    fn work_for_a_worker_that_is_gone_frees_its_permit() {
        let slots = Slots::new(1);
        let (dispatch, receiver) = dispatch(&slots);
        let mut claimed = dispatch.claim().unwrap();
        claim(&mut claimed, "one");
        drop(receiver);
        claimed.send();
        assert_eq!(slots.free(), 1);
        assert!(dispatch.claim().is_none());
    }
}
