//! Basiq's queue of updates. Basiq retries an update at intervals if the bank did not serve it, and the relay
//! looks just after each retry. A job that moves has left the queue. Pure.

use std::time::Duration;

use basiq_client::normalise;
use jiff::Timestamp;
use relay_domain::{
    JobSnapshot, Phase, Step, StepStatus,
    clock::{between, later},
};

/// The minimum delay from a retry to the look at it, as a fraction of the interval: 3 s of two hours.
const SLACK: u32 = 2400;

/// The maximum random addition to that delay, as a fraction of the interval: 27 s of two hours. It spreads the
/// looks at retries that are due at the same time.
const JITTER: u32 = 267;

/// The wait before the second look at a retry that has not begun, as a fraction of the interval: two minutes of
/// two hours. Basiq reads most banks within half a minute.
const SECOND_LOOK: u32 = 60;

/// The shortest wait before the second look, whatever the interval.
const SHORTEST: Duration = Duration::from_secs(1);

/// What a look at a queued update found: the job waits, or it has failed again because of the bank.
#[derive(Debug, Clone, Copy)]
pub struct RetryObservation {
    /// The time of the look.
    pub now: Timestamp,
    /// Whether no step of the job has begun or failed.
    pub is_pending: bool,
    /// When Basiq last changed the job, according to the job document.
    pub updated: Option<Timestamp>,
}

impl RetryObservation {
    /// Returns the phase after this look. The relay looks at most twice for a retry that does not begin. Then it waits
    /// for the next one.
    #[must_use]
    pub fn phase_after(&self, before: &Phase, interval: Duration) -> Phase {
        let Phase::RetryQueue {
            next_retry_at: due,
            looks,
        } = before
        else {
            return wait_for(next_retry(self.updated, self.now, interval));
        };
        if self.now < *due {
            return before.clone();
        }
        if self.has_failed_since(*due) {
            return wait_for(next_retry(self.updated, self.now, interval));
        }
        if *looks == 0 {
            return Phase::RetryQueue {
                next_retry_at: *due,
                looks: 1,
            };
        }
        wait_for(next_after(*due, self.now, interval))
    }

    /// Returns whether the retry that was due at `due` has failed. If the document has no time, a failure
    /// counts as one of this retry.
    fn has_failed_since(&self, due: Timestamp) -> bool {
        !self.is_pending && self.updated.is_none_or(|updated| updated >= due)
    }
}

/// Returns when Basiq next retries an update that failed at `updated`, according to the document. A time in the future
/// or a missing one is replaced by the time of the look.
#[must_use]
pub fn next_retry(updated: Option<Timestamp>, now: Timestamp, interval: Duration) -> Timestamp {
    let failed_at = updated.filter(|updated| *updated <= now).unwrap_or(now);
    next_after(failed_at, now, interval)
}

/// Returns the time of the first retry after `now`, counted in intervals from `from`.
fn next_after(from: Timestamp, now: Timestamp, interval: Duration) -> Timestamp {
    let missed = between(from, now).as_secs_f64() / interval.as_secs_f64().max(1.0);
    later(from, interval.mul_f64(missed.floor() + 1.0))
}

/// Returns whether a job that neither failed nor settled moves: a step has begun, or the bank may ask the person soon.
#[must_use]
pub fn moves(snapshot: &JobSnapshot) -> bool {
    let begun = |step: &Step| step.status == StepStatus::InProgress;
    snapshot.steps.iter().any(begun) || normalise::expects_challenge(snapshot)
}

fn wait_for(next_retry_at: Timestamp) -> Phase {
    Phase::RetryQueue {
        next_retry_at,
        looks: 0,
    }
}

/// Returns when to look at a queued update. `looks` is the number of looks since the retry was due.
#[must_use]
pub fn next_look(
    due: Timestamp,
    looks: u32,
    now: Timestamp,
    interval: Duration,
    jitter: f64,
) -> Timestamp {
    let slack = interval / SLACK + (interval / JITTER).mul_f64(jitter.clamp(0.0, 1.0));
    if looks == 0 {
        later(due, slack)
    } else {
        later(now, (interval / SECOND_LOOK).max(SHORTEST))
    }
}

