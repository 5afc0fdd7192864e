//! When to look at a job next: pure arithmetic on what is known of it.

mod running;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    config::TrackingConfig,
    domain::{JobMemory, KnownDurations, Phase, stage_of},
    tracker::retry_queue,
};

/// How often a job is looked at while a challenge may come or is open. Basiq gives the person about
/// two minutes, so a slow look would lose the challenge.
pub const CHALLENGE_INTERVAL: Duration = Duration::from_secs(2);

/// How long after a challenge expired its job is still looked at so often.
const CHALLENGE_GRACE: Duration = Duration::from_mins(1);

/// The shortest time a person is given for a challenge, whatever Basiq says: an `expiryMs` of 3,600
/// stands in its older examples and is taken for a slip of units.
const CHALLENGE_MIN_EXPIRY: Duration = Duration::from_mins(1);

/// The longest; what an answer claims beyond it is not believed.
const CHALLENGE_MAX_EXPIRY: Duration = Duration::from_hours(24);

/// The longest pause after failed looks.
const MAX_BACK_OFF: Duration = Duration::from_mins(1);

/// How long a job whose bank is down is left alone. Its bank is looked at instead and makes the job due
/// when it serves again, so this look is for the case that nothing else goes as it should.
const OUTAGE_LOOK: Duration = Duration::from_hours(24);

/// Adds a duration to a time; the end of time is the bound.
#[must_use]
pub fn after(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| time.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

/// How long it is from one time to a later one; zero if it is not later.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// When the challenge that was first seen at `seen` spoils.
#[must_use]
pub fn challenge_expiry(seen: Timestamp, expiry_ms: Option<u64>) -> Timestamp {
    let allowed = Duration::from_millis(expiry_ms.unwrap_or(0)).min(CHALLENGE_MAX_EXPIRY);
    after(seen, allowed.max(CHALLENGE_MIN_EXPIRY))
}

/// Spreads a wait by ±10 %, with `jitter` from 0 to 1.
#[must_use]
pub fn spread(wait: Duration, jitter: f64) -> Duration {
    wait.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

/// When to look next at a job that brought a usable answer.
///
/// `may_be_asked` says that a challenge is expected; `pace` is how long such jobs take.
#[must_use]
pub fn next_look(
    memory: &JobMemory,
    pace: &KnownDurations,
    may_be_asked: bool,
    now: Timestamp,
    config: &TrackingConfig,
    jitter: f64,
) -> Timestamp {
    match &memory.phase {
        Phase::RetryQueue {
            next_retry_at,
            looks,
        } => {
            let interval = config.update_retry_interval;
            retry_queue::next_look((*next_retry_at, *looks), now, interval, jitter)
        }
        Phase::Outage { .. } => after(now, OUTAGE_LOOK),
        Phase::Running if asks_now(memory, now) || may_be_asked => after(now, CHALLENGE_INTERVAL),
        Phase::Running => {
            let interval = running_interval(memory, pace, now);
            let spread = spread(interval, jitter);
            after(
                now,
                spread.clamp(config.poll_min_interval, config.poll_max_interval),
            )
        }
    }
}

fn asks_now(memory: &JobMemory, now: Timestamp) -> bool {
    memory.challenges.open.as_ref().is_some_and(|open| {
        let expiry = challenge_expiry(open.first_seen_at, open.challenge.expiry_ms);
        now < after(expiry, CHALLENGE_GRACE)
    })
}

/// By the stage that the job is in, and since when.
fn running_interval(memory: &JobMemory, pace: &KnownDurations, now: Timestamp) -> Duration {
    let stage = stage_of(&memory.steps);
    let seen = memory.stages.last().filter(|seen| seen.title == stage);
    let since = seen.map(|seen| seen.since).or(memory.created);
    let since = since.or(memory.first_look_at).unwrap_or(now);
    let seen = pace.pace.from_stage(stage);
    let average = pace.averages.and_then(|averages| averages.left_from(stage));
    running::interval(seen, average, between(since, now))
}

/// When to look again after `errors` looks in a row that brought no usable answer: doubling from a
/// second to a minute, ±25 %, and never before Basiq asks for it.
#[must_use]
pub fn back_off(errors: u32, asked: Option<Duration>, now: Timestamp, jitter: f64) -> Timestamp {
    let doubled = Duration::from_secs(1).saturating_mul(1 << errors.saturating_sub(1).min(6));
    let own = doubled
        .min(MAX_BACK_OFF)
        .mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0));
    after(now, own.max(asked.unwrap_or_default()))
}

