//! Watches, events and attempts as clients see them.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    api::{ApiParts, stream::stream_url},
    domain::{
        Action, Attempt, AttemptError, Client, DeliveryId, DeliveryState, EventBody, EventId,
        Metadata, Operation, Status, StepView, WatchId, WatchState,
    },
    store::{DeliveryDetails, EventDetails, WatchDetails},
};

/// A watch and all that happened to it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Watch)]
pub(crate) struct WatchView {
    /// Names the watch.
    #[schema(value_type = String, example = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q")]
    pub id: WatchId,
    /// Basiq's id of the job.
    #[schema(example = "248b2883")]
    pub job_id: String,
    /// Where it is told.
    #[schema(format = "uri")]
    pub callback_url: String,
    /// Where it stands.
    pub state: WatchState,
    /// What started the job, as the client said.
    #[schema(required = true)]
    pub operation: Option<Operation>,
    /// The step that is enough.
    #[schema(required = true)]
    pub until: Option<String>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its state last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When the last word was told, or the watch cancelled.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub settled_at: Option<Timestamp>,
    /// When the job is looked at next; null once the watch ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_poll_at: Option<Timestamp>,
    /// The job's steps as last seen.
    pub steps: Vec<StepView>,
    /// What the client registered with the watch.
    #[schema(value_type = HashMap<String, Value>)]
    #[cfg_attr(test, serde(deserialize_with = "from_map"))]
    pub metadata: Metadata,
    /// What was told, oldest first.
    pub events: Vec<EventView>,
}

/// A watch and where it can be followed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = WatchAndStream)]
pub(crate) struct StreamedWatch {
    /// The watch.
    #[serde(flatten)]
    pub watch: WatchView,
    /// Where the watch can be streamed without the key, for 15 minutes. Absolute where `RELAY_PUBLIC_URL` is
    /// set, and else to be resolved against the relay's address.
    #[schema(
        format = "uri-reference",
        example = "/watch/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q/stream?expires=1795426160&signature=a1FhPrMD9uJfiVmks8z0jFLj7hC-0KAuX42ECrF7rPQ"
    )]
    pub stream_url: String,
}

impl StreamedWatch {
    /// A client's watch, with an address that is signed now.
    pub(super) fn new(parts: &ApiParts, client: &Client, story: WatchDetails) -> Self {
        let watch = WatchView::from(story);
        Self {
            stream_url: stream_url(parts, client, watch.id),
            watch,
        }
    }
}

/// An event and how it was delivered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = WatchEvent)]
pub(crate) struct EventView {
    /// What was told.
    #[serde(flatten)]
    pub summary: EventSummary,
    /// Its deliveries.
    pub deliveries: Vec<DeliveryView>,
}

/// What an event told, in short.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventSummary {
    /// Names the event; its `webhook-id`.
    #[schema(value_type = String, example = "evt_01KAR2D3CV000G0V4Y8Q2M5T7R")]
    pub id: EventId,
    /// Counts the watch's events from 1.
    pub sequence: u32,
    /// `job.` and the status.
    #[serde(rename = "type")]
    #[schema(example = "job.failed")]
    pub event_type: String,
    /// What became of the job.
    pub status: Status,
    /// What to do next.
    pub action: Action,
    /// The error code.
    #[schema(required = true)]
    pub error_code: Option<String>,
    /// Title of the first failed step.
    #[schema(required = true)]
    pub failed_step: Option<String>,
    /// Whether it is the watch's last event.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Plain words for the person whose bank it is.
    pub user_message: String,
    /// When the relay saw it.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
}

/// An event on its way to the callback.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery)]
pub(crate) struct DeliveryView {
    /// Names the delivery.
    #[schema(value_type = String, example = "dlv_01KAR2E7M3A1B2C3D4E5F6G7H8")]
    pub id: DeliveryId,
    /// Where it stands.
    pub state: DeliveryState,
    /// When it is tried next, while it is pending.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<Timestamp>,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One `POST` of a delivery.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Attempt)]
pub(crate) struct AttemptView {
    /// Counts the delivery's attempts from 1.
    pub number: u32,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The HTTP status, if there was one.
    #[schema(required = true)]
    pub status: Option<u16>,
    /// Why it failed; null if it was accepted.
    #[schema(required = true)]
    pub error: Option<AttemptError>,
    /// What exactly failed where there was no answer, for a person to read.
    #[schema(required = true)]
    pub error_detail: Option<String>,
    /// The beginning of the answer.
    #[schema(required = true)]
    pub response: Option<String>,
}

/// A page of watches.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchPage {
    /// The newest first.
    pub items: Vec<WatchView>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

impl From<WatchDetails> for WatchView {
    fn from(story: WatchDetails) -> Self {
        let WatchDetails {
            watch,
            job,
            next_look_at,
            events,
        } = story;
        let request = watch.request;
        Self {
            id: watch.id,
            job_id: request.job_id.to_string(),
            callback_url: request.callback_url.to_string(),
            state: watch.state,
            operation: request.options.operation,
            until: request.options.until,
            created_at: watch.created_at,
            updated_at: watch.updated_at,
            settled_at: watch.settled_at,
            next_poll_at: next_look_at.filter(|_| watch.state.is_open()),
            steps: job.steps,
            metadata: request.options.metadata,
            events: events.into_iter().map(EventView::from).collect(),
        }
    }
}

impl From<EventDetails> for EventView {
    fn from(story: EventDetails) -> Self {
        Self {
            summary: EventSummary::new(story.id, story.body),
            deliveries: vec![story.delivery.into()],
        }
    }
}

impl EventSummary {
    /// The short form of an event's body.
    pub(crate) fn new(id: EventId, body: EventBody) -> Self {
        Self {
            id,
            sequence: body.sequence,
            event_type: body.event_type,
            status: body.status,
            action: body.action,
            error_code: body.error_code,
            failed_step: body.failed_step,
            is_final: body.is_final,
            user_message: body.user_message,
            timestamp: body.timestamp,
        }
    }
}

impl From<DeliveryDetails> for DeliveryView {
    fn from(story: DeliveryDetails) -> Self {
        Self {
            id: story.id,
            state: story.state,
            next_attempt_at: story.next_attempt_at,
            attempts: story.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            started_at: attempt.started_at,
            duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            status: attempt.status,
            error: attempt.error,
            error_detail: attempt.error_detail,
            response: attempt.response,
        }
    }
}

/// Reads what a flattened struct has buffered.
#[cfg(test)]
fn from_map<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
    use serde::Deserialize;
    let map = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
    serde_json::from_str(&serde_json::Value::from(map).to_string())
        .map_err(serde::de::Error::custom)
}
