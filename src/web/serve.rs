//! Serves connections within limits. The number of connections is limited, and each request head has a time limit.
//! So slow or silent clients cannot use up what other clients need.

use std::time::Duration;

use axum::{Router, body::Body};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::web::{
    connections::{InboundConnections, OpenConnection, TrackedBody},
    head,
    peer::PeerAddress,
    write_timeout::WriteTimeout,
};

/// The limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// The maximum number of open connections. At the limit, a new connection ends the one that has been idle
    /// longest. While all are in use, new connections wait.
    pub connections: usize,
    /// The time limit for reading a request's head, and for waiting for the next request.
    pub head: Duration,
    /// The time-out of writes. A connection ends if nothing could be written for this time, because its client does
    /// not read.
    pub unread: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(30),
            unread: Duration::from_secs(30),
        }
    }
}

/// The maximum size of a request's head, in bytes. A head may exceed it by the data of one read.
const MAX_HEAD: usize = 32 * 1024;

/// The maximum number of headers of a request.
const MAX_HEADERS: usize = 100;

/// The pause after a connection could not be accepted, because the process has no free file handle.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then finishes the requests that are in progress.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let server = Server {
        builder: builder(limits),
        unread: limits.unread,
        router,
        graceful: GracefulShutdown::new(),
    };
    let open = InboundConnections::new(limits.connections);
    let mut connections = JoinSet::new();
    while let Some((stream, slot)) = next(&listener, &open, &stop).await {
        server.start(stream, slot, &mut connections);
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    server.graceful.shutdown().await;
}

/// Returns the next connection and its permit, or `None` after `stop`. The connection is accepted before it gets a
/// permit, so that an idle connection ends only if another one needs its permit.
async fn next(
    listener: &TcpListener,
    open: &InboundConnections,
    stop: &CancellationToken,
) -> Option<(TcpStream, OpenConnection)> {
    let accept = async {
        let stream = accept(listener).await;
        Some((stream, open.enter().await?))
    };
    tokio::select! {
        () = stop.cancelled() => None,
        accepted = accept => accepted,
    }
}

/// Accepts a connection. Logs only the first of several failures in a row, not ten a second.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut has_failed = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if !has_failed => warn!(%error, "a connection cannot be accepted"),
            Err(_) => {}
        }
        has_failed = true;
        tokio::time::sleep(PAUSE).await;
    }
}

struct Server {
    builder: Builder<TokioExecutor>,
    unread: Duration,
    router: Router,
    graceful: GracefulShutdown,
}

impl Server {
    fn start(&self, stream: TcpStream, slot: OpenConnection, connections: &mut JoinSet<()>) {
        // send small responses at once
        drop(stream.set_nodelay(true));
        let peer = PeerAddress::of_stream(&stream);
        let stream = WriteTimeout::new(stream, self.unread);
        let (router, requests) = (self.router.clone(), slot.requests());
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            let in_use = requests.begin();
            let answer = router.clone().oneshot(checked(request));
            async move {
                let answered = answer.await;
                answered.map(|answer| answer.map(|body| Body::new(TrackedBody::new(body, in_use))))
            }
        });
        let connection = self
            .builder
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        let connection = self.graceful.watch(connection);
        connections.spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        debug!(error, "a connection ended early");
                    }
                }
                () = slot.must_end() => debug!("an idle connection ends to make room"),
            }
            drop(slot);
        });
    }
}

/// Checks the head of a request. A fault is put into the request's extensions for the middleware.
fn checked(mut request: Request<Incoming>) -> Request<Incoming> {
    match head::check(&request) {
        Ok(()) => head::follow_target(&mut request),
        Err(fault) => {
            request.extensions_mut().insert(fault);
        }
    }
    request
}

/// Builds an HTTP/1.1 server. To detect HTTP/2, the server would wait for the first bytes without a limit. TLS with
/// HTTP/2 ends at a proxy in front of the relay.
fn builder(limits: ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, timeout},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Starts a server on loopback that responds `hello`. A request's head must arrive within half a second.
    async fn start(connections: usize) -> (std::net::SocketAddr, CancellationToken, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/large", get(|| async { "x".repeat(100_000_000) }))
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(SECOND).await;
                    "slowly"
                }),
            );
        let limits = ConnectionLimits {
            connections,
            head: SECOND / 2,
            unread: SECOND,
        };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, router, limits, stop.clone()));
        (address, stop, tasks)
    }

    async fn send(address: std::net::SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // a server that has responded already may not read the rest
        drop(stream.write_all(text.as_bytes()).await);
        stream
    }

    async fn read(mut stream: TcpStream) -> String {
        let mut text = String::new();
        let read = timeout(5 * SECOND, stream.read_to_string(&mut text)).await;
        // a reset ends the connection as well as a close does
        drop(read.expect("the connection ends"));
        text
    }

    const WHOLE: &str = "GET / HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_head_that_is_not_sent_in_time_ends_its_connection() {
        let (address, _stop, _tasks) = start(10).await;
        let began = Instant::now();
        for part in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: relay\r\nx-slow: "] {
            let text = read(send(address, part).await).await;
            assert!(!text.contains("hello"), "{part}: {text}");
        }
        assert!(began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());
        assert!(read(send(address, WHOLE).await).await.contains("hello"));
    }

    #[tokio::test]
    async fn slow_clients_hold_up_others_for_their_time_limit_only() {
        let (address, _stop, _tasks) = start(3).await;
        let mut slow = Vec::new();
        for _ in 0..3 {
            slow.push(send(address, "GET / HTTP/1.1\r\n").await);
        }
        let began = Instant::now();
        let answer = read(send(address, WHOLE).await).await;
        assert!(answer.contains("hello") && began.elapsed() < 3 * SECOND);
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let (address, _stop, _tasks) = start(10).await;
        let large = format!(
            "GET / HTTP/1.1\r\nhost: relay\r\nx: {}\r\n\r\n",
            "a".repeat(150_000)
        );
        let answer = read(send(address, &large).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_its_connection_for_its_time_limit_only() {
        let (address, _stop, _tasks) = start(1).await;
        let whole = WHOLE.replace("GET / ", "GET /large ");
        let _unread = send(address, &whole).await;
        let began = Instant::now();
        let answer = read(send(address, WHOLE).await).await;
        assert!(answer.contains("hello") && began.elapsed() < 3 * SECOND);
    }

    #[tokio::test]
    async fn a_stop_finishes_what_is_under_way_and_accepts_nothing_new() {
        let (address, stop, mut tasks) = start(10).await;
        let text = "GET /slow HTTP/1.1\r\nhost: relay\r\n\r\n";
        let under_way = send(address, text).await;
        tokio::time::sleep(SECOND / 10).await;
        stop.cancel();
        assert!(read(under_way).await.contains("slowly"));
        timeout(SECOND, tasks.join_next()).await.expect("it ends");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
