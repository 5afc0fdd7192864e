//! `GET /watch/{watchId}/stream`: what happens to a watch, as server-sent events.

mod caller;
mod frame;
mod link;

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, stream::unfold};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::time::{Instant, sleep_until};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{caller::Caller, frame::FrameWriter};
use crate::{
    api::{ApiParts, ApiState, examples, follow::WatchFollower, watch::TAG},
    clock::Clock,
    domain::{Client, WatchId},
    web::Problem,
};

/// A stream that is still open then is closed; whoever still listens asks again.
const LONGEST: Duration = Duration::from_hours(1);

/// How often a comment is sent where there is nothing to tell, so that nothing in between takes the
/// connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Has proxies that hold back answers pass this one on.
static ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(stream_watch))
}

/// Where a client's watch can be streamed without its key, for a while.
pub(super) fn stream_url(parts: &ApiParts, client: &Client, watch: WatchId) -> String {
    let path = link::signed_path(client, watch, parts.clock.now());
    match &parts.server.public_url {
        Some(base) => format!("{}{path}", base.as_str().trim_end_matches('/')),
        None => path,
    }
}

/// Follow a watch as it changes
///
/// Server-sent events (`text/event-stream`), for browsers and others that receive no webhooks.
/// `progress` comes first and whenever the steps or the state change: `{"steps":[…],"state":…,
/// "estimatedSecondsLeft":n}`, where `n` is how much longer half of such jobs take, null where that is not
/// known. `job.success`, `job.failed`, `job.action-required` and `job.delayed` are the watch's events, those
/// that were told before as well; their `id` is the event's id, their data the body that is posted to the
/// callback. `end` comes last, when the watch has ended: `{"state":…}`. With `Last-Event-ID` the stream goes
/// on after that event; a watch that has ended and was told to its end is answered 204, which stops an
/// `EventSource`.
///
/// Authorized by the key, or by `expires` and `signature` as they stand in `streamUrl`; that address is
/// valid for 15 minutes. A stream lasts an hour at most.
#[utoipa::path(
    get,
    path = "/watch/{watchId}/stream",
    operation_id = "streamWatch",
    tag = TAG,
    params(
        ("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID)),
        ("expires" = Option<i64>, Query, description = "Until when the address is valid, in Unix seconds",
            example = json!(1_795_426_160)),
        ("signature" = Option<String>, Query, description = "What the relay signed it with",
            min_length = 1, pattern = "^[A-Za-z0-9_-]+$", example = json!(examples::SIGNATURE)),
        ("lastEventId" = Option<String>, Query, description = "The same as `Last-Event-ID`, for those who cannot send it",
            example = json!(examples::EVENT_ID)),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was seen",
            example = json!(examples::EVENT_ID)),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream",
            example = json!(examples::stream())),
        (status = 204, description = "The watch has ended, and all of it was told"),
    ),
    security(("apiKey" = []), ()),
)]
async fn stream_watch(State(state): State<ApiState>, caller: Caller) -> Result<Response, Problem> {
    let follow = state.parts.follows.follow(caller.client.id, caller.watch);
    let mut follower = follow.await?;
    let last = caller.last_event_id.as_deref();
    let Some(teller) = FrameWriter::begin(&follower.latest(), last) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let events = Sse::new(tell(follower, teller, state.parts.clock.clone()));
    let mut response = events
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING.clone(), HeaderValue::from_static("no"));
    Ok(response)
}

/// A stream on its way.
struct EventContext {
    follower: WatchFollower,
    teller: FrameWriter,
    clock: Clock,
    until: Instant,
}

/// All there is to tell, one event at a time and only when the connection takes it: of what changes
/// meanwhile, the latest.
fn tell(
    follower: WatchFollower,
    teller: FrameWriter,
    clock: Clock,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let telling = EventContext {
        follower,
        teller,
        clock,
        until: Instant::now() + LONGEST,
    };
    unfold(telling, async |mut telling| {
        let event = telling.next().await?;
        Some((Ok(event), telling))
    })
}

impl EventContext {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let snapshot = self.follower.latest();
            if let Some(frame) = self.teller.next(&snapshot, self.clock.now()) {
                return Some(frame);
            }
            drop(snapshot);
            if self.teller.has_ended() {
                return None;
            }
            let is_read = tokio::select! {
                is_read = self.follower.changed() => is_read,
                () = sleep_until(self.until) => false,
            };
            if !is_read {
                return None;
            }
        }
    }
}
