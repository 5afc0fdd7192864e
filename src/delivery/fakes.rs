//! Stand-ins for tests: a callback host on loopback, a resolver, and an outbox in memory.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    config::DeliveryConfig,
    delivery::NameResolver,
    domain::{CallbackUrl, DeliveryId, EventId, LeaseId, SigningSecret, WatchId},
    store::{AfterAttempt, AttemptResult, Claim, DueDelivery, HostLimits, OutboxStore, StoreError},
};

/// The time of these tests.
pub(super) fn now() -> Timestamp {
    "2026-11-23T09:14:28Z".parse().unwrap()
}

/// Loopback and plain HTTP are allowed, and an attempt takes 300 ms at most.
pub(super) fn local_config() -> DeliveryConfig {
    DeliveryConfig {
        allow_http: true,
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        timeout: Duration::from_millis(300),
        ..DeliveryConfig::default()
    }
}

/// A new delivery of its own watch.
pub(super) fn due(url: &str) -> DueDelivery {
    let watch_id = WatchId::new(now());
    DueDelivery {
        id: DeliveryId::new(now()),
        lease: LeaseId::new(now()),
        event_id: EventId::derive(watch_id, 1),
        watch_id,
        job_id: "248b2883".parse().unwrap(),
        body: "{\"status\":\"failed\"}".to_owned(),
        created_at: now(),
        callback_url: CallbackUrl::from_stored(url).unwrap(),
        secret: SigningSecret::generate(),
        previous_secret: None,
        deadline: None,
        attempts: 0,
        round_attempts: 0,
    }
}

