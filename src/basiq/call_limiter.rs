//! Turns of calls: evenly spaced, so that no second, wherever it begins, holds more than the budget.

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
use thiserror::Error;
use tokio::{sync::Mutex, time::Instant};
use tracing::{debug, info, warn};

use crate::{
    basiq::{
        coordinator::{self, CoordinationError, UpstreamCoordinator},
        throttle::Throttle,
    },
    clock::Clock,
    domain::ErrorChain,
};

/// A turn that was not taken within so long is lost: taken late, it would crowd those of others.
const PUNCTUALITY: Duration = Duration::from_millis(20);

/// No turn is reserved further ahead: whoever reserves later may be more urgent.
const HORIZON: Duration = Duration::from_millis(250);

/// When to ask again while the turns of that time are all taken.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The turns that relays divide cannot be reached. The log has the reason.
#[derive(Debug, Error)]
#[error("the budget that relays share cannot be reached")]
pub(super) struct CoordinatorUnreachable {
    source: CoordinationError,
}

/// Hands out turns, to one who waits at a time.
pub(super) enum CallLimiter {
    /// This relay's own.
    Own {
        limiter: DefaultDirectRateLimiter,
        latest: Mutex<Option<Instant>>,
        period: Duration,
    },
    /// Those that relays divide among them.
    Shared(SharedLimiter),
}

pub(super) struct SharedLimiter {
    common: Arc<dyn UpstreamCoordinator>,
    clock: Clock,
    reserved: Mutex<VecDeque<Timestamp>>,
    /// The number of the latest pause that this relay knows of.
    pause: AtomicI64,
    /// Whether the turns could not be reached the last time.
    is_away: AtomicBool,
}

impl CallLimiter {
    /// Turns of one relay, so far apart.
    pub(super) fn own(period: Duration) -> Self {
        // without a burst: one at the end of a second and one at the start of the next would lie within
        // one second
        let quota = Quota::with_period(period)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::MIN);
        Self::Own {
            limiter: RateLimiter::direct(quota),
            latest: Mutex::default(),
            period,
        }
    }

    /// Turns that are reserved where all relays reserve them.
    pub(super) fn shared(common: Arc<dyn UpstreamCoordinator>, clock: Clock) -> Self {
        Self::Shared(SharedLimiter {
            common,
            clock,
            reserved: Mutex::default(),
            pause: AtomicI64::new(0),
            is_away: AtomicBool::new(false),
        })
    }

    /// Waits for the next turn, one of so many calls that wait, at the pace of this spacing.
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

    /// Tells other relays of a pause that Basiq asked this one for, if they do not know it.
    pub(super) async fn tell_pause(&self, throttle: &Throttle) {
        let Self::Shared(shared) = self else {
            return;
        };
        if let Some((status, length)) = throttle.take_untold() {
            match shared.common.pause(status, length).await {
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
                // whoever waits for the turn sees the pause
                return Ok(());
            }
            if reserved.is_empty() {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }

    /// Waits for the first of the reserved turns that can be taken; false if none can.
    async fn take(&self, reserved: &mut VecDeque<Timestamp>) -> bool {
        while let Some(turn) = reserved.pop_front() {
            if self.is_punctual(turn).await {
                return true;
            }
        }
        false
    }

    /// Waits for a turn, and says whether it can still be taken.
    async fn is_punctual(&self, turn: Timestamp) -> bool {
        let wait = Duration::try_from(turn.duration_since(self.clock.now()));
        // a sleep takes a millisecond even if there is nothing to wait for
        if let Some(wait) = wait.ok().filter(|wait| !wait.is_zero()) {
            tokio::time::sleep(wait).await;
        }
        let late = self.clock.now().duration_since(turn);
        let late = Duration::try_from(late).unwrap_or_default();
        if late > PUNCTUALITY {
            debug!(?late, "a turn was missed");
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
        let turns = self.common.reserve_calls(waiting, (spacing, HORIZON));
        let turns = self.note(turns.await)?;
        let (number, until, status) = turns.pause;
        if self.pause.fetch_max(number, Ordering::Relaxed) < number {
            let left = Duration::try_from(until.duration_since(self.clock.now()));
            if let Some(left) = left.ok().filter(|left| !left.is_zero()) {
                throttle.adopt(status, left);
                return Ok(());
            }
        }
        reserved.extend(turns.at);
        Ok(())
    }

    /// Tells that the turns are out of reach when that begins, and when it is over.
    fn note(
        &self,
        turns: Result<coordinator::Reservation, CoordinationError>,
    ) -> Result<coordinator::Reservation, CoordinatorUnreachable> {
        let was_away = self.is_away.swap(turns.is_err(), Ordering::Relaxed);
        match &turns {
            Err(error) if !was_away => {
                warn!(error = %ErrorChain(&**error), "the budget that relays share cannot be reached");
            }
            Ok(_) if was_away => info!("the budget that relays share can be reached again"),
            Ok(_) | Err(_) => {}
        }
        turns.map_err(|source| CoordinatorUnreachable { source })
    }
}
