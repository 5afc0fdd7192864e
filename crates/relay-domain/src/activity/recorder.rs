//! Counts in memory what a relay does, until a writer stores the counts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use ulid::Ulid;

use crate::{
    activity::{ActivityCounts, ActivityRow, ActivityScope, ActivityTally},
    clock::Clock,
};

/// The maximum number of rows in memory. While the store cannot be written, the oldest minutes go first.
const MOST_ROWS: usize = 400;

/// Counts what a relay does. Clones count together.
///
/// Each count is the total of its minute, hour or day so far, and belongs to one run of counting. So a row can be stored
/// again and again without counting twice, and relays never change each other's rows. A period that was forgotten, and
/// comes again because the clock was set back, is counted by another run: its row replaces no earlier one.
#[derive(Debug, Clone)]
pub struct ActivityRecorder {
    clock: Clock,
    periods: Arc<Mutex<Periods>>,
}

type Periods = BTreeMap<(Timestamp, ActivityScope), PeriodCounts>;

/// The counts of one minute, hour or day.
#[derive(Debug)]
struct PeriodCounts {
    run: [u8; 16],
    tally: ActivityTally,
    /// Whether something was counted since the writer took it last.
    is_changed: bool,
}

impl PeriodCounts {
    /// Starts a run of counting.
    fn new() -> Self {
        Self {
            run: Ulid::generate().to_bytes(),
            tally: ActivityTally::default(),
            is_changed: false,
        }
    }
}

/// An attempt that has ended.
#[derive(Debug, Clone, Copy)]
pub struct AttemptActivity<'a> {
    /// The callback's host.
    pub host: &'a str,
    /// The client whose event it is; none for a forwarded webhook of Basiq's.
    pub client: Option<&'a str>,
    /// Whether the callback accepted it.
    pub accepted: bool,
    /// The duration of the attempt.
    pub took: Duration,
    /// The time from the event until the callback accepted it. None if it did not, or if somebody sent it again by hand.
    pub since_event: Option<Duration>,
}

/// The periods that a count belongs to now. Nobody else counts meanwhile.
struct CurrentPeriods<'p> {
    now: Timestamp,
    periods: MutexGuard<'p, Periods>,
}

impl CurrentPeriods<'_> {
    fn count_result(
        &mut self,
        scopes: [ActivityScope; 2],
        name: &str,
        succeeded: bool,
        took: Duration,
    ) {
        self.count(scopes, name, |counts| {
            counts.add_result(succeeded);
            counts.took.add(took);
        });
    }

    fn count_for_all(&mut self, change: impl Fn(&mut ActivityCounts)) {
        let scopes = [ActivityScope::Minute, ActivityScope::Hour];
        self.count(scopes, ActivityTally::ALL, change);
    }

    fn count(
        &mut self,
        scopes: [ActivityScope; 2],
        name: &str,
        change: impl Fn(&mut ActivityCounts),
    ) {
        for scope in scopes {
            let period = self
                .periods
                .entry((scope.start_of(self.now), scope))
                .or_insert_with(PeriodCounts::new);
            change(period.tally.counts_of(name));
            period.is_changed = true;
        }
        forget_oldest(&mut self.periods);
    }
}

