//! An outbox in memory.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::DeliveryId;
use relay_store::{
    AbandonedDelivery, AfterAttempt, AttemptResult, Claim, DueDelivery, HostLimits, NewDeliveries,
    OutboxStore, StoreError, WaitLimit,
};

use super::now;

/// Deliveries in memory, each with the time it is due.
#[derive(Default)]
pub(in crate::delivery) struct FakeOutbox {
    pub(in crate::delivery) waiting: Mutex<Vec<(Timestamp, DueDelivery)>>,
    leased: Mutex<HashMap<DeliveryId, DueDelivery>>,
    pub(in crate::delivery) recorded: Mutex<Vec<AttemptResult>>,
    /// The number of further calls of `record_attempts` that fail.
    pub(in crate::delivery) refuse_records: AtomicUsize,
    pub(in crate::delivery) new_deliveries: NewDeliveries,
    /// The deliveries that the next call of `give_up_waiting` returns.
    pub(in crate::delivery) wait_too_long: Mutex<Vec<AbandonedDelivery>>,
}

impl FakeOutbox {
    pub(in crate::delivery) fn holding(deliveries: Vec<DueDelivery>) -> Arc<Self> {
        let waiting = deliveries.into_iter().map(|due| (now(), due)).collect();
        Arc::new(Self {
            waiting: Mutex::new(waiting),
            ..Self::default()
        })
    }

    pub(in crate::delivery) fn recorded(&self) -> Vec<AttemptResult> {
        self.recorded.lock().unwrap().clone()
    }
}

#[async_trait]
impl OutboxStore for FakeOutbox {
    async fn claim_due_deliveries(
        &self,
        claim: Claim,
        hosts: &HostLimits,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let mut leased = self.leased.lock().unwrap();
        let watch = |due: &DueDelivery| due.source.watch_id();
        let mut watches: HashSet<_> = leased.values().map(watch).collect();
        let mut taken = hosts.taken.clone();
        let (mut claimed, mut left) = (Vec::new(), Vec::new());
        let mut waiting = self.waiting.lock().unwrap();
        for (at, due) in waiting.drain(..) {
            let host = taken.entry(due.callback_url.host().to_owned()).or_default();
            let free = at <= claim.now && claimed.len() < claim.limit && *host < hosts.per_host;
            if free && watches.insert(watch(&due)) {
                *host += 1;
                leased.insert(due.id, due.clone());
                claimed.push(due);
            } else {
                left.push((at, due));
            }
        }
        *waiting = left;
        Ok(claimed)
    }

    fn new_deliveries(&self) -> &NewDeliveries {
        &self.new_deliveries
    }

    async fn record_attempts(&self, results: Vec<AttemptResult>) -> Result<(), StoreError> {
        let refuse = |left: usize| left.checked_sub(1);
        if self
            .refuse_records
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse)
            .is_ok()
        {
            return Err(StoreError::unavailable("out of reach"));
        }
        for result in results {
            let mut due = self
                .leased
                .lock()
                .unwrap()
                .remove(&result.delivery_id)
                .unwrap();
            if let AfterAttempt::RetryAt(at) = result.next {
                if result.attempt.is_some() {
                    due.attempts += 1;
                    due.round_attempts += 1;
                }
                self.waiting.lock().unwrap().push((at, due));
            }
            self.recorded.lock().unwrap().push(result);
        }
        Ok(())
    }

    async fn give_up_waiting(&self, _: WaitLimit) -> Result<Vec<AbandonedDelivery>, StoreError> {
        Ok(std::mem::take(&mut *self.wait_too_long.lock().unwrap()))
    }

    async fn next_delivery_due(&self, hosts: &HostLimits) -> Result<Option<Timestamp>, StoreError> {
        let waiting = self.waiting.lock().unwrap();
        let taken = |due: &DueDelivery| hosts.taken.get(due.callback_url.host()).copied();
        let open = |due: &DueDelivery| taken(due).unwrap_or(0) < hosts.per_host;
        let due = waiting.iter().filter(|(_, due)| open(due));
        Ok(due.map(|(at, _)| *at).min())
    }
}
