//! What a relay did over time, in numbers. Workers count in memory, one writer stores the counts now and then, and the
//! console reads them.

mod latency;
mod recorder;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    latency::LatencyHistogram,
    recorder::{ActivityRecorder, AttemptActivity},
};
use crate::outcome::closed_words;

closed_words! {
    /// What counts belong to, and the length of time that they cover.
    ActivityScope {
        /// Everything, minute by minute.
        Minute => "minute",
        /// Everything, hour by hour.
        Hour => "hour",
        /// Jobs by bank, hour by hour.
        Bank => "bank",
        /// Attempts by callback host, hour by hour.
        Host => "host",
        /// Attempts by client, hour by hour.
        Client => "client",
        /// Jobs by bank, day by day.
        BankDay => "bank-day",
        /// Attempts by callback host, day by day.
        HostDay => "host-day",
        /// Attempts by client, day by day.
        ClientDay => "client-day",
    }
}

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

impl ActivityScope {
    /// Returns the number of seconds that one row of this scope covers.
    #[must_use]
    pub fn seconds(self) -> i64 {
        match self {
            Self::Minute => MINUTE,
            Self::Hour | Self::Bank | Self::Host | Self::Client => HOUR,
            Self::BankDay | Self::HostDay | Self::ClientDay => DAY,
        }
    }

    /// Returns the start of the minute, hour or day (in UTC) that a time is in.
    #[must_use]
    pub fn start_of(self, time: Timestamp) -> Timestamp {
        let second = time.as_second();
        let start = second - second.rem_euclid(self.seconds());
        Timestamp::from_second(start).unwrap_or(time)
    }
}

/// Counts of one stretch of time. What success and failure mean depends on the scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ActivityCounts {
    /// Attempts that a callback accepted. Of a bank: jobs that ended in success.
    #[serde(skip_serializing_if = "is_zero")]
    pub succeeded: u64,
    /// Attempts that no callback accepted. Of a bank: jobs that failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// Deliveries that were given up: dead or expired.
    #[serde(skip_serializing_if = "is_zero")]
    pub given_up: u64,
    /// Looks at jobs.
    #[serde(skip_serializing_if = "is_zero")]
    pub looks: u64,
    /// Calls to Basiq, of every kind.
    #[serde(skip_serializing_if = "is_zero")]
    pub calls: u64,
    /// The calls that got no answer, 429 or 5xx.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed_calls: u64,
    /// From the event until the callback accepted it. Of a host or a client: the duration of each attempt. Of a bank:
    /// from the creation of the job until the relay saw its end.
    #[serde(skip_serializing_if = "LatencyHistogram::is_empty")]
    pub took: LatencyHistogram,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl ActivityCounts {
    /// Adds a success or a failure.
    fn add_result(&mut self, succeeded: bool) {
        if succeeded {
            self.succeeded += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Adds other counts to these.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.succeeded, other.succeeded),
            (&mut self.failed, other.failed),
            (&mut self.given_up, other.given_up),
            (&mut self.looks, other.looks),
            (&mut self.calls, other.calls),
            (&mut self.failed_calls, other.failed_calls),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
        self.took.merge(&other.took);
    }

    /// Returns whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the number of successes and failures together.
    #[must_use]
    pub fn volume(&self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }
}

/// Counts by name: of banks, hosts or clients. Scopes that count everything have one entry, [`ActivityTally::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActivityTally(BTreeMap<String, ActivityCounts>);

impl ActivityTally {
    /// The name of the only entry of a scope that counts everything. In other scopes, the entry for all names beyond the
    /// limit.
    pub const ALL: &'static str = "";
    /// The maximum number of names. Later names count together, so that memory and rows stay small.
    pub const MOST_NAMES: usize = 100;
    /// The maximum length of a name, in characters.
    const LONGEST_NAME: usize = 253;

    /// Returns the counts of a name, for an addition. Returns the common entry if there are too many names.
    pub fn counts_of(&mut self, name: &str) -> &mut ActivityCounts {
        let is_full = self.0.len() >= Self::MOST_NAMES && !self.0.contains_key(name);
        let name = if is_full { Self::ALL } else { name };
        let name: String = name.chars().take(Self::LONGEST_NAME).collect();
        self.0.entry(name).or_default()
    }

    /// Adds all counts of another tally to this one, with all its names.
    pub fn merge(&mut self, other: &Self) {
        for (name, counts) in &other.0 {
            self.0.entry(name.clone()).or_default().merge(counts);
        }
    }

    /// Returns the sum over all names.
    #[must_use]
    pub fn total(&self) -> ActivityCounts {
        let mut total = ActivityCounts::default();
        for counts in self.0.values() {
            total.merge(counts);
        }
        total
    }

    /// Returns the names with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ActivityCounts)> {
        self.0.iter().map(|(name, counts)| (name.as_str(), counts))
    }
}

/// What one run of counting found in one minute, hour or day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityRow {
    /// What is counted.
    pub scope: ActivityScope,
    /// The start of the minute, hour or day.
    pub since: Timestamp,
    /// The run of counting: another one after each start, and for a period that comes again because the clock was set
    /// back.
    pub run: [u8; 16],
    /// The counts so far. A later row of the same scope, time and run replaces this one.
    pub tally: ActivityTally,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_beyond_the_limit_count_together_and_none_is_lost() {
        let mut tally = ActivityTally::default();
        for n in 0..250 {
            tally.counts_of(&format!("host{n}.example")).succeeded += 1;
        }
        tally.counts_of("host3.example").failed += 1;
        assert!(tally.iter().count() <= ActivityTally::MOST_NAMES + 1);
        let others = tally.iter().find(|(name, _)| *name == ActivityTally::ALL);
        assert_eq!(others.unwrap().1.succeeded, 150);
        let total = tally.total();
        assert_eq!((total.succeeded, total.failed), (250, 1));
    }

    #[test]
    fn counts_are_added_and_stored_without_zeros() {
        let mut sum = ActivityCounts::default();
        assert!(sum.is_empty());
        assert_eq!(serde_json::to_string(&sum).unwrap(), "{}");
        let mut one = ActivityCounts {
            succeeded: 2,
            failed: 1,
            calls: 7,
            ..ActivityCounts::default()
        };
        one.took.add(Duration::from_secs(1));
        sum.merge(&one);
        sum.merge(&one);
        assert_eq!((sum.volume(), sum.calls, sum.took.total()), (6, 14, 2));
        let text = serde_json::to_string(&sum).unwrap();
        assert_eq!(
            text,
            r#"{"succeeded":4,"failed":2,"calls":14,"took":{"40":2}}"#
        );
        assert_eq!(serde_json::from_str::<ActivityCounts>(&text).unwrap(), sum);
    }

    #[test]
    fn a_time_belongs_to_the_minute_hour_or_day_that_it_is_in() {
        let time: Timestamp = "2026-11-29T21:36:55.5Z".parse().unwrap();
        let start = |scope: ActivityScope| scope.start_of(time).to_string();
        assert_eq!(start(ActivityScope::Minute), "2026-11-29T21:36:00Z");
        assert_eq!(start(ActivityScope::Bank), "2026-11-29T21:00:00Z");
        assert_eq!(start(ActivityScope::HostDay), "2026-11-29T00:00:00Z");
    }
}
