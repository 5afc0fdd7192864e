//! `GET /deliveries`.

use std::{fmt, str::FromStr};

use axum::{Json, extract::State};
use jiff::Timestamp;
use relay_domain::{ClientId, DeliveryId, DeliveryState, SubscriptionId, WatchId};
use relay_store::{DeliveryContent, DeliveryEntry, DeliveryQuery};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiState,
        cursor::{page, take_cursor, take_limit},
        examples,
        watch::view::{AttemptView, DeliveryView, EventSummary},
    },
    web::{AuthenticatedClient, Problem, QueryParams},
};

/// The tag of these calls in the OpenAPI document.
pub(super) const TAG: &str = "deliveries";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(list_deliveries))
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
    /// The id of the watch. Null for a notice.
    #[schema(value_type = Option<String>, required = true)]
    pub watch_id: Option<WatchId>,
    /// Basiq's id of the job. Null for a notice.
    #[schema(required = true)]
    pub job_id: Option<String>,
    /// The id of the subscription. Null unless a subscription found the job, or the event is its notice.
    #[schema(value_type = Option<String>, required = true)]
    pub subscription_id: Option<SubscriptionId>,
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
        ("state" = Option<DeliveryState>, Query, description = "Only deliveries in this state; `dead` by default", example = json!("dead")),
        ("limit" = Option<u16>, Query, description = "Maximum number of entries on a page; 50 by default", minimum = 1, maximum = 200, example = json!(20)),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page",
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
    let items = entries.into_iter().filter_map(item).collect();
    Ok(Json(DeliveryPage { items, next_cursor }))
}

/// Describes a delivery of a client. A message of Basiq's is no client's.
fn item(entry: DeliveryEntry) -> Option<DeliveryItem> {
    let DeliveryContent::Event(body) = entry.content else {
        return None;
    };
    let delivery = DeliveryView::from(entry.delivery);
    Some(DeliveryItem {
        id: delivery.id,
        state: delivery.state,
        updated_at: entry.updated_at,
        next_attempt_at: delivery.next_attempt_at,
        watch_id: body.watch_id,
        job_id: body.job_id.clone(),
        subscription_id: body.context.subscription_id,
        callback_url: entry.callback_url.to_string(),
        event: EventSummary::new(entry.event_id, *body),
        attempts: delivery.attempts,
    })
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
    use super::*;

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
}
