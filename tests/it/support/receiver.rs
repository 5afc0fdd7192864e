//! A receiver that records every request. The test sets its answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

/// One received request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) raw: String,
    pub(crate) body: Value,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}

#[derive(Default)]
struct Script {
    received: Vec<Received>,
    answers: VecDeque<(u16, Vec<(&'static str, String)>)>,
}

/// The recording receiver. It answers 204 when no scripted answer is left.
#[derive(Clone)]
pub(crate) struct Receiver {
    url: String,
    script: Arc<Mutex<Script>>,
}

impl Receiver {
    pub(crate) async fn start(tasks: &mut JoinSet<()>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), tasks)
    }

    /// Starts a receiver on a bound listener.
    pub(crate) fn on(listener: TcpListener, tasks: &mut JoinSet<()>) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::<Mutex<Script>>::default();
        let router = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&script));
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.script.lock().unwrap().received.clone()
    }

    /// Adds an answer for one request, after the answers already set.
    pub(crate) fn answer_next(&self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        self.script
            .lock()
            .unwrap()
            .answers
            .push_back((status, headers));
    }

    /// Removes the answers already set. From now on every request is accepted.
    pub(crate) fn accept_all(&self) {
        self.script.lock().unwrap().answers.clear();
    }

    /// Adds this answer for `times` requests.
    pub(crate) fn answer(&self, times: usize, status: u16) {
        for _ in 0..times {
            self.answer_next(status, &[]);
        }
    }
}

async fn receive(
    State(script): State<Arc<Mutex<Script>>>,
    uri: Uri,
    headers: HeaderMap,
    raw: Bytes,
) -> Response {
    let raw = String::from_utf8_lossy(&raw).into_owned();
    let body = serde_json::from_str(&raw).unwrap_or(Value::Null);
    let mut script = script.lock().unwrap();
    script.received.push(Received {
        path: uri.path().to_owned(),
        headers,
        raw,
        body,
    });
    let (status, headers) = script.answers.pop_front().unwrap_or((204, Vec::new()));
    let mut response = StatusCode::from_u16(status).unwrap().into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
