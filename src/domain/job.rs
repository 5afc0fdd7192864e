//! A Basiq job as the relay understands it, and what the relay remembers of it between looks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::StageSeen;

/// A job document, read tolerantly: what was odd is coerced, what was unknown is kept as text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobSnapshot {
    /// The steps in Basiq's order; empty until Basiq lists them.
    pub steps: Vec<Step>,
    /// The top-level `status`, usually absent; a tie-breaker only.
    pub status: Option<StepStatus>,
    /// When Basiq made the job.
    pub created: Option<Timestamp>,
    /// When Basiq last changed the job.
    pub updated: Option<Timestamp>,
    /// Ids parsed from the job and its links.
    pub context: JobContext,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Basiq's title, such as `verify-credentials`; an open set.
    pub title: String,
    /// How far it is.
    pub status: StepStatus,
    /// What is told of its failure, for a failed step that tells anything.
    pub failure: Option<StepFailure>,
    /// The challenge in its result, open or not.
    pub challenge: Option<Challenge>,
    /// The `url` in its result.
    pub url: Option<String>,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Begun.
    InProgress,
    /// Done.
    Success,
    /// Failed.
    Failed,
    /// Not needed.
    Skipped,
    /// A word nobody knows: taken as still running.
    Unknown(String),
}

impl StepStatus {
    /// The status as Basiq writes it.
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

    /// Whether the step needs nothing more: done, or not needed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Success | Self::Skipped)
    }
}

/// What Basiq tells of a failed step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepFailure {
    /// The category, as Basiq wrote it.
    pub code: Option<String>,
    /// A short text.
    pub title: Option<String>,
    /// The bank's own text.
    pub detail: Option<String>,
}

/// A question the bank asks the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// `token`, `security-questions` or a word nobody knows yet.
    pub method: String,
    /// The bank's text; may hold a masked phone number, so it is never logged.
    pub description: String,
    /// One prompt for each answer that is wanted, in order.
    pub inputs: Vec<String>,
    /// How long Basiq says the person has, in milliseconds.
    pub expiry_ms: Option<u64>,
    /// Where the answer goes, as Basiq linked it: absolute or relative.
    pub respond_to: Option<String>,
}

impl Challenge {
    /// Whether `other` asks the same: method, description and inputs tell challenges apart.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.method == other.method
            && self.description == other.description
            && self.inputs == other.inputs
    }
}

/// What a job tells of whose it is: ids parsed from all its links.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobContext {
    /// `connection`, `report` or nothing.
    #[schema(required = true)]
    pub job_type: Option<String>,
    /// Basiq's id of the person.
    #[schema(required = true)]
    pub user_id: Option<String>,
    /// Basiq's id of the connection.
    #[schema(required = true)]
    pub connection_id: Option<String>,
    /// Basiq's id of the bank, such as `AU00000`.
    #[schema(required = true)]
    pub institution_id: Option<String>,
}

/// A bank, by the connector that reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bank {
    /// Basiq's id of the bank, such as `AU00000`.
    pub institution_id: String,
    /// How it is connected, such as `web`.
    pub method: String,
}

/// A step as clients of the relay see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepView {
    /// Basiq's title.
    #[schema(example = "verify-credentials")]
    pub title: String,
    /// Basiq's status.
    #[schema(example = "in-progress")]
    pub status: String,
}

/// What the relay remembers of a job between looks; kept in the store, never only in memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobMemory {
    /// When the relay first looked.
    pub first_look_at: Option<Timestamp>,
    /// When Basiq made the job, as it told.
    pub created: Option<Timestamp>,
    /// The steps as last seen.
    pub steps: Vec<StepView>,
    /// When the steps were last seen to change.
    pub changed_at: Option<Timestamp>,
    /// When the last look brought a document.
    pub seen_at: Option<Timestamp>,
    /// The stages it was seen in, oldest first, as far as what it takes from there on says something
    /// about others: not if it waited for a person or was tried again.
    pub stages: Vec<StageSeen>,
    /// Whose job it is, as last seen.
    pub context: JobContext,
    /// The challenges seen.
    pub challenges: ChallengeMemory,
    /// Looks in a row that brought no usable answer.
    pub errors_in_a_row: u32,
    /// Since when Basiq says the job does not exist.
    pub missing_since: Option<Timestamp>,
    /// Since when Basiq says the job is not ours.
    pub forbidden_since: Option<Timestamp>,
    /// What the relay is waiting for.
    pub phase: Phase,
}

/// The challenges of a job, counted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChallengeMemory {
    /// How many distinct challenges were seen.
    pub count: u32,
    /// The one that is open now.
    pub open: Option<OpenChallenge>,
}

/// A challenge that waits for its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenChallenge {
    /// What is asked.
    pub challenge: Challenge,
    /// When the relay first saw it; its time limit counts from here.
    pub first_seen_at: Timestamp,
}

/// What the relay is waiting for before a job can change.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Phase {
    /// The job itself.
    #[default]
    Running,
    /// Basiq's queue of updates: tried again at intervals until it works or the job is too old.
    RetryQueue {
        /// When the retry that is waited for is due.
        next_retry_at: Timestamp,
        /// Looks since then.
        looks: u32,
    },
    /// A bank that is down for everybody.
    Outage {
        /// The bank.
        bank: Bank,
        /// The code the job failed with, told again when the outage outlives the watch.
        error_code: String,
    },
}
