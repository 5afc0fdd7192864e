//! Claims due deliveries, keeps many attempts in flight and records what came of them.

mod capacity;
mod conclude;
mod report;
mod span;

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};
use tracing::error;

use self::{report::count, span::traced};
use crate::{
    clock::Clock,
    config::DeliveryConfig,
    delivery::{
        AttemptOutcome, CallbackResponse, CallbackSender, DeliveryError, NameResolver,
        SystemResolver, hosts::HostLoad,
    },
    domain::Fleet,
    runtime::{ClaimPacer, Tick, Wake, Worker, WorkerError},
    store::{
        AttemptResult, Claim, DueDelivery, HostLimits, OutboxStore, StoreError, record_attempts,
    },
};

/// How much longer a claim holds than an attempt takes: time to start it and to record it.
const LEASE_MARGIN: Duration = Duration::from_secs(15);
/// The pause before something is claimed that is due, but was not handed out.
const OVERDUE_PAUSE: Duration = Duration::from_millis(50);
/// How often a drain tries to record before it leaves the rest to the leases, and how fast.
const DRAIN_RECORDS: (u32, Duration) = (5, Duration::from_millis(200));

/// Sends deliveries; see [`Worker`] for how it is run.
pub struct DeliveryWorker {
    store: Arc<dyn OutboxStore>,
    clock: Clock,
    wake: Wake,
    sender: CallbackSender,
    schedule: Vec<Duration>,
    lease: Duration,
    concurrency: usize,
    hosts: HostLoad,
    in_flight: JoinSet<()>,
    completions: (UnboundedSender<Completion>, UnboundedReceiver<Completion>),
    /// What is not recorded yet.
    unrecorded: Vec<Conclusion>,
    /// The store took no record the last time: nothing is claimed until it does.
    refused: bool,
    search: ClaimPacer,
    /// Hosts of which the latest claim took all that they had room for: more of theirs may wait.
    saturated_hosts: HashSet<String>,
    /// Whether the latest attempt could not be made for want of a file handle, a thread or memory.
    lacks_resources: bool,
    /// When it was last asked which deliveries wait for a paused host for too long.
    asked_for_waiting: Option<Timestamp>,
}

/// An attempt that ended.
struct Completion {
    due: Arc<DueDelivery>,
    outcome: AttemptOutcome,
}

/// What is to be recorded, and counted once it is.
struct Conclusion {
    result: AttemptResult,
    /// From the event to its acceptance.
    took: Option<Duration>,
}

impl DeliveryWorker {
    /// A worker that resolves names as the system does. `wake` is rung when something may be due.
    pub fn new(
        store: Arc<dyn OutboxStore>,
        clock: Clock,
        config: &DeliveryConfig,
        wake: Wake,
    ) -> Result<Self, DeliveryError> {
        Self::with_resolver(store, clock, config, wake, Arc::new(SystemResolver))
    }

    /// A worker with a resolver of its own.
    pub fn with_resolver(
        store: Arc<dyn OutboxStore>,
        clock: Clock,
        config: &DeliveryConfig,
        wake: Wake,
        resolver: Arc<dyn NameResolver>,
    ) -> Result<Self, DeliveryError> {
        Ok(Self {
            store,
            clock,
            wake,
            sender: CallbackSender::new(config, resolver)?,
            schedule: config.retry_schedule.clone(),
            lease: config.timeout.saturating_add(LEASE_MARGIN),
            concurrency: config.concurrency,
            hosts: HostLoad::new(config.concurrency_per_host),
            in_flight: JoinSet::new(),
            completions: mpsc::unbounded_channel(),
            unrecorded: Vec::new(),
            refused: false,
            search: ClaimPacer::default(),
            saturated_hosts: HashSet::new(),
            lacks_resources: false,
            asked_for_waiting: None,
        })
    }

    /// Divides the slots of each host, and of each address, with the other relays on the store. How many
    /// attempts there are in all is each relay's own.
    #[must_use]
    pub fn sharing(mut self, share: &Fleet) -> Self {
        self.hosts.share_with(share.clone());
        self.sender.share_with(share.clone());
        self
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.hosts.total()
    }

    /// Takes the attempts that ended since the last time.
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

    async fn wait_for_landing(&mut self) {
        if let Some(completion) = self.completions.1.recv().await {
            self.conclude(completion);
        }
    }

