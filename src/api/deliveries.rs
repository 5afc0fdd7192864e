//! Lists deliveries, and puts dead ones back into the queue.

use std::{fmt, str::FromStr};

use axum::{Json, extract::State};
use http::StatusCode;
use jiff::Timestamp;
use relay_domain::{ClientId, DeliveryId, DeliveryState, EventId, WatchId};
use relay_store::{DeliveryEntry, DeliveryQuery, Redelivery};
use serde::Serialize;
use tracing::info;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiParts, ApiState,
        cursor::{page, take_cursor, take_limit},
        examples,
        watch::{
            NO_SUCH_WATCH,
            view::{AttemptView, DeliveryView, EventSummary},
        },
    },
    web::{
        AuthenticatedClient, BodyFields, JsonObject, PathId, Problem, ProblemCode, QueryParams,
        RawObject,
    },
};

const TAG: &str = "deliveries";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list_deliveries))
        .routes(routes!(redeliver_dead))
        .routes(routes!(redeliver_delivery))
}

/// A delivery in a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryItem {
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
    /// The id of the watch.
    #[schema(value_type = String)]
    pub watch_id: WatchId,
    /// Basiq's id of the job.
    pub job_id: String,
    /// The URL to which the event is posted.
    #[schema(format = "uri")]
    pub callback_url: String,
    /// The event, in short.
    pub event: EventSummary,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// A page of deliveries.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryPage {
    /// The deliveries. The one that changed last comes first.
    pub items: Vec<DeliveryItem>,
    /// The cursor of the next page. Null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Selects the dead deliveries to queue again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedeliverRequest {
    /// Selects deliveries that became dead at or after this time.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// How many deliveries were queued again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Queued {
    /// The number of deliveries.
    pub queued: u64,
}

/// The event that was queued.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
#[schema(as = Redelivery)]
pub(crate) struct RedeliveryView {
    /// The event's id. The repeated delivery has the same `webhook-id`.
    #[schema(value_type = String, example = "evt_01KAR2D3CV000G0V4Y8Q2M5T7R")]
    pub event_id: EventId,
}

impl From<DeliveryEntry> for DeliveryItem {
    fn from(entry: DeliveryEntry) -> Self {
        let delivery = DeliveryView::from(entry.delivery);
        Self {
            id: delivery.id,
            state: delivery.state,
            updated_at: entry.updated_at,
            next_attempt_at: delivery.next_attempt_at,
            watch_id: entry.body.watch_id,
            job_id: entry.body.job_id.clone(),
            callback_url: entry.callback_url.to_string(),
            event: EventSummary::new(entry.event_id, entry.body),
            attempts: delivery.attempts,
        }
    }
}

/// List deliveries
///
/// Lists the deliveries in one state. The one that changed last comes first. The relay has given up the deliveries
/// in the state `dead`.
#[utoipa::path(
    get,
    path = "/deliveries",
    operation_id = "listDeliveries",
    tag = TAG,
    params(
        ("state" = Option<DeliveryState>, Query, description = "In which state; `dead`, unless given", example = json!("dead")),
        ("limit" = Option<u16>, Query, description = "Entries on a page; 50, unless given", minimum = 1, maximum = 200, example = json!(20)),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the page before",
            min_length = 1, pattern = "^[A-Za-z0-9_-]+$", example = json!(examples::DELIVERY_CURSOR)),
    ),
    responses((status = 200, description = "A page of deliveries", body = DeliveryPage,
        example = json!(examples::delivery_page()))),
    security(("apiKey" = [])),
)]
async fn list_deliveries(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    params: QueryParams,
) -> Result<Json<DeliveryPage>, Problem> {
    let (query, limit) = take_query(Some(client.id), params)?;
    let entries = state.parts.store.list_deliveries(&query).await?;
    let (entries, next_cursor) = page(entries, limit, mark);
    let items = entries.into_iter().map(DeliveryItem::from).collect();
    Ok(Json(DeliveryPage { items, next_cursor }))
}

/// Parses the query parameters of a list of deliveries. The query asks for one row more than the page holds.
pub(super) fn take_query(
    owner: Option<ClientId>,
    mut params: QueryParams,
) -> Result<(DeliveryQuery, usize), Problem> {
    let limit = take_limit(&mut params);
    let words = "pending, delivered, dead, expired, superseded or cancelled";
    let query = DeliveryQuery {
        owner,
        state: params
            .take("state", words, DeliveryState::from_word)
            .unwrap_or(DeliveryState::Dead),
        after: take_cursor(&mut params).map(|Place(at, id)| (at, id)),
        limit: limit + 1,
    };
    params.finish()?;
    Ok((query, limit))
}

/// Returns the cursor of a page that ends with this delivery.
pub(super) fn mark(entry: &DeliveryEntry) -> String {
    Place(entry.updated_at, entry.delivery.id).to_string()
}

/// Queue dead deliveries again
///
/// Queues all deliveries that became dead since the given time and are the latest event of their watch. Deliveries
/// of cancelled watches stay as they are.
#[utoipa::path(
    post,
    path = "/deliveries/redeliver",
    operation_id = "redeliverDead",
    tag = TAG,
    request_body(content = RedeliverRequest, description = "Which dead deliveries are meant",
        example = json!(examples::redeliver_request())),
    responses((status = 202, description = "Queued", body = Queued,
        example = json!(examples::queued()))),
    security(("apiKey" = [])),
)]
async fn redeliver_dead(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    let queued = queue_dead(&state.parts, Some(client.id), body).await?;
    Ok((StatusCode::ACCEPTED, Json(queued)))
}

