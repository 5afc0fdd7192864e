//! A Basiq job as the relay understands it, and the relay's memory of it between looks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::StageSeen;

/// A job document, read tolerantly. Unusual values are converted; unknown values are kept as text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobSnapshot {
    /// The steps in Basiq's order; empty until Basiq lists them.
    pub steps: Vec<Step>,
    /// The top-level `status`, which is usually absent. The relay trusts `failed`; `success` counts only without steps.
    pub status: Option<StepStatus>,
    /// When Basiq created the job.
    pub created: Option<Timestamp>,
    /// When Basiq last changed the job.
    pub updated: Option<Timestamp>,
    /// Ids parsed from the job and its links.
    pub context: JobContext,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Basiq's title, such as `verify-credentials`. The set of titles is open.
    pub title: String,
    /// The progress of the step.
    pub status: StepStatus,
    /// Why the step failed, if it failed and Basiq gives details.
    pub failure: Option<StepFailure>,
    /// The challenge in the step's result, open or not.
    pub challenge: Option<Challenge>,
    /// The `url` in the step's result.
    pub url: Option<String>,
}

/// The progress of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepStatus {
    /// The step has not begun.
    Pending,
    /// The step has begun.
    InProgress,
    /// The step succeeded.
    Success,
    /// The step failed.
    Failed,
    /// The step was not needed.
    Skipped,
    /// A status that the relay does not know. The relay treats the step as still running.
    Unknown(String),
}

impl StepStatus {
    /// Returns the status as Basiq writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in-progress",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Unknown(word) => word,
        }
    }

    /// Returns whether the step needs nothing more: it succeeded or was not needed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Success | Self::Skipped)
    }
}

/// Basiq's details of a failed step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepFailure {
    /// The category, as Basiq wrote it.
    pub code: Option<String>,
    /// A short description.
    pub title: Option<String>,
    /// The bank's own text.
    pub detail: Option<String>,
}

/// A question the bank asks the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// `token`, `security-questions`, or a method that the relay does not know.
    pub method: String,
    /// The bank's text. It may contain a masked phone number, so it is never logged.
    pub description: String,
    /// One prompt for each expected answer, in order.
    pub inputs: Vec<String>,
    /// The person's time to answer, in milliseconds, as Basiq states it.
    pub expiry_ms: Option<u64>,
    /// The link for the answer as Basiq wrote it, absolute or relative.
    pub respond_to: Option<String>,
}

impl Challenge {
    /// Returns whether `other` is the same challenge. Challenges are compared by method, description and inputs.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.method == other.method
            && self.description == other.description
            && self.inputs == other.inputs
    }
}

/// The owner of a job, as far as it says: ids parsed from all its links.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobContext {
    /// `connection`, `report` or nothing.
    pub job_type: Option<String>,
    /// Basiq's id of the person.
    pub user_id: Option<String>,
    /// Basiq's id of the connection.
    pub connection_id: Option<String>,
    /// Basiq's id of the bank, such as `AU00000`.
    pub institution_id: Option<String>,
}

/// A bank and the connector that reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bank {
    /// Basiq's id of the bank, such as `AU00000`.
    pub institution_id: String,
    /// The method of the connection, such as `web`.
    pub method: String,
}

/// A step of a job, as the latest look saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepView {
    /// Basiq's title.
    #[schema(example = "verify-credentials")]
    pub title: String,
    /// Basiq's status.
    #[schema(example = "in-progress")]
    pub status: String,
}

/// The relay's memory of a job between looks. It is kept in the store, never only in memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobMemory {
    /// When the relay first looked at the job.
    pub first_look_at: Option<Timestamp>,
    /// When Basiq created the job, as Basiq states it.
    pub created: Option<Timestamp>,
    /// The steps at the latest look.
    pub steps: Vec<StepView>,
    /// When the relay last saw the steps change.
    pub changed_at: Option<Timestamp>,
    /// When the latest look that got a document was made.
    pub seen_at: Option<Timestamp>,
    /// The stages in which the relay saw the job, oldest first. Only stages that help to estimate other jobs are
    /// kept: none if the job waited for a person or was retried.
    pub stages: Vec<StageSeen>,
    /// When the next look would be due without hints; none if that is no earlier. The store makes the look due then
    /// if somebody follows the job.
    pub look_without_hints_at: Option<Timestamp>,
    /// Whose job it is, at the latest look.
    pub context: JobContext,
    /// The challenges that the relay has seen.
    pub challenges: ChallengeMemory,
    /// The number of looks in a row that got no usable response.
    pub errors_in_a_row: u32,
    /// The time since which Basiq says that the job does not exist.
    pub missing_since: Option<Timestamp>,
    /// The time since which Basiq says that the job is not ours.
    pub forbidden_since: Option<Timestamp>,
    /// What the relay waits for.
    pub phase: Phase,
}

/// The number of a job's challenges, and the open one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChallengeMemory {
    /// How many distinct challenges the relay has seen.
    pub count: u32,
    /// The challenge that is open now.
    pub open: Option<OpenChallenge>,
}

/// A challenge that waits for its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenChallenge {
    /// The challenge.
    pub challenge: Challenge,
    /// When the relay first saw the challenge. Its time limit starts then.
    pub first_seen_at: Timestamp,
}

/// What the relay waits for before a job can change.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Phase {
    /// The job itself.
    #[default]
    Running,
    /// Basiq's queue of updates. Basiq retries at intervals, until the update succeeds or the job is too old.
    RetryQueue {
        /// When the expected retry is due.
        next_retry_at: Timestamp,
        /// The number of looks since that time.
        looks: u32,
    },
    /// A bank that is down for everybody.
    Outage {
        /// The bank.
        bank: Bank,
        /// The error code of the failed job. The relay reports it again if the outage outlasts the watch.
        error_code: String,
    },
}
