//! The operator's calls: watches of all clients, behind the admin token.

use std::collections::HashMap;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiState,
        cursor::page,
        examples,
        watch::{mark, take_query, view::WatchView},
    },
    domain::{ClientId, WatchId, WatchState},
    store::{Store, StoreError, WatchStory},
    web::{Operator, Params, PathId, Problem},
};

const TAG: &str = "admin";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list_all_watches))
        .routes(routes!(get_any_watch))
}

/// A watch and whose it is.
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
    /// The newest first.
    pub items: Vec<AdminWatch>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// List watches of all clients
///
/// The newest first, in pages.
#[utoipa::path(
    get,
    path = "/admin/watches",
    operation_id = "listAllWatches",
    tag = TAG,
    params(
        ("jobId" = Option<String>, Query, description = "Only those of this job"),
        ("state" = Option<WatchState>, Query, description = "Only those in this state"),
        ("limit" = Option<u16>, Query, description = "Entries on a page; 50, unless given", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the page before"),
    ),
    responses((status = 200, description = "A page of watches", body = AdminWatchPage,
        example = json!(examples::admin_watch_page()))),
    security(("adminToken" = [])),
)]
async fn list_all_watches(
    State(state): State<ApiState>,
    _: Operator,
    params: Params,
) -> Result<Json<AdminWatchPage>, Problem> {
    let (query, limit) = take_query(None, params)?;
    let parts = &state.parts;
    let stories = parts.store.list_watches(&query).await?;
    let (stories, next_cursor) = page(stories, limit, mark);
    let names = client_names(&*parts.store).await?;
    let items = stories.into_iter().map(|story| owned(story, &names));
    Ok(Json(AdminWatchPage {
        items: items.collect(),
        next_cursor,
    }))
}

/// Read any client's watch
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
    let story = found.ok_or_else(|| Problem::not_found("There is no such watch."))?;
    Ok(Json(owned(story, &client_names(&*parts.store).await?)))
}

async fn client_names(store: &dyn Store) -> Result<HashMap<ClientId, String>, StoreError> {
    let clients = store.list_clients().await?;
    Ok(clients
        .into_iter()
        .map(|client| (client.id, client.name.to_string()))
        .collect())
}

fn owned(story: WatchStory, names: &HashMap<ClientId, String>) -> AdminWatch {
    let client = names.get(&story.watch.client_id).cloned();
    AdminWatch {
        client: client.unwrap_or_default(),
        watch: story.into(),
    }
}
