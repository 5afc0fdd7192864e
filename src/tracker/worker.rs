//! Claims due jobs, keeps looks in flight, and records them in batches.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use metrics::{counter, histogram};
use tracing::{Instrument, info_span};

use crate::{
    basiq::BasiqClient,
    clock::Clock,
    config::BasiqConfig,
    domain::JobId,
    runtime::{ClaimPacer, InFlight, SubscriptionTable, Tick, Wake, Worker, WorkerError},
    store::{Capacity, Claim, DueJob, HostLimits, JobStore, Look, StoreError, record_looks},
    telemetry::join_traces,
    tracker::{bank::BANK_TIME_LIMIT, look::Looker, schedule::between},
};

/// What a lease lasts beyond the longest look.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// What a claim brought.
enum Claimed {
    /// All that was due.
    All,
    /// There may be more.
    AsManyAsAsked,
    /// Nothing, because nothing more can be looked at: until a look ends, or this time is over.
    NoRoom(Option<Duration>),
    /// Nothing, because new jobs have the room until this time is over.
    NotYet(Duration),
}

/// Looks at due jobs.
pub struct TrackerWorker {
    looker: Looker,
    store: Arc<dyn JobStore>,
    clock: Clock,
    wake: Wake,
    delivery_wake: Wake,
    changes: SubscriptionTable<JobId>,
    concurrency: usize,
    lease: Duration,
    in_flight: InFlight<Look>,
    unrecorded: Vec<Look>,
    /// The store took no record the last time: nothing is claimed until it does.
    refused: bool,
    search: ClaimPacer,
}

impl TrackerWorker {
    /// A worker with a budget of calls in flight; it rings `delivery_wake` when it stored events, and
    /// `changes` for each job it recorded.
    #[must_use]
    pub fn new(
        looker: Looker,
        store: Arc<dyn JobStore>,
        clock: Clock,
        basiq: &BasiqConfig,
        (wake, delivery_wake): (Wake, Wake),
        changes: SubscriptionTable<JobId>,
    ) -> Self {
        Self {
            looker,
            store,
            clock,
            in_flight: InFlight::new(wake.clone()),
            wake,
            delivery_wake,
            changes,
            concurrency: basiq.concurrency,
            lease: lease(basiq),
            unrecorded: Vec::new(),
            refused: false,
            search: ClaimPacer::default(),
        }
    }

    /// Looks that have not ended or are not recorded yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.count() + self.unrecorded.len()
    }

    /// Records what landed and claims what can be looked at soon, together, so that they share a commit.
    /// What cannot be recorded is kept.
    async fn record_and_claim(&mut self) -> Result<(bool, Claimed), WorkerError> {
        let landed: Arc<[Look]> = std::mem::take(&mut self.unrecorded).into();
        let wanted = self.divide_room();
        let (store, claims) = (Arc::clone(&self.store), wanted.as_ref().ok());
        let work = async { tokio::join!(record(&*store, &landed), claim(&*store, claims)) };
        let desk = store.new_jobs();
        let (recorded, due) = desk.receive_during(work, |new| self.look_at(new)).await;
        self.refused = recorded.is_err();
        match &recorded {
            Ok(recorded) => self.tell(&landed, recorded),
            Err(_) => self.unrecorded = landed.to_vec(),
        }
        let claimed = match (wanted, due?) {
            (Err(none), _) => none,
            (Ok(claim), due) => self.check_and_free_leases(claim, due),
        };
        recorded?;
        Ok((!landed.is_empty(), claimed))
    }

    /// Counts what was recorded, rings for those who follow it, and wakes the delivery if there is something to
    /// deliver.
    fn tell(&self, looks: &[Look], recorded: &[JobId]) {
        self.changes.ring(recorded);
        let recorded: HashSet<&JobId> = recorded.iter().collect();
        let mut tells = false;
        for look in looks.iter().filter(|look| recorded.contains(&look.job_id)) {
            tells |= measure(look);
        }
        if tells {
            self.delivery_wake.ring();
        }
    }

    /// Divides the room there is between claims and new jobs, which have all of it while claims can wait; while
    /// there is more to claim than room, they have none.
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

    /// Offers room to new jobs.
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

    /// What to claim: what is claimed later may be more urgent.
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

    fn check_and_free_leases(&mut self, claim: Claim, due: Vec<DueJob>) -> Claimed {
        let left = claim.limit.saturating_sub(due.len());
        self.search.searched(left == 0);
        self.start_all(due, claim.now);
        if left == 0 {
            Claimed::AsManyAsAsked
        } else {
            Claimed::All
        }
    }

    /// New jobs that come.
    fn on_their_way(&self) -> usize {
        self.store.new_jobs().reserved().values().sum()
    }

    /// Looks at new jobs that were handed over.
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
        let landed = self.in_flight.take();
        self.unrecorded.extend(landed);
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
        let (desk, resting) = (store.new_jobs(), tokio::time::sleep(so_long));
        desk.receive_during(resting, |new| self.look_at(new)).await;
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        let store = Arc::clone(&self.store);
        store.new_jobs().close(|new| self.look_at(new)).await;
        loop {
            let landed: Arc<[Look]> = std::mem::take(&mut self.unrecorded).into();
            let recorded = record(&*self.store, &landed).await?;
            self.tell(&landed, &recorded);
            match self.in_flight.wait().await {
                Some(landed) => self.unrecorded.extend(landed),
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

/// Claims jobs, if any are wanted.
async fn claim(store: &dyn JobStore, claim: Option<&Claim>) -> Result<Vec<DueJob>, StoreError> {
    match claim {
        Some(claim) => store.claim_due_jobs(*claim).await,
        None => Ok(Vec::new()),
    }
}

/// A lease outlasts the longest look: the job's call, and what may be asked about its bank.
fn lease(basiq: &BasiqConfig) -> Duration {
    BasiqClient::longest_call(basiq) + BANK_TIME_LIMIT + LEASE_MARGIN
}

/// Counts what a recorded look told, and says whether there is something to deliver.
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
