//! Assigns each call a slot. Slots are evenly spaced, so that no period of one second holds more calls than the
//! budget.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use relay_domain::{ErrorChain, ReservedCalls, UpstreamPause, clock::Clock};
use thiserror::Error;
use tokio::{sync::Mutex, time::Instant};
use tracing::{debug, info, warn};

use crate::{
    coordinator::{CoordinationError, UpstreamCoordinator},
    throttle::Throttle,
};

/// A slot that starts more than this ago is lost. A late call would come too close to the calls in later slots.
const PUNCTUALITY: Duration = Duration::from_millis(20);

/// How far ahead slots are reserved. A longer horizon would delay calls that are more urgent and come later.
const HORIZON: Duration = Duration::from_millis(250);

/// A slot that starts later than this is lost. It was reserved just before the clock that relays share was set back.
const FURTHEST: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt to reserve, while all slots within the horizon are taken.
const RETRY_RESERVE: Duration = Duration::from_millis(50);

/// The slots that relays share cannot be reached. The log has the reason.
#[derive(Debug, Error)]
#[error("the shared rate limit cannot be reached")]
pub(super) struct CoordinatorUnreachable {
    source: CoordinationError,
}

/// Assigns slots to calls, one call at a time.
pub(super) enum CallLimiter {
    /// Slots of this relay alone.
    Own {
        limiter: DefaultDirectRateLimiter,
        latest: Mutex<Option<Instant>>,
        period: Duration,
    },
    /// Slots that all relays share.
    Shared(SharedLimiter),
}

/// Takes the instants of calls from the row that all relays on one store share.
pub(super) struct SharedLimiter {
    coordinator: Arc<dyn UpstreamCoordinator>,
    clock: Clock,
    reserved: Mutex<VecDeque<Timestamp>>,
    /// The number of the latest pause that this relay knows.
    pause: AtomicI64,
    /// Whether the latest attempt to reserve slots failed.
    is_unreachable: AtomicBool,
}

impl CallLimiter {
    /// Creates slots for one relay, `period` apart.
    pub(super) fn own(period: Duration) -> Self {
        // Allows no burst: a burst at the end of one second and one at the start of the next could lie within
        // one second.
        let quota = Quota::with_period(period)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::MIN);
        Self::Own {
            limiter: RateLimiter::direct(quota),
            latest: Mutex::default(),
            period,
        }
    }

    /// Creates slots that all relays reserve from `coordinator`.
    pub(super) fn shared(coordinator: Arc<dyn UpstreamCoordinator>, clock: Clock) -> Self {
        Self::Shared(SharedLimiter {
            coordinator,
            clock,
            reserved: Mutex::default(),
            pause: AtomicI64::new(0),
            is_unreachable: AtomicBool::new(false),
        })
    }

    /// Waits for the next slot. `waiting` is the number of calls that wait, and `spacing` the time between two
    /// slots.
    pub(super) async fn next(
        &self,
        waiting: usize,
        spacing: Duration,
        throttle: &Throttle,
    ) -> Result<(), CoordinatorUnreachable> {
        match self {
            Self::Own {
                limiter,
                latest,
                period,
            } => {
                let mut latest = latest.lock().await;
                if let Some(latest) = latest.filter(|_| spacing > *period) {
                    tokio::time::sleep_until(latest + spacing).await;
                }
                limiter.until_ready().await;
                *latest = Some(Instant::now());
                Ok(())
            }
            Self::Shared(shared) => shared.next(waiting, spacing, throttle).await,
        }
    }

    /// Publishes a pause that Basiq asked this relay for, if the other relays do not know it yet.
    pub(super) async fn publish_pause(&self, throttle: &Throttle) {
        let Self::Shared(shared) = self else {
            return;
        };
        if let Some((status, length)) = throttle.take_unpublished() {
            match shared.coordinator.pause(status, length).await {
                Ok(number) => drop(shared.pause.fetch_max(number, Ordering::Relaxed)),
                Err(error) => {
                    warn!(error = %ErrorChain(&*error), "other relays cannot be told to slow down");
                }
            }
        }
    }
}

impl SharedLimiter {
    async fn next(
        &self,
        waiting: usize,
        spacing: Duration,
        throttle: &Throttle,
    ) -> Result<(), CoordinatorUnreachable> {
        let mut reserved = self.reserved.lock().await;
        loop {
            if self.take(&mut reserved).await {
                return Ok(());
            }
            self.reserve(&mut reserved, waiting, spacing, throttle)
                .await?;
            if throttle.paused().is_some() {
                // The caller checks for the pause.
                return Ok(());
            }
            if reserved.is_empty() {
                tokio::time::sleep(RETRY_RESERVE).await;
            }
        }
    }

    /// Waits for the first reserved slot that can still be used. Returns false if there is none.
    async fn take(&self, reserved: &mut VecDeque<Timestamp>) -> bool {
        while let Some(slot) = reserved.pop_front() {
            if self.is_punctual(slot).await {
                return true;
            }
        }
        false
    }

    /// Waits for a slot to start. Returns whether the slot can still be used.
    async fn is_punctual(&self, slot: Timestamp) -> bool {
        let wait = Duration::try_from(slot.duration_since(self.clock.now()));
        if wait.as_ref().is_ok_and(|wait| *wait > FURTHEST) {
            debug!("a reserved slot is of the clock before a step back");
            return false;
        }
        // A sleep takes a millisecond even if the duration is zero.
        if let Some(wait) = wait.ok().filter(|wait| !wait.is_zero()) {
            tokio::time::sleep(wait).await;
        }
        let late = self.clock.now().duration_since(slot);
        let late = Duration::try_from(late).unwrap_or_default();
        if late > PUNCTUALITY {
            debug!(?late, "a reserved slot was missed");
        }
        late <= PUNCTUALITY
    }

    async fn reserve(
        &self,
        reserved: &mut VecDeque<Timestamp>,
        waiting: usize,
        spacing: Duration,
        throttle: &Throttle,
    ) -> Result<(), CoordinatorUnreachable> {
        let granted = self.coordinator.reserve_calls(waiting, spacing, HORIZON);
        let granted = self.log_reachability(granted.await)?;
        let UpstreamPause {
            number,
            until,
            status,
        } = granted.pause;
        if self.pause.fetch_max(number, Ordering::Relaxed) < number {
            let left = Duration::try_from(until.duration_since(self.clock.now()));
            if let Some(left) = left.ok().filter(|left| !left.is_zero()) {
                throttle.adopt(status, left);
                return Ok(());
            }
        }
        reserved.extend(granted.at);
        Ok(())
    }

    /// Logs when the slots become unreachable, and when they can be reached again.
    fn log_reachability(
        &self,
        granted: Result<ReservedCalls, CoordinationError>,
    ) -> Result<ReservedCalls, CoordinatorUnreachable> {
        let was_unreachable = self
            .is_unreachable
            .swap(granted.is_err(), Ordering::Relaxed);
        match &granted {
            Err(error) if !was_unreachable => {
                warn!(error = %ErrorChain(&**error), "the shared rate limit cannot be reached");
            }
            Ok(_) if was_unreachable => info!("the shared rate limit can be reached again"),
            Ok(_) | Err(_) => {}
        }
        granted.map_err(|source| CoordinatorUnreachable { source })
    }
}