/// Returns the time of the next retry: `due`, or one interval later if `due` has passed.
#[must_use]
pub fn upcoming(due: Timestamp, now: Timestamp, interval: Duration) -> Timestamp {
    if now < due { due } else { later(due, interval) }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_hours(2);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn failed(now: i64, updated: Option<i64>) -> RetryObservation {
        RetryObservation {
            now: at(now),
            is_pending: false,
            updated: updated.map(at),
        }
    }

    fn pends(now: i64) -> RetryObservation {
        RetryObservation {
            is_pending: true,
            ..failed(now, Some(now))
        }
    }

    fn queued(due: i64, looks: u32) -> Phase {
        Phase::RetryQueue {
            next_retry_at: at(due),
            looks,
        }
    }

    #[test]
    fn the_next_retry_is_counted_from_the_failure() {
        for (seen, due) in [
            (failed(0, None), 7200),
            (failed(0, Some(0)), 7200),
            (failed(3600, Some(0)), 7200),
            (failed(7300, Some(0)), 14_400),
            (failed(0, Some(60)), 7200),
        ] {
            let phase = seen.phase_after(&Phase::Running, INTERVAL);
            assert_eq!(phase, queued(due, 0), "{seen:?}");
        }
    }

    #[test]
    fn a_retry_that_does_not_begin_is_looked_for_twice() {
        let table = [
            ("too early", pends(100), queued(7200, 0), queued(7200, 0)),
            ("it pends", pends(7210), queued(7200, 0), queued(7200, 1)),
            (
                "it still pends",
                pends(7340),
                queued(7200, 1),
                queued(14_400, 0),
            ),
            (
                "it failed",
                failed(7210, Some(7205)),
                queued(7200, 0),
                queued(14_405, 0),
            ),
            (
                "it has not begun",
                failed(7210, Some(0)),
                queued(7200, 0),
                queued(7200, 1),
            ),
            (
                "it did not begin",
                failed(7340, Some(0)),
                queued(7200, 1),
                queued(14_400, 0),
            ),
            (
                "nobody knows when",
                failed(7210, None),
                queued(7200, 0),
                queued(14_410, 0),
            ),
            (
                "many were missed",
                pends(72_000),
                queued(7200, 1),
                queued(79_200, 0),
            ),
        ];
        for (name, seen, before, after) in table {
            assert_eq!(seen.phase_after(&before, INTERVAL), after, "{name}");
        }
    }

    #[test]
    fn it_is_looked_for_just_after_it_is_due_and_a_while_later() {
        let look = |looks, now, jitter| {
            let next = next_look(at(7200), looks, at(now), INTERVAL, jitter);
            between(at(7200), next)
        };
        assert_eq!(look(0, 0, 0.0), Duration::from_secs(3));
        assert_eq!(look(0, 0, 1.0).as_secs(), 29);
        assert_eq!(look(1, 7203, 0.0), Duration::from_secs(123));
    }

    fn waited_for(phase: &Phase) -> (Timestamp, u32) {
        match phase {
            Phase::RetryQueue {
                next_retry_at,
                looks,
            } => (*next_retry_at, *looks),
            other => panic!("not in the queue: {other:?}"),
        }
    }

    proptest! {
        #[test]
        fn looks_go_on_and_never_come_more_than_twice_a_retry(
            kinds in prop::collection::vec((any::<bool>(), prop::option::of(-9000_i64..9000)), 1..40),
            jitter in 0.0..1.0_f64,
        ) {
            let mut now = at(0);
            let mut phase = failed(0, Some(0)).phase_after(&Phase::Running, INTERVAL);
            let (mut retries, mut looks_in_all) = (1, 0);
            for (is_pending, ago) in kinds {
                let (due, looks) = waited_for(&phase);
                let next = next_look(due, looks, now, INTERVAL, jitter);
                prop_assert!(next > now && next >= due);
                now = next;
                looks_in_all += 1;
                let updated = ago.map(|ago| now + SignedDuration::from_secs(ago));
                phase = RetryObservation { now, is_pending, updated }.phase_after(&phase, INTERVAL);
                retries += u32::from(waited_for(&phase).0 != due);
            }
            prop_assert!(looks_in_all <= 2 * retries);
        }
    }
}
