//! Records the calls and their times, so that tests can check how a client treats the sandbox.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

/// The maximum number of calls kept one by one. The counts include all calls.
const REMEMBERED: usize = 100_000;

/// A request that the sandbox answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The time when the call came.
    pub at: Timestamp,
    /// Method and route, such as `GET /jobs/{jobId}`.
    pub endpoint: String,
    /// The path of the request.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// The time when the answer began, or when the caller closed the connection.
    pub ended: Timestamp,
}

/// Which requests the sandbox answered: how many of each kind, and the latest ones.
#[derive(Debug, Clone, Default)]
pub struct CallLog {
    counts: BTreeMap<(String, u16), u64>,
    recent: VecDeque<Call>,
}

impl CallLog {
    /// Records a call.
    pub(super) fn record(&mut self, call: Call) {
        let key = (call.endpoint.clone(), call.status);
        *self.counts.entry(key).or_default() += 1;
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(call);
    }

    /// Returns the number of calls by endpoint and status.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<(String, u16), u64> {
        &self.counts
    }

    /// Returns the number of calls to an endpoint such as `GET /jobs/{jobId}`.
    #[must_use]
    pub fn count(&self, endpoint: &str) -> u64 {
        let of_it = |((name, _), _): &(&(String, u16), &u64)| name == endpoint;
        self.counts.iter().filter(of_it).map(|(_, n)| n).sum()
    }

    /// Returns the number of all calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Iterates over the latest 100,000 calls, in the order of their answers.
    pub fn recent(&self) -> impl Iterator<Item = &Call> {
        self.recent.iter()
    }

    /// Returns the maximum number of calls within any one second, wherever it begins. Counts the calls of one
    /// endpoint, or all of them.
    #[must_use]
    pub fn busiest_second(&self, endpoint: Option<&str>) -> usize {
        let wanted = |call: &&Call| endpoint.is_none_or(|name| call.endpoint == name);
        let mut times: Vec<i64> = self
            .recent
            .iter()
            .filter(wanted)
            .map(|call| call.at.as_millisecond())
            .collect();
        times.sort_unstable();
        let within = |(index, &time): (usize, &i64)| {
            let first = times.partition_point(|&earlier| earlier <= time - 1000);
            index + 1 - first
        };
        times.iter().enumerate().map(within).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(millis: &[i64]) -> CallLog {
        let mut log = CallLog::default();
        for &at in millis {
            log.record(Call {
                at: Timestamp::from_millisecond(at).unwrap(),
                endpoint: "GET /jobs/{jobId}".to_owned(),
                path: "/jobs/1".to_owned(),
                status: 200,
                ended: Timestamp::from_millisecond(at).unwrap(),
            });
        }
        log
    }

    #[test]
    fn the_busiest_second_may_begin_anywhere() {
        for (millis, busiest) in [
            (&[][..], 0),
            (&[0], 1),
            (&[0, 999], 2),
            (&[0, 1000], 1),
            (&[900, 1100, 1899, 1900], 3),
            (&[1899, 900, 1100], 3),
        ] {
            assert_eq!(log(millis).busiest_second(None), busiest, "{millis:?}");
        }
        assert_eq!(log(&[0, 1]).busiest_second(Some("POST /token")), 0);
    }

    #[test]
    fn calls_are_counted_for_ever_but_remembered_only_so_long() {
        let log = log(&vec![5; REMEMBERED + 7]);
        assert_eq!(log.count("GET /jobs/{jobId}"), REMEMBERED as u64 + 7);
        assert_eq!(log.recent().count(), REMEMBERED);
    }
}