impl ActivityRecorder {
    /// Creates a recorder with nothing counted.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            periods: Arc::default(),
        }
    }

    /// Counts an attempt.
    pub fn count_attempt(&self, attempt: &AttemptActivity<'_>) {
        let mut current = self.current();
        current.count_for_all(|counts| {
            counts.add_result(attempt.accepted);
            if let Some(took) = attempt.since_event {
                counts.took.add(took);
            }
        });
        let (accepted, took) = (attempt.accepted, attempt.took);
        let by_host = [ActivityScope::Host, ActivityScope::HostDay];
        current.count_result(by_host, attempt.host, accepted, took);
        if let Some(client) = attempt.client {
            let by_client = [ActivityScope::Client, ActivityScope::ClientDay];
            current.count_result(by_client, client, accepted, took);
        }
    }

    /// Counts deliveries that were given up.
    pub fn count_given_up(&self, deliveries: u64) {
        if deliveries > 0 {
            let count = |counts: &mut ActivityCounts| counts.given_up += deliveries;
            self.current().count_for_all(count);
        }
    }

    /// Counts a look at a job.
    pub fn count_look(&self) {
        self.current().count_for_all(|counts| counts.looks += 1);
    }

    /// Counts calls to Basiq, and those of them that failed.
    pub fn count_calls(&self, calls: u64, failed: u64) {
        if calls > 0 {
            self.current().count_for_all(|counts| {
                counts.calls += calls;
                counts.failed_calls += failed;
            });
        }
    }

    /// Counts the end of a job of a bank. `took` is the time since the job's creation.
    pub fn count_job_end(&self, institution_id: &str, succeeded: bool, took: Duration) {
        let by_bank = [ActivityScope::Bank, ActivityScope::BankDay];
        self.current()
            .count_result(by_bank, institution_id, succeeded, took);
    }

    fn current(&self) -> CurrentPeriods<'_> {
        CurrentPeriods {
            now: self.clock.now(),
            periods: self.periods.lock(),
        }
    }

    /// Returns the rows that changed since the latest call, with their counts so far. Forgets those of the past that
    /// did not change.
    #[must_use]
    pub fn take_changed(&self) -> Vec<ActivityRow> {
        let now = self.clock.now();
        let mut periods = self.periods.lock();
        periods.retain(|(since, scope), period| period.is_changed || *since >= scope.start_of(now));
        let changed = periods.iter_mut().filter(|(_, period)| period.is_changed);
        let rows = changed.map(|((since, scope), period)| {
            period.is_changed = false;
            ActivityRow {
                scope: *scope,
                since: *since,
                run: period.run,
                tally: period.tally.clone(),
            }
        });
        rows.collect()
    }

    /// Takes back rows that could not be stored, so that the next call returns them again.
    pub fn put_back(&self, rows: Vec<ActivityRow>) {
        let mut periods = self.periods.lock();
        for row in rows {
            let period = periods
                .entry((row.since, row.scope))
                .or_insert_with(|| PeriodCounts {
                    run: row.run,
                    tally: row.tally,
                    is_changed: true,
                });
            period.is_changed = true;
        }
        forget_oldest(&mut periods);
    }
}

