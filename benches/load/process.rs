//! Relays that run as processes.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use reqwest::Url;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    task::JoinSet,
};

/// A running relay.
pub(crate) struct RelayProcess {
    pub(crate) url: Url,
    /// The time from the start of the process until the relay was ready.
    pub(crate) ready_after: Duration,
    process: Child,
    _log: JoinSet<()>,
}

impl RelayProcess {
    /// Starts a relay and waits until it logs the address that it listens on.
    pub(crate) async fn start(database: &str, basiq: &Url) -> Result<Self> {
        let began = Instant::now();
        let mut process = command(database)
            .arg("serve")
            .env("RELAY_BASIQ_URL", basiq.as_str())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = process.stderr.take().context("its log")?;
        let mut lines = BufReader::new(log).lines();
        while let Some(line) = lines.next_line().await? {
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            let Some(address) = line.get("listen").and_then(Value::as_str) else {
                continue;
            };
            let url = Url::parse(&format!("http://{address}"))?;
            let mut log = JoinSet::new();
            log.spawn(read(lines));
            return Ok(Self {
                url,
                ready_after: began.elapsed(),
                process,
                _log: log,
            });
        }
        bail!("a relay did not start")
    }

    /// Adds a client and returns its API key.
    pub(crate) async fn add_client(database: &str) -> Result<String> {
        let mut command = command(database);
        let output = command
            .args(["client", "add", "bench", "--json"])
            .output()
            .await?;
        let client: Value = serde_json::from_slice(&output.stdout)?;
        let key = client.get("apiKey").and_then(Value::as_str);
        Ok(key.context("a key")?.to_owned())
    }

    /// Returns the resident memory, in megabytes.
    pub(crate) fn rss_mb(&self) -> Result<f64> {
        let id = self.process.id().context("it runs")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kilobytes.context("its memory")?.parse::<f64>()? / 1024.0)
    }

    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}

/// Reads the relay's log, because a full pipe would block the relay.
async fn read(mut lines: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(_)) = lines.next_line().await {}
}

fn command(database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basiq-relay"));
    command
        .current_dir(std::env::temp_dir())
        .kill_on_drop(true)
        .env("RELAY_DATABASE_URL", database)
        .env("RELAY_BASIQ_API_KEY", "bench")
        .env("RELAY_LISTEN", "127.0.0.1:0")
        .env("RELAY_CALLBACK_ALLOW_HTTP", "true")
        .env("RELAY_CALLBACK_ALLOW_NETWORKS", "127.0.0.0/8")
        .env("RELAY_UPSTREAM_RPS", "10000")
        .env("RELAY_UPSTREAM_CONCURRENCY", "256")
        .env("RELAY_DELIVERY_CONCURRENCY_PER_HOST", "192")
        .env("RELAY_CLIENT_RPS", "1000000")
        .env("RELAY_CLIENT_MAX_OPEN_WATCHES", "10000000")
        .env("RELAY_LOG", "warn,basiq_relay::app=info")
        .env("RELAY_LOG_FORMAT", "json");
    command
}
