//! `basiq-relay healthcheck`: asks a running relay's `/readyz`.

use std::time::Duration;

use anyhow::Context;
use happy_eyeballs::FirstToAnswer;
use reqwest::{Client, Url};
use tokio::time::Instant;

use crate::{
    cli::{
        ConfigArg,
        exit::CommandFailure,
        output, progress,
        relay_client::{local_address, relay_address, unanswered},
        values::in_seconds,
    },
    config::Settings,
};

/// The wait before the next request.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest time to keep asking.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay healthcheck --url http://127.0.0.1:8080")]
pub(super) struct HealthcheckArgs {
    /// Base address of the relay; without it, the address in its settings.
    #[arg(long, value_parser = relay_address)]
    url: Option<Url>,
    /// Maximum time to wait for a response: seconds, or a duration such as `500ms`.
    #[arg(long, default_value = "3", value_name = "SECONDS", value_parser = in_seconds)]
    timeout: Duration,
    /// Keep asking until the relay is ready, for at most this long: seconds, or a duration such as `1m`.
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = wait_time)]
    wait: Duration,
    #[command(flatten)]
    config: ConfigArg,
}

/// Parses how long to keep asking: an hour at most.
fn wait_time(text: &str) -> Result<Duration, String> {
    match in_seconds(text)? {
        wait if wait <= LONGEST_WAIT => Ok(wait),
        _ => Err("an hour at most is allowed: 3600 or 1h".to_owned()),
    }
}

pub(super) async fn run(args: HealthcheckArgs) -> Result<(), CommandFailure> {
    let base = match args.url {
        Some(url) => url.to_string(),
        None => own_address(&args.config)?,
    };
    let url = format!("{}/readyz", base.trim_end_matches('/'));
    let mut client = reqwest::Client::builder().no_proxy().timeout(args.timeout);
    if let Ok(url) = Url::parse(&url) {
        client = client.dns_resolver(FirstToAnswer::at(&url));
    }
    let client = client.build().context("no HTTP client")?;
    let asked = ask_until_ready(&client, &url, args.wait);
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
        .map_err(|error| unanswered(error, url))?;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    anyhow::ensure!(status.is_success(), "not ready: HTTP {status} {body}");
    Ok(body)
}

/// Returns the address at which a relay with these settings listens. For an unspecified address it returns loopback.
fn own_address(config: &ConfigArg) -> Result<String, CommandFailure> {
    let settings = Settings::load(config.config.as_deref()).map_err(CommandFailure::usage)?;
    Ok(format!("http://{}", local_address(settings.server.listen)))
}
