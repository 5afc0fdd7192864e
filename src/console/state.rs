//! The state that all pages share.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use relay_domain::{CallbackRules, Fleet, LookTally, Upstream, clock::Clock};
use relay_store::{Census, Store, StoreError};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use crate::{callback_test::CallbackTester, console::throttle::LogInThrottle, web::OperatorTokens};

/// Wakes the delivery worker.
pub type WakeCallback = Arc<dyn Fn() + Send + Sync>;

/// The maximum number of failed log-ins a minute that the audit log records. All of them are counted and logged.
const RECORDED_A_MINUTE: u32 = 60;

/// The maximum age of cached counts. The store counts at most once in this time, however many pages are open.
const COUNTS_LAST: Duration = Duration::from_secs(1);

/// The parts of the relay that the console uses.
#[derive(Clone)]
pub struct ConsoleParts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The relay's clock.
    pub clock: Clock,
    /// The operators and their tokens, with which they log in.
    pub admin: OperatorTokens,
    /// The state of Basiq, as the relay's calls observe it.
    pub upstream: Upstream,
    /// The limits of calls to Basiq.
    pub budget: CallBudget,
    /// The looks of this relay at jobs.
    pub looks: LookTally,
    /// The relays on the store.
    pub fleet: Fleet,
    /// The rules for callback URLs.
    pub rules: CallbackRules,
    /// `RELAY_PUBLIC_URL`: the address at which browsers reach the relay.
    pub public_url: Option<Url>,
    /// Tests callbacks.
    pub tester: CallbackTester,
    /// Called when there is a delivery to send.
    pub notify_delivery: WakeCallback,
}

/// The limits of calls to Basiq from the settings, for all relays on a store together.
#[derive(Debug, Clone, Copy)]
pub struct CallBudget {
    /// The maximum number of calls a second.
    pub per_second: u32,
    /// The maximum number of calls in flight.
    pub in_flight: usize,
}

/// What all requests to the console share.
#[derive(Clone)]
pub(super) struct ConsoleState {
    pub(super) parts: Arc<ConsoleParts>,
    /// Slows log-ins after failures.
    pub(super) throttle: Arc<LogInThrottle>,
    /// Limits how many failed log-ins the audit log records.
    pub(super) recorded_failures: Arc<DefaultDirectRateLimiter>,
    counts: Arc<Mutex<Option<(Instant, Census)>>>,
}

impl ConsoleState {
    pub(super) fn new(parts: ConsoleParts) -> Self {
        let recorded = NonZeroU32::new(RECORDED_A_MINUTE).unwrap_or(NonZeroU32::MIN);
        Self {
            parts: Arc::new(parts),
            throttle: Arc::default(),
            recorded_failures: Arc::new(RateLimiter::direct(Quota::per_minute(recorded))),
            counts: Arc::default(),
        }
    }

    /// Returns counts of what the store holds, from the cache if they are fresh.
    pub(super) async fn census(&self) -> Result<Census, StoreError> {
        let mut kept = self.counts.lock().await;
        if let Some((counted, census)) = &*kept
            && counted.elapsed() < COUNTS_LAST
        {
            return Ok(census.clone());
        }
        let census = self.parts.store.census(self.parts.clock.now()).await?;
        *kept = Some((Instant::now(), census.clone()));
        Ok(census)
    }
}
