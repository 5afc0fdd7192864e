//! The caller of a stream: its client, the watch, and the last event that the caller has seen.

use axum::extract::{FromRequestParts, Path};
use http::{HeaderMap, header, request::Parts};
use relay_domain::{Client, WatchId};
use tracing::Span;

use crate::{
    api::{ApiState, stream_url::SignedLink, watch::NO_SUCH_WATCH},
    web::{Problem, ProblemCode, QueryParams},
};

/// A caller that may follow a watch: its client with the API key, or anyone with a signed URL.
pub(super) struct Caller {
    /// The client of the API key, or the client for which the URL was signed.
    pub(super) client: Client,
    /// The watch.
    pub(super) watch: WatchId,
    /// The `id` of the last event that the caller has seen.
    pub(super) last_event_id: Option<String>,
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let watch = path.ok().and_then(|Path(text)| text.parse().ok());
        let mut params = QueryParams::from_request_parts(parts, state).await?;
        let any = |text: &str| Some(text.to_owned());
        let expires = params.take("expires", "given once", any);
        let signature = params.take("signature", "given once", any);
        let by_parameter = params.take("lastEventId", "given once", any);
        // the key takes precedence over a signed URL
        let client = if parts.headers.contains_key(header::AUTHORIZATION) {
            state.gate.admit(&parts.headers).await?
        } else {
            let signed = expires.zip(signature);
            let signed = signed.and_then(|(expires, text)| SignedLink::read(&expires, &text));
            by_address(state, watch, signed).await?
        };
        Span::current().record("client.name", client.name.as_str());
        params.finish()?;
        Ok(Self {
            client,
            watch: watch.ok_or_else(|| Problem::not_found(NO_SUCH_WATCH))?,
            last_event_id: last_event_id(&parts.headers).or(by_parameter),
        })
    }
}

/// Returns the client for which a URL was signed. An invalid URL always gets the same response, which does not
/// reveal whether the watch exists.
async fn by_address(
    state: &ApiState,
    watch: Option<WatchId>,
    signed: Option<SignedLink>,
) -> Result<Client, Problem> {
    let now = state.parts.clock.now();
    let timely = signed.filter(|signed| signed.is_timely(now));
    let (watch, signed) = watch.zip(timely).ok_or_else(invalid)?;
    let is_by = |client: &Client| signed.is_by(client, watch, now);
    let client = state.gate.find_owner(watch, is_by).await?;
    client.ok_or_else(invalid)
}

fn invalid() -> Problem {
    Problem::new(
        ProblemCode::Unauthorized,
        "The address is not valid, or no longer; read the watch for another `streamUrl`, or send the key.",
    )
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("last-event-id")?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}
