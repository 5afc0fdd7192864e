//! Claims due jobs, runs their looks, and records the looks in batches.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use basiq_client::{BasiqClient, BasiqConfig};
use jiff::Timestamp;
use metrics::{counter, histogram};
use relay_domain::{
    ActivityRecorder, JobId, LookTally,
    clock::{Clock, between},
};
use relay_runtime::{
    ClaimPacer, HostBacklog, InFlight, SlotDivision, TickOutcome, Wake, Worker, WorkerError,
};
use relay_store::{
    Claim, DispatchReceiver, DueJob, FreeSlots, JobStore, Look, Permit, Slots, StoreError,
    record_looks,
};
use tracing::{Instrument, info_span};

use crate::{
    follow::FollowRegistry,
    telemetry::join_traces,
    tracker::{bank::BANK_TIME_LIMIT, look::Looker},
};

/// How much longer a lease lasts than the longest look.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// The result of a claim.
enum Claimed {
    /// The claim returned all due jobs.
    All,
    /// The claim reached its limit, so more jobs may be due.
    AsManyAsAsked,
    /// Nothing was claimed because there is no capacity, until a look ends or this time is over.
    NoCapacity(Option<Duration>),
    /// Nothing was claimed because new jobs get all free slots until this time is over.
    NotYet(Duration),
}

/// What wakes the tracker, and what it notifies.
pub struct TrackerSignals {
    /// Wakes the tracker.
    pub wake: Wake,
    /// Wakes the delivery worker when the tracker stored events.
    pub delivery_wake: Wake,
    /// Is notified of each recorded job.
    pub follows: FollowRegistry,
}

/// The worker that looks at due jobs.
pub struct TrackerWorker {
    looker: Looker,
    store: Arc<dyn JobStore>,
    clock: Clock,
    signals: TrackerSignals,
    lease: Duration,
    slots: Slots,
    new_jobs: DispatchReceiver<DueJob>,
    in_flight: InFlight<(Look, Permit)>,
    unrecorded: Vec<Look>,
    /// Whether the store refused the latest record. Nothing is claimed until a record succeeds.
    refused: bool,
    pacer: ClaimPacer,
}

impl TrackerWorker {
    /// Creates a worker that keeps a limited number of looks in flight.
    #[must_use]
    pub fn new(
        looker: Looker,
        store: Arc<dyn JobStore>,
        clock: Clock,
        basiq: &BasiqConfig,
        signals: TrackerSignals,
    ) -> Self {
        let (lease, wake) = (lease(basiq), signals.wake.clone());
        Self {
            looker,
            new_jobs: store.new_jobs().connect(clock.clone(), lease, wake.clone()),
            store,
            clock,
            in_flight: InFlight::new(wake),
            signals,
            lease,
            slots: Slots::new(basiq.concurrency),
            unrecorded: Vec::new(),
            refused: false,
            pacer: ClaimPacer::default(),
        }
    }

    /// Returns the counts of looks and ends, which go on with each look.
    #[must_use]
    pub fn tally(&self) -> LookTally {
        self.looker.tally()
    }

    /// Returns the recorder of what this relay does, in which others may count too.
    #[must_use]
    pub fn activity(&self) -> ActivityRecorder {
        self.looker.activity()
    }

