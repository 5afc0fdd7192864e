//! An event: one report about a watch, with the exact body that is signed and posted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{Object, ObjectBuilder, schema::Type};

use crate::{Action, EventId, JobContext, Metadata, Status, WatchId};

/// An event as the store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The id of the event, which is its `webhook-id`.
    pub id: EventId,
    /// The body that is posted.
    pub body: EventBody,
    /// When the event expires: there are no attempts after this time. None for events that do not expire.
    pub deadline: Option<Timestamp>,
}

/// The body of an event. Every key is always there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventBody {
    /// `job.` and the status.
    #[serde(rename = "type")]
    #[schema(schema_with = type_schema)]
    pub event_type: String,
    /// When the relay saw it, RFC 3339 in UTC.
    #[schema(value_type = String, format = DateTime, example = "2026-11-23T09:14:28Z")]
    pub timestamp: Timestamp,
    /// Counts a watch's events from 1.
    #[schema(example = 1)]
    pub sequence: u32,
    /// Whether this is the watch's last event.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The watch.
    #[schema(value_type = String, example = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q")]
    pub watch_id: WatchId,
    /// Basiq's job.
    #[schema(example = "248b2883")]
    pub job_id: String,
    /// What became of the job.
    pub status: Status,
    /// Title of the first failed step.
    #[schema(example = "verify-credentials", required = true)]
    pub failed_step: Option<String>,
    /// Basiq's code, at most 128 characters, or one of the relay's own.
    #[schema(example = "invalid-credentials", required = true)]
    pub error_code: Option<String>,
    /// Plain words for the person whose bank it is, in the watch's locale.
    pub user_message: String,
    /// What to do next.
    pub action: Action,
    /// When a retry is worth it.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub retry_at: Option<Timestamp>,
    /// What the bank said, for developers; at most 1,000 characters.
    #[schema(required = true)]
    pub detail: Option<String>,
    /// The open challenge, for `answer-mfa`.
    #[schema(required = true)]
    pub challenge: Option<EventChallenge>,
    /// Whose job it is.
    pub context: JobContext,
    /// The `url`s of successful steps.
    pub resources: Vec<String>,
    /// What the watch was registered with.
    #[schema(value_type = HashMap<String, Value>)]
    pub metadata: Metadata,
}

/// An open challenge as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventChallenge {
    /// `token`, `security-questions` or another word of Basiq's.
    #[schema(example = "token")]
    pub method: String,
    /// The bank's text for the person.
    pub description: String,
    /// One prompt for each answer that is wanted, in order.
    pub inputs: Vec<String>,
    /// The person's answer must have arrived by then.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Where to post the answer, at Basiq. The relay's `POST /watch/{watchId}/mfa` passes it on for
    /// those who have no access to Basiq.
    #[schema(example = "https://au-api.basiq.io/jobs/248b2883/mfa")]
    pub respond_to: String,
}

/// Returns the schema of `type`, a closed list.
fn type_schema() -> Object {
    let words = Status::ALL.iter().map(|status| format!("job.{status}"));
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("`job.` and the status."))
        .enum_values(Some(words))
        .examples(["job.failed"])
        .build()
}

impl Event {
    /// Returns the exact text that is stored, signed and posted.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.body)
    }
}
