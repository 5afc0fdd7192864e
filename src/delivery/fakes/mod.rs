//! Stand-ins for tests: a callback host on loopback, a resolver, and an outbox in memory.

mod keeping;
mod outbox;
mod tls;

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{
    CallbackAuth, CallbackUrl, DeliveryId, EventId, EventSource, LeaseId, SigningSecret, WatchId,
};
use relay_store::{DeliverySigner, DueDelivery};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    config::{DeliveryConfig, Settings},
    delivery::NameResolver,
};

pub(super) use self::{
    keeping::{HostAction, KeepingHost, SilentPort},
    outbox::FakeOutbox,
    tls::{FakeProxy, FakeTls},
};
/// Returns the time at which these tests run.
pub(super) fn now() -> Timestamp {
    "2026-11-23T09:14:28Z".parse().unwrap()
}

/// Returns a configuration that allows loopback and plain HTTP. An attempt takes at most 300 ms.
pub(super) fn local_config() -> DeliveryConfig {
    DeliveryConfig {
        allow_http: true,
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        timeout: Duration::from_millis(300),
        ..Settings::default().delivery
    }
}

/// Returns a new delivery of a new watch.
pub(super) fn due(url: &str) -> DueDelivery {
    let watch_id = WatchId::new(now());
    DueDelivery {
        id: DeliveryId::new(now()),
        lease: LeaseId::new(now()),
        event_id: EventId::derive(watch_id, 1),
        source: EventSource::Watch {
            watch_id,
            job_id: "248b2883".parse().unwrap(),
        },
        client: Some("app".to_owned()),
        body: b"{\"status\":\"failed\"}".to_vec(),
        created_at: now(),
        callback_url: CallbackUrl::from_stored(url).unwrap(),
        signer: DeliverySigner::Relay {
            secret: SigningSecret::generate(),
            previous: None,
        },
        auth: CallbackAuth::default(),
        deadline: None,
        attempts: 0,
        round_attempts: 0,
        trace: None,
    }
}

/// How a fake host answers each request.
#[derive(Debug, Clone)]
pub(super) enum HostReply {
    /// Answers with this status line and no body.
    Status(&'static str),
    /// Answers 302 with this address.
    Redirect(String),
    /// Sends these bytes, then closes the connection.
    Raw(&'static str),
    /// Sends no response and keeps the connection open.
    Hang,
    /// Closes the connection without a response.
    HangUp,
    /// Answers 200 with a body that never ends.
    Endless,
    /// Answers 200 with headers that never end.
    EndlessHead,
    /// Answers 200 and sends a byte of the body every 20 ms.
    Drip,
    /// Answers 200 with a body shorter than its `content-length`.
    CutShort,
}

/// A callback host on loopback. It stops when dropped.
pub(super) struct FakeHost {
    address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl FakeHost {
    pub(super) async fn plays(reply: HostReply) -> Self {
        Self::plays_in_turn(vec![reply]).await
    }

    /// Plays each reply once, then repeats the last one.
    pub(super) async fn plays_in_turn(replies: Vec<HostReply>) -> Self {
        Self::plays_at("127.0.0.1:0", replies).await
    }

    pub(super) async fn plays_at(at: &str, replies: Vec<HostReply>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, replies.into(), Arc::clone(&seen)));
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    pub(super) fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/hooks?token=hidden", self.address.port())
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, mut replies: VecDeque<HostReply>, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let reply = if replies.len() > 1 {
            replies.pop_front().unwrap()
        } else {
            replies[0].clone()
        };
        connections.spawn(answer(stream, reply, Arc::clone(&seen)));
    }
}

async fn answer(mut stream: TcpStream, reply: HostReply, seen: Arc<Seen>) {
    if matches!(reply, HostReply::HangUp) {
        return;
    }
    let Some(request) = read_request(&mut stream).await else {
        return;
    };
    seen.requests.lock().unwrap().push(request);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let close = "content-length: 0\r\nconnection: close\r\nset-cookie: a=b\r\n\r\n";
    let text = match &reply {
        HostReply::Status(status) => format!("HTTP/1.1 {status}\r\nretry-after: 7\r\n{close}"),
        HostReply::Redirect(to) => format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\n{close}"),
        HostReply::Raw(text) => (*text).to_owned(),
        HostReply::CutShort => "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\npart".to_owned(),
        HostReply::Endless | HostReply::Drip => chunked.to_owned(),
        HostReply::EndlessHead => "HTTP/1.1 200 OK\r\n".to_owned(),
        HostReply::Hang | HostReply::HangUp => String::new(),
    };
    stream.write_all(text.as_bytes()).await.unwrap();
    match reply {
        HostReply::Hang => std::future::pending().await,
        HostReply::EndlessHead => while stream.write_all(b"x-more: and more\r\n").await.is_ok() {},
        HostReply::Endless => while stream.write_all(b"4\r\nmore\r\n").await.is_ok() {},
        HostReply::Drip => {
            while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        _ => stream.shutdown().await.unwrap_or_default(),
    }
}

/// Reads one request with a body of `content-length`. Returns none if the bytes are not HTTP.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8(bytes.clone()).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.unwrap_or("0").parse().unwrap() {
            return Some(text);
        }
    }
}

/// A resolver that returns configured addresses for every name.
#[derive(Clone)]
pub(super) struct FakeResolver(Arc<Mutex<VecDeque<Vec<IpAddr>>>>);

impl FakeResolver {
    /// Creates a resolver that always returns these addresses.
    pub(super) fn always(addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Self(Arc::new(Mutex::new(VecDeque::from([addresses]))))
    }

    /// Creates a resolver that returns one address after the other, then repeats the last one.
    pub(super) fn in_turn(addresses: &[&str]) -> Self {
        let turns = addresses.iter().map(|text| vec![text.parse().unwrap()]);
        Self(Arc::new(Mutex::new(turns.collect())))
    }

    /// Creates a resolver that knows no name.
    pub(super) fn unknown() -> Self {
        Self(Arc::default())
    }
}

#[async_trait]
impl NameResolver for FakeResolver {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let mut turns = self.0.lock().unwrap();
        let next = if turns.len() > 1 {
            turns.pop_front()
        } else {
            turns.front().cloned()
        };
        next.ok_or_else(|| io::Error::other("no such name"))
    }
}