    fn limits(&self) -> HostLimits {
        self.hosts.limits(self.sender.full_hosts())
    }

    /// Records what ended and claims what there are slots for, together, so that they share a commit. Says
    /// whether anything was recorded, and whether there may be more to claim.
    async fn record_and_claim(
        &mut self,
        now: Timestamp,
        (limit, hosts): (usize, HostLimits),
    ) -> Result<(bool, bool), StoreError> {
        let claim = Claim {
            now,
            lease: self.lease,
            limit,
        };
        let (store, ended) = (
            Arc::clone(&self.store),
            std::mem::take(&mut self.unrecorded),
        );
        let work =
            async { tokio::join!(record(&*store, &ended), claim_some(&*store, claim, &hosts)) };
        let desk = store.new_deliveries();
        let (recorded, claimed) = desk.receive_during(work, |new| self.send(new)).await;
        self.refused = recorded.is_err();
        let had_ended = !self.refused && !ended.is_empty();
        match &recorded {
            Ok(()) => ended.iter().for_each(count),
            Err(_) => self.unrecorded.extend(ended),
        }
        let claimed = claimed?;
        let more = limit > 0 && self.left_some(limit, &hosts, &claimed);
        self.start_all(claimed, now);
        recorded?;
        Ok((had_ended, more))
    }

    /// Records what ended. What cannot be recorded is kept.
    async fn record(&mut self) -> Result<(), StoreError> {
        record(&*self.store, &self.unrecorded).await?;
        self.unrecorded.drain(..).for_each(|end| count(&end));
        Ok(())
    }

    fn start(&mut self, due: DueDelivery) {
        self.hosts.began(due.callback_url.host());
        let due = Arc::new(due);
        let started_at = self.clock.now();
        let mut flight = Flight {
            outcome: Some(AttemptOutcome::Answered(CallbackResponse::internal_error(
                &due, started_at,
            ))),
            due,
            landed: self.completions.0.clone(),
            wake: self.wake.clone(),
        };
        let sender = self.sender.clone();
        self.in_flight.spawn(async move {
            // its state is kilobytes, which the task would move five times
            let attempt = Box::pin(sender.attempt(&flight.due, started_at));
            let outcome = traced(&flight.due, attempt).await;
            flight.ended(outcome);
        });
    }

    /// How long until something is due that there is a slot for.
    async fn next_due_in(&self, now: Timestamp) -> Result<Option<Duration>, StoreError> {
        if self.in_flight() >= self.concurrency {
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
        let (room, wait) = self.divide_room();
        let (recorded, more) = self.record_and_claim(now, room).await?;
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
        let store = Arc::clone(&self.store);
        let (desk, resting) = (store.new_deliveries(), tokio::time::sleep(so_long));
        desk.receive_during(resting, |new| self.send(new)).await;
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        let (mut tries, pause) = DRAIN_RECORDS;
        let store = Arc::clone(&self.store);
        store.new_deliveries().close(|new| self.send(new)).await;
        loop {
            self.take_completions();
            match self.record().await {
                Ok(()) if self.in_flight() == 0 => return Ok(()),
                Ok(()) => self.wait_for_landing().await,
                Err(failure) if tries == 0 => return Err(failure.into()),
                Err(_) => {
                    tries -= 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Records what ended, if anything did, in one batch.
async fn record(store: &dyn OutboxStore, ended: &[Conclusion]) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let results = ended.iter().map(|end| end.result.clone());
    record_attempts(store, results.collect()).await
}

/// Claims deliveries, if any are wanted.
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

/// An attempt on its way. However its task ends, by a panic too, it lands: its slot is freed, its
/// result is recorded and the worker wakes.
struct Flight {
    due: Arc<DueDelivery>,
    /// Until there is another, that of an attempt that failed inside the relay.
    outcome: Option<AttemptOutcome>,
    landed: UnboundedSender<Completion>,
    wake: Wake,
}

impl Flight {
    fn ended(&mut self, outcome: AttemptOutcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            let due = Arc::clone(&self.due);
            // nobody listens any more once the worker is gone; the lease runs out
            self.landed.send(Completion { due, outcome }).ok();
            self.wake.ring();
        }
    }
}

#[cfg(test)]
mod tests;
