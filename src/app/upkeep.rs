//! Deletes old watches and old entries of the audit log in small batches, and counts what the store holds for the
//! metrics.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use relay_domain::clock::Clock;
use relay_runtime::{TickOutcome, Wake, Worker, WorkerError};
use relay_store::{AuditStore, Store, UpkeepStore};
use tracing::info;

use crate::config::StoreConfig;

/// The maximum number of watches that one transaction deletes. It is small so that registrations do not wait long.
const PURGE_BATCH: usize = 200;

/// The interval at which the store is counted and searched for old watches.
const INTERVAL: Duration = Duration::from_secs(5);

/// The worker that deletes old watches and updates the metrics of the store.
pub struct UpkeepWorker {
    store: Arc<dyn UpkeepStore>,
    audit: Arc<dyn AuditStore>,
    clock: Clock,
    retention: Duration,
    audit_retention: Duration,
    wake: Wake,
}

impl UpkeepWorker {
    /// Creates a worker that deletes watches that ended longer ago than the retention, and entries of the audit log
    /// after their own.
    #[must_use]
    pub fn new(store: &Arc<dyn Store>, clock: Clock, config: &StoreConfig) -> Self {
        Self {
            store: store.clone(),
            audit: store.clone(),
            clock,
            retention: config.retention,
            audit_retention: config.audit_retention,
            wake: Wake::new(),
        }
    }

    async fn count(&self) -> Result<(), WorkerError> {
        let census = self.store.census(self.clock.now()).await?;
        for (state, count) in census.watches {
            set("relay_watches", "state", state.as_str(), count);
        }
        let queues = [
            ("looks-due", census.due_jobs),
            ("deliveries-due", census.due_deliveries),
            ("deliveries-pending", census.pending_deliveries),
            ("deliveries-dead", census.dead_deliveries),
            ("lists-due", census.due_lists),
        ];
        for (queue, depth) in queues {
            set("relay_queue_depth", "queue", queue, depth);
        }
        gauge!("relay_subscriptions").set(float(census.subscriptions));
        gauge!("relay_hosts_paused").set(float(census.paused_hosts));
        Ok(())
    }
}

fn set(name: &'static str, label: &'static str, value: &'static str, count: u64) {
    gauge!(name, label => value).set(float(count));
}

#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats; counts stay far below 2^52"
)]
fn float(count: u64) -> f64 {
    count as f64
}

impl Worker for UpkeepWorker {
    fn name(&self) -> &'static str {
        "upkeep"
    }

    fn wake(&self) -> Wake {
        self.wake.clone()
    }

    async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
        let now = self.clock.now();
        let before = now.checked_sub(self.retention)?;
        let watches = self.store.purge_ended(before, PURGE_BATCH).await?;
        let before = now.checked_sub(self.audit_retention)?;
        let entries = self.audit.purge_acts(before, PURGE_BATCH).await?;
        if watches > 0 || entries > 0 {
            info!(watches, entries, "deleted rows older than the retention");
        }
        if usize::try_from(watches.max(entries))? >= PURGE_BATCH {
            return Ok(TickOutcome::Busy);
        }
        self.count().await?;
        Ok(TickOutcome::Idle {
            next_due_in: Some(INTERVAL),
        })
    }

    async fn drain(&mut self) -> Result<(), WorkerError> {
        Ok(())
    }
}
