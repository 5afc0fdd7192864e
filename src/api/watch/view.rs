//! Watches, events and attempts as clients see them.

use jiff::Timestamp;
use relay_domain::{
    Action, Attempt, AttemptError, Client, DeliveryId, DeliveryState, EventBody, EventContext,
    EventId, Metadata, Operation, Status, StepView, WatchId, WatchState,
};
use relay_store::{DeliveryDetails, EventDetails, WatchDetails};
use serde::Serialize;

use crate::api::{ApiParts, stream_url::stream_url};

/// A watch and its events.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Watch)]
pub(crate) struct WatchView {
    /// The watch's id.
    #[schema(value_type = String, example = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q")]
    pub id: WatchId,
    /// Basiq's id of the job.
    #[schema(example = "248b2883")]
    pub job_id: String,
    /// The URL to which events are posted.
    #[schema(format = "uri")]
    pub callback_url: String,
    /// The state of the watch.
    pub state: WatchState,
    /// What started the job, as the client stated.
    #[schema(required = true)]
    pub operation: Option<Operation>,
    /// The title of the step after which the watch succeeds. Null for the whole job.
    #[schema(required = true)]
    pub until: Option<String>,
    /// When the watch was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the state last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When the watch was settled or cancelled. Null while it is open.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub settled_at: Option<Timestamp>,
    /// When the relay polls the job next. Null once the watch has ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_poll_at: Option<Timestamp>,
    /// The job's steps as the relay last saw them.
    pub steps: Vec<StepView>,
    /// The person, connection and bank of the job. Basiq names them in the job, so they are null before the first look.
    pub context: EventContext,
    /// The metadata that the client registered with the watch.
    #[schema(value_type = HashMap<String, Value>)]
    #[cfg_attr(test, serde(deserialize_with = "from_map"))]
    pub metadata: Metadata,
    /// The events, oldest first.
    pub events: Vec<EventView>,
}

/// A watch and the URL of its stream.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchAndStream {
    /// The watch.
    #[serde(flatten)]
    pub watch: WatchView,
    /// The URL of the watch's stream. It works for 15 minutes without the API key. It is absolute if
    /// `RELAY_PUBLIC_URL` is set, and otherwise relative to the relay's address.
    #[schema(
        format = "uri-reference",
        example = "/watch/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q/stream?expires=1795426160&signature=a1FhPrMD9uJfiVmks8z0jFLj7hC-0KAuX42ECrF7rPQ"
    )]
    pub stream_url: String,
}

impl WatchAndStream {
    /// Creates the view of a client's watch, and signs the URL of its stream now.
    pub(super) fn new(parts: &ApiParts, client: &Client, details: WatchDetails) -> Self {
        let watch = WatchView::from(details);
        Self {
            stream_url: stream_url(parts, client, watch.id),
            watch,
        }
    }
}

/// An event and its deliveries.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = WatchEvent)]
pub(crate) struct EventView {
    /// The event, in short.
    #[serde(flatten)]
    pub summary: EventSummary,
    /// The event's deliveries.
    pub deliveries: Vec<DeliveryView>,
}

/// An event, in short.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventSummary {
    /// The event's id, which is also its `webhook-id`.
    #[schema(value_type = String, example = "evt_01KAR2D3CV000G0V4Y8Q2M5T7R")]
    pub id: EventId,
    /// The number of the event within its watch, from 1.
    pub sequence: u32,
    /// The event's type: `job.` and the status.
    #[serde(rename = "type")]
    #[schema(example = "job.failed")]
    pub event_type: String,
    /// The status of the job.
    pub status: Status,
    /// What to do next.
    pub action: Action,
    /// The error code.
    #[schema(required = true)]
    pub error_code: Option<String>,
    /// The title of the first failed step.
    #[schema(required = true)]
    pub failed_step: Option<String>,
    /// Whether this is the last event of the watch.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// A message in plain words for the person whose bank account it is.
    pub user_message: String,
    /// When the relay observed the event.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
}

/// An event on its way to the callback.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery)]
pub(crate) struct DeliveryView {
    /// The delivery's id.
    #[schema(value_type = String, example = "dlv_01KAR2E7M3A1B2C3D4E5F6G7H8")]
    pub id: DeliveryId,
    /// The state of the delivery.
    pub state: DeliveryState,
    /// When the next attempt is due. Null unless the delivery is pending.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<Timestamp>,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One `POST` of a delivery.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Attempt)]
pub(crate) struct AttemptView {
    /// The number of the attempt within its delivery, from 1.
    pub number: u32,
    /// When the attempt began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// The duration of the attempt, in milliseconds.
    pub duration_ms: u64,
    /// The HTTP status of the response. Null if there was no response.
    #[schema(required = true)]
    pub status: Option<u16>,
    /// Why the attempt failed. Null if the event was accepted.
    #[schema(required = true)]
    pub error: Option<AttemptError>,
    /// The exact failure if there was no response, as text for people.
    #[schema(required = true)]
    pub error_detail: Option<String>,
    /// The beginning of the response body.
    #[schema(required = true)]
    pub response: Option<String>,
}

/// The answer to a request for a list: some of the watches, and where the next request continues.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchPage {
    /// The watches, newest first.
    pub items: Vec<WatchView>,
    /// The cursor of the next page. Null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

impl From<WatchDetails> for WatchView {
    fn from(details: WatchDetails) -> Self {
        let WatchDetails {
            watch,
            job,
            next_look_at,
            events,
        } = details;
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
            context: EventContext::of_job(&job.context, watch.subscription_id),
            steps: job.steps,
            metadata: request.options.metadata,
            events: events.into_iter().map(EventView::from).collect(),
        }
    }
}

impl From<EventDetails> for EventView {
    fn from(details: EventDetails) -> Self {
        Self {
            summary: EventSummary::new(details.id, details.body),
            deliveries: vec![details.delivery.into()],
        }
    }
}

impl EventSummary {
    /// Shortens an event's body.
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
    fn from(details: DeliveryDetails) -> Self {
        Self {
            id: details.id,
            state: details.state,
            next_attempt_at: details.next_attempt_at,
            attempts: details
                .attempts
                .into_iter()
                .map(AttemptView::from)
                .collect(),
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

/// Reads the buffered value of a flattened struct.
#[cfg(test)]
fn from_map<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
    use serde::Deserialize;
    let map = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
    serde_json::from_str(&serde_json::Value::from(map).to_string())
        .map_err(serde::de::Error::custom)
}
