//! Tells the time; the only reader of the wall clock.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// A source of the current time, cheap to clone and shared by every part of the relay.
///
/// Times are whole milliseconds: that is what the store keeps, so that a time read back equals the
/// one written.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Arc<Mutex<Guide>>),
    Manual(Arc<AtomicI64>),
}

/// What a clock of the machine goes by.
#[derive(Debug)]
struct Guide {
    /// How wrong the machine's clock is, in milliseconds: for tests.
    wrong_by: i64,
    /// The clock that is followed, if one is.
    followed: Option<Followed>,
}

/// A reading of a clock that is followed.
#[derive(Debug, Clone, Copy)]
struct Followed {
    /// When it was read, by a clock that is never set.
    read_at: Instant,
    millis: i64,
    /// The reading may be off by so much.
    doubt: Duration,
}

impl Followed {
    fn now(&self) -> i64 {
        let passed = i64::try_from(self.read_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.millis.saturating_add(passed)
    }

    /// How far off it may be by now: clocks drift apart.
    fn doubt_now(&self) -> Duration {
        self.doubt + self.read_at.elapsed() / DRIFT
    }
}

/// Two clocks drift apart by one part in so many at most.
const DRIFT: u32 = 2_000;

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::system_wrong_by(0)
    }

    /// The machine's clock, wrong by so many milliseconds; for tests.
    #[must_use]
    pub fn system_wrong_by(millis: i64) -> Self {
        Self(Source::System(Arc::new(Mutex::new(Guide {
            wrong_by: millis,
            followed: None,
        }))))
    }

    /// A clock that stands at `start` until it is moved with [`Clock::advance`]; for tests.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(
            start.as_millisecond(),
        ))))
    }

    /// The current time, in whole milliseconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let millis = match &self.0 {
            Source::System(guide) => {
                let guide = guide.lock().unwrap_or_else(PoisonError::into_inner);
                match &guide.followed {
                    Some(followed) => followed.now(),
                    None => system_millis().saturating_add(guide.wrong_by),
                }
            }
            Source::Manual(millis) => millis.load(Ordering::SeqCst),
        };
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// What the machine's clock shows, whatever this clock goes by; none if it stands until it is moved.
    #[must_use]
    pub fn machine(&self) -> Option<Timestamp> {
        let millis = match &self.0 {
            Source::System(guide) => {
                let guide = guide.lock().unwrap_or_else(PoisonError::into_inner);
                system_millis().saturating_add(guide.wrong_by)
            }
            Source::Manual(_) => return None,
        };
        Timestamp::from_millisecond(millis).ok()
    }

    /// Sets the machine's clock, as this clock sees it, wrong by so many milliseconds from now on; for tests.
    pub fn set_machine_wrong_by(&self, millis: i64) {
        if let Source::System(guide) = &self.0 {
            let mut guide = guide.lock().unwrap_or_else(PoisonError::into_inner);
            guide.wrong_by = millis;
        }
    }

    /// Whether this clock can follow another. One that stands until it is moved cannot.
    #[must_use]
    pub fn can_follow(&self) -> bool {
        matches!(self.0, Source::System(_))
    }

    /// Goes by another clock from now on, which showed `now` half of `took` ago, as far as is known:
    /// reading it took so long. What the machine's clock is set to does not matter any more. A reading
    /// that is no better than those before only counts if they contradict each other.
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
        let mut guide = guide.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Moves a manual clock forward; the system clock cannot be moved and stays.
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