    /// Returns the number of looks that are in progress or not recorded yet. New jobs on their way to the worker count
    /// too.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.taken().saturating_sub(self.new_jobs.offered()) + self.unrecorded.len()
    }

    /// Takes the results of looks that have ended, and frees their slots.
    fn take_completed(&mut self, completed: Vec<(Look, Permit)>) {
        let looks = completed.into_iter().map(|(look, _)| look);
        self.unrecorded.extend(looks);
    }

    /// Records finished looks and claims jobs at the same time, so that both share a commit. Looks that cannot
    /// be recorded are kept for the next attempt.
    async fn record_and_claim(&mut self) -> Result<(bool, Claimed), WorkerError> {
        let completed: Arc<[Look]> = std::mem::take(&mut self.unrecorded).into();
        let (store, slots) = (Arc::clone(&self.store), self.divide_slots());
        let now = self.clock.now();
        let claim = slots.as_ref().ok().map(|slots| Claim {
            now,
            lease: self.lease,
            limit: slots.len(),
        });
        let work = async { tokio::join!(record(&*store, &completed), claim_some(&*store, claim)) };
        let (recorded, due) = self.start_new_during(work).await;
        self.refused = recorded.is_err();
        match &recorded {
            Ok(recorded) => self.tell(&completed, recorded),
            Err(_) => self.unrecorded = completed.to_vec(),
        }
        let claimed = match (slots, due?) {
            (Err(none), _) => none,
            (Ok(slots), due) => self.start_claimed(due, slots, now),
        };
        recorded?;
        Ok((!completed.is_empty(), claimed))
    }

    /// Counts the recorded looks, notifies the followers of their jobs, and wakes the delivery worker if there
    /// are events to deliver.
    fn tell(&self, looks: &[Look], recorded: &[JobId]) {
        self.signals.follows.notify_jobs(recorded);
        let recorded: HashSet<&JobId> = recorded.iter().collect();
        let mut tells = false;
        for look in looks.iter().filter(|look| recorded.contains(&look.job_id)) {
            tells |= measure(look);
        }
        if tells {
            self.signals.delivery_wake.notify();
        }
    }

    /// Divides the free slots between the next claim and new jobs, see [`SlotDivision`]. Offers one part to new jobs,
    /// and returns the part of the claim.
    fn divide_slots(&mut self) -> Result<FreeSlots, Claimed> {
        for new in self.new_jobs.withdraw() {
            self.start_new(new);
        }
        let free = self.usable_slots()?;
        let division = self.pacer.divide(HostBacklog::None);
        let for_new = division.for_new_work(free);
        self.new_jobs.offer(self.slots.set_aside(for_new));
        match division {
            SlotDivision::NewWorkOnly(wait) => Err(Claimed::NotYet(wait)),
            SlotDivision::ClaimOnly | SlotDivision::Halves => {
                Ok(self.slots.set_aside(free - for_new))
            }
        }
    }

    /// Returns how many slots to divide. The number is small, because jobs that come later may be more urgent.
    fn usable_slots(&self) -> Result<usize, Claimed> {
        let free = self.slots.free();
        if free == 0 || self.refused {
            return Err(Claimed::NoCapacity(None));
        }
        let capacity = self.looker.capacity(self.slots.taken());
        match free.min(capacity.calls) {
            0 => Err(Claimed::NoCapacity(Some(capacity.retry_in))),
            usable => Ok(usable),
        }
    }

    /// Starts looks at the jobs that were claimed for `slots`.
    fn start_claimed(&mut self, due: Vec<DueJob>, mut slots: FreeSlots, now: Timestamp) -> Claimed {
        for job in due {
            // the claim stayed within its limit, so there is a permit for each job
            if let Some(permit) = slots.permit() {
                self.start(job, permit, now);
            }
        }
        self.pacer.claimed(slots.is_empty());
        if slots.is_empty() {
            Claimed::AsManyAsAsked
        } else {
            Claimed::All
        }
    }

    /// Starts looks at new jobs that are sent to the worker while `work` runs.
    async fn start_new_during<O>(&mut self, work: impl Future<Output = O>) -> O {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(new) = self.new_jobs.recv() => self.start_new(new),
            }
        }
    }

    /// Starts a look at a new job that the store sent.
    fn start_new(&mut self, (job, permit): (DueJob, Permit)) {
        self.pacer.received();
        self.start(job, permit, self.clock.now());
    }

    fn start(&mut self, job: DueJob, permit: Permit, now: Timestamp) {
        histogram!("relay_poll_lag_seconds").record(between(job.due_at, now).as_secs_f64());
        let span = info_span!("look", job.id = %job.job_id, watches = job.watches.len());
        join_traces(&span, job.watches.iter().filter_map(|watch| watch.trace));
        let looker = self.looker.clone();
        let look = async move {
            let (look, result) = looker.look(job).await;
            counter!("relay_polls_total", "result" => result).increment(1);
            (look, permit)
        };
        self.in_flight.start(look.instrument(span));
    }
}

impl Worker for TrackerWorker {
    fn name(&self) -> &'static str {
        "tracker"
    }

    fn wake(&self) -> Wake {
        self.signals.wake.clone()
    }

    async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
        let completed = self.in_flight.take();
        self.take_completed(completed);
        let (recorded, claimed) = self.record_and_claim().await?;
        match claimed {
            Claimed::AsManyAsAsked => return Ok(TickOutcome::Busy),
            Claimed::NotYet(wait) => return Ok(TickOutcome::Paced(wait)),
            Claimed::All | Claimed::NoCapacity(_) if recorded => return Ok(TickOutcome::Busy),
            Claimed::NoCapacity(next_due_in) => return Ok(TickOutcome::Idle { next_due_in }),
            Claimed::All => {}
        }
        let due = self.store.next_look_due().await?;
        let now = self.clock.now();
        Ok(TickOutcome::Idle {
            next_due_in: due.map(|due| between(now, due)),
        })
    }

    async fn rest(&mut self, so_long: Duration) {
        self.start_new_during(tokio::time::sleep(so_long)).await;
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        self.new_jobs.close();
        while let Some(new) = self.new_jobs.recv().await {
            self.start_new(new);
        }
        loop {
            let completed: Arc<[Look]> = std::mem::take(&mut self.unrecorded).into();
            let recorded = record(&*self.store, &completed).await?;
            self.tell(&completed, &recorded);
            match self.in_flight.wait().await {
                Some(completed) => self.take_completed(completed),
                None => return Ok(()),
            }
        }
    }
}

/// Records looks, if there are any.
async fn record(store: &dyn JobStore, looks: &Arc<[Look]>) -> Result<Vec<JobId>, StoreError> {
    if looks.is_empty() {
        return Ok(Vec::new());
    }
    record_looks(store, looks).await
}

/// Claims jobs, if a claim is wanted.
async fn claim_some(store: &dyn JobStore, claim: Option<Claim>) -> Result<Vec<DueJob>, StoreError> {
    match claim {
        Some(claim) => store.claim_due_jobs(claim).await,
        None => Ok(Vec::new()),
    }
}

/// Returns the duration of a lease. A lease outlasts the longest look: the job's call and the calls about its
/// bank.
fn lease(basiq: &BasiqConfig) -> Duration {
    BasiqClient::longest_call(basiq) + BANK_TIME_LIMIT + LEASE_MARGIN
}

/// Counts the events of a recorded look, and returns whether there are any to deliver.
fn measure(look: &Look) -> bool {
    let mut tells = false;
    for change in &look.changes {
        if let Some(event) = &change.event {
            tells = true;
            let (status, action) = (event.body.status.as_str(), event.body.action.as_str());
            counter!("relay_events_total", "status" => status, "action" => action).increment(1);
        }
    }
    tells
}
