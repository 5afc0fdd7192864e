//! Makes one attempt: posts a signed event to its callback and tells what came of it.

use std::{error::Error, io, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, StatusCode, header, response::Parts};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as SendError},
    rt::{TokioExecutor, TokioTimer},
};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tracing::{Span, debug};

use crate::{
    config::DeliveryConfig,
    delivery::{
        AddressGuard, DeliveryError, NameResolver, NoAddress,
        address_guard::causes,
        addresses::{AddressLoad, Seat},
        dialer::{Dialer, Pins, ProxyFailed, TunnelError},
        tls,
    },
    domain::{AllowedNetworks, Attempt, AttemptError, Share},
    signing,
    store::DueDelivery,
    telemetry,
};

/// How much of an answer's body is read, in bytes, so that its connection can be used again.
const READ_AT_MOST: usize = 16 * 1024;
/// How much of it is kept, in bytes.
const KEEP_AT_MOST: usize = 1024;
/// How long an unused connection is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// The longest head of an answer, and the most of a body that waits to be read, in bytes.
const BUFFER: usize = 64 * 1024;

type Body = Full<bytes::Bytes>;
type HttpClient = Client<HttpsConnector<Dialer>, Body>;

/// Whether an attempt was made.
#[derive(Debug)]
pub enum Attempted {
    /// It was; this came of it.
    Answered(Answer),
    /// It was not: too many attempts to the same address are in flight.
    NoRoom,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The attempt, for the record.
    pub attempt: Attempt,
    /// The answer's `Retry-After`, as it was written.
    pub retry_after: Option<String>,
}

impl Answer {
    /// An attempt that failed inside the relay.
    #[must_use]
    pub fn internal_error(due: &DueDelivery, started_at: Timestamp) -> Self {
        Self::of(due, started_at, Duration::ZERO, Err(AttemptError::Internal))
    }

    fn of(
        due: &DueDelivery,
        started_at: Timestamp,
        duration: Duration,
        outcome: Result<Reply, AttemptError>,
    ) -> Self {
        let (reply, error) = match outcome {
            Ok(reply) => {
                let error = reply.error();
                (Some(reply), error)
            }
            Err(error) => (None, Some(error)),
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
                response,
            },
            retry_after,
        }
    }
}

/// A callback's answer, as far as it was read.
struct Reply {
    status: StatusCode,
    retry_after: Option<String>,
    body: Option<String>,
}

impl Reply {
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
    client: HttpClient,
    guard: AddressGuard,
    pins: Pins,
    addresses: AddressLoad,
    allow_http: bool,
    time_limit: Duration,
}

impl CallbackSender {
    /// A sender that resolves names with `resolver`.
    pub fn new(
        config: &DeliveryConfig,
        resolver: Arc<dyn NameResolver>,
    ) -> Result<Self, DeliveryError> {
        let allowed = AllowedNetworks::new(config.allow_networks.clone());
        let pins = Pins::default();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(config)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Dialer::new(pins.clone(), config.proxy.as_ref()));
        Ok(Self {
            client: client(config, connector),
            guard: AddressGuard::new(resolver, allowed),
            pins,
            addresses: AddressLoad::new(config),
            allow_http: config.allow_http,
            time_limit: config.timeout,
        })
    }

    /// Divides the slots of each address with other relays.
    pub(super) fn divide(&mut self, share: Share) {
        self.addresses.divide(share);
    }

    /// Hosts whose address has no room for another attempt.
    #[must_use]
    pub fn full_hosts(&self) -> Vec<String> {
        self.addresses.full_hosts()
    }

    /// Posts a delivery once, as of `started_at`, if there is room for it.
    pub async fn attempt(&self, due: &DueDelivery, started_at: Timestamp) -> Attempted {
        let begun = Instant::now();
        let outcome = match self.post(due, started_at, begun + self.time_limit).await {
            Ok(reply) => Ok(reply),
            Err(Failure::NoRoom) => return Attempted::NoRoom,
            Err(Failure::Failed(error)) => Err(error),
        };
        Attempted::Answered(Answer::of(due, started_at, begun.elapsed(), outcome))
    }

    async fn post(
        &self,
        due: &DueDelivery,
        at: Timestamp,
        until: Instant,
    ) -> Result<Reply, Failure> {
        let url = &due.callback_url;
        if url.url().scheme() != "https" && !self.allow_http {
            // accepted under another configuration
            return Err(AttemptError::AddressRefused.into());
        }
        let request = request(due, at)?;
        let vetted = timeout_at(until, self.guard.vet(url)).await;
        let vetted = vetted.map_err(|_| AttemptError::Dns)?.map_err(|error| {
            debug!(delivery.id = %due.id, ?error, "the callback has no address");
            match error {
                NoAddress::Refused => AttemptError::AddressRefused,
                NoAddress::Unresolved(_) => AttemptError::Dns,
            }
        })?;
        let first = vetted.first().copied().ok_or(AttemptError::Internal)?;
        let seat = self.addresses.enter(url.host(), first);
        let seat = seat.ok_or(Failure::NoRoom)?;
        // held until the answer is read: no connection is made without it
        let _pin = self.pins.pin(url.host(), vetted);
        let reply = self.exchange(request, until, seat).await;
        reply.map_err(|(error, why)| {
            debug!(delivery.id = %due.id, why, "the callback did not answer");
            Failure::Failed(error)
        })
    }

    /// Sends a request and reads its answer as far as it counts.
    async fn exchange(
        &self,
        request: Request<Body>,
        until: Instant,
        seat: Seat,
    ) -> Result<Reply, (AttemptError, String)> {
        let answered = timeout_at(until, self.client.request(request)).await;
        let answered = match answered {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err((kind_of(&error), described(&error))),
            Err(elapsed) => Err((AttemptError::TimedOut, elapsed.to_string())),
        };
        let answered = answered.map(http::Response::into_parts);
        let reply = match answered {
            Ok((
                Parts {
                    status, headers, ..
                },
                body,
            )) => Ok(Reply {
                status,
                retry_after: retry_after(&headers),
                body: beginning(body, until).await,
            }),
            Err(failed) => Err(failed),
        };
        seat.ended(reply.is_ok());
        reply
    }
}

