//! Claims to answer open challenges. The store remembers that an answer is on its way, and nothing of the answer
//! itself.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, JobId, WatchId};

use crate::StoreError;

/// The answers to open challenges, for the API.
#[async_trait]
pub trait AnswerStore: Send + Sync {
    /// Claims the right to answer the open challenge of the job that a client's watch follows. The claim ends at
    /// `until`.
    async fn claim_answer(
        &self,
        owner: ClientId,
        id: WatchId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<AnswerClaim, StoreError>;

    /// Ends a claim.
    async fn end_answer(&self, job_id: &JobId, end: AnswerEnd) -> Result<(), StoreError>;
}

/// The result of a claim to answer a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerClaim {
    /// The caller may answer, and no other caller may until the claim ends.
    Claimed {
        /// The job with the open challenge.
        job_id: JobId,
        /// Basiq's id of the person.
        user_id: String,
    },
    /// The client has no such watch.
    NoSuchWatch,
    /// The job has no open challenge, or the watch has ended.
    NoOpenChallenge,
    /// Another answer to the same challenge is on its way, or was accepted just now.
    Answering,
    /// The job does not say whose it is.
    UserUnknown,
}

/// How a claim to answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerEnd {
    /// The time until which other answers to the same challenge are still refused.
    pub held_until: Option<Timestamp>,
    /// When the job becomes due, if the answer may have changed it. An earlier due time stays.
    pub look_at: Option<Timestamp>,
}
