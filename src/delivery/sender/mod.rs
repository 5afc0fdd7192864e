//! Makes one attempt: posts a signed event to its callback and returns the result.

use std::{error::Error, io, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use relay_domain::{
    AllowedNetworks, Attempt, AttemptError, CallbackUrl, Fleet,
    signing::{self, SignatureHeaders},
};
use relay_runtime::{causes, lacks_handles, lacks_resources};
use relay_store::{DeliverySigner, DueDelivery};
use tokio::time::{Instant, timeout_at};
use tracing::{Span, debug};

use crate::{
    config::DeliveryConfig,
    delivery::{
        AddressGuard, DeliveryError, NameResolver, NoAddress,
        addresses::AddressLoad,
        connections::{CallbackConnections, RequestBody, SendError},
        dialer::{Destination, DialError, Dialer},
        tls,
    },
    telemetry,
};

/// The maximum number of bytes to read of a response's body. The body is read so that the connection can be used
/// again.
const READ_AT_MOST: usize = 16 * 1024;
/// The maximum number of bytes to keep of a response's body.
const KEEP_AT_MOST: usize = 1024;

/// Whether an attempt was made, and its result.
#[derive(Debug)]
pub enum AttemptOutcome {
    /// The attempt was made, with this result: a response or a failure such as a time-out.
    Answered(CallbackResponse),
    /// The attempt was not made, because too many attempts to the same address are in flight.
    NoPermit,
    /// The attempt could not be made, because the relay has no file handle, thread or memory left. The text is the
    /// cause, for the log.
    NoResources(String),
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackResponse {
    /// The attempt, as the store records it.
    pub attempt: Attempt,
    /// The response's `Retry-After` header, not parsed.
    pub retry_after: Option<String>,
}

impl CallbackResponse {
    /// Returns the result of an attempt that failed inside the relay.
    #[must_use]
    pub fn internal_error(due: &DueDelivery, started_at: Timestamp) -> Self {
        let failed = Failed::from(AttemptError::Internal);
        Self::of(due, started_at, Duration::ZERO, Err(failed))
    }

    fn of(
        due: &DueDelivery,
        started_at: Timestamp,
        duration: Duration,
        outcome: Result<HostReply, Failed>,
    ) -> Self {
        let (reply, error, error_detail) = match outcome {
            Ok(reply) => {
                let error = reply.error();
                (Some(reply), error, None)
            }
            Err(Failed { error, detail }) => (None, Some(error), detail),
        };
        let (status, retry_after, response) = reply.map_or((None, None, None), |reply| {
            (Some(reply.status.as_u16()), reply.retry_after, reply.body)
        });
        Self {
            attempt: Attempt {
                number: due.attempts.saturating_add(1),
                started_at,
                duration,
                status,
                error,
                error_detail,
                response,
            },
            retry_after,
        }
    }
}

/// A callback's response, as far as it was read.
struct HostReply {
    status: StatusCode,
    retry_after: Option<String>,
    body: Option<String>,
}

impl HostReply {
    fn error(&self) -> Option<AttemptError> {
        if self.status.is_success() {
            None
        } else if self.status.is_redirection() {
            Some(AttemptError::Redirected)
        } else {
            Some(AttemptError::Refused)
        }
    }
}

/// Posts events to callbacks.
#[derive(Clone)]
pub struct CallbackSender {
    connections: CallbackConnections,
    guard: AddressGuard,
    addresses: AddressLoad,
    allow_http: bool,
    time_limit: Duration,
}

impl CallbackSender {
    /// Creates a sender that resolves names with `resolver`. Fails if TLS cannot be set up with `config`.
    pub fn new(
        config: &DeliveryConfig,
        resolver: Arc<dyn NameResolver>,
    ) -> Result<Self, DeliveryError> {
        let allowed = AllowedNetworks::new(config.allow_networks.clone());
        let dialer = Dialer::new(tls::client_config(config)?, config.proxy.as_ref());
        Ok(Self {
            connections: CallbackConnections::new(dialer, config),
            guard: AddressGuard::new(resolver, allowed),
            addresses: AddressLoad::new(config),
            allow_http: config.allow_http,
            time_limit: config.timeout,
        })
    }

    /// Divides the slots of each address among the relays of `share`.
    pub(super) fn share_with(&mut self, share: Fleet) {
        self.addresses.share_with(share);
    }

    /// Returns the hosts whose address has no free slot for another attempt.
    #[must_use]
    pub fn full_hosts(&self) -> Vec<String> {
        self.addresses.full_hosts()
    }

    /// Posts a delivery once, if its address has a free slot. The signature carries the time `started_at`.
    pub async fn attempt(&self, due: &DueDelivery, started_at: Timestamp) -> AttemptOutcome {
        let begun = Instant::now();
        let outcome = match self.post(due, started_at, begun + self.time_limit).await {
            Ok(reply) => Ok(reply),
            Err(Failure::NoPermit) => return AttemptOutcome::NoPermit,
            Err(Failure::NoResources(cause)) => return AttemptOutcome::NoResources(cause),
            Err(Failure::Failed(failed)) => Err(failed),
        };
        AttemptOutcome::Answered(CallbackResponse::of(
            due,
            started_at,
            begun.elapsed(),
            outcome,
        ))
    }

    async fn post(
        &self,
        due: &DueDelivery,
        at: Timestamp,
        until: Instant,
    ) -> Result<HostReply, Failure> {
        let url = &due.callback_url;
        if url.url().scheme() != "https" && !self.allow_http {
            // the watch was registered while plain HTTP was allowed
            return Err(AttemptError::AddressRefused.into());
        }
        let request = request(due, at)?;
        let vetted = timeout_at(until, self.guard.vet(url)).await;
        let vetted = vetted.map_err(|_| AttemptError::Dns)?.map_err(|error| {
            debug!(delivery.id = %due.id, ?error, "the callback has no address");
            match error {
                NoAddress::Refused => AttemptError::AddressRefused.into(),
                NoAddress::Unresolved(error) if is_for_want_of_resources(&error) => {
                    Failure::NoResources(error.to_string())
                }
                NoAddress::Unresolved(error) => {
                    Failure::from(Failed::by(AttemptError::Dns, &error))
                }
            }
        })?;
        let first = vetted.first().copied().ok_or(AttemptError::Internal)?;
        let permit = self.addresses.enter(url.host(), first);
        let permit = permit.ok_or(Failure::NoPermit)?;
        let reply = self.exchange(request, url, &vetted, until).await;
        match &reply {
            // no request was sent, so the failure says nothing about the address
            Err(failed) if failed.error == AttemptError::NoResources => drop(permit),
            answered => permit.ended(answered.is_ok()),
        }
        reply.map_err(|failed| {
            debug!(delivery.id = %due.id, why = failed.detail, "the callback did not answer");
            match failed.error {
                AttemptError::NoResources => {
                    Failure::NoResources(failed.detail.unwrap_or_default())
                }
                _ => Failure::Failed(failed),
            }
        })
    }

    /// Sends a request and reads the response: status, `Retry-After` and the beginning of the body.
    async fn exchange(
        &self,
        request: Request<RequestBody>,
        url: &CallbackUrl,
        vetted: &[IpAddr],
        until: Instant,
    ) -> Result<HostReply, Failed> {
        let to = Destination::of(url);
        let sent = timeout_at(until, self.connections.send(request, &to, vetted)).await;
        let (answer, connection) = match sent {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(Failed::by(kind_of(&error), &error)),
            Err(_) => return Err(AttemptError::TimedOut.into()),
        };
        let (head, body) = answer.into_parts();
        let reply = HostReply {
            status: head.status,
            retry_after: retry_after(&head.headers),
            body: beginning(body, until).await,
        };
        self.connections.keep(to, connection);
        Ok(reply)
    }
}

/// The reason why there is no response.
enum Failure {
    NoPermit,
    NoResources(String),
    Failed(Failed),
}

impl<E: Into<Failed>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// An attempt that got no response.
struct Failed {
    error: AttemptError,
    detail: Option<String>,
}

impl Failed {
    fn by(error: AttemptError, cause: &(dyn Error + 'static)) -> Self {
        Self {
            error,
            detail: Some(described(cause)),
        }
    }
}

impl From<AttemptError> for Failed {
    fn from(error: AttemptError) -> Self {
        Self {
            error,
            detail: None,
        }
    }
}

fn request(due: &DueDelivery, at: Timestamp) -> Result<Request<RequestBody>, AttemptError> {
    let mut request = Request::post(due.callback_url.as_str())
        .body(RequestBody::from(due.body.clone()))
        .map_err(|_| AttemptError::Internal)?;
    *request.headers_mut() = headers(due, at)?;
    Ok(request)
}

/// Returns the request's headers, among them the signature and the trace. The previous secret of a client signs too
/// while it is valid.
fn headers(due: &DueDelivery, at: Timestamp) -> Result<HeaderMap, AttemptError> {
    let signed = signature(due, at)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("basiq-relay/", env!("CARGO_PKG_VERSION"))),
    );
    for (name, value) in signed.entries() {
        let value = HeaderValue::from_str(value).map_err(|_| AttemptError::Internal)?;
        headers.insert(name, value);
    }
    // an attempt without a span sends the trace that is stored with the delivery
    if let Some(trace) = telemetry::context_of(&Span::current()).or(due.trace) {
        let value =
            HeaderValue::from_str(&trace.to_string()).map_err(|_| AttemptError::Internal)?;
        headers.insert("traceparent", value);
    }
    Ok(headers)
}

/// Returns the headers that sign the body: the relay's, as of `at`, or Basiq's own.
fn signature(due: &DueDelivery, at: Timestamp) -> Result<SignatureHeaders, AttemptError> {
    let (secret, previous) = match &due.signer {
        DeliverySigner::Relay { secret, previous } => (secret, previous),
        DeliverySigner::Basiq(headers) => return Ok(headers.clone()),
    };
    let mut secrets = vec![secret];
    if let Some((previous, until)) = previous
        && at < *until
    {
        secrets.push(previous);
    }
    signing::sign(&due.event_id.to_string(), at, &due.body, &secrets)
        .map_err(|_| AttemptError::Internal)
}

fn retry_after(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Returns the beginning of a body as text. A body that breaks off or does not end is not an error, because the
/// status alone decides.
async fn beginning(mut body: hyper::body::Incoming, until: Instant) -> Option<String> {
    let mut kept = Vec::new();
    let mut read = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        read += chunk.len();
        let left = KEEP_AT_MOST - kept.len();
        kept.extend(chunk.iter().take(left));
        if read >= READ_AT_MOST {
            break;
        }
    }
    let text = printable(&kept);
    (!text.is_empty()).then_some(text)
}

/// Returns the text without control characters except newline and tab, truncated at a character boundary.
fn printable(bytes: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
        .collect();
    text.truncate(text.floor_char_boundary(KEEP_AT_MOST));
    text
}

/// Describes an error and its causes. A cause is left out if the text before it already contains it.
fn described(error: &(dyn Error + 'static)) -> String {
    let mut told = Vec::<String>::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if !told.last().is_some_and(|last| last.contains(&text)) {
            told.push(text);
        }
    }
    printable(told.join(": ").as_bytes())
}

fn kind_of(error: &SendError) -> AttemptError {
    if lacks_resources(error) {
        return AttemptError::NoResources;
    }
    match error {
        SendError::Dial(DialError::Proxy(_)) => AttemptError::Proxy,
        SendError::Dial(DialError::Connect(_) | DialError::Tunnel(_)) => AttemptError::Connect,
        SendError::Dial(DialError::Name(_) | DialError::Tls(_)) | SendError::Tls(_) => {
            AttemptError::Tls
        }
        SendError::Broken(_) => AttemptError::Broken,
    }
}

/// Whether a name did not resolve because the relay has no file handle left. Resolvers only say that they failed, so
/// this tests for a free handle.
fn is_for_want_of_resources(error: &io::Error) -> bool {
    lacks_resources(error) || lacks_handles()
}

#[cfg(test)]
mod tests;
