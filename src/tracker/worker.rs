//! Claims due jobs, runs their looks, and records the looks in batches.

use std::{collections::HashSet, sync::Arc, time::Duration};

use basiq_client::{BasiqClient, BasiqConfig};
use jiff::Timestamp;
use metrics::{counter, histogram};
use relay_domain::{JobId, clock::Clock};
use relay_runtime::{ClaimPacer, InFlight, Tick, Wake, Worker, WorkerError};
use relay_store::{Capacity, Claim, DueJob, HostLimits, JobStore, Look, StoreError, record_looks};
use tracing::{Instrument, info_span};

use crate::{
    follow::FollowRegistry,
    telemetry::join_traces,
    tracker::{bank::BANK_TIME_LIMIT, look::Looker, schedule::between},
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
    NoRoom(Option<Duration>),
    /// Nothing was claimed because new jobs use the capacity until this time is over.
    NotYet(Duration),
}

/// The worker that looks at due jobs.
pub struct TrackerWorker {
    looker: Looker,
    store: Arc<dyn JobStore>,
    clock: Clock,
    wake: Wake,
    delivery_wake: Wake,
    follows: FollowRegistry,
    concurrency: usize,
    lease: Duration,
    in_flight: InFlight<Look>,
    unrecorded: Vec<Look>,
    /// Whether the store refused the latest record. Nothing is claimed until a record succeeds.
    refused: bool,
    search: ClaimPacer,
}

impl TrackerWorker {
    /// Creates a worker that keeps a limited number of looks in flight. It wakes the delivery worker through
    /// `delivery_wake` when it stored events, and notifies `follows` of each recorded job.
    #[must_use]
    pub fn new(
        looker: Looker,
        store: Arc<dyn JobStore>,
        clock: Clock,
        basiq: &BasiqConfig,
        (wake, delivery_wake): (Wake, Wake),
        follows: FollowRegistry,
    ) -> Self {
        Self {
            looker,
            store,
            clock,
            in_flight: InFlight::new(wake.clone()),
            wake,
            delivery_wake,
            follows,
            concurrency: basiq.concurrency,
            lease: lease(basiq),
            unrecorded: Vec::new(),
            refused: false,
            search: ClaimPacer::default(),
        }
    }

