//! Whole cycles a second (registered, looked at, told, delivered) of one, two and three relays, each a
//! process, on one PostgreSQL.

use std::{
    collections::HashSet,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use axum::{Json, Router, extract::State, http::StatusCode};
use basiq_relay::{
    clock::Clock,
    sandbox::{Sandbox, SandboxOptions},
};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{CONNECTIONS, bind, say};

/// Jobs that are done when they are first looked at.
const WATCHES: usize = 6_000;
/// A round that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

type Told = Arc<Mutex<HashSet<String>>>;

/// One, two and three relays, twice, so that the order does not decide.
pub(crate) async fn run() -> Result<()> {
    let server = Server::start().await?;
    let mut best = [0.0_f64; 3];
    for round in 0..2 {
        for (relays, best) in (1..).zip(&mut best) {
            let database = server.database(&format!("round_{round}_{relays}")).await?;
            *best = best.max(cycles(&database, relays).await?);
        }
    }
    let [one, ..] = best;
    for (relays, rate) in (1..).zip(best) {
        say(&format!(
            "{relays} relays  {rate:>7.0} cycles a second  {:>5.2}",
            rate / one
        ))?;
    }
    server.stop().await
}

/// A throw-away PostgreSQL.
struct Server {
    folder: TempDir,
    url: String,
}

impl Server {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let output = script("start", &folder).output().await?;
        ensure!(output.status.success(), "PostgreSQL does not start");
        let url = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(Self { folder, url })
    }

    async fn database(&self, name: &str) -> Result<String> {
        use sqlx::{ConnectOptions, Executor, postgres::PgConnectOptions};
        let mut connection = self.url.parse::<PgConnectOptions>()?.connect().await?;
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(create).await?;
        let (base, _) = self.url.rsplit_once('/').context("an address")?;
        Ok(format!("{base}/{name}"))
    }

    async fn stop(self) -> Result<()> {
        script("stop", &self.folder).status().await?;
        Ok(())
    }
}

fn script(verb: &str, folder: &TempDir) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres"));
    command.arg(verb).arg(folder.path());
    command
}

/// Cycles a second of so many relays on an empty database.
async fn cycles(database: &str, relays: usize) -> Result<f64> {
    let mut tasks = JoinSet::new();
    let (sandbox, jobs) = done_jobs();
    let (listener, basiq) = bind().await?;
    tasks.spawn(async move {
        let served = sandbox.serve(listener, CancellationToken::new()).await;
        served.context("sandbox")
    });
    let told = Told::default();
    let (listener, callback) = bind().await?;
    let router = Router::new().fallback(note).with_state(Arc::clone(&told));
    tasks.spawn(async move { axum::serve(listener, router).await.context("receiver") });

    let command = || relay_command(database, basiq.as_str());
    let added = command()
        .args(["client", "add", "bench", "--json"])
        .output();
    let client: Value = serde_json::from_slice(&added.await?.stdout)?;
    let key = client["apiKey"].as_str().context("a key")?.to_owned();
    let mut processes = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..relays {
        let (process, address) = start(command()).await?;
        processes.push(process);
        addresses.push(address);
    }
    // until each knows of the others
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    register(jobs, (&addresses, callback.as_str()), &key).await?;
    while told.lock().unwrap_or_else(PoisonError::into_inner).len() < WATCHES {
        ensure!(began.elapsed() < PATIENCE, "callbacks are missing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed().as_secs_f64();
    for mut process in processes {
        process.kill().await?;
    }
    tasks.shutdown().await;
    Ok(f64::from(u32::try_from(WATCHES)?) / took)
}

fn done_jobs() -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
    let now = Clock::system().now();
    let jobs = (0..WATCHES).map(|n| {
        let id = format!("job-{n}");
        let document = json!({
            "type": "job", "id": id, "created": now, "updated": now, "jobType": "connection",
            "steps": [{ "title": "verify-credentials", "status": "success", "result": null }],
            "links": { "self": format!("/jobs/{id}"), "source": "/users/u/connections/c" },
        });
        sandbox.seed_document(&id, document);
        id
    });
    let jobs = jobs.collect();
    (sandbox, jobs)
}

async fn note(State(told): State<Told>, Json(event): Json<Value>) -> StatusCode {
    let watch = event["watchId"].as_str().unwrap_or_default().to_owned();
    told.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(watch);
    StatusCode::NO_CONTENT
}

fn relay_command(database: &str, basiq: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basiq-relay"));
    command
        .current_dir(std::env::temp_dir())
        .kill_on_drop(true)
        .env("RELAY_DATABASE_URL", database)
        .env("RELAY_BASIQ_URL", basiq)
        .env("RELAY_BASIQ_API_KEY", "bench")
        .env("RELAY_LISTEN", "127.0.0.1:0")
        .env("RELAY_CALLBACK_ALLOW_HTTP", "true")
        .env("RELAY_CALLBACK_ALLOW_NETWORKS", "127.0.0.0/8")
        .env("RELAY_UPSTREAM_RPS", "10000")
        .env("RELAY_UPSTREAM_CONCURRENCY", "256")
        .env("RELAY_DELIVERY_CONCURRENCY_PER_HOST", "192")
        .env("RELAY_CLIENT_RPS", "1000000")
        .env("RELAY_LOG", "warn,basiq_relay::app=info")
        .env("RELAY_LOG_FORMAT", "json");
    command
}

/// Starts a relay and waits until it says where it listens.
async fn start(mut command: Command) -> Result<(Child, String)> {
    let mut process = command.arg("serve").stderr(Stdio::piped()).spawn()?;
    let log = process.stderr.take().context("its log")?;
    let mut lines = BufReader::new(log).lines();
    while let Some(line) = lines.next_line().await? {
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(address) = line["listen"].as_str() {
            let address = format!("http://{address}");
            #[expect(
                clippy::disallowed_methods,
                reason = "it ends with the process it reads"
            )]
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((process, address));
        }
    }
    anyhow::bail!("a relay did not start")
}

async fn register(
    jobs: Vec<String>,
    (relays, callback): (&[String], &str),
    key: &str,
) -> Result<()> {
    let client = Client::builder().no_proxy().build()?;
    let jobs = Arc::new(Mutex::new(jobs));
    let mut connections = JoinSet::new();
    for (relay, _) in relays.iter().cycle().zip(0..CONNECTIONS) {
        let (client, jobs) = (client.clone(), Arc::clone(&jobs));
        let (url, callback, key) = (
            format!("{relay}/watch"),
            callback.to_owned(),
            key.to_owned(),
        );
        connections.spawn(async move {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(job) = job else {
                    return Ok(());
                };
                let body = json!({ "jobId": job, "callbackUrl": callback });
                let answer = client
                    .post(&url)
                    .bearer_auth(&key)
                    .json(&body)
                    .send()
                    .await?;
                ensure!(answer.status() == 202, "HTTP {}", answer.status());
                answer.bytes().await?;
            }
        });
    }
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    Ok(())
}
