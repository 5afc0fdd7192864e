//! Claims due deliveries, keeps many attempts in flight and records their results.

mod capacity;
mod conclude;
mod report;
mod span;

use std::{collections::HashSet, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, TryFutureExt};
use jiff::Timestamp;
use relay_domain::{ActivityRecorder, Fleet, clock::Clock};
use relay_runtime::{ClaimPacer, InFlight, TickOutcome, Wake, Worker, WorkerError};
use relay_store::{
    AttemptResult, Claim, DispatchReceiver, DueDelivery, HostLimits, OutboxStore, Permit,
    ReservedSlots, Slots, StoreError, record_attempts,
};
use tracing::error;

use self::{report::count, span::traced};
use crate::{
    config::DeliveryConfig,
    delivery::{
        AttemptOutcome, CallbackResponse, CallbackSender, DeliveryError, NameResolver,
        SingleSender, SystemResolver, hosts::HostLoad,
    },
};

/// The time by which a lease outlasts the delivery time-out: time to start the attempt and to record it.
const LEASE_MARGIN: Duration = Duration::from_secs(15);
/// The pause before the next claim if a delivery is due but the latest claim did not return it. It may have become due
/// since, or another relay may be claiming it.
const OVERDUE_PAUSE: Duration = Duration::from_millis(50);
/// The number of times that a drain retries a failed record. If all fail, the leases expire and the deliveries become
/// due again.
const DRAIN_RETRIES: u32 = 5;
/// The pause before each of these retries.
const DRAIN_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The worker that sends deliveries. [`Worker`] describes how it is run.
pub struct DeliveryWorker {
    store: Arc<dyn OutboxStore>,
    clock: Clock,
    activity: ActivityRecorder,
    wake: Wake,
    sender: CallbackSender,
    /// The waits between the attempts of a delivery.
    schedule: Vec<Duration>,
    /// Whether a host that keeps failing is paused.
    pauses_hosts: bool,
    lease: Duration,
    slots: Slots,
    hosts: HostLoad,
    new_deliveries: DispatchReceiver<DueDelivery>,
    in_flight: InFlight<EndedAttempt>,
    /// Results that are not recorded yet.
    unrecorded: Vec<UnrecordedResult>,
    /// Whether the latest record failed. Nothing is claimed until a record succeeds.
    record_failed: bool,
    pacer: ClaimPacer,
    /// Hosts whose free slots a claim used up. More deliveries to them may be waiting. A host stays until a claim leaves
    /// it a free slot.
    saturated_hosts: HashSet<String>,
    /// Whether the latest attempt could not be made because no file handle, thread or memory was left.
    lacks_resources: bool,
    /// Clients whose certificate or headers could not be read at their latest attempt.
    unreadable_auth: HashSet<String>,
    /// When the worker last searched for deliveries that have waited too long for a paused host.
    searched_overdue_at: Option<Timestamp>,
}

/// An attempt that has ended.
struct EndedAttempt {
    /// Boxed because it is large, and results are moved often.
    due: Box<DueDelivery>,
    outcome: AttemptOutcome,
    permit: Permit,
}

/// A result to record. It is counted in the metrics after the record succeeds.
struct UnrecordedResult {
    /// What the store records.
    record: AttemptResult,
    /// The client that should have got the event.
    client: Option<String>,
    /// The callback's host.
    host: String,
    /// The time from the event to the end of this attempt. None if no attempt was made.
    since_event: Option<Duration>,
    /// Whether somebody sent the event again by hand.
    is_redelivery: bool,
}

