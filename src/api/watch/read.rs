//! `GET /watch/{watchId}` and `GET /watch`.

use axum::{Json, extract::State, response::Response};
use http::HeaderMap;
use relay_domain::{ClientId, WatchId, WatchState};
use relay_store::{WatchDetails, WatchQuery};

use crate::{
    api::{
        ApiState,
        cursor::{page, take_cursor, take_limit},
        examples,
        watch::{
            NO_SUCH_WATCH, TAG,
            view::{WatchAndStream, WatchPage, WatchView},
            wait::{KnownVersion, respond, take_wait, wait_for_change},
        },
    },
    web::{AuthenticatedClient, LongPoll, PathId, Problem, QueryParams},
};

/// Read a watch
///
/// Returns the state of the watch, the job's steps as last seen, and the time of the next look. It also returns the
/// events with their deliveries and attempts. With `wait`, the relay responds when any of these changes except the
/// time of the next look. It responds at once if the watch has ended. With the `ETag` of an earlier response in
/// `If-None-Match`, it responds when the watch differs from that version. After the time-out it responds with the
/// current watch, or with 304 if the caller has that version.
#[utoipa::path(
    get,
    path = "/watch/{watchId}",
    operation_id = "getWatch",
    tag = TAG,
    params(
        ("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID)),
        ("wait" = Option<String>, Query, description = "How long to wait for a change, such as `30s`; at most 60 seconds",
            pattern = "^[0-9]+(ms|s|m|h|d)$", example = json!("30s")),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the watch that the caller has",
            example = json!(examples::ETAG)),
    ),
    responses(
        (status = 200, description = "The watch", body = WatchAndStream,
            headers(("etag" = String, description = "The version of the watch. It differs whenever the watch has changed")),
            example = json!(examples::watch_and_stream())),
        (status = 304, description = "The caller has the current version",
            headers(("etag" = String, description = "The version that the caller has"))),
    ),
    security(("apiKey" = [])),
)]
pub(super) async fn get_watch(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<WatchId>,
    long_poll: LongPoll,
    headers: HeaderMap,
    mut params: QueryParams,
) -> Result<Response, Problem> {
    let (parts, known) = (&*state.parts, KnownVersion::read(&headers));
    let wait = take_wait(&mut params);
    params.finish()?;
    let mut found = None;
    if let Some(time) = wait {
        long_poll.take();
        found = wait_for_change(parts, &client, id, &known, time).await?;
    }
    if found.is_none() {
        found = parts.store.find_watch(Some(client.id), id).await?;
    }
    let details = found.ok_or_else(|| Problem::not_found(NO_SUCH_WATCH))?;
    Ok(respond(parts, &client, details, &known))
}

/// List watches
///
/// Returns pages of watches, newest first.
#[utoipa::path(
    get,
    path = "/watch",
    operation_id = "listWatches",
    tag = TAG,
    params(
        ("jobId" = Option<String>, Query, description = "Only watches of this job",
            min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._-]+$", example = json!(examples::JOB_ID)),
        ("state" = Option<WatchState>, Query, description = "Only watches in this state", example = json!("watching")),
        ("limit" = Option<u16>, Query, description = "Maximum number of entries on a page; 50 by default", minimum = 1, maximum = 200, example = json!(20)),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page",
            min_length = 1, pattern = "^[A-Za-z0-9_-]+$", example = json!(examples::WATCH_CURSOR)),
    ),
    responses((status = 200, description = "A page of watches", body = WatchPage,
        example = json!(examples::watch_page()))),
    security(("apiKey" = [])),
)]
pub(super) async fn list_watches(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    params: QueryParams,
) -> Result<Json<WatchPage>, Problem> {
    let (query, limit) = take_query(Some(client.id), params)?;
    let details = state.parts.store.list_watches(&query).await?;
    let (details, next_cursor) = page(details, limit, mark);
    let items = details.into_iter().map(WatchView::from).collect();
    Ok(Json(WatchPage { items, next_cursor }))
}

/// Parses the query parameters of a list of watches. The query asks for one row more than the page holds.
pub(in crate::api) fn take_query(
    owner: Option<ClientId>,
    mut params: QueryParams,
) -> Result<(WatchQuery, usize), Problem> {
    let limit = take_limit(&mut params);
    let job_id = "1 to 128 of `A-Z a-z 0-9 . _ -`";
    let state = "watching, awaiting-user, delayed, settled or cancelled";
    let query = WatchQuery {
        owner,
        job_id: params.take("jobId", job_id, |text| text.parse().ok()),
        state: params.take("state", state, WatchState::from_word),
        before: take_cursor(&mut params),
        limit: limit + 1,
    };
    params.finish()?;
    Ok((query, limit))
}

/// Returns the cursor of a page that ends with this watch.
pub(in crate::api) fn mark(details: &WatchDetails) -> String {
    details.watch.id.to_string()
}
