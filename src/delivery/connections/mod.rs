//! Sends requests over connections that are kept for later requests to the same destination.
//!
//! A kept connection is used only if its address is among those that were just vetted. So no request goes to an
//! address that the name has left, or that is no longer allowed.
//!
//! `hyper-util`'s pool cannot do this, because it identifies connections by name alone. It also cannot distinguish a
//! connection that was closed while idle from one that broke later.

mod pool;
mod watched_stream;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, Request, Response, Uri, header};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tracing::debug;

use self::{
    pool::IdlePool,
    watched_stream::{PeerActivity, WatchedStream},
};
use crate::{
    config::DeliveryConfig,
    delivery::dialer::{Destination, DialError, Dialer},
};

/// The maximum size of a response's head, and of the part of a body that waits to be read, in bytes.
const BUFFER: usize = 64 * 1024;
/// The maximum number of headers of a response. Node accepts as many as fit into its 16 KiB, so 4,096 of the
/// shortest.
const MOST_HEADERS: usize = 4096;

/// A request's body.
pub(super) type RequestBody = http_body_util::Full<bytes::Bytes>;

/// The reason why a request got no response.
#[derive(Debug, Error)]
pub(super) enum SendError {
    /// No connection was opened.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS ended the connection after its handshake.
    #[error("TLS ended the connection")]
    Tls(#[source] rustls::Error),
    /// The connection broke, or the response is not HTTP.
    #[error("no HTTP answer")]
    Broken(#[source] hyper::Error),
}

/// Opens and keeps connections.
#[derive(Clone)]
pub(super) struct CallbackConnections {
    dialer: Dialer,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    pool: IdlePool,
}

impl CallbackConnections {
    pub(super) fn new(dialer: Dialer, config: &DeliveryConfig) -> Self {
        let mut http1 = http1::Builder::new();
        // accepts what curl and Node accept: an odd header must not cause another attempt, because the status decides
        http1
            .max_buf_size(BUFFER)
            .max_headers(MOST_HEADERS)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true);
        let window = u32::try_from(BUFFER).unwrap_or(u32::MAX);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .initial_stream_window_size(window)
            .initial_connection_window_size(window);
        Self {
            dialer,
            http1,
            http2,
            pool: IdlePool::new(config.concurrency, config.concurrency_per_host),
        }
    }

    /// Sends a request to one of the vetted addresses, over a kept connection if there is one.
    ///
    /// A kept connection may turn out to be closed before a byte of the response arrived. Then the request is sent
    /// once more, over a new connection. A receiver that had accepted the first request recognises the second by its
    /// `webhook-id`.
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        to: &Destination,
        vetted: &[IpAddr],
    ) -> Result<(Response<Incoming>, CallbackConnection), SendError> {
        if let Some(mut kept) = self.pool.take(to, vetted) {
            match kept.send(request.clone()).await {
                Ok(answer) => return Ok((answer, kept)),
                Err(error) if kept.was_closed(&error) => {
                    debug!(%error, "a kept connection turned out closed: sent again on a new one");
                }
                Err(error) => return Err(kept.failure(error)),
            }
        }
        let mut new = self.open(to, vetted).await?;
        match new.send(request).await {
            Ok(answer) => Ok((answer, new)),
            Err(error) => Err(new.failure(error)),
        }
    }

    /// Keeps a connection for the next request, as soon as it is ready for one.
    pub(super) fn keep(&self, to: Destination, mut connection: CallbackConnection) {
        let pool = self.pool.clone();
        if connection.is_usable() {
            return pool.put(to, connection);
        }
        TokioExecutor::new().execute(async move {
            if connection.becomes_usable().await {
                pool.put(to, connection);
            }
        });
    }

    async fn open(
        &self,
        to: &Destination,
        vetted: &[IpAddr],
    ) -> Result<CallbackConnection, SendError> {
        let dialed = self.dialer.dial(to, vetted).await?;
        let heard = Arc::new(PeerActivity::default());
        let line = TokioIo::new(WatchedStream::new(dialed.stream, Arc::clone(&heard)));
        let failed = |error| match heard.tls_error() {
            Some(cause) => SendError::Tls(cause.clone()),
            None => SendError::Broken(error),
        };
        let sender = if dialed.http2 {
            let (sender, connection) = self.http2.handshake(line).await.map_err(failed)?;
            serve(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = self.http1.handshake(line).await.map_err(failed)?;
            serve(connection);
            Sender::Http1(sender)
        };
        let connection = CallbackConnection {
            sender,
            address: dialed.address,
            heard,
        };
        if let Some(shared) = connection.shared() {
            self.pool.put(to.clone(), shared);
        }
        Ok(connection)
    }
}

/// Drives a connection until it is closed. It closes when its last sender is dropped.
fn serve<C>(connection: C)
where
    C: Future<Output = hyper::Result<()>> + Send + 'static,
{
    TokioExecutor::new().execute(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a callback's connection broke");
        }
    });
}

/// Sends requests over a connection. HTTP/1 takes them one after the other, HTTP/2 many at once.
enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// An open connection to a vetted address.
pub(super) struct CallbackConnection {
    sender: Sender,
    address: IpAddr,
    heard: Arc<PeerActivity>,
}

impl CallbackConnection {
    async fn send(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> hyper::Result<Response<Incoming>> {
        self.heard.listen_anew();
        match &mut self.sender {
            Sender::Http1(sender) => {
                name_origin(&mut request);
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        }
    }

    /// Returns the vetted address that the connection leads to.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns a second handle to the connection for a concurrent request. Returns none for HTTP/1.
    fn shared(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                sender: Sender::Http2(sender.clone()),
                address: self.address,
                heard: Arc::clone(&self.heard),
            }),
        }
    }

    /// Whether concurrent requests can share the connection.
    fn is_shared(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether both are handles to one connection.
    fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.heard, &other.heard)
    }

    /// Whether the connection can take a request now.
    fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Waits until the connection can take another request. Returns false if it closes instead.
    async fn becomes_usable(&mut self) -> bool {
        let ready = match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender) => sender.ready().await,
        };
        ready.is_ok()
    }

    /// Whether the connection was already closed when the request was sent, so that the request did not break it.
    fn was_closed(&self, error: &hyper::Error) -> bool {
        match &self.sender {
            Sender::Http1(_) => !self.heard.anything(),
            // received bytes may belong to other requests; an error of this request means that it got no response
            Sender::Http2(_) => !is_refusal(error),
        }
    }

    fn failure(&self, error: hyper::Error) -> SendError {
        match self.heard.tls_error() {
            Some(cause) => SendError::Tls(cause.clone()),
            None => SendError::Broken(error),
        }
    }
}

/// Whether the HTTP/2 peer processed this request and reset it. `REFUSED_STREAM` says that the peer did not process
/// it.
fn is_refusal(error: &hyper::Error) -> bool {
    use std::error::Error;
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|cause: &h2::Error| {
        cause.is_reset() && cause.is_remote() && cause.reason() != Some(h2::Reason::REFUSED_STREAM)
    })
}

/// Moves the host to a header and leaves the path and query in the request line, as HTTP/1 requires.
fn name_origin(request: &mut Request<RequestBody>) {
    let uri = request.uri();
    let host = uri.authority().map_or("", |authority| authority.as_str());
    if let Ok(host) = HeaderValue::from_str(host) {
        let path = uri.path_and_query().cloned();
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    }
}