/// When to look again at a job that Basiq does not know or does not show, since `since`.
#[must_use]
pub fn next_look_at_absent(since: Timestamp, now: Timestamp, grace: Duration) -> Timestamp {
    let wait = (between(since, now) / 5).clamp(Duration::from_secs(1), Duration::from_secs(10));
    let end = after(since, grace);
    if now < end {
        after(now, wait).min(end)
    } else {
        after(now, wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Challenge, ChallengeMemory, OpenChallenge};

    const START: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).unwrap()
    }

    fn running_since(seconds: i64) -> JobMemory {
        JobMemory {
            first_look_at: Some(at(seconds)),
            ..JobMemory::default()
        }
    }

    fn wait(memory: &JobMemory, may_be_asked: bool, now: i64) -> Duration {
        let next = next_look(
            memory,
            &KnownDurations::default(),
            may_be_asked,
            at(now),
            &TrackingConfig::default(),
            0.5,
        );
        between(at(now), next)
    }

    #[test]
    fn a_running_job_is_looked_at_often_while_it_is_young() {
        let memory = running_since(0);
        let young = wait(&memory, false, 10);
        assert!((1..=5).contains(&young.as_secs()), "{young:?}");
        let older = wait(&memory, false, 1000);
        assert!(older > 4 * young, "{older:?}");
        assert_eq!(wait(&memory, false, 100_000), Duration::from_mins(1));
    }

    #[test]
    fn a_job_that_was_old_when_it_was_first_seen_is_looked_at_as_an_old_one() {
        let memory = JobMemory {
            created: Some(at(-300)),
            ..running_since(0)
        };
        assert!(wait(&memory, false, 0) > 2 * wait(&running_since(0), false, 0));
    }

    #[test]
    fn a_challenge_that_may_come_or_is_open_is_looked_at_every_two_seconds() {
        assert_eq!(wait(&running_since(0), true, 1000), CHALLENGE_INTERVAL);
        let open = running_with_challenge(900);
        assert_eq!(wait(&open, false, 1000), CHALLENGE_INTERVAL);
        assert_eq!(wait(&open, false, 1900), Duration::from_mins(1));
    }

    fn running_with_challenge(seen: i64) -> JobMemory {
        let challenge = Challenge {
            method: "token".into(),
            description: String::new(),
            inputs: vec![],
            expiry_ms: Some(120_000),
            respond_to: None,
        };
        let open = OpenChallenge {
            challenge,
            first_seen_at: at(seen),
        };
        JobMemory {
            challenges: ChallengeMemory {
                count: 1,
                open: Some(open),
            },
            ..running_since(0)
        }
    }

    #[test]
    fn a_challenge_lasts_as_long_as_basiq_says_but_a_minute_at_least() {
        assert_eq!(challenge_expiry(at(0), Some(120_000)), at(120));
        assert_eq!(challenge_expiry(at(0), Some(3600)), at(60));
        assert_eq!(challenge_expiry(at(0), None), at(60));
        assert_eq!(challenge_expiry(at(0), Some(u64::MAX)), at(86_400));
    }

    #[test]
    fn an_absent_job_is_looked_at_once_more_when_its_grace_ends() {
        let grace = Duration::from_mins(1);
        assert_eq!(next_look_at_absent(at(0), at(0), grace), at(1));
        assert_eq!(next_look_at_absent(at(0), at(55), grace), at(60));
        assert_eq!(next_look_at_absent(at(0), at(70), grace), at(80));
    }

    proptest! {
        #[test]
        fn the_next_look_stays_within_the_bounds(
            created in -100_000_i64..100_000, now in 0_i64..1_000_000, jitter in 0.0..1.0_f64,
        ) {
            let memory = JobMemory { created: Some(at(created)), ..running_since(0) };
            let config = TrackingConfig::default();
            let wait = between(at(now), next_look(&memory, &KnownDurations::default(), false, at(now), &config, jitter));
            prop_assert!(wait >= config.poll_min_interval && wait <= config.poll_max_interval);
        }

        #[test]
        fn the_back_off_grows_and_honours_what_was_asked(
            errors in 1_u32..1000, asked in 0_u64..1000, jitter in 0.0..1.0_f64,
        ) {
            let asked = Duration::from_secs(asked);
            let wait = between(at(0), back_off(errors, Some(asked), at(0), jitter));
            prop_assert!(wait >= asked && wait <= asked.max(Duration::from_secs(75)));
            let more = back_off(errors + 1, None, at(0), 0.5);
            prop_assert!(more >= back_off(errors, None, at(0), 0.5));
        }
    }
}
