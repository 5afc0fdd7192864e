//! Several relays in this process, on one PostgreSQL database, with one sandbox and one receiver.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use basiq_relay::{
    app::Relay,
    config::{DatabaseUrl, Settings},
};
use basiq_sandbox::{Sandbox, SandboxOptions};
use relay_domain::{ApiKey, SigningSecret, clock::Clock};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::actor;
use crate::support::{Receiver, TestApp, TestDatabase};

/// The running relays and their surroundings.
pub(crate) struct Crew {
    pub(crate) sandbox: Sandbox,
    pub(crate) receiver: Receiver,
    pub(crate) database: TestDatabase,
    pub(crate) settings: Settings,
    pub(crate) key: ApiKey,
    pub(crate) http: reqwest::Client,
    pub(crate) relays: Vec<Member>,
    has_client: bool,
    tasks: JoinSet<()>,
}

/// One relay.
pub(crate) struct Member {
    pub(crate) base: String,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Crew {
    /// Starts everything except the relays.
    pub(crate) async fn gather(change: impl FnOnce(&mut Settings)) -> Self {
        Self::gather_on(TestDatabase::postgres().await, change).await
    }

    /// Starts everything except the relays. On SQLite, only one relay can run at a time.
    pub(crate) async fn gather_on(
        database: TestDatabase,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut tasks = JoinSet::new();
        let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = TestApp::builder().into_settings();
        settings.store.database = database.url.clone();
        settings.basiq.url = url(listener.local_addr().unwrap()).parse().unwrap();
        change(&mut settings);
        let serving = sandbox.clone();
        tasks.spawn(async move {
            let served = serving.serve(listener, CancellationToken::new()).await;
            served.unwrap();
        });
        let receiver = Receiver::start(&mut tasks).await;
        Self {
            sandbox,
            receiver,
            database,
            settings,
            key: ApiKey::generate(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            relays: Vec::new(),
            has_client: false,
            tasks,
        }
    }

    /// Starts one more relay with this clock as its machine's clock.
    pub(crate) async fn join_with(&mut self, clock: Clock) {
        let database = self.settings.store.database.clone();
        self.join_through(database, clock).await;
    }

    pub(crate) async fn join(&mut self) {
        self.join_with(Clock::system()).await;
    }

    /// Starts one more relay that connects to the database at this address.
    pub(crate) async fn join_through(&mut self, database: DatabaseUrl, clock: Clock) {
        let mut settings = self.settings.clone();
        settings.store.database = database;
        let relay = Relay::build(settings, clock.clone()).await.unwrap();
        if !std::mem::replace(&mut self.has_client, true) {
            let (hash, secret) = (self.key.hash(), SigningSecret::generate());
            let name = "crew".parse().unwrap();
            let added = relay
                .store
                .add_client(&name, &hash, &secret, actor(), clock.now());
            added.await.unwrap().expect("a free name");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = url(listener.local_addr().unwrap());
        let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
        let until = stop.clone().cancelled_owned();
        task.spawn(async move {
            let ends = (until, std::future::pending());
            relay.serve_on(listener, None, ends).await.unwrap();
        });
        self.relays.push(Member { base, stop, task });
    }

    /// Registers a watch at one of the relays. Returns the relay's response.
    pub(crate) async fn try_watch(
        &self,
        relay: usize,
        job: &str,
    ) -> reqwest::Result<(StatusCode, Option<String>, Value)> {
        let body = json!({ "jobId": job, "callbackUrl": format!("{}/hook", self.receiver.url()) });
        let call = self.http.post(format!("{}/watch", self.relays[relay].base));
        let call = call.bearer_auth(self.key.expose()).json(&body);
        let answer = call.send().await?;
        let (status, wait) = (
            answer.status(),
            answer.headers().get("retry-after").cloned(),
        );
        let wait = wait.map(|wait| wait.to_str().unwrap().to_owned());
        Ok((status, wait, answer.json().await?))
    }

    pub(crate) async fn watch(&self, relay: usize, job: &str) {
        let (status, _, body) = self.try_watch(relay, job).await.unwrap();
        assert_eq!(status, 202, "{body}");
    }

    /// Calls `/readyz` of a relay.
    pub(crate) async fn readiness(&self, relay: usize) -> (StatusCode, Value) {
        let url = format!("{}/readyz", self.relays[relay].base);
        let answer = self.http.get(url).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Waits until `is_so` returns true. Fails after `patience`.
    pub(crate) async fn until(&self, patience: Duration, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            let told = self.receiver.received().len();
            assert!(
                began.elapsed() < patience,
                "not within {patience:?}: {told} told"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn told(&self) -> usize {
        self.receiver.received().len()
    }

    /// Ends a relay at once, in the middle of its work.
    pub(crate) async fn kill(&mut self, relay: usize) {
        self.relays.remove(relay).task.shutdown().await;
    }

    pub(crate) async fn stop(mut self) {
        for relay in &self.relays {
            relay.stop.cancel();
        }
        for relay in &mut self.relays {
            let ended = tokio::time::timeout(Duration::from_secs(15), relay.task.join_next());
            ended.await.expect("the relay stops").unwrap().unwrap();
        }
        self.tasks.shutdown().await;
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}