/// Makes room if there are too many rows.
fn forget_oldest(periods: &mut Periods) {
    while periods.len() > MOST_ROWS {
        let mut keys = periods.keys().copied();
        let minute = keys.find(|(_, scope)| *scope == ActivityScope::Minute);
        if minute.and_then(|minute| periods.remove(&minute)).is_none() {
            periods.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> (ActivityRecorder, Clock) {
        let start = "2026-11-29T21:59:30Z".parse().unwrap();
        let clock = Clock::manual(start);
        (ActivityRecorder::new(clock.clone()), clock)
    }

    fn attempt(accepted: bool) -> AttemptActivity<'static> {
        AttemptActivity {
            host: "app.example",
            client: Some("shop"),
            accepted,
            took: Duration::from_millis(40),
            since_event: accepted.then_some(Duration::from_secs(9)),
        }
    }

    fn row(rows: &[ActivityRow], scope: ActivityScope) -> &ActivityRow {
        rows.iter().find(|row| row.scope == scope).unwrap()
    }

    #[test]
    fn an_attempt_counts_for_its_minute_hour_host_and_client() {
        let (recorder, _) = recorder();
        recorder.count_attempt(&attempt(true));
        recorder.clone().count_attempt(&attempt(false));
        recorder.count_given_up(1);
        recorder.count_look();
        recorder.count_calls(3, 1);
        recorder.count_job_end("AU00000", false, Duration::from_secs(20));
        let rows = recorder.take_changed();
        assert_eq!(rows.len(), 8);
        for scope in [ActivityScope::Minute, ActivityScope::Hour] {
            let all = row(&rows, scope).tally.total();
            assert_eq!((all.succeeded, all.failed, all.given_up), (1, 1, 1));
            assert_eq!((all.looks, all.calls, all.failed_calls), (1, 3, 1));
            assert_eq!(all.took.total(), 1);
        }
        let (hour, day) = ("2026-11-29T21:00:00Z", "2026-11-29T00:00:00Z");
        for (scope, since, name) in [
            (ActivityScope::Host, hour, "app.example"),
            (ActivityScope::HostDay, day, "app.example"),
            (ActivityScope::Client, hour, "shop"),
            (ActivityScope::ClientDay, day, "shop"),
        ] {
            let row = row(&rows, scope);
            assert_eq!(row.since.to_string(), since);
            let (found, counts) = row.tally.iter().next().unwrap();
            assert_eq!((found, counts.succeeded, counts.failed), (name, 1, 1));
            assert_eq!(counts.took.total(), 2);
        }
        for scope in [ActivityScope::Bank, ActivityScope::BankDay] {
            let bank = row(&rows, scope).tally.total();
            assert_eq!((bank.succeeded, bank.failed), (0, 1));
        }
    }

    #[test]
    fn rows_hold_totals_and_what_is_past_and_stored_is_forgotten() {
        let (recorder, clock) = recorder();
        recorder.count_look();
        assert_eq!(recorder.take_changed().len(), 2);
        assert_eq!(recorder.take_changed(), []);
        recorder.count_look();
        let rows = recorder.take_changed();
        assert_eq!(row(&rows, ActivityScope::Minute).tally.total().looks, 2);
        clock.advance(Duration::from_mins(1));
        recorder.count_look();
        let rows = recorder.take_changed();
        assert_eq!(rows.len(), 2);
        assert_eq!(row(&rows, ActivityScope::Hour).tally.total().looks, 1);
        assert_eq!(recorder.periods.lock().len(), 2);
    }

    #[test]
    fn a_day_that_comes_again_replaces_no_stored_counts() {
        let (recorder, clock) = recorder();
        let end = |recorder: &ActivityRecorder| {
            recorder.count_job_end("AU00000", true, Duration::from_secs(1));
            let rows = recorder.take_changed();
            row(&rows, ActivityScope::BankDay).clone()
        };
        let before = end(&recorder);
        let later = end(&recorder);
        assert_eq!((later.since, later.run), (before.since, before.run));
        clock.advance(Duration::from_hours(3));
        let next = end(&recorder);
        assert!(next.since > before.since);
        clock.set_back(Duration::from_hours(2));
        let again = end(&recorder);
        assert_eq!(again.since, before.since);
        assert_ne!(again.run, before.run);
        assert_eq!(again.tally.total().succeeded, 1);
        assert_eq!(end(&recorder).run, again.run);
    }

    #[test]
    fn what_could_not_be_stored_is_returned_again_with_all_that_came_since() {
        let (recorder, clock) = recorder();
        recorder.count_look();
        let rows = recorder.take_changed();
        recorder.count_look();
        recorder.put_back(rows);
        let rows = recorder.take_changed();
        assert_eq!(row(&rows, ActivityScope::Hour).tally.total().looks, 2);
        clock.advance(Duration::from_hours(1));
        assert_eq!(recorder.take_changed(), []);
        recorder.put_back(rows.clone());
        assert_eq!(recorder.take_changed(), rows);
    }

    #[test]
    fn memory_stays_small_while_nothing_is_stored() {
        let (recorder, clock) = recorder();
        for _ in 0..1000 {
            recorder.count_look();
            recorder.count_job_end("AU00000", true, Duration::from_secs(1));
            clock.advance(Duration::from_mins(1));
        }
        let rows = recorder.take_changed();
        assert_eq!(rows.len(), MOST_ROWS);
        let days = rows
            .iter()
            .filter(|row| row.scope == ActivityScope::BankDay);
        let ends = days.map(|row| row.tally.total().succeeded);
        assert_eq!(ends.sum::<u64>(), 1000);
        let newest = rows.iter().map(|row| row.since).max().unwrap();
        assert!(newest > clock.now().checked_sub(Duration::from_mins(2)).unwrap());
    }
}
