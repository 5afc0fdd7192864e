//! `GET /watch/{watchId}/stream`: the changes of a watch as server-sent events.

mod caller;
mod frame;

use std::{convert::Infallible, ops::RangeInclusive, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, stream::unfold};
use http::{HeaderName, HeaderValue, StatusCode, header};
use rand::Rng;
use relay_domain::clock::Clock;
use tokio::time::{Instant, sleep_until};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{caller::Caller, frame::FrameWriter};
use crate::{
    api::{
        ApiState, examples,
        watch::{TAG, follow},
    },
    follow::WatchFollower,
    web::Problem,
};

/// The maximum duration of a stream. The relay then closes it, and clients reconnect.
const LONGEST: Duration = Duration::from_hours(1);

/// How often the relay sends a comment while nothing changes, so that no proxy drops an idle connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long an `EventSource` waits before it reconnects, in milliseconds.
const RETRY_MILLIS: RangeInclusive<u64> = 2000..=4000;

/// Tells proxies not to buffer the stream.
static ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(stream_watch))
}

/// Follow a watch as it changes
///
/// Server-sent events (`text/event-stream`), for browsers and other clients that cannot receive webhooks.
///
/// `progress` comes first, and again whenever the steps or the state change. Its data is `{"steps":[…],"state":…,
/// "estimatedSecondsLeft":n}`. Half of such jobs end within `n` more seconds. `n` is null if the relay does not know.
///
/// `job.success`, `job.failed`, `job.action-required` and `job.delayed` are the events of the watch, including
/// earlier ones. Their `id` is the event's id. Their data is the body that the relay posts to the callback.
///
/// `end` comes last, when the watch has ended. Its data is `{"state":…}`.
///
/// With `Last-Event-ID` the stream continues after that event. If the watch has ended and the client has its last
/// event, the response is 204, which stops an `EventSource`.
///
/// Authenticate with the API key, or with `expires` and `signature` from `streamUrl`. That URL is valid for 15
/// minutes. A stream lasts one hour at most.
#[utoipa::path(
    get,
    path = "/watch/{watchId}/stream",
    operation_id = "streamWatch",
    tag = TAG,
    params(
        ("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID)),
        ("expires" = Option<i64>, Query, description = "When the address stops being valid, in Unix seconds",
            example = json!(1_795_426_160)),
        ("signature" = Option<String>, Query, description = "The signature of the address, made by the relay",
            min_length = 1, pattern = "^[A-Za-z0-9_-]+$", example = json!(examples::SIGNATURE)),
        ("lastEventId" = Option<String>, Query, description = "The same as `Last-Event-ID`, for clients that cannot send this header",
            example = json!(examples::EVENT_ID)),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that the client received",
            example = json!(examples::EVENT_ID)),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream",
            example = json!(examples::stream())),
        (status = 204, description = "The watch has ended, and the client has received all its events"),
    ),
    security(("apiKey" = []), ()),
)]
async fn stream_watch(State(state): State<ApiState>, caller: Caller) -> Result<Response, Problem> {
    let mut follower = follow(&state.parts, caller.client.id, caller.watch).await?;
    let last = caller.last_event_id.as_deref();
    let Some(writer) = FrameWriter::begin(&follower.latest(), last, retry()) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let events = Sse::new(events_of(follower, writer, state.parts.clock.clone()));
    let mut response = events
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING.clone(), HeaderValue::from_static("no"));
    Ok(response)
}

/// Chooses how long a browser waits before it reconnects. It differs for each stream, so that browsers do not come back
/// all at once after a restart.
fn retry() -> Duration {
    Duration::from_millis(rand::rng().random_range(RETRY_MILLIS))
}

/// The state of an open stream.
struct StreamState {
    follower: WatchFollower,
    writer: FrameWriter,
    clock: Clock,
    until: Instant,
}

/// Sends one message at a time, when the connection accepts it. If a watch changes several times meanwhile, only
/// its latest snapshot is used.
fn events_of(
    follower: WatchFollower,
    writer: FrameWriter,
    clock: Clock,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let state = StreamState {
        follower,
        writer,
        clock,
        until: Instant::now() + LONGEST,
    };
    unfold(state, async |mut state| {
        let event = state.next().await?;
        Some((Ok(event), state))
    })
}

impl StreamState {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let snapshot = self.follower.latest();
            if let Some(frame) = self.writer.next(&snapshot, self.clock.now()) {
                return Some(frame);
            }
            drop(snapshot);
            if self.writer.has_ended() {
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
