//! An event: one report about a watch, or a notice, with the exact body that is signed and posted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{Object, ObjectBuilder, schema::Type};

use crate::{
    Action, EventId, JobContext, JobId, Metadata, NoticeKind, Status, SubscriptionId, WatchId,
};

/// What an event reports on. The events of one source are delivered one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventSource {
    /// A watch and its job.
    Watch {
        /// The watch.
        watch_id: WatchId,
        /// Basiq's job.
        job_id: JobId,
    },
    /// A subscription: the event is a notice.
    Subscription(SubscriptionId),
    /// A message of Basiq's that is passed on unchanged. It is a source of its own.
    BasiqMessage,
}

impl EventSource {
    /// Returns the watch, if the event reports on one.
    #[must_use]
    pub fn watch_id(&self) -> Option<WatchId> {
        match self {
            Self::Watch { watch_id, .. } => Some(*watch_id),
            Self::Subscription(_) | Self::BasiqMessage => None,
        }
    }

    /// Returns the job of the watch.
    #[must_use]
    pub fn job_id(&self) -> Option<&JobId> {
        match self {
            Self::Watch { job_id, .. } => Some(job_id),
            Self::Subscription(_) | Self::BasiqMessage => None,
        }
    }

    /// Returns the subscription, if the event is a notice.
    #[must_use]
    pub fn subscription_id(&self) -> Option<SubscriptionId> {
        match self {
            Self::Subscription(id) => Some(*id),
            Self::Watch { .. } | Self::BasiqMessage => None,
        }
    }
}

/// A change that a client is told of: the body to post, and until when to try.
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
    /// `job.` and the status, or `notice.` and the error code.
    #[serde(rename = "type")]
    #[schema(schema_with = type_schema)]
    pub event_type: String,
    /// When the relay saw the change, as RFC 3339 in UTC.
    #[schema(value_type = String, format = DateTime, example = "2026-11-23T09:14:28Z")]
    pub timestamp: Timestamp,
    /// Counts a watch's events, or a subscription's notices, from 1.
    #[schema(example = 1)]
    pub sequence: u32,
    /// Whether this is the last event of the watch or the subscription.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The id of the watch. Null in a notice.
    #[schema(value_type = Option<String>, example = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q", required = true)]
    pub watch_id: Option<WatchId>,
    /// The id of Basiq's job. Null in a notice.
    #[schema(example = "248b2883", required = true)]
    pub job_id: Option<String>,
    /// The result of the job, or what the notice asks for.
    pub status: Status,
    /// The title of the first failed step.
    #[schema(example = "verify-credentials", required = true)]
    pub failed_step: Option<String>,
    /// Basiq's code, at most 128 characters, or one of the relay's own.
    #[schema(example = "invalid-credentials", required = true)]
    pub error_code: Option<String>,
    /// A message in plain words for the person, in the watch's locale.
    pub user_message: String,
    /// What to do next.
    pub action: Action,
    /// When a retry is likely to work.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub retry_at: Option<Timestamp>,
    /// The bank's own text, for developers. It has at most 1,000 characters.
    #[schema(required = true)]
    pub detail: Option<String>,
    /// The open challenge, for `answer-mfa`.
    #[schema(required = true)]
    pub challenge: Option<EventChallenge>,
    /// The person, connection and bank of the job or the notice.
    pub context: EventContext,
    /// The `url` of each successful step, at Basiq.
    pub resources: Vec<String>,
    /// The metadata of the watch or the subscription.
    #[schema(value_type = HashMap<String, Value>)]
    pub metadata: Metadata,
}

/// The person, connection and bank of a watch or an event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventContext {
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
    /// The subscription that found the job, or whose notice this is. Null if a client registered the watch itself.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "sub_01KAR2D3CV9Z8X7W6V5T4S3R2Q", required = true)]
    pub subscription_id: Option<SubscriptionId>,
}

impl EventContext {
    /// Describes whose job it is, and the subscription that found the job.
    #[must_use]
    pub fn of_job(job: &JobContext, subscription_id: Option<SubscriptionId>) -> Self {
        let job = job.clone();
        Self {
            job_type: job.job_type,
            user_id: job.user_id,
            connection_id: job.connection_id,
            institution_id: job.institution_id,
            subscription_id,
        }
    }
}

/// An open challenge, as events contain it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventChallenge {
    /// `token`, `security-questions` or another word of Basiq's.
    #[schema(example = "token")]
    pub method: String,
    /// The bank's text for the person.
    pub description: String,
    /// One prompt for each answer, in order.
    pub inputs: Vec<String>,
    /// The time by which Basiq must have the person's answer.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Where to post the answer, at Basiq. The relay's `POST /watch/{watchId}/mfa` passes it on for
    /// those who have no access to Basiq.
    #[schema(example = "https://au-api.basiq.io/jobs/248b2883/mfa")]
    pub respond_to: String,
}

/// Returns the schema of `type`, a closed list.
fn type_schema() -> Object {
    let jobs = Status::ALL.iter().map(|status| format!("job.{status}"));
    let notices = NoticeKind::ALL.iter().map(|kind| kind.event_type());
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "`job.` and the status, or `notice.` and the error code.",
        ))
        .enum_values(Some(jobs.chain(notices)))
        .examples(["job.failed"])
        .build()
}

impl Event {
    /// Returns the exact text that is stored, signed and posted.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.body)
    }
}
