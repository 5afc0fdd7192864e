//! `GET /watch/{watchId}?wait=` for clients that can only poll, and `If-None-Match`.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, StatusCode, header};
use relay_domain::{Client, WatchId};
use relay_store::WatchDetails;
use tokio::time::timeout;

use crate::{
    api::{
        ApiParts,
        follow::{WatchFollower, tag_of},
        watch::view::StreamedWatch,
    },
    config::parse_duration,
    web::{Problem, QueryParams},
};

/// The maximum time that a call may wait.
const LONGEST: Duration = Duration::from_mins(1);

/// Takes the `wait` parameter. Returns `None` if the call does not wait.
pub(super) fn take_wait(params: &mut QueryParams) -> Option<Duration> {
    let allowed = "a duration up to 60s, such as 30s";
    let wait = params.take("wait", allowed, |text| {
        parse_duration(text).filter(|wait| *wait <= LONGEST)
    });
    wait.filter(|wait| !wait.is_zero())
}

/// The version of the watch that the caller already has, from `If-None-Match`.
pub(super) struct KnownVersion<'a>(&'a HeaderMap);

impl<'a> KnownVersion<'a> {
    pub(super) fn read(headers: &'a HeaderMap) -> Self {
        Self(headers)
    }

    fn is_given(&self) -> bool {
        self.0.contains_key(header::IF_NONE_MATCH)
    }

    /// Returns whether the caller has the version with this tag. Weak and strong tags compare as equal.
    fn has(&self, tag: &str) -> bool {
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let given = self.0.get_all(header::IF_NONE_MATCH).iter();
        let given = given.filter_map(|value| value.to_str().ok());
        let mut tags = given.flat_map(|value| value.split(','));
        tags.any(|given| given.trim() == "*" || bare(given) == bare(tag))
    }
}

/// Responds with the watch, or with 304 if the caller already has this version.
pub(super) fn answer(
    (parts, client): (&ApiParts, &Client),
    story: WatchDetails,
    had: &KnownVersion<'_>,
) -> Response {
    let tag = tag_of(&story);
    let is_had = had.has(&tag);
    let tag: [(HeaderName, String); 1] = [(header::ETAG, tag)];
    if is_had {
        return (StatusCode::NOT_MODIFIED, tag).into_response();
    }
    let watch = StreamedWatch::new(parts, client, story);
    (tag, Json(watch)).into_response()
}

/// Waits until the watch differs from the caller's version, or from its version when the call began. Returns `None`
/// after the time-out, if the watch has ended, or if the caller has an older version.
pub(super) async fn wait_for_news(
    parts: &ApiParts,
    (client, id): (&Client, WatchId),
    had: &KnownVersion<'_>,
    time: Duration,
) -> Result<Option<WatchDetails>, Problem> {
    let mut follower = parts.follows.follow(client.id, id).await?;
    let first = follower.latest();
    let tag = tag_of(&first.story);
    let has_older = had.is_given() && !had.has(&tag);
    if has_older || !first.story.watch.state.is_open() {
        return Ok(None);
    }
    let waited = timeout(time, another(&mut follower, &tag)).await;
    Ok(waited.ok().flatten())
}

/// Waits until the watch has another tag. Returns `None` if the watch is no longer read.
async fn another(follower: &mut WatchFollower, tag: &str) -> Option<WatchDetails> {
    while follower.changed().await {
        let latest = follower.latest();
        if tag_of(&latest.story) != tag {
            return Some(latest.story.clone());
        }
    }
    None
}
