//! A relay whose SQLite file is damaged, removed, on a full disk, or readable by others.

mod backup;
mod damage;
mod full_disk;
mod lost;
mod private;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use basiq_sandbox::{Sandbox, SandboxOptions};
use relay_domain::clock::Clock;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{
    Receiver, TestDatabase, job,
    process::{RelayProcess, RelaySetup},
};

/// The time-out for events that take seconds, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sandbox, a receiver and a database file. Relays start and stop on them.
struct Place {
    sandbox: Sandbox,
    receiver: Receiver,
    database: TestDatabase,
    setup: RelaySetup,
    key: String,
    http: reqwest::Client,
    _tasks: JoinSet<()>,
}

impl Place {
    async fn new() -> Self {
        let mut tasks = JoinSet::new();
        let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let basiq = format!("http://{}", listener.local_addr().unwrap());
        let router = sandbox.router();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let receiver = Receiver::start(&mut tasks).await;
        let database = TestDatabase::sqlite();
        let mut setup = RelaySetup::new(&database, &basiq);
        setup.environment = vec![("RELAY_UPSTREAM_RPS", "1000".to_owned())];
        let client = setup.add_client("test").await;
        Self {
            sandbox,
            receiver,
            database,
            setup,
            key: client["apiKey"].as_str().unwrap().to_owned(),
            http: reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .unwrap(),
            _tasks: tasks,
        }
    }

    fn file(&self) -> PathBuf {
        self.database.folder.path().join("relay.db")
    }

    /// Makes Basiq show the job as running.
    fn run_job(&self, id: &str) {
        let steps = [("verify-credentials", "in-progress", Value::Null)];
        let now = Clock::system().now();
        self.sandbox.seed_document(id, job(id, now, &steps));
    }

    /// Makes Basiq show the job as succeeded.
    fn end_job(&self, id: &str) {
        let steps = [("verify-credentials", "success", Value::Null)];
        let now = Clock::system().now();
        self.sandbox.seed_document(id, job(id, now, &steps));
    }

    async fn call(&self, relay: &RelayProcess, method: Method, path: &str) -> Response {
        let call = self
            .http
            .request(method, format!("{}{path}", relay.url))
            .bearer_auth(&self.key);
        call.send().await.unwrap()
    }

    async fn watch(&self, relay: &RelayProcess, job_id: &str) -> Response {
        // A row of `watches` names its job by a number. The URL shows in the file which job that is.
        let callback = format!("{}/hook/{job_id}", self.receiver.url());
        let call = self
            .http
            .post(format!("{}/watch", relay.url))
            .bearer_auth(&self.key)
            .json(&json!({ "jobId": job_id, "callbackUrl": callback }));
        call.send().await.unwrap()
    }

    /// Returns the status of `/readyz`, and its word for the store.
    async fn ready(&self, relay: &RelayProcess) -> (u16, String) {
        let answer = self.call(relay, Method::GET, "/readyz").await;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["store"].as_str().unwrap().to_owned())
    }

    /// Waits until `/readyz` has this status.
    async fn until_ready_says(&self, relay: &RelayProcess, status: u16) {
        let began = Instant::now();
        while self.ready(relay).await.0 != status {
            assert!(began.elapsed() < PATIENCE, "never {status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the jobs whose success was delivered.
    fn told(&self) -> std::collections::BTreeSet<String> {
        let received = self.receiver.received().into_iter();
        let job = |body: Value| body["jobId"].as_str().unwrap().to_owned();
        received.map(|received| job(received.body)).collect()
    }
}

/// Returns the messages of this level in a log.
fn messages(log: &[String], level: &str) -> Vec<String> {
    let lines = log
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["level"] == level)
        .map(|line| format!("{} {}", line["message"].as_str().unwrap(), line["error"]))
        .collect()
}
