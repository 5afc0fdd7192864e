//! What a relay carries, measured against the same machine in the same run:
//! `cargo bench --bench load`. Loopback only, about a minute. `cargo bench --bench load -- fleet` measures
//! one, two and three relays on one PostgreSQL instead.

mod fleet;

use std::{
    collections::HashMap,
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use basiq_relay::{
    app::Relay,
    clock::Clock,
    config::{DatabaseUrl, Settings},
    domain::{ApiKey, SigningSecret},
    sandbox::{JobScript, Sandbox, SandboxOptions, ScriptStep, StepEnd},
};
use jiff::Timestamp;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How many requests are made at once.
const CONNECTIONS: usize = 64;
/// How long requests are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// How many jobs settle under the eyes of a relay.
const JOBS: u32 = 200;
/// The first of them settles after so long, the last after three times as long.
const SETTLES_AFTER: Duration = Duration::from_secs(5);
/// A callback that has not come by then is missing.
const PATIENCE: Duration = Duration::from_mins(1);

type Arrivals = Arc<Mutex<HashMap<String, Timestamp>>>;

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args().any(|argument| argument == "fleet") {
        return fleet::run().await;
    }
    let bare = registrations(&bare_server().await?, &ApiKey::generate()).await?;
    let stage = Stage::set(20, false).await?;
    let durable = registrations(&stage.relay, &stage.key).await?;
    say(&format!("POST /watch, {CONNECTIONS} connections"))?;
    say(&format!("  bare handler     {bare:>9.0} a second"))?;
    say(&format!("  durable          {durable:>9.0} a second"))?;
    say(&format!("  register_ratio   {:>9.2}", durable / bare))?;
    stage.strike().await?;
    for rps in [20, 200] {
        let stage = Stage::set(rps, true).await?;
        let delays = settle(&stage).await?;
        let at = |part: usize| delays.get((delays.len() - 1) * part / 100).copied();
        say(&format!(
            "job settled → callback, {JOBS} jobs, budget {rps} a second: median {:?}, p99 {:?}",
            at(50).unwrap_or_default(),
            at(99).unwrap_or_default()
        ))?;
        stage.strike().await?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("nobody listens")
}

/// A relay with one client, a sandbox and a receiver that notes when each job's final event came.
struct Stage {
    relay: Url,
    receiver: Url,
    key: ApiKey,
    sandbox: Sandbox,
    arrivals: Arrivals,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
    _folder: TempDir,
}

impl Stage {
    /// Without a Basiq that answers, nothing but the registrations is at work.
    async fn set(rps: u32, with_basiq: bool) -> Result<Self> {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let folder = tempfile::tempdir()?;
        let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
        let (listener, basiq) = bind().await?;
        if with_basiq {
            let (sandbox, until) = (sandbox.clone(), stop.clone());
            tasks.spawn(async move { sandbox.serve(listener, until).await.context("sandbox") });
        }
        let arrivals = Arrivals::default();
        let receiver = receive(&arrivals, &mut tasks).await?;
        let mut settings = Settings::default();
        settings.store.database = DatabaseUrl::Sqlite(folder.path().join("relay.db"));
        settings.basiq.url = basiq;
        settings.basiq.api_key = "bench".to_owned().into();
        settings.basiq.requests_per_second = rps;
        settings.server.client_rps = 1_000_000;
        settings.server.client_max_open_watches = 10_000_000;
        settings.delivery.allow_http = true;
        settings.delivery.allow_networks = vec!["127.0.0.0/8".parse()?];
        let relay = Relay::build(settings, Clock::system()).await?;
        let (key, secret) = (ApiKey::generate(), SigningSecret::generate());
        let name = "bench".parse().context("a client name")?;
        let now = Clock::system().now();
        relay
            .store
            .add_client(&name, &key.hash(), &secret, now)
            .await?;
        let (listener, url) = bind().await?;
        let signals = (stop.clone().cancelled_owned(), std::future::pending());
        tasks.spawn(async move { relay.serve_on(listener, None, signals).await });
        Ok(Self {
            relay: url,
            receiver,
            key,
            sandbox,
            arrivals,
            stop,
            tasks,
            _folder: folder,
        })
    }

    async fn strike(mut self) -> Result<()> {
        self.stop.cancel();
        self.tasks.shutdown().await;
        Ok(())
    }
}

async fn bind() -> Result<(TcpListener, Url)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = Url::parse(&format!("http://{}", listener.local_addr()?))?;
    Ok((listener, url))
}

