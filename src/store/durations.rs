//! How long jobs take: learned from each that settles, kept for each bank and kind of job.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    domain::{BasiqAverages, JobContext, KnownDurations, StageDuration},
    store::StoreError,
};

/// How long jobs take: for the tracker. What is kept is bounded, however many banks, kinds of jobs and
/// connections there are.
#[async_trait]
pub trait DurationStore: Send + Sync {
    /// What is known of jobs like one with this context. Where its bank is not known, or no job of it
    /// was seen, what is known of all banks.
    async fn durations_of(&self, context: &JobContext) -> Result<DurationsFound, StoreError>;
}

/// What is known of a kind of jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DurationsFound {
    /// The bank: as the context tells, or an earlier job of its connection told.
    pub institution_id: Option<String>,
    /// How long they take.
    pub known: KnownDurations,
    /// When Basiq was asked for its averages.
    pub averages_at: Option<Timestamp>,
}

/// What a look teaches about jobs of one kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DurationSample {
    /// Basiq's id of the bank, if it is known.
    pub institution_id: Option<String>,
    /// Basiq's id of the connection, if it is known: its bank is remembered.
    pub connection_id: Option<String>,
    /// Basiq's `jobType`; empty where it is not known.
    pub job_type: String,
    /// How long the job took, from each stage it was seen in; nothing unless it has settled.
    pub stages: Vec<StageDuration>,
    /// What Basiq says, if it was asked just now.
    pub averages: Option<BasiqAverages>,
}
