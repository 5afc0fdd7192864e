//! Claims due deliveries, keeps many attempts in flight and records their results.

mod capacity;
mod conclude;
mod report;
mod span;

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use relay_domain::{Fleet, clock::Clock};
use relay_runtime::{ClaimPacer, Tick, Wake, Worker, WorkerError};
use relay_store::{
    AttemptResult, Claim, DispatchReceiver, DueDelivery, FreeSlots, HostLimits, OutboxStore,
    Permit, Slots, StoreError, record_attempts,
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};
use tracing::error;

use self::{report::count, span::traced};
use crate::{
    config::DeliveryConfig,
    delivery::{
        AttemptOutcome, CallbackResponse, CallbackSender, DeliveryError, NameResolver,
        SystemResolver, hosts::HostLoad,
    },
};

/// The time by which a lease outlasts the delivery time-out: time to start the attempt and to record it.
const LEASE_MARGIN: Duration = Duration::from_secs(15);
/// The pause before the next claim if a delivery is due but the latest claim did not return it.
const OVERDUE_PAUSE: Duration = Duration::from_millis(50);
/// The number of times that a drain retries a failed record, and the pause before each retry. After that, the leases
/// expire and the deliveries become due again.
const DRAIN_RECORDS: (u32, Duration) = (5, Duration::from_millis(200));

/// The worker that sends deliveries. [`Worker`] describes how it is run.
pub struct DeliveryWorker {
    store: Arc<dyn OutboxStore>,
    clock: Clock,
    wake: Wake,
    sender: CallbackSender,
    schedule: Vec<Duration>,
    lease: Duration,
    slots: Slots,
    hosts: HostLoad,
    new_deliveries: DispatchReceiver<DueDelivery>,
    in_flight: JoinSet<()>,
    completions: (UnboundedSender<Completion>, UnboundedReceiver<Completion>),
    /// Results that are not recorded yet.
    unrecorded: Vec<Conclusion>,
    /// Whether the store refused the latest record. Nothing is claimed until a record succeeds.
    refused: bool,
    pacer: ClaimPacer,
    /// Hosts whose free slots the latest claim used up. More deliveries to them may be waiting.
    saturated_hosts: HashSet<String>,
    /// Whether the latest attempt could not be made because no file handle, thread or memory was left.
    lacks_resources: bool,
    /// When the worker last searched for deliveries that have waited too long for a paused host.
    asked_for_waiting: Option<Timestamp>,
}

/// An attempt that has ended.
struct Completion {
    due: Arc<DueDelivery>,
    outcome: AttemptOutcome,
    permit: Permit,
}

/// A result to record. It is counted in the metrics after the record succeeds.
struct Conclusion {
    result: AttemptResult,
    /// The time from the event to the end of this attempt.
    took: Option<Duration>,
}

impl DeliveryWorker {
    /// Creates a worker that resolves names with the system's resolver. `wake` wakes it when a delivery may be due.
    pub fn new(
        store: Arc<dyn OutboxStore>,
        clock: Clock,
        config: &DeliveryConfig,
        wake: Wake,
    ) -> Result<Self, DeliveryError> {
        Self::with_resolver(store, clock, config, wake, Arc::new(SystemResolver))
    }

    /// Creates a worker that resolves names with `resolver`.
    pub fn with_resolver(
        store: Arc<dyn OutboxStore>,
        clock: Clock,
        config: &DeliveryConfig,
        wake: Wake,
        resolver: Arc<dyn NameResolver>,
    ) -> Result<Self, DeliveryError> {
        let slots = Slots::new(config.concurrency);
        let lease = config.timeout.saturating_add(LEASE_MARGIN);
        let dispatch = store.new_deliveries();
        Ok(Self {
            new_deliveries: dispatch.connect(clock.clone(), lease, wake.clone()),
            store,
            clock,
            wake,
            sender: CallbackSender::new(config, resolver)?,
            schedule: config.retry_schedule.clone(),
            lease,
            hosts: HostLoad::new(config.concurrency_per_host, slots.clone()),
            slots,
            in_flight: JoinSet::new(),
            completions: mpsc::unbounded_channel(),
            unrecorded: Vec::new(),
            refused: false,
            pacer: ClaimPacer::default(),
            saturated_hosts: HashSet::new(),
            lacks_resources: false,
            asked_for_waiting: None,
        })
    }

    /// Divides the slots of each host and of each address among the relays on the store. The total number of attempts
    /// in flight is not divided: each relay has its own limit.
    #[must_use]
    pub fn sharing(mut self, share: &Fleet) -> Self {
        self.hosts.share_with(share.clone());
        self.sender.share_with(share.clone());
        self
    }

