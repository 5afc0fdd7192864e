//! `GET /watch/{watchId}?wait=` for clients that can only poll, and `If-None-Match`.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, StatusCode, header};
use relay_domain::{Client, WatchId};
use relay_store::WatchDetails;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::{
    api::{
        ApiParts,
        watch::{
            follow::follow,
            view::{WatchAndStream, WatchView},
        },
    },
    config::parse_duration,
    follow::WatchFollower,
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

/// Returns the tag of a client's view of a watch. It ignores the time of the next look, because that time changes
/// after each look, also when nothing else changed.
fn tag_of(details: &WatchDetails) -> String {
    let view = WatchView {
        next_poll_at: None,
        ..WatchView::from(details.clone())
    };
    let text = serde_json::to_vec(&view).unwrap_or_default();
    let hash: [u8; 32] = Sha256::digest(text).into();
    let (short, _) = hash.split_at(hash.len() / 2);
    format!("W/\"{}\"", URL_SAFE_NO_PAD.encode(short))
}

/// Responds with the watch, or with 304 if the caller already has this version.
pub(super) fn respond(
    parts: &ApiParts,
    client: &Client,
    details: WatchDetails,
    known: &KnownVersion<'_>,
) -> Response {
    let tag = tag_of(&details);
    let is_known = known.has(&tag);
    let tag: [(HeaderName, String); 1] = [(header::ETAG, tag)];
    if is_known {
        return (StatusCode::NOT_MODIFIED, tag).into_response();
    }
    let watch = WatchAndStream::new(parts, client, details);
    (tag, Json(watch)).into_response()
}

/// Waits until the watch differs from the caller's version, or from its version when the call began. Returns `None`
/// after the time-out, if the watch has ended, or if the caller has an older version.
pub(super) async fn wait_for_change(
    parts: &ApiParts,
    client: &Client,
    id: WatchId,
    known: &KnownVersion<'_>,
    time: Duration,
) -> Result<Option<WatchDetails>, Problem> {
    let mut follower = follow(parts, client.id, id).await?;
    let first = follower.latest();
    let tag = tag_of(&first.details);
    let has_older = known.is_given() && !known.has(&tag);
    if has_older || !first.details.watch.state.is_open() {
        return Ok(None);
    }
    let waited = timeout(time, next_version(&mut follower, &tag)).await;
    Ok(waited.ok().flatten())
}

/// Waits until the watch has another tag. Returns `None` if the watch is no longer read.
async fn next_version(follower: &mut WatchFollower, tag: &str) -> Option<WatchDetails> {
    while follower.changed().await {
        let latest = follower.latest();
        if tag_of(&latest.details) != tag {
            return Some(latest.details.clone());
        }
    }
    None
}
