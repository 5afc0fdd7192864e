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
    Claim, DispatchReceiver, DueJob, JobStore, Look, Permit, ReservedSlots, Slots, StoreError,
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

/// What the next claim may do.
enum ClaimPlan {
    /// Claim jobs for these slots.
    Claim(ReservedSlots),
    /// Claim nothing.
    Skip(SkipReason),
}

/// Why nothing is claimed.
enum SkipReason {
    /// There is no capacity until a look ends, or until `retry_in` has passed if it is set.
    NoCapacity { retry_in: Option<Duration> },
    /// New jobs get all free slots until this time has passed.
    NewJobsOnly(Duration),
}

/// The result of a claim.
enum Claimed {
    /// The claim returned all due jobs.
    All,
    /// The claim reached its limit, so more jobs may be due.
    UpToLimit,
    /// Nothing was claimed.
    Nothing(SkipReason),
}

/// What one tick did.
struct TickWork {
    /// Whether there were looks to record.
    recorded_any: bool,
    claimed: Claimed,
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
    in_flight: InFlight<PermittedLook>,
    /// Looks that have ended and are not recorded yet.
    unrecorded: Vec<Look>,
    /// Whether the latest record failed. Nothing is claimed until a record succeeds.
    record_failed: bool,
    pacer: ClaimPacer,
}