/// Why there is no answer.
enum Failure {
    NoRoom,
    Failed(AttemptError),
}

impl From<AttemptError> for Failure {
    fn from(error: AttemptError) -> Self {
        Self::Failed(error)
    }
}

fn client(config: &DeliveryConfig, connector: HttpsConnector<Dialer>) -> HttpClient {
    let window = u32::try_from(BUFFER).unwrap_or(u32::MAX);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION)
        // all that may be in use at once, or they would be dialled again for each wave of deliveries
        .pool_max_idle_per_host(config.concurrency_per_host)
        .http1_max_buf_size(BUFFER)
        .http2_initial_stream_window_size(window)
        .http2_initial_connection_window_size(window)
        .build(connector)
}

fn request(due: &DueDelivery, at: Timestamp) -> Result<Request<Body>, AttemptError> {
    let mut request = Request::post(due.callback_url.as_str())
        .body(Body::from(due.body.clone()))
        .map_err(|_| AttemptError::Internal)?;
    *request.headers_mut() = headers(due, at)?;
    Ok(request)
}

/// The content type, the signature, by the old secret as well while it is valid, and the trace.
fn headers(due: &DueDelivery, at: Timestamp) -> Result<HeaderMap, AttemptError> {
    let mut secrets = vec![&due.secret];
    if let Some((previous, until)) = &due.previous_secret
        && at < *until
    {
        secrets.push(previous);
    }
    let signed = signing::sign(&due.event_id.to_string(), at, &due.body, &secrets)
        .map_err(|_| AttemptError::Internal)?;
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
    // without a span of its own the attempt stays out of the trace, which goes on all the same
    if let Some(trace) = telemetry::context_of(&Span::current()).or(due.trace) {
        let value =
            HeaderValue::from_str(&trace.to_string()).map_err(|_| AttemptError::Internal)?;
        headers.insert("traceparent", value);
    }
    Ok(headers)
}

fn retry_after(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(value.to_owned())
}

/// The beginning of a body as text. A body that breaks off or does not end is no error: the status
/// has said all that counts.
async fn beginning(mut body: hyper::body::Incoming, until: Instant) -> Option<String> {
    let mut kept = Vec::new();
    let mut read = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        read += chunk.len();
        let room = KEEP_AT_MOST - kept.len();
        kept.extend(chunk.iter().take(room));
        if read >= READ_AT_MOST {
            break;
        }
    }
    let text = printable(&kept);
    (!text.is_empty()).then_some(text)
}

/// Text without control characters, cut at a whole character.
fn printable(bytes: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
        .collect();
    text.truncate(text.floor_char_boundary(KEEP_AT_MOST));
    text
}

/// What an error says and what it comes from.
fn described(error: &SendError) -> String {
    let told: Vec<_> = causes(error).map(ToString::to_string).collect();
    told.join(": ")
}

fn kind_of(error: &SendError) -> AttemptError {
    let is = |of: fn(&(dyn Error + 'static)) -> bool| causes(error).any(of);
    let hung_up = |cause: &(dyn Error + 'static)| cause.downcast_ref().is_some_and(is_hang_up);
    if is(<dyn Error>::is::<ProxyFailed>) {
        AttemptError::Proxy
    } else if is(<dyn Error>::is::<rustls::Error>) {
        AttemptError::Tls
    } else if is(<dyn Error>::is::<TunnelError>) {
        AttemptError::Connect
    } else if error.is_connect() && is(hung_up) {
        // an open connection that is closed while connecting: in the handshake
        AttemptError::Tls
    } else if error.is_connect() {
        AttemptError::Connect
    } else {
        AttemptError::Broken
    }
}

/// Whether an open connection was closed. While connecting, only a handshake can meet that.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests;
