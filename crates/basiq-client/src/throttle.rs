//! The reaction when Basiq asks for fewer calls. All calls share one pause, which gets longer each time. After
//! it, the pace is slower: it halves each time and recovers step by step.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use relay_domain::{BackOff, Upstream};
use thiserror::Error;
use tokio::time::Instant;
use tracing::warn;

/// The pause if Basiq does not say how long.
const PAUSES: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_mins(1));
/// The longest pause whose end a call waits for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The smallest share of the budget that is used.
const LEAST_SHARE: f64 = 1.0 / 32.0;
/// The share of the budget that is recovered per second in which calls get responses.
const RECOVERY: f64 = 0.05;
/// The longest time between two calls while only a share of the budget is used.
const SLOWEST: Duration = Duration::from_secs(3);

/// Calls are paused, and a call does not wait for the end of the pause.
#[derive(Debug, Clone, Copy, Error)]
#[error("calls to Basiq are paused")]
pub(super) struct UpstreamPaused {
    /// The HTTP status that began the pause.
    pub(super) status: u16,
    /// How much of the pause remains.
    pub(super) remaining: Duration,
    began: Instant,
}

/// The pause that Basiq asked for, and the share of the budget that is used. All calls observe both.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<State>);

#[derive(Debug)]
struct State {
    pause: Option<Pause>,
    /// How many times in a row Basiq asked for fewer calls.
    level: u32,
    /// The share of the budget that is used, at most 1.
    share: f64,
    /// The time up to which recovery was added to the share.
    recovered_until: Option<Instant>,
    /// Whether the pause has yet to be published to the other relays.
    is_unpublished: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            pause: None,
            level: 0,
            share: 1.0,
            recovered_until: None,
            is_unpublished: false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    began: Instant,
    until: Instant,
    status: u16,
}

impl Throttle {
    /// Begins or extends the pause. Calls that were sent before the present pause began are not counted as new
    /// refusals, because many calls in flight may be refused together.
    pub(super) fn pause(&self, status: u16, requested: Option<Duration>, sent_at: Instant) {
        let now = Instant::now();
        let mut state = self.state();
        let is_news = state.pause.is_none_or(|pause| sent_at >= pause.began);
        if is_news {
            state.level = state.level.saturating_add(1);
            state.share = (state.share / 2.0).max(LEAST_SHARE);
        }
        let length = requested.unwrap_or_else(|| PAUSES.after(state.level));
        let until = now + length;
        match &mut state.pause {
            Some(pause) if !is_news => {
                if requested.is_some() {
                    pause.until = pause.until.max(until);
                    state.is_unpublished = true;
                }
            }
            pause => {
                *pause = Some(Pause {
                    began: now,
                    until,
                    status,
                });
                state.is_unpublished = true;
                drop(state);
                warn!(http.status = status, pause = ?length, "Basiq asks for fewer calls");
            }
        }
    }

    /// Begins a pause that Basiq asked another relay for.
    pub(super) fn adopt(&self, status: u16, left: Duration) {
        self.pause(status, Some(left), Instant::now());
        self.state().is_unpublished = false;
    }

    /// Returns the status and the remaining time of a pause that was not published yet, and marks it as
    /// published.
    pub(super) fn take_unpublished(&self) -> Option<(u16, Duration)> {
        let is_unpublished = std::mem::take(&mut self.state().is_unpublished);
        let paused = self.paused().filter(|_| is_unpublished)?;
        Some((paused.status, paused.remaining))
    }

    /// Recovers a part of the budget after a response, if its call was sent after the last pause.
    pub(super) fn recover(&self, sent_at: Instant) {
        let mut state = self.state();
        let Some(pause) = state.pause.filter(|pause| sent_at >= pause.until) else {
            return;
        };
        let now = Instant::now();
        let since = state
            .recovered_until
            .map_or(pause.until, |then| then.max(pause.until));
        let passed = now.saturating_duration_since(since).as_secs_f64();
        state.level = state.level.saturating_sub(1);
        state.share = (state.share + passed * RECOVERY).min(1.0);
        state.recovered_until = Some(now);
    }

