//! A relay process between a sandbox and a receiver, with access to everything it writes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use basiq_sandbox::{Sandbox, SandboxOptions};
use relay_domain::{SigningSecret, clock::Clock, signing};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

use super::{Receiver, TestDatabase, database::holds, process::RelaySetup};

const PATIENCE: u32 = 500;

/// The headers of all calls to Basiq.
type Calls = Arc<Mutex<Vec<HeaderMap>>>;

/// The surroundings of a relay process.
pub(crate) struct Scene {
    pub(crate) sandbox: Sandbox,
    pub(crate) setup: RelaySetup,
    pub(crate) receiver: Receiver,
    pub(crate) database: TestDatabase,
    pub(crate) tasks: JoinSet<()>,
    calls: Calls,
}

impl Scene {
    pub(crate) async fn set(options: SandboxOptions) -> Self {
        let mut tasks = JoinSet::new();
        let sandbox = Sandbox::new(options, Clock::system());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let basiq = format!("http://{}", listener.local_addr().unwrap());
        let calls = Calls::default();
        let noting = from_fn_with_state(Arc::clone(&calls), note_call);
        let router = sandbox.router().layer(noting);
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let receiver = Receiver::start(&mut tasks).await;
        let database = TestDatabase::new().await;
        let mut setup = RelaySetup::new(&database, &basiq);
        setup.environment = vec![("RELAY_LOG", "trace".to_owned())];
        Self {
            sandbox,
            setup,
            receiver,
            database,
            tasks,
            calls,
        }
    }

    /// Waits until at least `count` requests have reached the receiver.
    pub(crate) async fn told(&self, count: usize) {
        until(async || self.receiver.received().len() >= count).await;
    }

    /// Returns every access token that the relay used.
    pub(crate) fn tokens(&self) -> BTreeSet<String> {
        let calls = self.calls.lock().unwrap();
        let tokens = calls.iter().filter_map(|call| {
            let text = call.get(header::AUTHORIZATION)?.to_str().ok()?;
            Some(text.strip_prefix("Bearer ")?.to_owned())
        });
        tokens.collect()
    }

    /// Returns the number of calls to Basiq, and how many of them had a `traceparent` header.
    pub(crate) fn calls(&self) -> (usize, usize) {
        let calls = self.calls.lock().unwrap();
        let traced = |call: &&HeaderMap| call.contains_key("traceparent");
        (calls.len(), calls.iter().filter(traced).count())
    }

    /// Returns the names of the relay's files and tables that contain the text.
    pub(crate) async fn stored_with(&self, text: &str) -> Vec<String> {
        let stored = self.database.stored().await;
        let sizes: usize = stored.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(sizes > 1024, "the store is somewhere else");
        let found = stored.into_iter().filter(|(_, bytes)| holds(bytes, text));
        found.map(|(name, _)| name).collect()
    }
}

/// Waits until `is_so` returns true. Fails after 25 s, which is longer than the lease of an attempt whose relay was
/// killed.
pub(crate) async fn until(is_so: impl AsyncFn() -> bool) {
    for _ in 0..PATIENCE {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come to be so");
}

async fn note_call(State(calls): State<Calls>, request: Request, next: Next) -> Response {
    calls.lock().unwrap().push(request.headers().clone());
    next.run(request).await
}

/// A response of a relay process.
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// Returns the headers and the body as one text.
    pub(crate) fn whole(&self) -> String {
        format!("{:?}\n{}", self.headers, self.text)
    }
}

/// Calls a relay process. `call` has the form `GET /path`. An empty key sends no key.
pub(crate) async fn ask(base: &str, call: &str, key: &str, body: Option<String>) -> Said {
    let (method, path) = call.split_once(' ').unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.request(method.parse().unwrap(), format!("{base}{path}"));
    let request = match key {
        "" => request,
        key => request.bearer_auth(key),
    };
    let request = match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(body),
        None => request,
    };
    let answer = request.send().await.unwrap();
    Said {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        text: answer.text().await.unwrap(),
    }
}

/// Sends a signed Basiq webhook without content to a relay process. Returns the status.
pub(crate) async fn hint(base: &str, id: &str, secret: &SigningSecret) -> u16 {
    let now = Clock::system().now();
    let signed = signing::sign(id, now, "{}", &[secret]).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.post(format!("{base}/basiq/webhook")).body("{}");
    for (name, value) in signed.entries() {
        request = request.header(name, value);
    }
    request.send().await.unwrap().status().as_u16()
}
