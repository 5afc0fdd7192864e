//! Answers to open challenges: that one is on its way is remembered, and nothing else of it.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    domain::{ClientId, JobId, WatchId},
    store::StoreError,
};

/// Answers to open challenges: for the API.
#[async_trait]
pub trait AnswerStore: Send + Sync {
    /// Claims the right to answer the challenge that the job of a client's watch has open. The claim
    /// is over at the second of the times.
    async fn claim_answer(
        &self,
        owner: ClientId,
        id: WatchId,
        times: (Timestamp, Timestamp),
    ) -> Result<AnswerClaim, StoreError>;

    /// Ends a claim.
    async fn end_answer(&self, job_id: &JobId, end: AnswerEnd) -> Result<(), StoreError>;
}

/// What asking for the right to answer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerClaim {
    /// The caller may answer, and nobody else meanwhile.
    Claimed {
        /// The job that asks.
        job_id: JobId,
        /// Basiq's id of the person.
        user_id: String,
    },
    /// The client has no such watch.
    NoSuchWatch,
    /// The job asks nothing, or the watch has ended.
    NoOpenChallenge,
    /// Another answer to the same challenge is on its way, or was accepted just now.
    Answering,
    /// The job does not tell whose it is.
    UserUnknown,
}

/// How a claim to answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerEnd {
    /// Until when other answers to the same challenge are held off all the same.
    pub held_until: Option<Timestamp>,
    /// When the job is due, if the answer may have changed it; never later than it was.
    pub look_at: Option<Timestamp>,
}
