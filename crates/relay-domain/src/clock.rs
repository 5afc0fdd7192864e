//! The current time. Only this module reads the wall clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;

/// Adds a duration to a time. Where that is beyond the last time there is, returns the last one.
#[must_use]
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Returns the time between two timestamps. Returns zero if `to` is not later than `from`.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// A source of the current time. It is cheap to clone, and every part of the relay shares it.
///
/// Times are whole milliseconds, because the store keeps milliseconds. So a time read from the store equals the time
/// written.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Arc<Mutex<Guide>>),
    Manual(Arc<AtomicI64>),
}

/// The state of a clock that runs on the machine's clock.
#[derive(Debug)]
struct Guide {
    /// The error of the machine's clock, in milliseconds; for tests.
    wrong_by: i64,
    /// The clock that this clock follows, if there is one.
    followed: Option<Followed>,
}

/// A reading of the followed clock.
#[derive(Debug, Clone, Copy)]
struct Followed {
    /// When the clock was read, on a monotonic clock.
    read_at: Instant,
    millis: i64,
    /// The maximum error of the reading.
    doubt: Duration,
}

impl Followed {
    fn now(&self) -> i64 {
        let passed = i64::try_from(self.read_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.millis.saturating_add(passed)
    }

    /// Returns the maximum error by now. It grows, because clocks drift apart.
    fn doubt_now(&self) -> Duration {
        self.doubt + self.read_at.elapsed() / DRIFT
    }
}

/// The inverse of the maximum drift: two clocks drift apart by at most 1 part in 2,000.
const DRIFT: u32 = 2_000;

impl Clock {
    /// Makes a clock that runs on the machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::system_wrong_by(0)
    }

    /// Makes a clock that runs on the machine's clock, wrong by this many milliseconds; for tests.
    #[must_use]
    pub fn system_wrong_by(millis: i64) -> Self {
        Self(Source::System(Arc::new(Mutex::new(Guide {
            wrong_by: millis,
            followed: None,
        }))))
    }

    /// Makes a clock that stands at `start` until [`Clock::advance`] moves it; for tests.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(
            start.as_millisecond(),
        ))))
    }

    /// Returns the current time, in whole milliseconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let millis = match &self.0 {
            Source::System(guide) => {
                let guide = guide.lock();
                match &guide.followed {
                    Some(followed) => followed.now(),
                    None => system_millis().saturating_add(guide.wrong_by),
                }
            }
            Source::Manual(millis) => millis.load(Ordering::SeqCst),
        };
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Returns the time of the machine's clock, even if this clock follows another. Returns none for a manual clock.
    #[must_use]
    pub fn machine(&self) -> Option<Timestamp> {
        let millis = match &self.0 {
            Source::System(guide) => {
                let guide = guide.lock();
                system_millis().saturating_add(guide.wrong_by)
            }
            Source::Manual(_) => return None,
        };
        Timestamp::from_millisecond(millis).ok()
    }

    /// Makes the machine's clock, as this clock sees it, wrong by this many milliseconds from now on; for tests.
    pub fn set_machine_wrong_by(&self, millis: i64) {
        if let Source::System(guide) = &self.0 {
            let mut guide = guide.lock();
            guide.wrong_by = millis;
        }
    }

    /// Returns whether this clock can follow another. A manual clock cannot.
    #[must_use]
    pub fn can_follow(&self) -> bool {
        matches!(self.0, Source::System(_))
    }

    /// Follows another clock from now on, so that the machine's clock no longer matters. A reading took `took` and
    /// returned `now`; the clock is assumed to have shown `now` in the middle of that time. A reading that is not
    /// more precise replaces the present one only if the two contradict each other.
    pub fn follow(&self, now: Timestamp, took: Duration) {
        let Source::System(guide) = &self.0 else {
            return;
        };
        let doubt = took / 2;
        let half = i64::try_from(doubt.as_millis()).unwrap_or(i64::MAX);
        let reading = Followed {
            read_at: Instant::now(),
            millis: now.as_millisecond().saturating_add(half),
            doubt,
        };
        let mut guide = guide.lock();
        let keeps = guide.followed.is_some_and(|before| {
            let apart = before.now().abs_diff(reading.millis);
            let explained = before.doubt_now() + doubt + Duration::from_millis(2);
            before.doubt_now() <= doubt && Duration::from_millis(apart) <= explained
        });
        if !keeps {
            guide.followed = Some(reading);
        }
    }

    /// Sets a manual clock back; for tests.
    pub fn set_back(&self, by: Duration) {
        if let Source::Manual(millis) = &self.0 {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            millis.fetch_sub(by, Ordering::SeqCst);
        }
    }

    /// Moves a manual clock forward. Does nothing to a system clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(millis) = &self.0 {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            millis.fetch_add(by, Ordering::SeqCst);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the wall clock is read"
)]
fn system_millis() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let shared = clock.clone();
        clock.advance(Duration::from_millis(1500));
        assert_eq!(shared.now().as_millisecond(), 1500);
        assert_eq!(shared.now(), clock.now());
    }

    #[test]
    fn a_clock_that_follows_another_forgets_the_machines() {
        let clock = Clock::system_wrong_by(3_600_000);
        let right = Clock::system();
        assert!(clock.now().duration_since(right.now()).as_secs() > 3_500);
        clock.follow(right.now(), Duration::from_millis(10));
        let apart = |other: &Clock| other.now().duration_since(right.now()).abs();
        assert!(apart(&clock).as_millis() < 1_000);
        assert!(apart(&clock.clone()).as_millis() < 1_000, "clones share it");
        Clock::manual(Timestamp::UNIX_EPOCH).follow(right.now(), Duration::ZERO);
    }

    #[test]
    fn a_slow_reading_counts_only_if_it_contradicts_the_one_before() {
        let clock = Clock::system();
        let start = clock.now();
        let later = |millis| start + Duration::from_millis(millis);
        clock.follow(start, Duration::from_millis(4));
        clock.follow(start - Duration::from_millis(300), Duration::from_secs(1));
        assert!(clock.now() < later(150), "what it says is within its doubt");
        clock.follow(later(60_000), Duration::from_secs(1));
        assert!(
            clock.now() >= later(60_500),
            "the clock that is followed was set"
        );
        clock.follow(start, Duration::from_millis(4));
        assert!(clock.now() < later(10_000), "and back");
    }

    #[test]
    fn a_machine_whose_clock_is_set_does_not_move_a_clock_that_follows() {
        let clock = Clock::system();
        clock.follow(clock.now(), Duration::ZERO);
        let before = clock.now();
        clock.set_machine_wrong_by(-3_600_000);
        assert!(clock.now() >= before);
        let shown = clock.machine().unwrap();
        assert!(before.duration_since(shown).as_secs() > 3_500);
        assert_eq!(Clock::manual(before).machine(), None);
    }

    #[test]
    fn the_system_clock_tells_whole_milliseconds() {
        assert_eq!(Clock::system().now().subsec_nanosecond() % 1_000_000, 0);
    }
}
