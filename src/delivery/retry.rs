//! Decides what follows an attempt, as a pure function: delivered, tried again at a time, or given up.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::spread;
use relay_store::AfterAttempt;

/// The maximum wait that a `Retry-After` can ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(24);

/// The waits between attempts of an event with a deadline; the last one repeats. They have no jitter: such events are
/// few, and every second counts for them.
const DEADLINE_WAITS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// The properties of an ended attempt that decide what follows.
#[derive(Debug, Clone, Copy)]
pub struct AttemptEnd {
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
    /// The wait that the response asked for ([`parse_retry_after`]).
    pub retry_after: Option<Duration>,
    /// The number of attempts of this round before this one.
    pub round_attempts: u32,
    /// When the event expires.
    pub deadline: Option<Timestamp>,
    /// When the attempt ended, in whole milliseconds.
    pub now: Timestamp,
}

/// Decides what follows an attempt.
///
/// The `schedule` holds the waits between attempts, so there is one attempt more than waits. The `jitter` is a sample
/// from `[0, 1)` that changes a wait of the schedule. A sample of 0 shortens the wait by a tenth, and 0.5 leaves it
/// unchanged. A sample of 1 would lengthen it by a tenth.
#[must_use]
pub fn after_attempt(end: &AttemptEnd, schedule: &[Duration], jitter: f64) -> AfterAttempt {
    match end.status {
        Some(200..=299) => return AfterAttempt::Delivered,
        Some(410) => return AfterAttempt::Gone,
        Some(_) | None => {}
    }
    let made = usize::try_from(end.round_attempts).unwrap_or(usize::MAX);
    if let Some(deadline) = end.deadline {
        let [.., last] = DEADLINE_WAITS;
        let wait = DEADLINE_WAITS.get(made).copied().unwrap_or(last);
        let at = later_rounded_up(end.now, wait.max(asked_wait(end)));
        return if at < deadline {
            AfterAttempt::RetryAt(at)
        } else {
            AfterAttempt::Expired
        };
    }
    match schedule.get(made) {
        Some(wait) => {
            let wait = spread(*wait, jitter).max(asked_wait(end));
            AfterAttempt::RetryAt(later_rounded_up(end.now, wait))
        }
        None => AfterAttempt::Dead,
    }
}

/// Returns the sum of all waits of a schedule. An event that waits for a paused host for this long is given up.
#[must_use]
pub fn whole_schedule(schedule: &[Duration]) -> Duration {
    let add = |sum: Duration, wait: &Duration| sum.saturating_add(*wait);
    schedule.iter().fold(Duration::ZERO, add)
}

/// Parses a `Retry-After` header: seconds, or an HTTP date in any of its three forms.
///
/// Returns none if the header asks for no wait or for a time in the past, or cannot be parsed.
#[must_use]
pub fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        // a number too large to parse still means a very long wait
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let at = Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
        Duration::try_from(at.duration_since(now)).ok()?
    };
    (wait > Duration::ZERO).then_some(wait)
}

/// Returns the wait that the response asked for. Only 429 and 503 can ask for one.
fn asked_wait(end: &AttemptEnd) -> Duration {
    match (end.status, end.retry_after) {
        (Some(429 | 503), Some(asked)) => asked.min(LONGEST_ASKED),
        _ => Duration::ZERO,
    }
}

