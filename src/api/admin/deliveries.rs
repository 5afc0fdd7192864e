//! `/admin/deliveries`: the deliveries of all clients, and how to put dead ones back into the queue.

use axum::{Json, extract::State};
use http::StatusCode;
use jiff::Timestamp;
use relay_domain::{DeliveryId, DeliveryState, Requester, SubscriptionId, WatchId};
use relay_store::{DeliveryContent, DeliveryEntry, MessageSummary};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiState,
        admin::{Names, TAG},
        cursor::page,
        deliveries::{mark, take_query},
        examples,
        redeliver::{Queued, RedeliverRequest, RedeliveryView, queue_dead, queue_one},
        watch::view::{AttemptView, DeliveryView, EventSummary},
    },
    web::{JsonObject, Operator, PathId, Problem, QueryParams},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list_all_deliveries))
        .routes(routes!(redeliver_all_dead))
        .routes(routes!(redeliver_any_delivery))
}

/// A delivery and the name of its client, or a message of Basiq's that the relay passes on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdminDelivery {
    /// The client's name. Null for a message of Basiq's.
    #[schema(example = "app", required = true)]
    pub client: Option<String>,
    /// The delivery's id.
    #[schema(value_type = String, example = "dlv_01KAR2E7M3A1B2C3D4E5F6G7H8")]
    pub id: DeliveryId,
    /// The state of the delivery.
    pub state: DeliveryState,
    /// When the state last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When the next attempt is due. Null unless the delivery is pending.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<Timestamp>,
    /// The id of the watch. Null for a notice or a message.
    #[schema(value_type = Option<String>, required = true)]
    pub watch_id: Option<WatchId>,
    /// Basiq's id of the job. Null for a notice or a message.
    #[schema(required = true)]
    pub job_id: Option<String>,
    /// The id of the subscription. Null unless a subscription found the job, or the event is its notice.
    #[schema(value_type = Option<String>, required = true)]
    pub subscription_id: Option<SubscriptionId>,
    /// The URL to which the event or the message is posted.
    #[schema(format = "uri")]
    pub callback_url: String,
    /// The event, in short. Null for a message.
    #[schema(required = true)]
    pub event: Option<EventSummary>,
    /// The message of Basiq's. Null for an event.
    #[schema(required = true)]
    pub message: Option<MessageView>,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// A message of Basiq's that the relay passes on, in short.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = ForwardedMessage)]
pub(crate) struct MessageView {
    /// Basiq's id of the message, which is its `webhook-id`.
    #[schema(example = "5c9a1f0e")]
    pub message_id: String,
    /// The type of Basiq's event. Empty if the message has none.
    #[schema(example = "transactions.updated")]
    pub event_type: String,
}

impl From<MessageSummary> for MessageView {
    fn from(message: MessageSummary) -> Self {
        Self {
            message_id: message.message_id,
            event_type: message.event_type,
        }
    }
}

impl AdminDelivery {
    fn new(entry: DeliveryEntry, names: &Names) -> Self {
        let delivery = DeliveryView::from(entry.delivery);
        let (body, message) = match entry.content {
            DeliveryContent::Event(body) => (Some(*body), None),
            DeliveryContent::Message(message) => (None, Some(message)),
        };
        let context = body.as_ref().map(|body| &body.context);
        Self {
            client: entry.client_id.map(|id| names.of(id)),
            id: delivery.id,
            state: delivery.state,
            updated_at: entry.updated_at,
            next_attempt_at: delivery.next_attempt_at,
            watch_id: body.as_ref().and_then(|body| body.watch_id),
            job_id: body.as_ref().and_then(|body| body.job_id.clone()),
            subscription_id: context.and_then(|context| context.subscription_id),
            callback_url: entry.callback_url.to_string(),
            event: body.map(|body| EventSummary::new(entry.event_id, body)),
            message: message.map(MessageView::from),
            attempts: delivery.attempts,
        }
    }
}

/// A page of deliveries of all clients.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdminDeliveryPage {
    /// The deliveries. The one that changed last comes first.
    pub items: Vec<AdminDelivery>,
    /// The cursor of the next page. Null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// List deliveries of all clients
///
/// Lists the deliveries in one state. The one that changed last comes first. The relay has given up the deliveries
/// in the state `dead`.
#[utoipa::path(
    get,
    path = "/admin/deliveries",
    operation_id = "listAllDeliveries",
    tag = TAG,
    params(
        ("state" = Option<DeliveryState>, Query, description = "Only deliveries in this state; `dead` by default", example = json!("dead")),
        ("limit" = Option<u16>, Query, description = "Maximum number of entries on a page; 50 by default", minimum = 1, maximum = 200, example = json!(20)),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page",
            min_length = 1, pattern = "^[A-Za-z0-9_-]+$", example = json!(examples::DELIVERY_CURSOR)),
    ),
    responses((status = 200, description = "A page of deliveries", body = AdminDeliveryPage,
        example = json!(examples::admin_delivery_page()))),
    security(("adminToken" = [])),
)]
async fn list_all_deliveries(
    State(state): State<ApiState>,
    _: Operator,
    params: QueryParams,
) -> Result<Json<AdminDeliveryPage>, Problem> {
    let (query, limit) = take_query(None, params)?;
    let store = &*state.parts.store;
    let entries = store.list_deliveries(&query).await?;
    let (entries, next_cursor) = page(entries, limit, mark);
    let names = Names::read(store).await?;
    let described = |entry| AdminDelivery::new(entry, &names);
    Ok(Json(AdminDeliveryPage {
        items: entries.into_iter().map(described).collect(),
        next_cursor,
    }))
}

/// Queue dead deliveries of all clients again
///
/// Queues all deliveries that became dead since the given time: the latest event of each watch, notices, and messages
/// of Basiq's. Deliveries of cancelled watches and of revoked clients stay as they are.
#[utoipa::path(
    post,
    path = "/admin/deliveries/redeliver",
    operation_id = "redeliverAllDead",
    tag = TAG,
    request_body(content = RedeliverRequest, description = "The dead deliveries to queue again",
        example = json!(examples::redeliver_request())),
    responses((status = 202, description = "The deliveries are queued", body = Queued,
        example = json!(examples::queued()))),
    security(("adminToken" = [])),
)]
async fn redeliver_all_dead(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    let queued = queue_dead(&state.parts, &Requester::Operator(actor), body).await?;
    Ok((StatusCode::ACCEPTED, Json(queued)))
}

/// Deliver any client's delivery once more
///
/// Does the same as the client's own call: queues a new attempt with the same `webhook-id`. An older event of a
/// watch is never delivered after a newer one.
#[utoipa::path(
    post,
    path = "/admin/deliveries/{deliveryId}/redeliver",
    operation_id = "redeliverAnyDelivery",
    tag = TAG,
    params(("deliveryId" = String, Path, description = "The delivery", example = json!(examples::DELIVERY_ID))),
    responses((status = 202, description = "The event is queued", body = RedeliveryView,
        example = json!(examples::redelivery()))),
    security(("adminToken" = [])),
)]
async fn redeliver_any_delivery(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    PathId(id): PathId<DeliveryId>,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    queue_one(&state.parts, &Requester::Operator(actor), id).await
}
