//! Collects the facts, and hands an alert to the sender for each problem that begins or is over.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use relay_domain::{ErrorChain, Fleet, SigningSecret, Upstream, clock::Clock};
use relay_runtime::Reloadable;
use relay_store::{Store, StoreTroubles};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    alerts::{
        alert::AlertSubject,
        firing::{AlertFacts, FiringAlerts, SharedFacts},
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
    store: Arc<dyn Store>,
    clock: Clock,
    upstream: Upstream,
    fleet: Fleet,
    sender: AlertSender,
    /// The name of this relay in its alerts.
    relay: String,
    timing: AlertTiming,
    seen: Mutex<SeenInStore>,
}

/// The state of the store when it was last seen.
struct SeenInStore {
    written_at: Timestamp,
    /// None if the relay has not read them since the last evaluation.
    troubles: Option<StoreTroubles>,
    /// What operators were told before, if the next evaluation must know it.
    told_before: Vec<(AlertSubject, Timestamp)>,
    /// Whether this relay has read what it told before it started.
    knows_own: bool,
    /// Whether this relay has read all that operators were told before it became the first.
    knows_all: bool,
}

impl SeenInStore {
    /// Whether this relay has read what operators were told before, as far as it goes on with that.
    fn knows_told(&self, is_first: bool) -> bool {
        if is_first {
            self.knows_all
        } else {
            self.knows_own
        }
    }
}

/// The parts of the relay that a watcher needs.
pub struct AlertSources {
    /// The store to read and to probe, which also remembers what operators were told.
    pub store: Arc<dyn Store>,
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
            relay: sources.relay.clone(),
            retries: timing.retries.clone(),
            store: sources.store.clone(),
            store_limit: timing.time_limit,
        };
        Ok(Some(Self {
            store: sources.store,
            sender: AlertSender::new(target, sources.clock.clone()),
            seen: Mutex::new(SeenInStore {
                written_at: sources.clock.now(),
                troubles: None,
                told_before: Vec::new(),
                knows_own: false,
                knows_all: false,
            }),
            clock: sources.clock,
            upstream: sources.upstream,
            fleet: sources.fleet,
            relay: sources.relay,
            timing,
        }))
    }

    /// Watches and sends until `stop`. Then it drops the alerts that are still queued.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.sender.run() => {}
            never = self.probe() => match never {},
            never = self.watch() => match never {},
        }
    }

    /// Reads the store once, and then reads and evaluates at intervals. A relay that does not know yet what operators
    /// were told would tell it again.
    async fn watch(&self) -> Infallible {
        if timeout(self.timing.time_limit, self.read_once())
            .await
            .is_err()
        {
            debug!("the store cannot be read in time");
        }
        tokio::select! {
            never = self.read() => never,
            never = self.evaluate() => never,
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
            tokio::time::sleep(self.timing.reading).await;
            self.read_once().await;
        }
    }

    /// Reads the problems in the store, if this relay tells them, and what operators were told before.
    async fn read_once(&self) {
        let is_first = self.fleet.is_first();
        let mut troubles = None;
        if is_first {
            let before = earlier(self.clock.now(), self.timing.host_paused);
            match self.store.troubles(before, MOST_HOSTS).await {
                Ok(read) => troubles = Some(read),
                Err(error) => {
                    debug!(error = %ErrorChain(&error), "the store cannot be read");
                    return;
                }
            }
        }
        if !self.seen.lock().knows_told(is_first) {
            self.learn_told(is_first).await;
        }
        self.seen.lock().troubles = troubles;
    }

    /// Reads what operators were told before. The first relay goes on with all of it, and any other one with what it told
    /// itself. If it cannot be read, operators may be told again.
    async fn learn_told(&self, is_first: bool) {
        let told = self.store.list_told_alerts().await;
        let told = told.unwrap_or_else(|error| {
            debug!(error = %ErrorChain(&error), "the alerts that were sent cannot be read");
            Vec::new()
        });
        let mut seen = self.seen.lock();
        let knows_own = seen.knows_own;
        let subjects = told.iter().filter_map(|told| {
            let subject = AlertSubject::of_told(told, &self.relay)?;
            let is_new = if subject.is_own() {
                !knows_own
            } else {
                is_first
            };
            is_new.then_some((subject, told.since))
        });
        seen.told_before.extend(subjects);
        seen.knows_own = true;
        seen.knows_all = is_first;
    }

    /// Evaluates the facts at intervals, and hands new alerts to the sender.
    async fn evaluate(&self) -> Infallible {
        let mut firing = FiringAlerts::new(self.timing.clone());
        loop {
            let now = self.clock.now();
            for alert in firing.update(&self.facts(), now) {
                self.sender.enqueue(alert);
            }
            tokio::time::sleep(self.timing.evaluation_interval).await;
        }
    }

    fn facts(&self) -> AlertFacts {
        let mut seen = self.seen.lock();
        let (troubles, told_before) = (seen.troubles.take(), std::mem::take(&mut seen.told_before));
        let shared = if self.fleet.is_first() {
            troubles.map_or(SharedFacts::NotRead, SharedFacts::Read)
        } else {
            seen.knows_all = false;
            SharedFacts::LeftToAnother
        };
        AlertFacts {
            upstream: self.upstream.reported_health(),
            is_breaker_open: self.upstream.is_breaker_open(),
            written_at: seen.written_at,
            shared,
            told_before,
        }
    }
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}
