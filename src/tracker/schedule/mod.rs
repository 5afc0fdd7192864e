//! Computes when to look at a job next from what is known about it. Pure.

mod running;

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{
    BackOff, JobMemory, KnownDurations, Phase,
    clock::{between, later},
    spread, stage_of,
};

use self::running::StageKnowledge;
use crate::{config::TrackingConfig, tracker::retry_queue};

/// The interval between looks while a challenge is expected or open. Basiq gives the person about two minutes,
/// so slow looks would lose the challenge.
pub const CHALLENGE_INTERVAL: Duration = Duration::from_secs(2);

/// How long after a challenge expired its job is still looked at in this interval.
const CHALLENGE_GRACE: Duration = Duration::from_mins(1);

/// The shortest time for a challenge, whatever Basiq reports. Older examples of Basiq have an `expiryMs` of
/// 3,600, which is taken for a mistake of units.
const CHALLENGE_MIN_EXPIRY: Duration = Duration::from_mins(1);

/// The longest time for a challenge. A longer one in a document is shortened to this.
const CHALLENGE_MAX_EXPIRY: Duration = Duration::from_hours(24);

/// The wait after failed looks.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_mins(1));

/// How long a job whose bank is in major outage is left alone. The worker for banks makes the job due when the
/// bank serves again. This look is a fallback.
const OUTAGE_LOOK: Duration = Duration::from_hours(24);

/// Returns when the challenge that was first seen at `seen` expires.
#[must_use]
pub fn challenge_expiry(seen: Timestamp, expiry_ms: Option<u64>) -> Timestamp {
    let allowed = Duration::from_millis(expiry_ms.unwrap_or(0)).min(CHALLENGE_MAX_EXPIRY);
    later(seen, allowed.max(CHALLENGE_MIN_EXPIRY))
}

/// Returns when to look next at a job after a look that brought a usable response.
///
/// `may_be_asked` is true if a challenge is expected. `pace` has the durations of such jobs.
#[must_use]
pub fn next_look(
    memory: &JobMemory,
    durations: &KnownDurations,
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
            retry_queue::next_look(*next_retry_at, *looks, now, interval, jitter)
        }
        Phase::Outage { .. } => later(now, OUTAGE_LOOK),
        Phase::Running if asks_now(memory, now) || may_be_asked => later(now, CHALLENGE_INTERVAL),
        Phase::Running => {
            let interval = running_interval(memory, durations, now);
            let spread = spread(interval, jitter);
            later(
                now,
                spread.clamp(config.poll_min_interval, config.poll_max_interval),
            )
        }
    }
}

fn asks_now(memory: &JobMemory, now: Timestamp) -> bool {
    memory.challenges.open.as_ref().is_some_and(|open| {
        let expiry = challenge_expiry(open.first_seen_at, open.challenge.expiry_ms);
        now < later(expiry, CHALLENGE_GRACE)
    })
}

/// Returns the wait for a running job, from its stage and the time it has spent there.
fn running_interval(memory: &JobMemory, durations: &KnownDurations, now: Timestamp) -> Duration {
    let stage = stage_of(&memory.steps);
    let seen = memory.stages.last().filter(|seen| seen.title == stage);
    let since = seen.map(|seen| seen.since).or(memory.created);
    let since = since.or(memory.first_look_at).unwrap_or(now);
    let known = StageKnowledge {
        seen: durations.observed.from_stage(stage),
        hint_reliance: durations.observed.hint_reliance(),
        hint_delay: durations.observed.hint_delay(),
        average: durations
            .averages
            .and_then(|averages| averages.left_from(stage)),
    };
    running::interval(&known, between(since, now))
}

/// Returns when to look again after `errors` looks in a row without a usable response. The back-off doubles
/// from one second to a minute, ±25 %. It is at least the wait that Basiq asks for.
#[must_use]
pub fn back_off(
    errors: u32,
    requested_wait: Option<Duration>,
    now: Timestamp,
    jitter: f64,
) -> Timestamp {
    let own = BACK_OFF
        .after(errors)
        .mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0));
    later(now, own.max(requested_wait.unwrap_or_default()))
}

/// Returns when to look again at a job that Basiq has reported as unknown or forbidden since `since`.
#[must_use]
pub fn next_look_at_absent(since: Timestamp, now: Timestamp, grace: Duration) -> Timestamp {
    let wait = (between(since, now) / 5).clamp(Duration::from_secs(1), Duration::from_secs(10));
    let end = later(since, grace);
    if now < end {
        later(now, wait).min(end)
    } else {
        later(now, wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relay_domain::{
        Challenge, ChallengeMemory, EndDetection, JobEnd, OpenChallenge, TimeFromStage,
    };

    use super::*;
    use crate::config::Settings;

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
            &Settings::default().tracking,
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
            let config = Settings::default().tracking;
            let wait = between(at(now), next_look(&memory, &KnownDurations::default(), false, at(now), &config, jitter));
            prop_assert!(wait >= config.poll_min_interval && wait <= config.poll_max_interval);
        }

        #[test]
        fn hints_make_looks_rarer_and_never_too_rare(
            ends in prop::collection::vec((0_u64..600_000, 0_u64..20_000), 0..100),
            elapsed in 0_i64..1_000_000, jitter in 0.0..1.0_f64,
        ) {
            let mut known = KnownDurations::default();
            for (millis, found_after) in ends {
                let to_end = Duration::from_millis(millis);
                let unannounced_for = Duration::from_millis(found_after);
                let detection = match found_after {
                    ..10_000 => EndDetection::Hint { after: Duration::from_millis(found_after) },
                    _ => EndDetection::Look { unannounced_for },
                };
                let stages = vec![TimeFromStage { title: String::new(), to_end }];
                known.observed.add(&JobEnd { stages, detection });
            }
            let config = Settings::default().tracking;
            let now = at(elapsed);
            let next = |known| next_look(&running_since(0), known, false, now, &config, jitter);
            let (with, without) = (next(&known), next(&known.without_hints()));
            prop_assert!(without <= with, "{without}, {with}");
            prop_assert!(between(now, with) <= config.poll_max_interval);
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