/// A look that has ended, with the permit that it frees when it is dropped.
struct PermittedLook {
    look: Look,
    _permit: Permit,
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
            record_failed: false,
            pacer: ClaimPacer::default(),
        }
    }

    /// Returns the live counts of looks and ended jobs.
    #[must_use]
    pub fn tally(&self) -> LookTally {
        self.looker.tally()
    }

    /// Returns the recorder of what this relay does. The delivery worker counts in it too.
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
    fn take_completed(&mut self, completed: Vec<PermittedLook>) {
        let looks = completed.into_iter().map(|done| done.look);
        self.unrecorded.extend(looks);
    }

    /// Records finished looks and claims jobs at the same time. On SQLite both then join one commit. Looks that cannot
    /// be recorded are kept for the next attempt.
    async fn record_and_claim(&mut self) -> Result<TickWork, WorkerError> {
        let completed: Arc<[Look]> = std::mem::take(&mut self.unrecorded).into();
        let (store, plan) = (Arc::clone(&self.store), self.plan_claim());
        let now = self.clock.now();
        let claim = match &plan {
            ClaimPlan::Claim(slots) => Some(Claim {
                now,
                lease: self.lease,
                limit: slots.len(),
            }),
            ClaimPlan::Skip(_) => None,
        };
        let work = async { tokio::join!(record(&*store, &completed), claim_some(&*store, claim)) };
        let (recorded, due) = self.start_new_during(work).await;
        self.record_failed = recorded.is_err();
        match &recorded {
            Ok(recorded) => self.announce_recorded(&completed, recorded),
            Err(_) => self.unrecorded = completed.to_vec(),
        }
        let due = due?;
        let claimed = match plan {
            ClaimPlan::Claim(slots) => self.start_claimed(due, slots, now),
            ClaimPlan::Skip(reason) => Claimed::Nothing(reason),
        };
        recorded?;
        Ok(TickWork {
            recorded_any: !completed.is_empty(),
            claimed,
        })
    }

    /// Counts the recorded looks, notifies the followers of their jobs, and wakes the delivery worker if there
    /// are events to deliver.
    fn announce_recorded(&self, looks: &[Look], recorded: &[JobId]) {
        self.signals.follows.notify_jobs(recorded);
        let recorded: HashSet<&JobId> = recorded.iter().collect();
        let mut has_events = false;
        for look in looks.iter().filter(|look| recorded.contains(&look.job_id)) {
            has_events |= count_events(look) > 0;
        }
        if has_events {
            self.signals.delivery_wake.notify();
        }
    }

    /// Divides the usable slots between the next claim and new jobs, see [`SlotDivision`]. Offers one part to new jobs,
    /// and plans the claim with the other.
    ///
    /// The usable slots are the free ones, but at most as many as the budget of calls serves soon. Jobs that come later
    /// may be more urgent.
    fn plan_claim(&mut self) -> ClaimPlan {
        for (job, permit) in self.new_jobs.withdraw() {
            self.start_new(job, permit);
        }
        let free = self.slots.free();
        if free == 0 || self.record_failed {
            return ClaimPlan::Skip(SkipReason::NoCapacity { retry_in: None });
        }
        let capacity = self.looker.capacity(self.slots.taken());
        let usable = free.min(capacity.calls);
        if usable == 0 {
            let retry_in = Some(capacity.retry_in);
            return ClaimPlan::Skip(SkipReason::NoCapacity { retry_in });
        }
        let division = self.pacer.divide(HostBacklog::None);
        let for_new = division.for_new_work(usable);
        self.new_jobs.offer(self.slots.set_aside(for_new));
        match division {
            SlotDivision::NewWorkOnly(wait) => ClaimPlan::Skip(SkipReason::NewJobsOnly(wait)),
            SlotDivision::ClaimOnly | SlotDivision::Halves => {
                ClaimPlan::Claim(self.slots.set_aside(usable - for_new))
            }
        }
    }

    /// Starts looks at the jobs that were claimed for `slots`.
    fn start_claimed(
        &mut self,
        due: Vec<DueJob>,
        mut slots: ReservedSlots,
        now: Timestamp,
    ) -> Claimed {
        for job in due {
            // the claim stayed within its limit, so there is a permit for each job
            if let Some(permit) = slots.permit() {
                self.start(job, permit, now);
            }
        }
        self.pacer.claimed(slots.is_empty());
        if slots.is_empty() {
            Claimed::UpToLimit
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
                Some((job, permit)) = self.new_jobs.recv() => self.start_new(job, permit),
            }
        }
    }

    /// Starts a look at a new job that the store sent.
    fn start_new(&mut self, job: DueJob, permit: Permit) {
        self.pacer.received();
        self.start(job, permit, self.clock.now());
    }

    fn start(&mut self, job: DueJob, permit: Permit, now: Timestamp) {
        histogram!("relay_poll_lag_seconds").record(between(job.due_at, now).as_secs_f64());
        let span = info_span!("look", job.id = %job.job_id, watches = job.watches.len());
        join_traces(&span, job.watches.iter().filter_map(|watch| watch.trace));
        let looker = self.looker.clone();
        let task = async move {
            let (look, result) = looker.look(job).await;
            counter!("relay_polls_total", "result" => result).increment(1);
            PermittedLook {
                look,
                _permit: permit,
            }
        };
        self.in_flight.start(task.instrument(span));
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
        let TickWork {
            recorded_any,
            claimed,
        } = self.record_and_claim().await?;
        match claimed {
            Claimed::UpToLimit => return Ok(TickOutcome::Busy),
            Claimed::Nothing(SkipReason::NewJobsOnly(wait)) => return Ok(TickOutcome::Paced(wait)),
            Claimed::All | Claimed::Nothing(SkipReason::NoCapacity { .. }) if recorded_any => {
                return Ok(TickOutcome::Busy);
            }
            Claimed::Nothing(SkipReason::NoCapacity { retry_in }) => {
                return Ok(TickOutcome::Idle {
                    next_due_in: retry_in,
                });
            }
            Claimed::All => {}
        }
        let due = self.store.next_look_due().await?;
        let now = self.clock.now();
        Ok(TickOutcome::Idle {
            next_due_in: due.map(|due| between(now, due)),
        })
    }

    async fn leave_store_to_others(&mut self, pause: Duration) {
        self.start_new_during(tokio::time::sleep(pause)).await;
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        self.new_jobs.close();
        while let Some((job, permit)) = self.new_jobs.recv().await {
            self.start_new(job, permit);
        }
        loop {
            let completed: Arc<[Look]> = std::mem::take(&mut self.unrecorded).into();
            let recorded = record(&*self.store, &completed).await?;
            self.announce_recorded(&completed, &recorded);
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

/// Returns the duration of a lease. A lease outlasts the longest look: the job's call, and the calls about its bank or
/// about whether Basiq answers at all.
fn lease(basiq: &BasiqConfig) -> Duration {
    BasiqClient::longest_call(basiq) + BANK_TIME_LIMIT + LEASE_MARGIN
}

/// Counts the events of a recorded look in the metrics, and returns their number.
fn count_events(look: &Look) -> usize {
    let events = look
        .changes
        .iter()
        .filter_map(|change| change.event.as_ref());
    let mut count = 0;
    for event in events {
        let (status, action) = (event.body.status.as_str(), event.body.action.as_str());
        counter!("relay_events_total", "status" => status, "action" => action).increment(1);
        count += 1;
    }
    count
}
