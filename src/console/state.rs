//! What the pages work with.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    clock::Clock,
    domain::{Fleet, Upstream},
    store::{Census, Store, StoreError},
    web::AdminToken,
};

/// Wakes whoever sends deliveries.
pub type WakeCallback = Arc<dyn Fn() + Send + Sync>;

/// How many log-ins may be tried in a minute, right or wrong.
const LOGINS_A_MINUTE: u32 = 5;

/// Counts are not older than this, and the store counts no oftener however many look.
const COUNTS_LAST: Duration = Duration::from_secs(1);

/// What the console works with.
#[derive(Clone)]
pub struct ConsoleParts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Clock,
    /// Lets the operator in.
    pub admin: AdminToken,
    /// How Basiq answers.
    pub upstream: Upstream,
    /// How many calls to Basiq there may be.
    pub budget: CallBudget,
    /// How many relays there are.
    pub share: Fleet,
    /// Rung when there is a delivery to send.
    pub delivery_ring: WakeCallback,
}

/// How many calls to Basiq the settings allow, for all relays on a store together.
#[derive(Debug, Clone, Copy)]
pub struct CallBudget {
    /// A second.
    pub per_second: u32,
    /// At once.
    pub in_flight: usize,
}

/// What handlers share.
#[derive(Clone)]
pub(super) struct ConsoleState {
    pub(super) parts: Arc<ConsoleParts>,
    pub(super) logins: Arc<DefaultDirectRateLimiter>,
    counts: Arc<Mutex<Option<(Instant, Census)>>>,
}

impl ConsoleState {
    pub(super) fn new(parts: ConsoleParts) -> Self {
        let logins = NonZeroU32::new(LOGINS_A_MINUTE).unwrap_or(NonZeroU32::MIN);
        Self {
            parts: Arc::new(parts),
            logins: Arc::new(RateLimiter::direct(Quota::per_minute(logins))),
            counts: Arc::default(),
        }
    }

    /// What is in the store.
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
