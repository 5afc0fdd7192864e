//! `basiq-relay healthcheck`: asks a running relay's `/readyz`.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use happy_eyeballs::FirstToAnswer;
use reqwest::{Client, Url};
use tokio::time::Instant;

use crate::{
    cli::{ConfigArg, exit::CommandFailure, output, progress},
    config::Settings,
};

/// The wait before the next request.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay healthcheck --url http://127.0.0.1:8080")]
pub(super) struct HealthcheckArgs {
    /// Base address of the relay; without it, the address in its settings.
    #[arg(long)]
    url: Option<String>,
    /// Maximum time to wait for a response, in seconds.
    #[arg(long, default_value_t = 3)]
    timeout: u64,
    /// Keep asking until the relay is ready, for at most this many seconds.
    #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=3600))]
    wait: u64,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) async fn run(args: HealthcheckArgs) -> Result<(), CommandFailure> {
    let base = match args.url {
        Some(url) => url,
        None => own_address(&args.config)?,
    };
    let url = format!("{}/readyz", base.trim_end_matches('/'));
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(args.timeout));
    if let Ok(url) = Url::parse(&url) {
        client = client.dns_resolver(FirstToAnswer::at(&url));
    }
    let client = client.build().context("no HTTP client")?;
    let asked = ask_until_ready(&client, &url, Duration::from_secs(args.wait));
    output::line(progress::shown("waiting for the relay", asked).await?)?;
    Ok(())
}

/// Asks until the relay is ready or `wait` is over. Returns the last answer.
async fn ask_until_ready(client: &Client, url: &str, wait: Duration) -> anyhow::Result<String> {
    let until = Instant::now() + wait;
    loop {
        let answer = ask(client, url).await;
        if answer.is_ok() || Instant::now() >= until {
            return answer;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(client: &Client, url: &str) -> anyhow::Result<String> {
    let answer = client
        .get(url)
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    anyhow::ensure!(status.is_success(), "not ready: HTTP {status} {body}");
    Ok(body)
}

/// Returns the address at which a relay with these settings listens. For an unspecified address it returns loopback.
fn own_address(config: &ConfigArg) -> Result<String, CommandFailure> {
    let settings = Settings::load(config.config.as_deref()).map_err(CommandFailure::usage)?;
    let mut listen = settings.server.listen;
    if listen.ip().is_unspecified() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], listen.port()));
        listen = loopback;
    }
    Ok(format!("http://{listen}"))
}
