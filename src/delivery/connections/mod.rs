//! Sends requests over connections that are kept for the next request to the same place.
//!
//! A kept connection is used only while its address is among those that were just vetted: a name that moved, or
//! whose address is no longer allowed, is not followed to where it was. `hyper-util`'s pool knows connections by
//! name alone, and cannot tell one that was closed while it rested from one that broke later.

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

/// The longest head of an answer, and the most of a body that waits to be read, in bytes.
const BUFFER: usize = 64 * 1024;
/// How many headers an answer may have. Node takes as many as fit into its 16 KiB, so 4,096 of the shortest.
const MOST_HEADERS: usize = 4096;

/// A request's body.
pub(super) type RequestBody = http_body_util::Full<bytes::Bytes>;

/// Why a request was not answered.
#[derive(Debug, Error)]
pub(super) enum SendError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS ended the connection after its handshake.
    #[error("TLS ended the connection")]
    Tls(#[source] rustls::Error),
    /// The connection broke, or what came is no HTTP.
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
        // what curl and Node take is no reason to post an event again: the status decides
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

    /// Sends a request to one of the vetted addresses, over a kept connection if there is one. Where that turns out
    /// closed before a byte of the answer came, the request is sent once more, over a new connection. A receiver that
    /// had taken the first one knows the second by its `webhook-id`.
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

    /// Keeps a connection for the next request, once it is ready for one.
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

/// Reads and writes for a connection until it is closed, which it is once nobody has its sender.
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

/// What requests are given to. One of HTTP/1 takes them one after the other, one of HTTP/2 many at once.
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

    /// The same connection for another request at the same time, if it can take one.
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

    /// Whether requests share it.
    fn is_shared(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether both send over one connection.
    fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.heard, &other.heard)
    }

    /// Whether it takes a request just now.
    fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Waits until it takes another request; it may close instead.
    async fn becomes_usable(&mut self) -> bool {
        let ready = match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender) => sender.ready().await,
        };
        ready.is_ok()
    }

    /// Whether the connection had been closed when a request came, rather than the request being what broke it.
    fn was_closed(&self, error: &hyper::Error) -> bool {
        match &self.sender {
            Sender::Http1(_) => !self.heard.anything(),
            // many requests are on their way: an answer to this one is what none of its errors comes after
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

/// Whether the other end of HTTP/2 looked at this request and reset it. `REFUSED_STREAM` says that it did not look.
fn is_refusal(error: &hyper::Error) -> bool {
    use std::error::Error;
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|cause: &h2::Error| {
        cause.is_reset() && cause.is_remote() && cause.reason() != Some(h2::Reason::REFUSED_STREAM)
    })
}

/// HTTP/1 names the host in a header and the rest in the request's line.
fn name_origin(request: &mut Request<RequestBody>) {
    let uri = request.uri();
    let host = uri.authority().map_or("", |authority| authority.as_str());
    if let Ok(host) = HeaderValue::from_str(host) {
        let path = uri.path_and_query().cloned();
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    }
}
