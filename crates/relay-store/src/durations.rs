//! How long jobs take. The relay learns from each job that settles, and keeps statistics by bank and kind of job.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{BasiqAverages, JobContext, JobEnd, KnownDurations};

use crate::StoreError;

/// Tells the tracker how long jobs of a bank usually take. The store keeps a bounded amount of data, however many
/// banks, kinds of jobs and connections there are.
#[async_trait]
pub trait DurationStore: Send + Sync {
    /// Returns the known durations of jobs with such a context. Uses the statistics of all banks if the bank is
    /// unknown or none of its jobs was seen. In the latter case, what hints announced at other banks does not count.
    async fn durations_of(&self, context: &JobContext) -> Result<DurationsFound, StoreError>;
}

/// The known durations of one kind of job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DurationsFound {
    /// Basiq's id of the bank, from the context or from an earlier job of the same connection.
    pub institution_id: Option<String>,
    /// How long such jobs take.
    pub known: KnownDurations,
    /// When the relay last asked Basiq for its averages.
    pub averages_at: Option<Timestamp>,
}

/// A look's contribution to the statistics of one kind of job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DurationSample {
    /// Basiq's id of the bank, if it is known.
    pub institution_id: Option<String>,
    /// Basiq's id of the connection, if it is known. The store remembers the connection's bank.
    pub connection_id: Option<String>,
    /// Basiq's `jobType`; empty where it is not known.
    pub job_type: String,
    /// How the job ended; none unless it has settled.
    pub end: Option<JobEnd>,
    /// Basiq's averages, if they were fetched just now.
    pub averages: Option<BasiqAverages>,
}
