//! Polls banks in major outage, once for all the jobs that wait for the bank.

use std::{sync::Arc, time::Duration};

use basiq_client::{BasiqClient, BasiqConfig};
use jiff::Timestamp;
use relay_domain::{
    clock::{Clock, between, later},
    spread,
};
use relay_runtime::{InFlight, TickOutcome, Wake, Worker, WorkerError};
use relay_store::{BankLook, BankStore, Claim, DueBank, record_bank_looks};
use tracing::{debug, info, warn};

use crate::{config::TrackingConfig, tracker::bank::is_out};

/// The maximum number of bank looks in flight. There are few such banks, and jobs have priority.
const CONCURRENCY: usize = 4;

/// The pause after a claim that found no bank, although one is due. Another relay may have it, or it is damaged.
const EMPTY_CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// How much longer a lease lasts than the longest look.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// The longest wait after a look that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_mins(1);

/// Looks at due banks.
pub struct BankWorker {
    client: BasiqClient,
    store: Arc<dyn BankStore>,
    clock: Clock,
    wake: Wake,
    tracker_wake: Wake,
    interval: Duration,
    lease: Duration,
    in_flight: InFlight<BankLook>,
    unrecorded: Vec<BankLook>,
}

impl BankWorker {
    /// Creates a worker that calls Basiq through `client`. It wakes the tracker through `tracker_wake` when a
    /// bank serves its jobs again.
    #[must_use]
    pub fn new(
        client: BasiqClient,
        store: Arc<dyn BankStore>,
        clock: Clock,
        basiq: &BasiqConfig,
        tracking: &TrackingConfig,
        tracker_wake: Wake,
    ) -> Self {
        let wake = Wake::new();
        Self {
            client,
            store,
            clock,
            in_flight: InFlight::new(wake.clone()),
            wake,
            tracker_wake,
            interval: tracking.outage_poll_interval,
            lease: BasiqClient::longest_call(basiq) + LEASE_MARGIN,
            unrecorded: Vec::new(),
        }
    }

    /// Returns the number of looks that are in progress or not recorded yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.count() + self.unrecorded.len()
    }

    /// Records the looks that have ended. Those that cannot be recorded are kept for the next attempt.
    async fn record(&mut self) -> Result<(), WorkerError> {
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        let due = record_bank_looks(&*self.store, self.unrecorded.clone()).await?;
        self.unrecorded.clear();
        if due > 0 {
            info!(jobs = due, "a bank is back; its jobs are told");
            self.tracker_wake.notify();
        }
        Ok(())
    }

    async fn claim(&mut self) -> Result<TickOutcome, WorkerError> {
        let free = CONCURRENCY.saturating_sub(self.in_flight());
        let claim = Claim {
            now: self.clock.now(),
            lease: self.lease,
            limit: free,
        };
        let claimed = self.store.claim_due_banks(claim).await?;
        if claimed.is_empty() {
            return Ok(TickOutcome::Idle {
                next_due_in: Some(EMPTY_CLAIM_PAUSE),
            });
        }
        for due in claimed {
            let look = look(self.client.clone(), self.clock.clone(), due, self.interval);
            self.in_flight.start(look);
        }
        Ok(TickOutcome::Busy)
    }
}

/// Makes one look at a bank. It never fails: without a response the bank is looked at again soon.
async fn look(client: BasiqClient, clock: Clock, due: DueBank, interval: Duration) -> BankLook {
    let answer = is_out(&client, &due.bank).await;
    let at = clock.now();
    let next = |wait| later(at, spread(wait, rand::random()));
    let next_look_at: Option<Timestamp> = match answer {
        Ok(true) => Some(next(interval)),
        Ok(false) => None,
        Err(error) => {
            let bank = &due.bank.institution_id;
            if error.got_no_response() {
                // The client logs this once for all calls.
                debug!(institution.id = %bank, %error, "no word on a bank, will try again");
            } else {
                warn!(institution.id = %bank, %error, "a bank cannot be looked at, will try again");
            }
            Some(next(interval.min(PAUSE_AFTER_FAILURE)))
        }
    };
    BankLook {
        bank: due.bank,
        lease: due.lease,
        at,
        next_look_at,
    }
}

impl Worker for BankWorker {
    fn name(&self) -> &'static str {
        "banks"
    }

    fn wake(&self) -> Wake {
        self.wake.clone()
    }

    async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
        let completed = self.in_flight.take();
        self.unrecorded.extend(completed);
        self.record().await?;
        let now = self.clock.now();
        let due = self.store.next_bank_due().await?;
        if due.is_none_or(|due| due > now) || self.in_flight() >= CONCURRENCY {
            let next_due_in = due
                .map(|due| between(now, due))
                .filter(|wait| !wait.is_zero());
            return Ok(TickOutcome::Idle { next_due_in });
        }
        self.claim().await
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