/// Queues the deliveries again that became dead since the time in a body.
pub(super) async fn queue_dead(
    parts: &ApiParts,
    owner: Option<ClientId>,
    body: RawObject,
) -> Result<Queued, Problem> {
    let since = parse_since(body)?;
    let now = parts.clock.now();
    let queued = parts.store.redeliver_dead(owner, since, now).await?;
    if queued > 0 {
        parts.delivery_wake.ring();
        parts.follows.touch_any();
    }
    info!(queued, "dead deliveries queued again");
    Ok(Queued { queued })
}

/// Deliver once more
///
/// Queues a new attempt with the same `webhook-id`. A delivery that is still pending is attempted at once. Only the
/// latest event of a watch can be delivered again, so that the receiver never gets an older state after a newer
/// one.
#[utoipa::path(
    post,
    path = "/deliveries/{deliveryId}/redeliver",
    operation_id = "redeliverDelivery",
    tag = TAG,
    params(("deliveryId" = String, Path, description = "The delivery", example = json!(examples::DELIVERY_ID))),
    responses((status = 202, description = "Queued", body = RedeliveryView,
        example = json!(examples::redelivery()))),
    security(("apiKey" = [])),
)]
async fn redeliver_delivery(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<DeliveryId>,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    queue_one(&state.parts, Some(client.id), id).await
}

/// Queues one delivery again.
pub(super) async fn queue_one(
    parts: &ApiParts,
    owner: Option<ClientId>,
    id: DeliveryId,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    let now = parts.clock.now();
    let redelivery = parts.store.redeliver_one(owner, id, now).await?;
    queued(parts, redelivery, "There is no such delivery.")
}

/// Queues the latest event of a watch again.
pub(super) async fn queue_latest(
    parts: &ApiParts,
    owner: Option<ClientId>,
    id: WatchId,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    let now = parts.clock.now();
    let redelivery = parts.store.redeliver_watch(owner, id, now).await?;
    queued(parts, redelivery, NO_SUCH_WATCH)
}

fn queued(
    parts: &ApiParts,
    redelivery: Redelivery,
    nothing: &'static str,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    match redelivery {
        Redelivery::Queued(event_id) => {
            parts.delivery_wake.ring();
            parts.follows.touch_any();
            info!(event.id = %event_id, "event queued once more");
            Ok((StatusCode::ACCEPTED, Json(RedeliveryView { event_id })))
        }
        Redelivery::NotFound => Err(Problem::not_found(nothing)),
        Redelivery::NoEvent => Err(Problem::new(
            ProblemCode::NothingToRedeliver,
            "Nothing was told yet, so there is nothing to deliver once more.",
        )),
        Redelivery::Superseded(newer) => Err(Problem::new(
            ProblemCode::NewerEvent,
            format!("The latest event of its watch is {newer}; deliver that one."),
        )),
        Redelivery::Cancelled => Err(Problem::new(
            ProblemCode::WatchCancelled,
            "Nothing is posted for a cancelled watch, nor for a revoked client.",
        )),
    }
}

fn parse_since(body: RawObject) -> Result<Timestamp, Problem> {
    let mut fields = BodyFields::new(body);
    let text = fields.required_text("since");
    let since = text.as_ref().and_then(|text| text.parse().ok());
    if let (Some(text), None) = (text, since) {
        let allowed = "must be an RFC 3339 time such as `2026-11-23T09:14:28Z`";
        fields.invalid("since", allowed, &text.into());
    }
    fields.finish(&["since"])?;
    since.ok_or_else(|| Problem::internal("a field is missing although no fault was found"))
}

/// A position in the list: the time of the last change, and the delivery's id.
struct Place(Timestamp, DeliveryId);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.as_millisecond(), self.1)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, id) = text.split_once('.').ok_or(())?;
        let millis = millis.parse().map_err(|_| ())?;
        let at = Timestamp::from_millisecond(millis).map_err(|_| ())?;
        Ok(Self(at, id.parse().map_err(|_| ())?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::web::FieldCode;

    #[test]
    fn a_place_survives_being_written_and_read() {
        let at = Timestamp::from_millisecond(1_800_000_000_123).unwrap();
        let id = DeliveryId::new(at);
        let Place(read_at, read_id) = Place(at, id).to_string().parse().unwrap();
        assert_eq!((read_at, read_id), (at, id));
        for odd in ["", "1", "1.dlv_", "x.dlv_01KAR2E7M3A1B2C3D4E5F6G7H8"] {
            assert!(odd.parse::<Place>().is_err(), "{odd}");
        }
    }

    #[test]
    fn since_is_a_time_and_required() {
        let parse = |value: serde_json::Value| {
            parse_since(value.as_object().cloned().unwrap_or_default().into())
        };
        assert!(parse(json!({"since": "2026-11-23T20:14:28+11:00"})).is_ok());
        for (body, code) in [
            (json!({}), FieldCode::Required),
            (json!({"since": null}), FieldCode::Required),
            (json!({"since": 5}), FieldCode::WrongType),
            (json!({"since": "yesterday"}), FieldCode::InvalidValue),
            (
                json!({"since": "2026-11-23T09:14:28Z", "x": 1}),
                FieldCode::UnknownField,
            ),
        ] {
            let problem = parse(body.clone()).unwrap_err();
            assert_eq!(problem.errors()[0].code, code, "{body}");
            assert_eq!(problem.errors().len(), 1);
        }
    }
}