    /// Returns the number of attempts in flight. New deliveries on their way to the worker count too.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots
            .taken()
            .saturating_sub(self.new_deliveries.offered())
    }

    /// Concludes the attempts that have ended since the last call. Logs each attempt that panicked.
    fn take_completions(&mut self) {
        while let Ok(completion) = self.completions.1.try_recv() {
            self.conclude(completion);
        }
        while let Some(ended) = self.in_flight.try_join_next() {
            if let Err(failure) = ended {
                error!(%failure, "an attempt panicked");
            }
        }
    }

    async fn wait_for_completion(&mut self) {
        if let Some(completion) = self.completions.1.recv().await {
            self.conclude(completion);
        }
    }

    fn limits(&self) -> HostLimits {
        self.hosts.limits(self.sender.full_hosts())
    }

    /// Records the ended attempts, and claims deliveries for `slots`. Both run at once so that they share a commit.
    /// Returns whether anything was recorded, and whether there may be more to claim.
    async fn record_and_claim(
        &mut self,
        now: Timestamp,
        slots: FreeSlots,
    ) -> Result<(bool, bool), StoreError> {
        let claim = Claim {
            now,
            lease: self.lease,
            limit: slots.len(),
        };
        let (store, ended) = (
            Arc::clone(&self.store),
            std::mem::take(&mut self.unrecorded),
        );
        let claiming = claim_some(&*store, claim, slots.limits());
        let work = async { tokio::join!(record(&*store, &ended), claiming) };
        let (recorded, claimed) = self.start_new_during(work).await;
        self.refused = recorded.is_err();
        let had_ended = !self.refused && !ended.is_empty();
        match &recorded {
            Ok(()) => ended.iter().for_each(count),
            Err(_) => self.unrecorded.extend(ended),
        }
        let more = self.start_claimed(claimed?, slots, now);
        recorded?;
        Ok((had_ended, more))
    }

    /// Records the ended attempts. If that fails, they stay in `unrecorded`.
    async fn record(&mut self) -> Result<(), StoreError> {
        record(&*self.store, &self.unrecorded).await?;
        self.unrecorded.drain(..).for_each(|end| count(&end));
        Ok(())
    }

    /// Starts new deliveries that are sent to the worker while `work` runs.
    async fn start_new_during<O>(&mut self, work: impl Future<Output = O>) -> O {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(new) = self.new_deliveries.recv() => self.start_new(new),
            }
        }
    }

    fn start(&mut self, due: DueDelivery, permit: Permit) {
        let due = Arc::new(due);
        let started_at = self.clock.now();
        let failure = CallbackResponse::internal_error(&due, started_at);
        let mut flight = Flight {
            end: Some((AttemptOutcome::Answered(failure), permit)),
            due,
            completed: self.completions.0.clone(),
            wake: self.wake.clone(),
        };
        let sender = self.sender.clone();
        self.in_flight.spawn(async move {
            // boxed because the future has kilobytes of state, which the task would move five times
            let attempt = Box::pin(sender.attempt(&flight.due, started_at));
            let outcome = traced(&flight.due, attempt).await;
            flight.ended(outcome);
        });
    }

    /// Returns the time until a delivery is due for which a slot is free, if there is one.
    async fn next_due_in(&self, now: Timestamp) -> Result<Option<Duration>, StoreError> {
        if self.slots.free() + self.new_deliveries.offered() == 0 {
            return Ok(None);
        }
        let next = self.store.next_delivery_due(&self.limits()).await?;
        Ok(
            next.map(|at| match Duration::try_from(at.duration_since(now)) {
                Ok(wait) if !wait.is_zero() => wait,
                Ok(_) | Err(_) => OVERDUE_PAUSE,
            }),
        )
    }
}

impl Worker for DeliveryWorker {
    fn name(&self) -> &'static str {
        "delivery"
    }

    fn wake(&self) -> Wake {
        self.wake.clone()
    }

    async fn tick(&mut self) -> Result<Tick, WorkerError> {
        self.take_completions();
        let now = self.clock.now();
        self.give_up_waiting(now).await?;
        let (slots, wait) = self.divide_slots();
        let (recorded, more) = self.record_and_claim(now, slots).await?;
        if more || !self.unrecorded.is_empty() {
            return Ok(Tick::Busy);
        }
        if let Some(wait) = wait {
            return Ok(Tick::Paced(wait));
        }
        if recorded {
            return Ok(Tick::Busy);
        }
        Ok(Tick::Idle {
            next_due_in: self.next_due_in(now).await?,
        })
    }

    async fn rest(&mut self, so_long: Duration) {
        self.start_new_during(tokio::time::sleep(so_long)).await;
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        let (mut tries, pause) = DRAIN_RECORDS;
        self.new_deliveries.close();
        while let Some(new) = self.new_deliveries.recv().await {
            self.start_new(new);
        }
        loop {
            self.take_completions();
            match self.record().await {
                Ok(()) if self.in_flight() == 0 => return Ok(()),
                Ok(()) => self.wait_for_completion().await,
                Err(failure) if tries == 0 => return Err(failure.into()),
                Err(_) => {
                    tries -= 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Records the ended attempts in one batch. Does nothing if there are none.
async fn record(store: &dyn OutboxStore, ended: &[Conclusion]) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let results = ended.iter().map(|end| end.result.clone());
    record_attempts(store, results.collect()).await
}

/// Claims deliveries, unless the limit is zero.
async fn claim_some(
    store: &dyn OutboxStore,
    claim: Claim,
    limits: &HostLimits,
) -> Result<Vec<DueDelivery>, StoreError> {
    if claim.limit == 0 {
        return Ok(Vec::new());
    }
    store.claim_due_deliveries(claim, limits).await
}

/// An attempt in flight. When its task ends, even by a panic, the drop sends its [`Completion`] and wakes the worker.
/// So its slot is always freed and its result recorded.
struct Flight {
    due: Arc<DueDelivery>,
    /// The outcome to send, and the permit. Until the attempt ends, the outcome is an internal error, which a panic
    /// leaves in place.
    end: Option<(AttemptOutcome, Permit)>,
    completed: UnboundedSender<Completion>,
    wake: Wake,
}

impl Flight {
    fn ended(&mut self, outcome: AttemptOutcome) {
        if let Some((end, _)) = &mut self.end {
            *end = outcome;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some((outcome, permit)) = self.end.take() {
            let completion = Completion {
                due: Arc::clone(&self.due),
                outcome,
                permit,
            };
            // the send fails only if the worker is gone: then the lease expires
            self.completed.send(completion).ok();
            self.wake.notify();
        }
    }
}

#[cfg(test)]
mod tests;