/// How a fake host answers each request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// With this status line and no body.
    Status(&'static str),
    /// With 302 to this address.
    Redirect(String),
    /// With these bytes, then hangs up.
    Raw(&'static str),
    /// Not at all.
    Hang,
    /// By hanging up.
    HangUp,
    /// With 200 and a body that never ends.
    Endless,
    /// With 200 and a byte every now and then.
    Drip,
    /// With 200 and less than it promised.
    CutShort,
}

/// A callback host on loopback; it is gone when dropped.
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
    pub(super) async fn plays(reply: Reply) -> Self {
        Self::plays_in_turn(vec![reply]).await
    }

    /// Plays each reply once, and the last one for ever.
    pub(super) async fn plays_in_turn(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, mut replies: VecDeque<Reply>, seen: Arc<Seen>) {
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

async fn answer(mut stream: TcpStream, reply: Reply, seen: Arc<Seen>) {
    if matches!(reply, Reply::HangUp) {
        return;
    }
    let Some(request) = read_request(&mut stream).await else {
        return;
    };
    seen.requests.lock().unwrap().push(request);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let close = "content-length: 0\r\nconnection: close\r\nset-cookie: a=b\r\n\r\n";
    let text = match &reply {
        Reply::Status(status) => format!("HTTP/1.1 {status}\r\nretry-after: 7\r\n{close}"),
        Reply::Redirect(to) => format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\n{close}"),
        Reply::Raw(text) => (*text).to_owned(),
        Reply::CutShort => "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\npart".to_owned(),
        Reply::Endless | Reply::Drip => chunked.to_owned(),
        Reply::Hang | Reply::HangUp => String::new(),
    };
    stream.write_all(text.as_bytes()).await.unwrap();
    match reply {
        Reply::Hang => std::future::pending().await,
        Reply::Endless => while stream.write_all(b"4\r\nmore\r\n").await.is_ok() {},
        Reply::Drip => {
            while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        _ => stream.shutdown().await.unwrap_or_default(),
    }
}

/// One request with a body of `content-length`, or none if it is no HTTP.
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

/// A callback host with TLS that answers 200, and the authority that vouches for it.
pub(super) struct FakeTls {
    pub(super) port: u16,
    /// The authority's certificate in PEM.
    pub(super) ca: String,
    _tasks: JoinSet<()>,
}

impl FakeTls {
    pub(super) async fn for_name(name: &str) -> Self {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = authority.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let host = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = host.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_tls(listener, Arc::new(config).into()));
        Self {
            port,
            ca,
            _tasks: tasks,
        }
    }
}

async fn accept_tls(listener: TcpListener, tls: tokio_rustls::TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Ok(mut stream) = tls.accept(stream).await {
            read_request(&mut stream).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap_or_default();
        }
    }
}

/// A resolver that answers as told, whatever the name.
#[derive(Clone)]
pub(super) struct Names(Arc<Mutex<VecDeque<Vec<IpAddr>>>>);

impl Names {
    /// These addresses every time.
    pub(super) fn always(addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Self(Arc::new(Mutex::new(VecDeque::from([addresses]))))
    }

    /// One address after the other, then the last one for ever.
    pub(super) fn in_turn(addresses: &[&str]) -> Self {
        let turns = addresses.iter().map(|text| vec![text.parse().unwrap()]);
        Self(Arc::new(Mutex::new(turns.collect())))
    }

    /// No such name.
    pub(super) fn unknown() -> Self {
        Self(Arc::default())
    }
}

#[async_trait]
impl NameResolver for Names {
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

/// Deliveries in memory, each with the time it is due.
#[derive(Default)]
pub(super) struct FakeOutbox {
    pub(super) waiting: Mutex<Vec<(Timestamp, DueDelivery)>>,
    leased: Mutex<HashMap<DeliveryId, DueDelivery>>,
    pub(super) recorded: Mutex<Vec<AttemptResult>>,
    /// So many calls of `record_attempts` fail.
    pub(super) refuse_records: AtomicUsize,
}

impl FakeOutbox {
    pub(super) fn holding(deliveries: Vec<DueDelivery>) -> Arc<Self> {
        let waiting = deliveries.into_iter().map(|due| (now(), due)).collect();
        Arc::new(Self {
            waiting: Mutex::new(waiting),
            ..Self::default()
        })
    }

    pub(super) fn recorded(&self) -> Vec<AttemptResult> {
        self.recorded.lock().unwrap().clone()
    }
}

#[async_trait]
impl OutboxStore for FakeOutbox {
    async fn claim_due_deliveries(
        &self,
        claim: Claim,
        hosts: &HostLimits,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let mut leased = self.leased.lock().unwrap();
        let mut watches: HashSet<_> = leased.values().map(|due| due.watch_id).collect();
        let mut taken = hosts.in_flight.clone();
        let (mut claimed, mut left) = (Vec::new(), Vec::new());
        let mut waiting = self.waiting.lock().unwrap();
        for (at, due) in waiting.drain(..) {
            let host = taken.entry(due.callback_url.host().to_owned()).or_default();
            let free = at <= claim.now && claimed.len() < claim.limit && *host < hosts.per_host;
            if free && watches.insert(due.watch_id) {
                *host += 1;
                leased.insert(due.id, due.clone());
                claimed.push(due);
            } else {
                left.push((at, due));
            }
        }
        *waiting = left;
        Ok(claimed)
    }

    async fn record_attempts(&self, results: Vec<AttemptResult>) -> Result<(), StoreError> {
        let refuse = |left: usize| left.checked_sub(1);
        if self
            .refuse_records
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse)
            .is_ok()
        {
            return Err(StoreError::Unavailable("out of reach".into()));
        }
        for result in results {
            let mut due = self
                .leased
                .lock()
                .unwrap()
                .remove(&result.delivery_id)
                .unwrap();
            if let AfterAttempt::RetryAt(at) = result.next {
                due.attempts += 1;
                due.round_attempts += 1;
                self.waiting.lock().unwrap().push((at, due));
            }
            self.recorded.lock().unwrap().push(result);
        }
        Ok(())
    }

    async fn next_delivery_due(&self, hosts: &HostLimits) -> Result<Option<Timestamp>, StoreError> {
        let waiting = self.waiting.lock().unwrap();
        let taken = |due: &DueDelivery| hosts.in_flight.get(due.callback_url.host()).copied();
        let open = |due: &DueDelivery| taken(due).unwrap_or(0) < hosts.per_host;
        let due = waiting.iter().filter(|(_, due)| open(due));
        Ok(due.map(|(at, _)| *at).min())
    }
}
