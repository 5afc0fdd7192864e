//! The circuit breaker. While Basiq brings nothing usable, only single probes are sent.
//!
//! Existing crates let all calls through when a wait is over, and count failures without regard to the
//! resource. Here only one call goes ahead as the probe, and one broken job does not open the breaker.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use relay_domain::{BackOff, Upstream, clock::Clock};
use thiserror::Error;
use tracing::{info, warn};

/// The number of failures in a row that opens the breaker. Any usable response resets the count, so that a few
/// bad responses among good ones do not open it.
const FAILURES: usize = 5;
/// The minimum number of different resources among these failures. With fewer, the resources themselves may be
/// broken.
const RESOURCES: usize = 3;
/// The wait before a probe, by the number of openings.
const WAITS: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(30));
/// How long to wait before the next call while a probe is in flight.
const PROBE: Duration = Duration::from_secs(1);

/// The breaker is open, so the call was not sent.
#[derive(Debug, Clone, Copy, Error)]
#[error("the breaker towards Basiq is open")]
pub(super) struct BreakerOpen {
    /// How long to wait before the next call.
    pub(super) remaining: Duration,
}

/// Stops calls to Basiq after several failed ones, and lets single calls test whether Basiq works again.
#[derive(Debug)]
pub(super) struct Breaker {
    circuit: Mutex<Circuit>,
    clock: Clock,
    upstream: Upstream,
}

/// Permission to send one call. The reader of the response reports whether it was usable. A permit that is
/// dropped without a report counts as neither.
#[derive(Debug)]
pub(super) struct BreakerPermit {
    breaker: Arc<Breaker>,
    resource: String,
    round: u64,
    judged: AtomicBool,
}

impl Breaker {
    /// Creates a closed breaker that reports to `upstream` when it opens and closes.
    pub(super) fn new(clock: Clock, upstream: Upstream) -> Self {
        publish_state(&upstream, false);
        Self {
            circuit: Mutex::default(),
            clock,
            upstream,
        }
    }

    /// Admits a call to a resource. If the breaker is open and the wait is over, the call is a probe.
    pub(super) fn admit(self: &Arc<Self>, resource: &str) -> Result<BreakerPermit, BreakerOpen> {
        let round = self.circuit().admit(self.clock.now())?;
        Ok(BreakerPermit {
            breaker: Arc::clone(self),
            resource: resource.to_owned(),
            round,
            judged: AtomicBool::new(false),
        })
    }

    /// Returns how long no call may be sent. Returns `None` if a call may be sent, even if only as a probe.
    pub(super) fn blocked(&self) -> Option<BreakerOpen> {
        self.circuit().blocked(self.clock.now())
    }

    /// Returns whether the next call is a probe.
    pub(super) fn wants_probe(&self) -> bool {
        !matches!(self.circuit().phase, Phase::Closed { .. })
    }

    /// Opens the breaker at once, because no call can succeed.
    pub(super) fn trip(&self) {
        self.change(|circuit, now| {
            if matches!(circuit.phase, Phase::Closed { .. }) {
                circuit.open(1, now);
            }
        });
    }

    /// Changes the circuit, and logs if the change opened or closed it.
    fn change(&self, change: impl FnOnce(&mut Circuit, Timestamp)) {
        let now = self.clock.now();
        let mut circuit = self.circuit();
        let was_closed = circuit.is_closed();
        change(&mut circuit, now);
        let is_closed = circuit.is_closed();
        drop(circuit);
        if was_closed && !is_closed {
            warn!("the breaker towards Basiq opens: no calls but probes");
        } else if is_closed && !was_closed {
            info!("the breaker towards Basiq closes: calls go on");
        }
        if was_closed != is_closed {
            publish_state(&self.upstream, !is_closed);
        }
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock()
    }
}