/// What one round of the worker did.
struct RecordedAndClaimed {
    /// Whether any result was recorded.
    recorded_any: bool,
    /// Whether there may be more deliveries to claim.
    more_to_claim: bool,
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
            activity: ActivityRecorder::new(clock.clone()),
            clock,
            in_flight: InFlight::new(wake.clone()),
            wake,
            sender: CallbackSender::new(config, resolver)?,
            schedule: config.retry_schedule.clone(),
            pauses_hosts: config.pauses_hosts,
            lease,
            hosts: HostLoad::new(config.concurrency_per_host, slots.clone()),
            slots,
            unrecorded: Vec::new(),
            record_failed: false,
            pacer: ClaimPacer::default(),
            saturated_hosts: HashSet::new(),
            lacks_resources: false,
            unreadable_auth: HashSet::new(),
            searched_overdue_at: None,
        })
    }

    /// Divides the slots of each host and of each address among the relays on the store. The total number of attempts
    /// in flight is not divided: each relay has its own limit.
    #[must_use]
    pub fn in_fleet(mut self, fleet: &Fleet) -> Self {
        self.hosts.join_fleet(fleet.clone());
        self.sender.join_fleet(fleet.clone());
        self
    }

    /// Counts attempts in this recorder, from which the console's charts come.
    #[must_use]
    pub fn counting(mut self, activity: ActivityRecorder) -> Self {
        self.activity = activity;
        self
    }

    /// Returns a sender of single messages, which count with this worker's attempts against the limits of each host.
    #[must_use]
    pub fn single_sender(&self) -> SingleSender {
        self.hosts.single_sender(self.sender.clone())
    }

    /// Returns the number of attempts in flight. New deliveries on their way to the worker count too.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots
            .taken()
            .saturating_sub(self.new_deliveries.offered())
    }

    /// Concludes attempts that have ended.
    fn conclude_all(&mut self, ended: Vec<EndedAttempt>) {
        for attempt in ended {
            self.conclude(attempt);
        }
    }

    fn limits(&self) -> HostLimits {
        self.hosts.limits(self.sender.full_hosts())
    }

    /// Records the results, and claims deliveries for `slots`. Both run at once, so that they share a commit on SQLite.
    async fn record_and_claim(
        &mut self,
        now: Timestamp,
        slots: ReservedSlots,
    ) -> Result<RecordedAndClaimed, StoreError> {
        let claim = Claim {
            now,
            lease: self.lease,
            limit: slots.len(),
        };
        let store = Arc::clone(&self.store);
        let results = std::mem::take(&mut self.unrecorded);
        let claiming = claim_some(&*store, claim, slots.limits());
        let work = async { tokio::join!(record(&*store, &results), claiming) };
        let (recorded, claimed) = self.start_new_during(work).await;
        self.record_failed = recorded.is_err();
        let recorded_any = !self.record_failed && !results.is_empty();
        match &recorded {
            Ok(()) => results.iter().for_each(|one| count(one, &self.activity)),
            Err(_) => self.unrecorded.extend(results),
        }
        let more_to_claim = self.start_claimed(claimed?, slots, now);
        recorded?;
        Ok(RecordedAndClaimed {
            recorded_any,
            more_to_claim,
        })
    }

    /// Records the results. If that fails, they stay in `unrecorded`.
    async fn record(&mut self) -> Result<(), StoreError> {
        record(&*self.store, &self.unrecorded).await?;
        for result in std::mem::take(&mut self.unrecorded) {
            count(&result, &self.activity);
        }
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
        let (sender, started_at) = (self.sender.clone(), self.clock.now());
        let due = Box::new(due);
        self.in_flight.start(async move {
            // boxed because the future has kilobytes of state, which each wrapper would move
            let attempt = Box::pin(sender.attempt(&due, started_at));
            let attempt = AssertUnwindSafe(attempt).catch_unwind();
            let attempt = attempt.unwrap_or_else(|_| {
                // the panic hook has printed the message and the place
                error!(delivery.id = %due.id, "an attempt panicked");
                AttemptOutcome::Answered(CallbackResponse::internal_error(&due, started_at))
            });
            let outcome = traced(&due, attempt).await;
            EndedAttempt {
                due,
                outcome,
                permit,
            }
        });
    }

    /// Returns the time until a delivery can be claimed. None if no slot is free or no delivery waits.
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

    async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
        let completed = self.in_flight.take();
        self.conclude_all(completed);
        let now = self.clock.now();
        self.give_up_overdue(now).await?;
        let (slots, wait) = self.divide_slots();
        let done = self.record_and_claim(now, slots).await?;
        if done.more_to_claim || !self.unrecorded.is_empty() {
            return Ok(TickOutcome::Busy);
        }
        if let Some(wait) = wait {
            return Ok(TickOutcome::Paced(wait));
        }
        if done.recorded_any {
            return Ok(TickOutcome::Busy);
        }
        Ok(TickOutcome::Idle {
            next_due_in: self.next_due_in(now).await?,
        })
    }

    async fn leave_store_to_others(&mut self, pause: Duration) {
        self.start_new_during(tokio::time::sleep(pause)).await;
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        let mut retries = DRAIN_RETRIES;
        self.new_deliveries.close();
        while let Some(new) = self.new_deliveries.recv().await {
            self.start_new(new);
        }
        loop {
            let completed = self.in_flight.take();
            self.conclude_all(completed);
            match self.record().await {
                Ok(()) if self.in_flight() == 0 => return Ok(()),
                Ok(()) => {
                    let completed = self.in_flight.wait().await.unwrap_or_default();
                    self.conclude_all(completed);
                }
                Err(failure) if retries == 0 => return Err(failure.into()),
                Err(_) => {
                    retries -= 1;
                    tokio::time::sleep(DRAIN_RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Records the results in one batch. Does nothing if there are none.
async fn record(store: &dyn OutboxStore, results: &[UnrecordedResult]) -> Result<(), StoreError> {
    if results.is_empty() {
        return Ok(());
    }
    let records = results.iter().map(|result| result.record.clone());
    record_attempts(store, records.collect()).await
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

#[cfg(test)]
mod tests;
