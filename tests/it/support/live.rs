//! A relay that runs on its own, with the system clock and real HTTP. The sandbox serves as its Basiq.

use crate::support::actor;
use std::time::{Duration, Instant};

use basiq_relay::{
    app::{Relay, ReloadableSecrets},
    config::Settings,
};
use basiq_sandbox::{Sandbox, SandboxOptions};
use jiff::Timestamp;
use relay_domain::{ApiKey, SigningSecret, clock::Clock};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Receiver, TestApp, TestDatabase, address, listener::Listener};

/// A running relay, with its sandbox and its receiver.
pub(crate) struct Live {
    pub(crate) sandbox: Sandbox,
    pub(crate) receiver: Receiver,
    pub(crate) secrets: ReloadableSecrets,
    clock: Clock,
    base: url::Url,
    key: ApiKey,
    http: reqwest::Client,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    pub(crate) database: TestDatabase,
}

impl Live {
    pub(crate) async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with(change, |_, _| ()).await
    }

    /// Starts a relay. `make` changes the sandbox's options; its second argument is the relay's address.
    pub(crate) async fn start_with(
        change: impl FnOnce(&mut Settings),
        make: impl FnOnce(&mut SandboxOptions, &url::Url),
    ) -> Self {
        let relays = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = address(&relays);
        let mut options = SandboxOptions::default();
        make(&mut options, &base);
        let database = TestDatabase::new().await;
        let (clock, stop, mut tasks) = (Clock::system(), CancellationToken::new(), JoinSet::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = TestApp::builder().settings;
        settings.store.database = database.url.clone();
        settings.basiq.url = address(&listener);
        change(&mut settings);
        let sandbox = Sandbox::new(options, clock.clone());
        let (serving, until) = (sandbox.clone(), stop.clone());
        tasks.spawn(async move { serving.serve(listener, until).await.unwrap() });
        let receiver = Receiver::start(&mut tasks).await;
        let relay = Relay::build(settings, clock.clone()).await.unwrap();
        let (key, secret) = (ApiKey::generate(), SigningSecret::generate());
        let hash = key.hash();
        let name = "live".parse().unwrap();
        let added = relay
            .store
            .add_client(&name, &hash, &secret, actor(), clock.now());
        added.await.unwrap().expect("a free name");
        let secrets = relay.secrets.clone();
        let until = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            let ends = (until, std::future::pending());
            relay.serve_on(relays, None, ends).await.unwrap();
        });
        Self {
            sandbox,
            receiver,
            secrets,
            clock,
            base,
            key,
            http: reqwest::Client::builder().build().unwrap(),
            stop,
            tasks,
            database,
        }
    }

    /// Returns the address that the relay listens on.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.base.port().unwrap())
    }

    /// Returns the clock of the relay and the sandbox.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Prepares a call with the API key.
    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(self.key.expose())
    }

    /// Prepares a call without the API key.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.base.join(path).unwrap())
    }

    /// Registers a watch of a job with the receiver's `/hook` as its callback. Returns the watch.
    pub(crate) async fn register(&self, job_id: &str) -> Value {
        let callback = format!("{}/hook", self.receiver.url());
        let body = json!({ "jobId": job_id, "callbackUrl": callback });
        let answer = self.call(Method::POST, "watch").json(&body).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 202);
        answer.json().await.unwrap()
    }

    /// Opens the stream of a watch at its `streamUrl`.
    pub(crate) async fn listen(&self, watch: &Value) -> Listener {
        let url = watch["streamUrl"].as_str().unwrap();
        Listener::to(self.bare(Method::GET, url).send().await.unwrap())
    }

    /// Registers `watches` watches of a job, each with its own callback.
    pub(crate) async fn watch_by(&self, job_id: &str, watches: usize) {
        let url = self.receiver.url();
        let callbacks: Vec<_> = (0..watches).map(|n| format!("{url}/hook/{n}")).collect();
        self.watch_at(job_id, &callbacks).await;
    }

    /// Registers a watch of a job for each callback.
    pub(crate) async fn watch_at(&self, job_id: &str, callbacks: &[String]) {
        let mut calls = JoinSet::new();
        for callback in callbacks {
            let body = json!({ "jobId": job_id, "callbackUrl": callback });
            let call = self
                .http
                .post(self.base.join("watch").unwrap())
                .bearer_auth(self.key.expose())
                .json(&body);
            calls.spawn(async move { call.send().await.unwrap().status().as_u16() });
        }
        for status in calls.join_all().await {
            assert_eq!(status, 202);
        }
    }

    /// Registers a watch whose operation is `update`.
    pub(crate) async fn watch_update(&self, job_id: &str) {
        let callback = format!("{}/hook", self.receiver.url());
        let body = json!({ "jobId": job_id, "callbackUrl": callback, "operation": "update" });
        let call = self.http.post(self.base.join("watch").unwrap());
        let call = call.bearer_auth(self.key.expose()).json(&body);
        assert_eq!(call.send().await.unwrap().status().as_u16(), 202);
    }

    /// Waits until `is_so` returns true. Fails after `patience`.
    pub(crate) async fn until(&self, patience: Duration, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < patience, "not within {patience:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the relay at once, with its work in flight.
    pub(crate) fn abandon(mut self) {
        self.tasks.abort_all();
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(15), async {
            // The receiver's server never ends.
            while self.tasks.len() > 1 {
                self.tasks.join_next().await;
            }
        });
        ended.await.expect("the relay stops");
    }
}