    /// Returns the share of the budget that is used now, in thousandths.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share lies between 0 and 1"
    )]
    pub(super) fn budget_share(&self) -> u32 {
        (self.state().share * f64::from(Upstream::WHOLE)).round() as u32
    }

    /// Returns the time between two calls now. `period` is this time with the whole budget.
    pub(super) fn spacing(&self, period: Duration) -> Duration {
        let slower = period.div_f64(self.state().share);
        slower.min(SLOWEST.max(period))
    }

    /// Waits for the end of the pause, for a call that arrived at `entered`. Fails if the pause is too long or
    /// began after `entered`. Without the latter check, waiting calls would be sent one by one, and each
    /// refusal would begin another pause.
    pub(super) async fn wait(&self, entered: Instant) -> Result<(), UpstreamPaused> {
        while let Some(paused) = self.paused() {
            if paused.remaining > PATIENCE || paused.began > entered {
                return Err(paused);
            }
            tokio::time::sleep(paused.remaining).await;
        }
        Ok(())
    }

    /// Returns the pause if it is longer than a call waits.
    pub(super) fn pause_too_long_to_wait(&self) -> Option<UpstreamPaused> {
        self.paused().filter(|paused| paused.remaining > PATIENCE)
    }

    /// Returns the pause while it lasts.
    pub(super) fn paused(&self) -> Option<UpstreamPaused> {
        let pause = self.state().pause?;
        let remaining = pause.until.saturating_duration_since(Instant::now());
        (!remaining.is_zero()).then_some(UpstreamPaused {
            status: pause.status,
            remaining,
            began: pause.began,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remaining(throttle: &Throttle) -> Duration {
        throttle
            .paused()
            .map(|paused| paused.remaining)
            .unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_to_their_bound_and_shrink_again() {
        let throttle = Throttle::default();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            throttle.pause(429, None, Instant::now());
            assert_eq!(remaining(&throttle), Duration::from_secs(seconds));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(throttle.paused().is_none());
        }
        for _ in 0..20 {
            throttle.recover(Instant::now());
        }
        throttle.pause(429, None, Instant::now());
        assert_eq!(remaining(&throttle), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_halves_at_each_refusal_and_is_won_back_step_by_step() {
        let (throttle, period) = (Throttle::default(), Duration::from_millis(50));
        let spacing = || throttle.spacing(period).as_millis();
        assert_eq!((spacing(), throttle.budget_share()), (50, 1000));
        for expected in [100, 200, 400, 800, 1600, 1600] {
            let one = Some(Duration::from_secs(1));
            throttle.pause(429, one, Instant::now());
            assert_eq!(spacing(), expected);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let slow = throttle.spacing(Duration::from_secs(1));
        assert_eq!(slow, SLOWEST);
        let mut before = spacing();
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(1)).await;
            throttle.recover(Instant::now());
            throttle.recover(Instant::now());
            assert!(spacing() <= before);
            before = spacing();
        }
        assert_eq!(before, 50, "won back in twenty seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_were_in_flight_together_count_as_one() {
        let throttle = Throttle::default();
        let sent_at = Instant::now();
        tokio::time::advance(Duration::from_millis(10)).await;
        for _ in 0..30 {
            throttle.pause(429, None, sent_at);
        }
        assert_eq!(remaining(&throttle), Duration::from_secs(1));
        throttle.pause(429, Some(Duration::from_secs(3)), sent_at);
        assert_eq!(remaining(&throttle), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn other_relays_are_told_once_of_what_they_do_not_know() {
        let throttle = Throttle::default();
        assert_eq!(throttle.take_unpublished(), None);
        throttle.pause(429, None, Instant::now());
        let one = Duration::from_secs(1);
        assert_eq!(throttle.take_unpublished(), Some((429, one)));
        assert_eq!(throttle.take_unpublished(), None);
        throttle.adopt(403, one * 5);
        assert_eq!(throttle.take_unpublished(), None, "they told it");
        assert_eq!(remaining(&throttle), one * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_a_short_pause_and_gives_up_on_a_long_one() {
        let throttle = Throttle::default();
        throttle.pause(403, Some(Duration::from_secs(4)), Instant::now());
        let first = Instant::now();
        assert!(throttle.wait(first).await.is_ok());
        throttle.pause(403, Some(Duration::from_secs(6)), Instant::now());
        let error = throttle.wait(Instant::now()).await.unwrap_err();
        assert_eq!(error.status, 403);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_when_a_pause_begins_gives_up() {
        let throttle = Throttle::default();
        let entered = Instant::now();
        assert!(throttle.wait(entered).await.is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        throttle.pause(429, None, Instant::now());
        assert_eq!(throttle.wait(entered).await.unwrap_err().status, 429);
        assert!(throttle.wait(Instant::now()).await.is_ok());
    }
}
