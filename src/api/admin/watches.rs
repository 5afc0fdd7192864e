//! `/admin/watches`: the watches of all clients.

use axum::{Json, extract::State};
use http::StatusCode;
use relay_domain::{Requester, WatchId, WatchState};
use relay_store::WatchDetails;
use serde::Serialize;
use tracing::info;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiState,
        admin::{Names, TAG},
        cursor::page,
        examples,
        redeliver::{RedeliveryView, queue_latest},
        watch::{NO_SUCH_WATCH, cancel, mark, take_query, view::WatchView},
    },
    web::{Operator, PathId, Problem, QueryParams},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list_all_watches))
        .routes(routes!(get_any_watch, cancel_any_watch))
        .routes(routes!(redeliver_any_watch))
}

/// A watch and the name of its client.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct AdminWatch {
    /// The client's name.
    #[schema(example = "app")]
    pub client: String,
    /// The watch.
    #[serde(flatten)]
    pub watch: WatchView,
}

/// A page of watches of all clients.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdminWatchPage {
    /// The watches, newest first.
    pub items: Vec<AdminWatch>,
    /// The cursor of the next page. Null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// List watches of all clients
///
/// Returns pages of watches, newest first.
#[utoipa::path(
    get,
    path = "/admin/watches",
    operation_id = "listAllWatches",
    tag = TAG,
    params(
        ("jobId" = Option<String>, Query, description = "Only watches of this job",
            min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._-]+$", example = json!(examples::JOB_ID)),
        ("state" = Option<WatchState>, Query, description = "Only watches in this state", example = json!("watching")),
        ("limit" = Option<u16>, Query, description = "Maximum number of entries on a page; 50 by default", minimum = 1, maximum = 200, example = json!(20)),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page",
            min_length = 1, pattern = "^[A-Za-z0-9_-]+$", example = json!(examples::WATCH_CURSOR)),
    ),
    responses((status = 200, description = "A page of watches", body = AdminWatchPage,
        example = json!(examples::admin_watch_page()))),
    security(("adminToken" = [])),
)]
async fn list_all_watches(
    State(state): State<ApiState>,
    _: Operator,
    params: QueryParams,
) -> Result<Json<AdminWatchPage>, Problem> {
    let (query, limit) = take_query(None, params)?;
    let parts = &state.parts;
    let details = parts.store.list_watches(&query).await?;
    let (details, next_cursor) = page(details, limit, mark);
    let names = Names::read(&*parts.store).await?;
    let items = details.into_iter().map(|watch| owned(watch, &names));
    Ok(Json(AdminWatchPage {
        items: items.collect(),
        next_cursor,
    }))
}

/// Read any client's watch
///
/// Returns the watch as its client sees it, and the client's name.
#[utoipa::path(
    get,
    path = "/admin/watches/{watchId}",
    operation_id = "getAnyWatch",
    tag = TAG,
    params(("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID))),
    responses((status = 200, description = "The watch", body = AdminWatch,
        example = json!(examples::admin_watch()))),
    security(("adminToken" = [])),
)]
async fn get_any_watch(
    State(state): State<ApiState>,
    _: Operator,
    PathId(id): PathId<WatchId>,
) -> Result<Json<AdminWatch>, Problem> {
    let parts = &state.parts;
    let found = parts.store.find_watch(None, id).await?;
    let details = found.ok_or_else(|| Problem::not_found(NO_SUCH_WATCH))?;
    Ok(Json(owned(details, &Names::read(&*parts.store).await?)))
}

/// Cancel any client's watch
///
/// Does the same as the client's own call: the relay posts nothing more for this watch. Cancelling it again changes
/// nothing.
#[utoipa::path(
    delete,
    path = "/admin/watches/{watchId}",
    operation_id = "cancelAnyWatch",
    tag = TAG,
    params(("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID))),
    responses((status = 204, description = "The watch is cancelled, or had already ended")),
    security(("adminToken" = [])),
)]
async fn cancel_any_watch(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    PathId(id): PathId<WatchId>,
) -> Result<StatusCode, Problem> {
    cancel(&state.parts, &Requester::Operator(actor), id).await?;
    info!(watch.id = %id, "watch cancelled by the operator");
    Ok(StatusCode::NO_CONTENT)
}

/// Deliver the latest event of any client's watch once more
///
/// Does the same as the client's own call: queues a new attempt with the same `webhook-id`.
#[utoipa::path(
    post,
    path = "/admin/watches/{watchId}/redeliver",
    operation_id = "redeliverAnyWatch",
    tag = TAG,
    params(("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID))),
    responses((status = 202, description = "The event is queued", body = RedeliveryView,
        example = json!(examples::redelivery()))),
    security(("adminToken" = [])),
)]
async fn redeliver_any_watch(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    PathId(id): PathId<WatchId>,
) -> Result<(StatusCode, Json<RedeliveryView>), Problem> {
    queue_latest(&state.parts, &Requester::Operator(actor), id).await
}

fn owned(details: WatchDetails, names: &Names) -> AdminWatch {
    AdminWatch {
        client: names.of(details.watch.client_id),
        watch: details.into(),
    }
}
