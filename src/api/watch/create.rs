//! `POST /watch`.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use relay_domain::{Client, JobMemory, Watch, WatchId};
use relay_store::{NewWatch, Registration, WatchDetails};
use tracing::info;

use crate::{
    api::{
        ApiParts, ApiState, examples,
        watch::{
            TAG,
            request::{WatchRequestBody, parse},
            view::WatchAndStream,
        },
    },
    web::{AuthenticatedClient, CallTrace, JsonObject, Problem, ProblemCode},
};

/// Seconds after which a client at its limit of open watches may try again.
const CAP_RETRY_SECONDS: u64 = 60;

/// Watch a job
///
/// Responds once the watch is durably stored. If the client already has an open watch of the same job for the same
/// callback, the relay creates no new one. The response is then that watch.
#[utoipa::path(
    post,
    path = "/watch",
    operation_id = "createWatch",
    tag = TAG,
    params(("traceparent" = Option<String>, Header, description = "The W3C trace of the watch. Looks, \
        deliveries and the callback continue it. The relay ignores an invalid value", example = json!(examples::TRACEPARENT))),
    request_body(content = WatchRequestBody, description = "The job, and the callback for its events",
        example = json!(examples::watch_request())),
    responses(
        (status = 202, description = "The watch is stored", body = WatchAndStream,
            headers(("location" = String, description = "The watch's path")),
            example = json!(examples::new_watch_and_stream())),
        (status = 200, description = "An equal watch is already open, and this is it", body = WatchAndStream,
            headers(("location" = String, description = "The watch's path")),
            example = json!(examples::watch_and_stream())),
    ),
    security(("apiKey" = [])),
)]
pub(super) async fn create_watch(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    CallTrace(trace): CallTrace,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let parts = &state.parts;
    let now = parts.clock.now();
    let new = NewWatch {
        id: WatchId::new(now),
        client_id: client.id,
        request: parse(body, &parts.rules)?,
        max_open: parts.server.client_max_open_watches,
        now,
        trace,
        subscription_id: None,
    };
    match parts.store.register_watch(new).await? {
        Registration::Created(watch) => {
            parts.tracker_wake.notify();
            info!(watch.id = %watch.id, job.id = %watch.request.job_id, "watch registered");
            Ok(answer(parts, &client, StatusCode::ACCEPTED, fresh(*watch)))
        }
        Registration::Existing(details) => {
            // The request that stored the watch may have been cancelled before it could wake the tracker.
            parts.tracker_wake.notify();
            Ok(answer(parts, &client, StatusCode::OK, *details))
        }
        Registration::Revoked => Err(Problem::unauthorized()),
        Registration::AtCap => Err(at_cap(parts.server.client_max_open_watches)),
    }
}

/// Returns the details of a new watch. It has no events yet, and its job is due at once.
pub(super) fn fresh(watch: Watch) -> WatchDetails {
    WatchDetails {
        next_look_at: Some(watch.created_at),
        watch,
        job: JobMemory::default(),
        events: Vec::new(),
    }
}

fn answer(
    parts: &ApiParts,
    client: &Client,
    status: StatusCode,
    details: WatchDetails,
) -> Response {
    let location = [(header::LOCATION, format!("/watch/{}", details.watch.id))];
    let watch = WatchAndStream::new(parts, client, details);
    (status, location, Json(watch)).into_response()
}

pub(super) fn at_cap(cap: u64) -> Problem {
    let detail = format!("At most {cap} watches may be open; wait until some settle, or cancel.");
    Problem::new(ProblemCode::TooManyOpenWatches, detail).retry_after(CAP_RETRY_SECONDS)
}
