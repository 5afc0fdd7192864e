//! Claims due lists, reads them, and records what they found.

use std::{sync::Arc, time::Duration};

use basiq_client::{BasiqClient, BasiqConfig};
use metrics::{counter, histogram};
use relay_domain::{
    Fleet, NoticeKind,
    clock::{Clock, between},
};
use relay_runtime::{InFlight, TickOutcome, Wake, Worker, WorkerError};
use relay_store::{Claim, DiscoveryStore, JobListResult, RecordedLists, record_lists};
use tracing::info;

use crate::discovery::{
    JobLister,
    pace::{ListAllowance, ListPace},
};

/// The maximum number of lists in flight. It is low, so that looks at jobs keep the budget.
const CONCURRENCY: usize = 8;

/// The pause after a claim that found no list, although one is due. Another relay may have it, or it is damaged.
const EMPTY_CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// How much longer a lease lasts than the longest list.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// What wakes the discovery worker, and what it notifies.
pub struct DiscoverySignals {
    /// Wakes the discovery worker.
    pub wake: Wake,
    /// Wakes the tracker when there are new watches.
    pub tracker_wake: Wake,
    /// Wakes the delivery worker when there are notices.
    pub delivery_wake: Wake,
}

/// The worker that lists people's jobs.
pub struct DiscoveryWorker {
    lister: JobLister,
    store: Arc<dyn DiscoveryStore>,
    clock: Clock,
    signals: DiscoverySignals,
    fleet: Fleet,
    pace: ListPace,
    lease: Duration,
    in_flight: InFlight<JobListResult>,
    unrecorded: Vec<JobListResult>,
}

impl DiscoveryWorker {
    /// Creates a worker that uses at most a quarter of the budget of calls. The relays of `fleet` divide that.
    #[must_use]
    pub fn new(
        lister: JobLister,
        store: Arc<dyn DiscoveryStore>,
        clock: Clock,
        basiq: &BasiqConfig,
        fleet: &Fleet,
        signals: DiscoverySignals,
    ) -> Self {
        Self {
            lister,
            store,
            clock,
            in_flight: InFlight::new(signals.wake.clone()),
            signals,
            fleet: fleet.clone(),
            pace: ListPace::new(basiq.requests_per_second),
            lease: BasiqClient::longest_list(basiq) + LEASE_MARGIN,
            unrecorded: Vec::new(),
        }
    }

    /// Returns the number of lists that are in progress or not recorded yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.count() + self.unrecorded.len()
    }

    /// Records the lists that were read. Those that cannot be recorded are kept for the next attempt.
    async fn record(&mut self) -> Result<(), WorkerError> {
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        let recorded = record_lists(&*self.store, self.unrecorded.clone()).await?;
        self.unrecorded.clear();
        self.announce_recorded(recorded);
        Ok(())
    }

    /// Logs and counts what recorded lists caused, and wakes the workers that have work from it.
    fn announce_recorded(&self, recorded: RecordedLists) {
        let RecordedLists {
            watches,
            notices,
            waiting_for_room,
        } = recorded;
        if watches > 0 {
            info!(watches, "jobs of subscribed users are watched");
            counter!("relay_discovered_jobs_total").increment(watches);
            self.signals.tracker_wake.notify();
        }
        if notices > 0 {
            let kind = NoticeKind::UserRemoved.as_str();
            counter!("relay_notices_total", "type" => kind).increment(notices);
            self.signals.delivery_wake.notify();
        }
        if waiting_for_room > 0 {
            info!(
                jobs = waiting_for_room,
                "jobs of subscribed users wait: their clients have too many open watches"
            );
        }
    }

    /// Claims due lists and starts them.
    async fn claim(&mut self, limit: usize) -> Result<TickOutcome, WorkerError> {
        let now = self.clock.now();
        let claim = Claim {
            now,
            lease: self.lease,
            limit,
        };
        let claimed = self.store.claim_due_lists(claim).await?;
        let count = claimed.len();
        if count == 0 {
            return Ok(TickOutcome::Idle {
                next_due_in: Some(EMPTY_CLAIM_PAUSE),
            });
        }
        self.pace.record_start(count, self.relays());
        for due in claimed {
            let lag = between(due.due_at, now);
            histogram!("relay_discovery_lag_seconds").record(lag.as_secs_f64());
            let list = self.lister.clone().list(due, self.pace.further_pages());
            self.in_flight.start(list);
        }
        Ok(TickOutcome::Busy)
    }

    fn relays(&self) -> u32 {
        u32::try_from(self.fleet.relays()).unwrap_or(u32::MAX)
    }
}

impl Worker for DiscoveryWorker {
    fn name(&self) -> &'static str {
        "discovery"
    }

    fn wake(&self) -> Wake {
        self.signals.wake.clone()
    }

    async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
        let completed = self.in_flight.take();
        self.unrecorded.extend(completed);
        self.record().await?;
        self.pace.charge_further_pages(self.relays());
        let now = self.clock.now();
        let Some(due) = self.store.next_list_due().await? else {
            return Ok(TickOutcome::Idle { next_due_in: None });
        };
        let free = CONCURRENCY.saturating_sub(self.in_flight());
        if free == 0 {
            // a list that ends wakes the worker
            return Ok(TickOutcome::Idle { next_due_in: None });
        }
        let until_due = between(now, due);
        if !until_due.is_zero() {
            return Ok(TickOutcome::Idle {
                next_due_in: Some(until_due),
            });
        }
        match self.pace.allowance(self.relays()) {
            ListAllowance::After(wait) => Ok(TickOutcome::Idle {
                next_due_in: Some(wait),
            }),
            ListAllowance::Now(allowed) => self.claim(allowed.min(free)).await,
        }
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        self.record().await?;
        while let Some(completed) = self.in_flight.wait().await {
            self.unrecorded.extend(completed);
            self.record().await?;
        }
        Ok(())
    }
}