/// Returns the time `wait` after `now`, rounded up to a whole millisecond and always in the future.
fn later_rounded_up(now: Timestamp, wait: Duration) -> Timestamp {
    let millis = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(now.as_millisecond().saturating_add(millis.max(1)))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Settings;

    const MIDDLE: f64 = 0.5;

    fn now() -> Timestamp {
        "2026-11-23T09:14:28.250Z".parse().unwrap()
    }

    fn after(seconds: f64) -> AfterAttempt {
        AfterAttempt::RetryAt(later_rounded_up(now(), Duration::from_secs_f64(seconds)))
    }

    fn end(status: Option<u16>, round_attempts: u32) -> AttemptEnd {
        AttemptEnd {
            status,
            retry_after: None,
            round_attempts,
            deadline: None,
            now: now(),
        }
    }

    fn schedule() -> Vec<Duration> {
        Settings::default().delivery.retry_schedule
    }

    #[test]
    fn the_status_decides() {
        for (status, next) in [
            (Some(200), AfterAttempt::Delivered),
            (Some(204), AfterAttempt::Delivered),
            (Some(299), AfterAttempt::Delivered),
            (Some(410), AfterAttempt::Gone),
            (Some(199), after(5.0)),
            (Some(301), after(5.0)),
            (Some(308), after(5.0)),
            (Some(400), after(5.0)),
            (Some(404), after(5.0)),
            (Some(500), after(5.0)),
            (None, after(5.0)),
        ] {
            let told = after_attempt(&end(status, 0), &schedule(), MIDDLE);
            assert_eq!(told, next, "{status:?}");
        }
    }

    #[test]
    fn the_default_schedule_makes_eight_attempts_of_a_round() {
        let waits = [5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0];
        for (made, wait) in (0..).zip(waits) {
            let told = after_attempt(&end(Some(500), made), &schedule(), MIDDLE);
            assert_eq!(told, after(wait), "{made}");
        }
        let told = after_attempt(&end(Some(500), 7), &schedule(), MIDDLE);
        assert_eq!(told, AfterAttempt::Dead);
        assert_eq!(
            after_attempt(&end(None, 0), &[], MIDDLE),
            AfterAttempt::Dead
        );
    }

    #[test]
    fn retry_after_is_honoured_on_429_and_503_for_a_day_at_most() {
        let day = 86400.0;
        for (status, asked, wait) in [
            (429, 7, 7.0),
            (503, 7, 7.0),
            (500, 7, 5.0),
            (429, 3, 5.0),
            (429, 90_000, day),
            (503, u64::MAX, day),
        ] {
            let answer = AttemptEnd {
                retry_after: Some(Duration::from_secs(asked)),
                ..end(Some(status), 0)
            };
            let told = after_attempt(&answer, &schedule(), MIDDLE);
            assert_eq!(told, after(wait), "{status} {asked}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_in_the_future() {
        let seconds = |n| Some(Duration::from_secs(n));
        for (text, wait) in [
            ("120", seconds(120)),
            (" 7 ", seconds(7)),
            ("99999999999999999999999", seconds(u64::MAX)),
            (
                "Mon, 23 Nov 2026 09:14:30 GMT",
                Some(Duration::from_millis(1750)),
            ),
            (
                "Monday, 23-Nov-26 09:14:30 GMT",
                Some(Duration::from_millis(1750)),
            ),
            (
                "Mon Nov 23 09:14:30 2026",
                Some(Duration::from_millis(1750)),
            ),
            ("Mon, 23 Nov 2026 09:14:28 GMT", None),
            ("Fri, 31 Dec 1999 23:59:59 GMT", None),
            ("0", None),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(parse_retry_after(text, now()), wait, "{text}");
        }
    }

    #[test]
    fn an_event_with_a_deadline_is_tried_until_it_expires() {
        let mut answer = AttemptEnd {
            deadline: Some(later_rounded_up(now(), Duration::from_mins(2))),
            ..end(Some(500), 0)
        };
        for (made, wait) in (0..).zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]) {
            answer.round_attempts = made;
            assert_eq!(after_attempt(&answer, &[], 0.0), after(wait), "{made}");
        }
        for (left, next) in [
            (8001, after(8.0)),
            (8000, AfterAttempt::Expired),
            (1, AfterAttempt::Expired),
        ] {
            answer.deadline = Some(later_rounded_up(now(), Duration::from_millis(left)));
            assert_eq!(after_attempt(&answer, &[], 0.0), next, "{left}");
        }
        answer.status = Some(204);
        assert_eq!(after_attempt(&answer, &[], 0.0), AfterAttempt::Delivered);
    }

    #[test]
    fn retry_after_delays_an_event_with_a_deadline_but_not_past_it() {
        for (asked, next) in [
            (30, after(30.0)),
            (59, after(59.0)),
            (60, AfterAttempt::Expired),
            (3600, AfterAttempt::Expired),
        ] {
            let answer = AttemptEnd {
                retry_after: Some(Duration::from_secs(asked)),
                deadline: Some(later_rounded_up(now(), Duration::from_mins(1))),
                ..end(Some(503), 0)
            };
            assert_eq!(after_attempt(&answer, &schedule(), 0.0), next, "{asked}");
        }
    }

    fn retry_time(next: AfterAttempt) -> Option<Timestamp> {
        match next {
            AfterAttempt::RetryAt(at) => Some(at),
            AfterAttempt::Delivered
            | AfterAttempt::Dead
            | AfterAttempt::Expired
            | AfterAttempt::Gone => None,
        }
    }

    proptest! {
        #[test]
        fn without_jitter_waits_never_shrink_with_the_attempt_number(
            made in 0_u32..12,
            deadline in proptest::option::of(1_u64..300),
        ) {
            let answer = |made| AttemptEnd {
                deadline: deadline.map(|left| later_rounded_up(now(), Duration::from_secs(left))),
                ..end(Some(500), made)
            };
            let this = retry_time(after_attempt(&answer(made), &schedule(), MIDDLE));
            let next = retry_time(after_attempt(&answer(made + 1), &schedule(), MIDDLE));
            if let (Some(this), Some(next)) = (this, next) {
                prop_assert!(this <= next);
            }
        }

        #[test]
        fn a_retry_is_in_the_future_not_before_it_was_asked_for_and_within_a_deadline(
            status in prop::sample::select(vec![429_u16, 503]),
            asked in 0_u64..200_000_000,
            made in 0_u32..9,
            waits in proptest::collection::vec(0_u64..100_000_000, 0..9),
            left in proptest::option::of(0_u64..200_000),
            jitter in 0.0_f64..1.0,
        ) {
            let asked = Duration::from_millis(asked);
            let deadline = left.map(|left| later_rounded_up(now(), Duration::from_millis(left)));
            let answer = AttemptEnd {
                retry_after: Some(asked),
                deadline,
                ..end(Some(status), made)
            };
            let waits: Vec<_> = waits.into_iter().map(Duration::from_millis).collect();
            if let Some(at) = retry_time(after_attempt(&answer, &waits, jitter)) {
                prop_assert!(at > now());
                prop_assert!(at >= later_rounded_up(now(), asked.min(LONGEST_ASKED)));
                prop_assert!(deadline.is_none_or(|deadline| at < deadline));
            }
        }

        #[test]
        fn any_retry_after_can_be_read(text in ".*") {
            let wait = parse_retry_after(&text, now());
            prop_assert!(wait.is_none_or(|wait| wait > Duration::ZERO));
        }
    }
}
