//! `basiq-relay healthcheck`: asks a running relay's `/readyz`.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow};

use crate::{
    cli::{ConfigArg, exit::Failure, output, progress},
    config::Settings,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay healthcheck --url http://127.0.0.1:8080")]
pub(super) struct Args {
    /// Base address of the relay; without it the address of its settings.
    #[arg(long)]
    url: Option<String>,
    /// How long to wait for the answer, in seconds.
    #[arg(long, default_value_t = 3)]
    timeout: u64,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let base = match args.url {
        Some(url) => url,
        None => own_address(&args.config)?,
    };
    let url = format!("{}/readyz", base.trim_end_matches('/'));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(args.timeout))
        .build()
        .context("no HTTP client")?;
    let asked = client.get(&url).send();
    let answer = progress::shown("waiting for the relay", asked)
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    if !status.is_success() {
        return Err(Failure::failed(anyhow!("not ready: HTTP {status} {body}")));
    }
    output::line(body)?;
    Ok(())
}

/// Where a relay with these settings listens; an unspecified address is asked on loopback.
fn own_address(config: &ConfigArg) -> Result<String, Failure> {
    let settings = Settings::load(config.config.as_deref()).map_err(Failure::usage)?;
    let mut listen = settings.server.listen;
    if listen.ip().is_unspecified() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], listen.port()));
        listen = loopback;
    }
    Ok(format!("http://{listen}"))
}
