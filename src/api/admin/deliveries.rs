//! `/admin/deliveries`: the deliveries of all clients, and how to put dead ones back into the queue.

use axum::{Json, extract::State};
use http::StatusCode;
use relay_domain::{DeliveryId, DeliveryState};
use relay_store::DeliveryEntry;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiState,
        admin::{Names, TAG},
        cursor::page,
        deliveries::{DeliveryItem, mark, take_query},
        examples,
        redeliver::{Queued, RedeliverRequest, RedeliveryView, queue_dead, queue_one},
    },
    web::{JsonObject, Operator, PathId, Problem, QueryParams},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list_all_deliveries))
        .routes(routes!(redeliver_all_dead))
        .routes(routes!(redeliver_any_delivery))
}

/// A delivery and the name of its client.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct AdminDelivery {
    /// The client's name.
    #[schema(example = "app")]
    pub client: String,
    /// The delivery.
    #[serde(flatten)]
    pub delivery: DeliveryItem,
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
        ("state" = Option<DeliveryState>, Query, description = "In which state; `dead`, unless given", example = json!("dead")),
        ("limit" = Option<u16>, Query, description = "Entries on a page; 50, unless given", minimum = 1, maximum = 200, example = json!(20)),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the page before",
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
    let owned = |entry: DeliveryEntry| AdminDelivery {
        client: names.of(entry.client_id),
        delivery: entry.into(),
    };
    Ok(Json(AdminDeliveryPage {
        items: entries.into_iter().map(owned).collect(),
        next_cursor,
    }))
}

/// Queue dead deliveries of all clients again
///
/// Queues all deliveries that became dead since the given time and are the latest event of their watch. Deliveries
/// of cancelled watches and of revoked clients stay as they are.
#[utoipa::path(
    post,
    path = "/admin/deliveries/redeliver",
    operation_id = "redeliverAllDead",
    tag = TAG,
    request_body(content = RedeliverRequest, description = "Which dead deliveries are meant",
        example = json!(examples::redeliver_request())),
    responses((status = 202, description = "Queued", body = Queued,
        example = json!(examples::queued()))),
    security(("adminToken" = [])),
)]
async fn redeliver_all_dead(
    State(state): State<ApiState>,
    _: Operator,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    let queued = queue_dead(&state.parts, None, body).await?;
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
    responses((status = 202, description = "Queued", body = RedeliveryView,
        example = json!(examples::redelivery()))),
    security(("adminToken" = [])),
)]
async fn redeliver_any_delivery(
    State(state): State<ApiState>,
    _: Operator,
    PathId(id): PathId<DeliveryId>,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    queue_one(&state.parts, None, id).await
}