/// Sets the state for the other parts of the relay and for the metrics.
fn publish_state(upstream: &Upstream, open: bool) {
    upstream.set_breaker_open(open);
    metrics::gauge!("relay_upstream_breaker_open").set(if open { 1.0 } else { 0.0 });
}

impl BreakerPermit {
    /// Reports whether the response was usable. Every response that shows that Basiq works is usable, even a
    /// refusal.
    pub(super) fn report_usable(&self, usable: bool) {
        if self.judged.swap(true, Ordering::Relaxed) {
            return;
        }
        self.breaker.change(|circuit, now| {
            if usable {
                circuit.succeeded(self.round);
            } else {
                circuit.failed(self.round, &self.resource, now);
            }
        });
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        if !*self.judged.get_mut() {
            let round = self.round;
            self.breaker
                .change(|circuit, now| circuit.abandoned(round, now));
        }
    }
}

/// The state machine.
#[derive(Debug, Default)]
struct Circuit {
    phase: Phase,
    /// Increases with each change of phase. The result of a call from an earlier round is ignored.
    round: u64,
}

#[derive(Debug)]
enum Phase {
    Closed {
        failures: usize,
        resources: HashSet<String>,
    },
    Open {
        until: Timestamp,
        /// The number of openings since the breaker was last closed.
        openings: u32,
    },
    Probing {
        openings: u32,
    },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed {
            failures: 0,
            resources: HashSet::new(),
        }
    }
}

impl Circuit {
    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    fn blocked(&self, now: Timestamp) -> Option<BreakerOpen> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Probing { .. } => Some(BreakerOpen { remaining: PROBE }),
            Phase::Open { until, .. } => {
                let remaining = Duration::try_from(until.duration_since(now)).ok()?;
                // A longer wait means that the clock was set back.
                let is_sound = !remaining.is_zero() && remaining <= WAITS.longest;
                is_sound.then_some(BreakerOpen { remaining })
            }
        }
    }

    /// Returns the round of a call that may be sent.
    fn admit(&mut self, now: Timestamp) -> Result<u64, BreakerOpen> {
        if let Some(open) = self.blocked(now) {
            return Err(open);
        }
        if let Phase::Open { openings, .. } = self.phase {
            self.enter(Phase::Probing { openings });
        }
        Ok(self.round)
    }

    fn succeeded(&mut self, round: u64) {
        if round != self.round {
            return;
        }
        match &mut self.phase {
            Phase::Closed {
                failures,
                resources,
            } => {
                *failures = 0;
                resources.clear();
            }
            Phase::Open { .. } | Phase::Probing { .. } => self.enter(Phase::default()),
        }
    }

    fn failed(&mut self, round: u64, resource: &str, now: Timestamp) {
        if round != self.round {
            return;
        }
        match &mut self.phase {
            Phase::Closed {
                failures,
                resources,
            } => {
                *failures = failures.saturating_add(1);
                if resources.len() < RESOURCES {
                    resources.insert(resource.to_owned());
                }
                if *failures >= FAILURES && resources.len() >= RESOURCES {
                    self.open(1, now);
                }
            }
            Phase::Open { openings, .. } | Phase::Probing { openings } => {
                let openings = openings.saturating_add(1);
                self.open(openings, now);
            }
        }
    }

    /// Handles a call that ended without a report. If it was the probe, another probe may be sent at once.
    fn abandoned(&mut self, round: u64, now: Timestamp) {
        if let Phase::Probing { openings } = self.phase
            && round == self.round
        {
            self.enter(Phase::Open {
                until: now,
                openings,
            });
        }
    }

    fn open(&mut self, openings: u32, now: Timestamp) {
        let until = now
            .checked_add(wait(openings, rand::random()))
            .unwrap_or(now);
        self.enter(Phase::Open { until, openings });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.round += 1;
    }
}

