//! Collects the facts, and hands an alert to the sender for each problem that begins or is over.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use relay_domain::{ErrorChain, Fleet, SigningSecret, Upstream, clock::Clock};
use relay_runtime::Reloadable;
use relay_store::{StoreTroubles, UpkeepStore};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    alerts::{
        firing::{AlertFacts, FiringAlerts},
        holder::AlertHolder,
        sender::{AlertSender, AlertTarget},
        target::{alert_url, allowed},
    },
    config::{AlertTiming, Settings},
    delivery::SingleSender,
};

/// The maximum number of paused hosts with an alert at a time: those that have been paused longest.
const MOST_HOSTS: usize = 20;

/// Watches for problems that need an operator, and sends alerts about them.
pub struct AlertWatcher {
    store: Arc<dyn UpkeepStore>,
    clock: Clock,
    upstream: Upstream,
    fleet: Fleet,
    sender: AlertSender,
    timing: AlertTiming,
    seen: Mutex<SeenInStore>,
}

/// The state of the store when it was last seen.
struct SeenInStore {
    written_at: Timestamp,
    /// None if the relay has not read them since the last evaluation.
    troubles: Option<StoreTroubles>,
}

/// The parts of the relay that a watcher needs.
pub struct AlertSources {
    /// The store to read and to probe.
    pub store: Arc<dyn UpkeepStore>,
    /// The relay's clock.
    pub clock: Clock,
    /// How Basiq answers this relay.
    pub upstream: Upstream,
    /// The relays on the store.
    pub fleet: Fleet,
    /// The secret that signs alerts.
    pub secret: Reloadable<Option<SigningSecret>>,
    /// The name of this relay in its alerts.
    pub relay: String,
}

impl AlertWatcher {
    /// Creates a watcher. Returns none if the settings have no URL for alerts.
    pub fn new(settings: &Settings, sources: AlertSources) -> Result<Option<Self>> {
        let Some(url) = alert_url(settings)? else {
            return Ok(None);
        };
        let timing = settings.alerts.timing.clone();
        let mut delivery = settings.delivery.clone();
        delivery.allow_networks = allowed(&delivery);
        delivery.timeout = delivery.timeout.min(timing.time_limit);
        let target = AlertTarget {
            single: SingleSender::alone(&delivery).context("no client for alerts")?,
            url,
            secret: sources.secret,
            relay: sources.relay,
            retries: timing.retries.clone(),
        };
        Ok(Some(Self {
            store: sources.store,
            sender: AlertSender::new(target, sources.clock.clone()),
            seen: Mutex::new(SeenInStore {
                written_at: sources.clock.now(),
                troubles: None,
            }),
            clock: sources.clock,
            upstream: sources.upstream,
            fleet: sources.fleet,
            timing,
        }))
    }

    /// Watches and sends until `stop`. Then it drops the alerts that are still queued.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.sender.run() => {}
            never = self.probe() => match never {},
            never = self.read() => match never {},
            never = self.evaluate() => match never {},
        }
    }

    /// Writes to the store at intervals. It waits for a write that hangs, so that at most one is queued.
    async fn probe(&self) -> Infallible {
        loop {
            match self.store.ping().await {
                Ok(()) => self.seen.lock().written_at = self.clock.now(),
                Err(error) => debug!(error = %ErrorChain(&error), "the store cannot be written"),
            }
            tokio::time::sleep(self.timing.probing).await;
        }
    }

    /// Reads the problems in the store at intervals.
    async fn read(&self) -> Infallible {
        loop {
            let before = earlier(self.clock.now(), self.timing.host_paused);
            match self.store.troubles(before, MOST_HOSTS).await {
                Ok(troubles) => self.seen.lock().troubles = Some(troubles),
                Err(error) => debug!(error = %ErrorChain(&error), "the store cannot be read"),
            }
            tokio::time::sleep(self.timing.reading).await;
        }
    }

    /// Evaluates the facts at intervals, and hands new alerts to the sender.
    async fn evaluate(&self) -> Infallible {
        let mut firing = FiringAlerts::new(self.timing.clone());
        let mut holder = AlertHolder::default();
        loop {
            let now = self.clock.now();
            let alerts = firing.update(&self.facts(), now);
            for alert in holder.choose(alerts, self.fleet.is_first(), now) {
                self.sender.enqueue(alert);
            }
            tokio::time::sleep(self.timing.evaluation_interval).await;
        }
    }

    fn facts(&self) -> AlertFacts {
        let mut seen = self.seen.lock();
        AlertFacts {
            upstream: self.upstream.health(),
            is_breaker_open: self.upstream.is_breaker_open(),
            written_at: seen.written_at,
            troubles: seen.troubles.take(),
        }
    }
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}
