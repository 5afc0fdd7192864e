//! A local server that stands in for Basiq and sends scripted responses.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use relay_domain::{Fleet, Upstream, clock::Clock};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use crate::{BasiqClient, BasiqConfig, FleetCoordination, UpstreamCoordinator};

/// One scripted response.
#[derive(Debug, Clone)]
pub(super) enum FakeReply {
    Json(u16, Value),
    Raw(u16, String),
    RetryAfter(u16, &'static str),
    /// A response with this body. `Retry-After` is sent unless it is empty.
    Slow(u16, String, &'static str),
    Hang,
    /// The connection breaks in the middle of the body.
    Break,
}

#[derive(Default)]
pub(super) struct Script {
    /// The time of each request, with its path and `Authorization` header.
    pub(super) seen: Vec<(Instant, String, String)>,
    /// The query of each request, in the same order.
    pub(super) queries: Vec<String>,
    tokens: VecDeque<FakeReply>,
    others: VecDeque<FakeReply>,
    issued: u32,
}

impl Script {
    /// Drops the scripted responses to other calls than token requests.
    pub(super) fn forget_others(&mut self) {
        self.others.clear();
    }
}

#[derive(Clone, Default)]
pub(super) struct FakeScript(Arc<Mutex<Script>>);

impl FakeScript {
    pub(super) fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

/// A local server that stands in for Basiq. It stops when dropped.
pub(super) struct FakeBasiq {
    pub(super) script: FakeScript,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl FakeBasiq {
    pub(super) async fn start() -> Self {
        let script = FakeScript::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(reply).with_state(script.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            script,
            address,
            _tasks: tasks,
        }
    }

    pub(super) fn client(&self, rps: u32) -> (BasiqClient, Clock, Upstream) {
        client_of(self.address, rps)
    }

    /// Creates a client that shares the budget and the token with other relays.
    pub(super) fn client_of_many(
        &self,
        coordinator: Arc<dyn UpstreamCoordinator>,
        clock: Clock,
    ) -> (BasiqClient, Upstream) {
        let config = config(self.address, 1000, Duration::from_millis(800));
        let upstream = Upstream::default();
        let shared = FleetCoordination {
            coordinator: Some(coordinator),
            fleet: Fleet::alone(),
        };
        let client = BasiqClient::shared(&config, clock, upstream.clone(), shared).unwrap();
        (client, upstream)
    }

    /// Creates a client with this time limit for one call.
    pub(super) fn patient_client(&self, timeout: Duration) -> (BasiqClient, Clock, Upstream) {
        client_with(self.address, 1000, timeout)
    }

    pub(super) fn tokens(&self, replies: impl IntoIterator<Item = FakeReply>) {
        self.script.lock().tokens.extend(replies);
    }

    pub(super) fn others(&self, replies: impl IntoIterator<Item = FakeReply>) {
        self.script.lock().others.extend(replies);
    }

    pub(super) fn count(&self, path: &str) -> usize {
        let script = self.script.lock();
        script
            .seen
            .iter()
            .filter(|(_, seen, _)| seen == path)
            .count()
    }
}

pub(super) fn client_of(address: SocketAddr, rps: u32) -> (BasiqClient, Clock, Upstream) {
    client_with(address, rps, Duration::from_millis(800))
}

fn config(address: SocketAddr, rps: u32, timeout: Duration) -> BasiqConfig {
    BasiqConfig {
        webhook_secret: None,
        url: format!("http://{address}").parse().unwrap(),
        api_key: "a2V5".into(),
        requests_per_second: rps,
        concurrency: 32,
        timeout,
    }
}

fn client_with(address: SocketAddr, rps: u32, timeout: Duration) -> (BasiqClient, Clock, Upstream) {
    let config = config(address, rps, timeout);
    let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let upstream = Upstream::default();
    let client = BasiqClient::new(&config, clock.clone(), upstream.clone()).unwrap();
    (client, clock, upstream)
}

async fn reply(State(script): State<FakeScript>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().to_owned();
    let header = |name: &str| {
        let value = headers.get(name);
        value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    };
    let authorization = header("authorization");
    let next = {
        let mut script = script.lock();
        script
            .seen
            .push((Instant::now(), path.clone(), authorization.clone()));
        script
            .queries
            .push(uri.query().unwrap_or_default().to_owned());
        if path == "/token" {
            assert!(authorization.starts_with("Basic "));
            assert_eq!(header("basiq-version"), "3.0");
            script.issued += 1;
            let token = format!("token-{}", script.issued);
            script.tokens.pop_front().unwrap_or_else(|| {
                FakeReply::Json(200, json!({"access_token": token, "expires_in": 3600}))
            })
        } else {
            // The response to an answer is the job of the challenge.
            let id = path.trim_end_matches("/mfa").rsplit('/').next();
            script
                .others
                .pop_front()
                .unwrap_or_else(|| FakeReply::Json(200, json!({"id": id})))
        }
    };
    // A delay like that of a network makes calls overlap.
    tokio::time::sleep(Duration::from_millis(5)).await;
    answer(next).await
}

/// Answers as the script says.
async fn answer(next: FakeReply) -> Response {
    let status = |code: u16| StatusCode::from_u16(code).unwrap();
    match next {
        FakeReply::Json(code, body) => (status(code), body.to_string()).into_response(),
        FakeReply::Raw(code, body) | FakeReply::Slow(code, body, "") => {
            (status(code), body).into_response()
        }
        FakeReply::Slow(code, body, wait) => {
            (status(code), [("retry-after", wait)], body).into_response()
        }
        FakeReply::RetryAfter(code, value) => {
            (status(code), [("retry-after", value)]).into_response()
        }
        FakeReply::Hang => std::future::pending().await,
        FakeReply::Break => {
            let broken =
                futures_util::stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("gone"))]);
            Body::from_stream(broken).into_response()
        }
    }
}

/// Serves token requests, and drops the connection of the first `broken` other requests.
pub(super) async fn serve_broken(
    listener: TcpListener,
    broken: usize,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut dropped = 0;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let line = request.lines().next().unwrap_or_default().to_owned();
        let is_token = line.starts_with("POST /token");
        seen.lock().unwrap().push(line);
        if !is_token && dropped < broken {
            dropped += 1;
            continue;
        }
        let body = r#"{"access_token":"t","expires_in":3600,"id":"job-1"}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}",
            body.len()
        );
        let answer = format!("{head}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}
