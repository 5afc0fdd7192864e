//! Counts the looks and the ends of jobs, by type of job. The tracker counts, and the console reads.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{EndDetection, outcome::closed_words};

closed_words! {
    /// The type of a job in counts. Types that Basiq may add count as one.
    JobKind {
        /// A connection or its refresh, or an uploaded statement.
        Connection => "connection",
        /// A report.
        Report => "report",
        /// Any other type, or none.
        Other => "other",
    }
}

impl JobKind {
    /// Returns the kind for Basiq's `jobType`.
    #[must_use]
    pub fn of(job_type: Option<&str>) -> Self {
        let known = job_type.and_then(Self::from_word);
        known.unwrap_or(Self::Other)
    }
}

/// Counts since the start of the process. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct LookTally(Arc<[KindCounters; JobKind::ALL.len()]>);

#[derive(Debug, Default)]
struct KindCounters {
    looks: AtomicU64,
    ends: AtomicU64,
    announced: AtomicU64,
}

/// The counts of one kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookCounts {
    /// The looks at all such jobs.
    pub looks: u64,
    /// The jobs that ended.
    pub ends: u64,
    /// The jobs whose end a look found because of a hint.
    pub announced: u64,
}

impl LookTally {
    /// Counts one look.
    pub fn count_look(&self, kind: JobKind) {
        if let Some(counters) = self.counters(kind) {
            counters.looks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the end of one job.
    pub fn count_end(&self, kind: JobKind, detection: EndDetection) {
        let Some(counters) = self.counters(kind) else {
            return;
        };
        counters.ends.fetch_add(1, Ordering::Relaxed);
        if matches!(detection, EndDetection::Hint { .. }) {
            counters.announced.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the counts of one kind; none if no such job has ended yet.
    #[must_use]
    pub fn of(&self, kind: JobKind) -> Option<LookCounts> {
        let counters = self.counters(kind)?;
        let counts = LookCounts {
            looks: counters.looks.load(Ordering::Relaxed),
            ends: counters.ends.load(Ordering::Relaxed),
            announced: counters.announced.load(Ordering::Relaxed),
        };
        (counts.ends > 0).then_some(counts)
    }

    fn counters(&self, kind: JobKind) -> Option<&KindCounters> {
        let index = JobKind::ALL.iter().position(|known| *known == kind)?;
        self.0.get(index)
    }
}

impl LookCounts {
    /// Returns the number of looks for each job that ended.
    #[must_use]
    pub fn looks_a_job(&self) -> f64 {
        float(self.looks) / float(self.ends.max(1))
    }

    /// Returns the share of ends that Basiq announced, from 0 to 1.
    #[must_use]
    pub fn announced_share(&self) -> f64 {
        float(self.announced) / float(self.ends.max(1))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn looks_and_ends_are_counted_by_kind() {
        let tally = LookTally::default();
        let shared = tally.clone();
        let connection = JobKind::of(Some("connection"));
        for _ in 0..9 {
            shared.count_look(connection);
        }
        assert_eq!(tally.of(connection), None);
        let late = Duration::from_secs(2);
        let found = EndDetection::Look {
            unannounced_for: late,
        };
        let hint = EndDetection::Hint {
            after: Duration::ZERO,
        };
        for detection in [hint, found, hint] {
            shared.count_end(connection, detection);
        }
        let counts = tally.of(connection).unwrap();
        assert!((counts.looks_a_job() - 3.0).abs() < 1e-9);
        assert!((counts.announced_share() - 2.0 / 3.0).abs() < 1e-9);
        for other in [None, Some("payment")] {
            assert_eq!(JobKind::of(other), JobKind::Other);
        }
        assert_eq!(tally.of(JobKind::Other), None);
    }
}