/// Returns the wait after this number of openings. The wait doubles up to its limit, and `jitter` from 0 to 1
/// subtracts up to a quarter.
fn wait(openings: u32, jitter: f64) -> Duration {
    WAITS
        .after(openings)
        .mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Arc<Breaker>, Clock, Upstream) {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let upstream = Upstream::default();
        let breaker = Arc::new(Breaker::new(clock.clone(), upstream.clone()));
        (breaker, clock, upstream)
    }

    fn answer(breaker: &Arc<Breaker>, resource: &str, usable: bool) {
        breaker.admit(resource).unwrap().report_usable(usable);
    }

    fn fail(breaker: &Arc<Breaker>, times: usize) {
        for n in 0..times {
            answer(breaker, &format!("/jobs/{n}"), false);
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_usable_answer_begins_the_row_anew() {
        let (breaker, _, upstream) = breaker();
        for _ in 0..3 {
            fail(&breaker, FAILURES - 1);
            answer(&breaker, "/jobs/9", true);
        }
        assert!(breaker.blocked().is_none() && !upstream.is_breaker_open());
        fail(&breaker, FAILURES);
        assert!(breaker.blocked().is_some() && upstream.is_breaker_open());
        breaker.admit("/jobs/9").unwrap_err();
    }

    #[test]
    fn one_or_two_broken_jobs_never_open_it() {
        let (breaker, _, _) = breaker();
        for n in 0..100 {
            answer(&breaker, &format!("/jobs/{}", n % 2), false);
        }
        assert!(breaker.blocked().is_none());
        answer(&breaker, "/jobs/3", false);
        assert!(breaker.blocked().is_some());
    }

    #[test]
    fn one_probe_at_a_time_with_growing_waits_until_one_is_answered() {
        let (breaker, clock, upstream) = breaker();
        fail(&breaker, FAILURES);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let longest = Duration::from_secs(seconds);
            let wait = breaker.blocked().unwrap().remaining;
            assert!(
                wait >= longest * 3 / 4 && wait <= longest,
                "{wait:?} {longest:?}"
            );
            clock.advance(wait + Duration::from_millis(1));
            assert!(breaker.blocked().is_none() && breaker.wants_probe());
            let probe = breaker.admit("/jobs/1").unwrap();
            breaker.admit("/jobs/2").unwrap_err();
            probe.report_usable(false);
        }
        clock.advance(WAITS.longest);
        answer(&breaker, "/jobs/1", true);
        assert!(!breaker.wants_probe() && !upstream.is_breaker_open());
        fail(&breaker, FAILURES - 1);
        assert!(breaker.blocked().is_none());
    }

    #[test]
    fn what_was_sent_before_it_opened_is_old_news() {
        let (breaker, clock, _) = breaker();
        let late: Vec<_> = (0..4)
            .map(|_| breaker.admit("/jobs/late").unwrap())
            .collect();
        fail(&breaker, FAILURES);
        late[0].report_usable(true);
        late[1].report_usable(false);
        assert!(breaker.blocked().unwrap().remaining <= WAITS.shortest);
        clock.advance(WAITS.shortest);
        let probe = breaker.admit("/jobs/1").unwrap();
        late[2].report_usable(true);
        late[3].report_usable(false);
        assert!(breaker.blocked().is_some(), "the probe is still on its way");
        probe.report_usable(true);
        assert!(!breaker.wants_probe());
    }

    #[test]
    fn a_probe_that_ends_without_a_word_makes_room_for_another() {
        let (breaker, clock, _) = breaker();
        breaker.trip();
        breaker.trip();
        clock.advance(WAITS.shortest);
        drop(breaker.admit("/jobs/1").unwrap());
        answer(&breaker, "/jobs/2", true);
        assert!(!breaker.wants_probe());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_keep_it_open() {
        let mut circuit = Circuit::default();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        circuit.open(1, now);
        assert!(circuit.blocked(now).is_some());
        let earlier = now.checked_sub(Duration::from_hours(1)).unwrap();
        assert!(circuit.blocked(earlier).is_none());
    }
}