    /// Returns the number of looks that are in progress or not recorded yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.count() + self.unrecorded.len()
    }

    /// Records finished looks and claims jobs at the same time, so that both share a commit. Looks that cannot
    /// be recorded are kept for the next attempt.
    async fn record_and_claim(&mut self) -> Result<(bool, Claimed), WorkerError> {
        let completed: Arc<[Look]> = std::mem::take(&mut self.unrecorded).into();
        let wanted = self.divide_room();
        let (store, claims) = (Arc::clone(&self.store), wanted.as_ref().ok());
        let work = async { tokio::join!(record(&*store, &completed), claim(&*store, claims)) };
        let dispatch = store.new_jobs();
        let (recorded, due) = dispatch.receive_during(work, |new| self.look_at(new)).await;
        self.refused = recorded.is_err();
        match &recorded {
            Ok(recorded) => self.tell(&completed, recorded),
            Err(_) => self.unrecorded = completed.to_vec(),
        }
        let claimed = match (wanted, due?) {
            (Err(none), _) => none,
            (Ok(claim), due) => self.start_claimed(claim, due),
        };
        recorded?;
        Ok((!completed.is_empty(), claimed))
    }

    /// Counts the recorded looks, notifies the followers of their jobs, and wakes the delivery worker if there
    /// are events to deliver.
    fn tell(&self, looks: &[Look], recorded: &[JobId]) {
        self.follows.notify_jobs(recorded);
        let recorded: HashSet<&JobId> = recorded.iter().collect();
        let mut tells = false;
        for look in looks.iter().filter(|look| recorded.contains(&look.job_id)) {
            tells |= measure(look);
        }
        if tells {
            self.delivery_wake.ring();
        }
    }

    /// Divides the free capacity between claims and new jobs. New jobs get all of it while the next claim can
    /// wait, and half of it otherwise. They get none while more jobs are due than there is capacity.
    fn divide_room(&mut self) -> Result<Claim, Claimed> {
        self.store.new_jobs().clear_capacity();
        let new = self.store.new_jobs().receive();
        self.look_at(new);
        let claim = self.wanted()?;
        let wait = self.search.can_wait();
        let offered = match wait {
            _ if self.search.left_some() => 0,
            Some(_) => claim.limit,
            None => claim.limit / 2,
        };
        self.set_capacity(offered);
        match wait {
            Some(wait) => Err(Claimed::NotYet(wait)),
            None => Ok(Claim {
                limit: claim.limit - offered,
                ..claim
            }),
        }
    }

    /// Publishes the capacity for new jobs.
    fn set_capacity(&self, limit: usize) {
        let room = Capacity {
            clock: self.clock.clone(),
            lease: self.lease,
            limit,
            hosts: HostLimits {
                per_host: usize::MAX,
                ..HostLimits::default()
            },
        };
        self.store.new_jobs().set_capacity(room, self.wake.clone());
    }

    /// Returns what to claim. The limit is small, because jobs that are claimed later may be more urgent.
    fn wanted(&self) -> Result<Claim, Claimed> {
        let looks = self.in_flight.count() + self.on_their_way();
        let free = self.concurrency.saturating_sub(looks);
        if free == 0 || self.refused {
            return Err(Claimed::NoRoom(None));
        }
        let room = self.looker.room(looks);
        let limit = free.min(room.calls);
        if limit == 0 {
            return Err(Claimed::NoRoom(Some(room.again_in)));
        }
        Ok(Claim {
            now: self.clock.now(),
            lease: self.lease,
            limit,
        })
    }

    fn start_claimed(&mut self, claim: Claim, due: Vec<DueJob>) -> Claimed {
        let left = claim.limit.saturating_sub(due.len());
        self.search.searched(left == 0);
        self.start_all(due, claim.now);
        if left == 0 {
            Claimed::AsManyAsAsked
        } else {
            Claimed::All
        }
    }

    /// Returns the number of new jobs that the store has reserved capacity for and that are about to arrive.
    fn on_their_way(&self) -> usize {
        self.store.new_jobs().reserved().values().sum()
    }

    /// Looks at new jobs that were dispatched to this worker.
    fn look_at(&mut self, new: Vec<DueJob>) {
        if !new.is_empty() {
            self.search.handed();
            self.start_all(new, self.clock.now());
        }
    }

    fn start_all(&mut self, due: Vec<DueJob>, now: Timestamp) {
        for job in due {
            histogram!("relay_poll_lag_seconds").record(between(job.due_at, now).as_secs_f64());
            self.start(job);
        }
    }

    fn start(&mut self, job: DueJob) {
        let span = info_span!("look", job.id = %job.job_id, watches = job.watches.len());
        join_traces(&span, job.watches.iter().filter_map(|watch| watch.trace));
        let looker = self.looker.clone();
        let look = async move {
            let (look, result) = looker.look(job).await;
            counter!("relay_polls_total", "result" => result).increment(1);
            look
        };
        self.in_flight.start(look.instrument(span));
    }
}

impl Worker for TrackerWorker {
    fn name(&self) -> &'static str {
        "tracker"
    }

    fn wake(&self) -> Wake {
        self.wake.clone()
    }

    async fn tick(&mut self) -> Result<Tick, WorkerError> {
        let completed = self.in_flight.take();
        self.unrecorded.extend(completed);
        let (recorded, claimed) = self.record_and_claim().await?;
        match claimed {
            Claimed::AsManyAsAsked => return Ok(Tick::Busy),
            Claimed::NotYet(wait) => return Ok(Tick::Paced(wait)),
            Claimed::All | Claimed::NoRoom(_) if recorded => return Ok(Tick::Busy),
            Claimed::NoRoom(next_due_in) => return Ok(Tick::Idle { next_due_in }),
            Claimed::All => {}
        }
        let due = self.store.next_look_due().await?;
        let now = self.clock.now();
        Ok(Tick::Idle {
            next_due_in: due.map(|due| between(now, due)),
        })
    }

    async fn rest(&mut self, so_long: Duration) {
        let store = Arc::clone(&self.store);
        let (dispatch, resting) = (store.new_jobs(), tokio::time::sleep(so_long));
        dispatch
            .receive_during(resting, |new| self.look_at(new))
            .await;
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        let store = Arc::clone(&self.store);
        store.new_jobs().close(|new| self.look_at(new)).await;
        loop {
            let completed: Arc<[Look]> = std::mem::take(&mut self.unrecorded).into();
            let recorded = record(&*self.store, &completed).await?;
            self.tell(&completed, &recorded);
            match self.in_flight.wait().await {
                Some(completed) => self.unrecorded.extend(completed),
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
async fn claim(store: &dyn JobStore, claim: Option<&Claim>) -> Result<Vec<DueJob>, StoreError> {
    match claim {
        Some(claim) => store.claim_due_jobs(*claim).await,
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