async fn receive(arrivals: &Arrivals, tasks: &mut JoinSet<Result<()>>) -> Result<Url> {
    async fn note(State(arrivals): State<Arrivals>, Json(event): Json<Value>) -> StatusCode {
        let job = event.get("jobId").and_then(Value::as_str);
        if let (Some(job), Ok(mut arrivals)) = (job, arrivals.lock()) {
            let now = Clock::system().now();
            arrivals.entry(job.to_owned()).or_insert(now);
        }
        StatusCode::NO_CONTENT
    }
    let (listener, url) = bind().await?;
    let router = Router::new()
        .fallback(note)
        .with_state(Arc::clone(arrivals));
    tasks.spawn(async move { axum::serve(listener, router).await.context("receiver") });
    Ok(url)
}

/// A handler that parses the same body and answers 202: what the machine can do at all.
async fn bare_server() -> Result<Url> {
    let (listener, url) = bind().await?;
    let handler = async |Json(body): Json<Value>| (StatusCode::ACCEPTED, Json(body));
    let router = Router::new().route("/watch", post(handler));
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the run")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Accepted `POST /watch` a second, each for another job.
async fn registrations(server: &Url, key: &ApiKey) -> Result<f64> {
    let client = Client::builder().no_proxy().build()?;
    let (url, began) = (server.join("watch")?, Instant::now());
    let mut connections = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (client, url, key) = (client.clone(), url.clone(), key.clone());
        connections.spawn(async move {
            let mut accepted = 0_u32;
            while began.elapsed() < WINDOW {
                let job = format!("job-{connection}-{accepted}");
                let body = json!({ "jobId": job, "callbackUrl": "http://127.0.0.1:9/hook" });
                let request = client.post(url.clone()).bearer_auth(key.expose());
                let answer = request.json(&body).send().await?;
                ensure!(answer.status() == 202, "HTTP {}", answer.status());
                answer.bytes().await?;
                accepted += 1;
            }
            Ok(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(ended) = connections.join_next().await {
        accepted += ended??;
    }
    Ok(f64::from(accepted) / began.elapsed().as_secs_f64())
}

/// How long after each job settled its event came, shortest first.
async fn settle(stage: &Stage) -> Result<Vec<Duration>> {
    let client = Client::builder().no_proxy().build()?;
    let mut jobs = Vec::new();
    for number in 0..JOBS {
        let step = SETTLES_AFTER + SETTLES_AFTER * 2 * number / JOBS;
        let steps = [
            "verify-credentials",
            "retrieve-accounts",
            "retrieve-transactions",
        ]
        .map(|title| ScriptStep::new(title, step / 3, StepEnd::Succeeds));
        let job = stage.sandbox.seed_job(JobScript::new(steps.into()));
        let body = json!({ "jobId": job, "callbackUrl": stage.receiver });
        let request = client.post(stage.relay.join("watch")?);
        let answer = request.bearer_auth(stage.key.expose()).json(&body);
        let status = answer.send().await?.status();
        ensure!(status == 202, "HTTP {status}");
        jobs.push(job);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut delays = Vec::new();
    for job in jobs {
        let arrived = loop {
            let arrived = stage
                .arrivals
                .lock()
                .ok()
                .and_then(|all| all.get(&job).copied());
            if let Some(arrived) = arrived {
                break arrived;
            }
            ensure!(Instant::now() < deadline, "job {job}: no callback came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let settled = stage.sandbox.settled_at(&job).context("it has settled")?;
        delays.push(arrived.duration_since(settled).unsigned_abs());
    }
    delays.sort_unstable();
    Ok(delays)
}
