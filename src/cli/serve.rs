//! `basiq-relay serve`: runs the relay.

use std::{
    convert::Infallible,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    pin::pin,
};

use anyhow::Context;
use futures_util::poll;
use relay_domain::clock::Clock;
use relay_runtime::{self, ReloadSignal};
use tokio::net::TcpListener;

use crate::{
    app,
    cli::{
        ConfigArg, colour::Painter, exit::CommandFailure, output, start_summary::StartSummary,
        terminal::Screen,
    },
    config::{ConfigError, SETTINGS, Settings},
    telemetry,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: RELAY_BASIQ_API_KEY=… basiq-relay serve --config relay.toml\n\
        Example: RELAY_BASIQ_URL=http://127.0.0.1:8090 RELAY_BASIQ_API_KEY=any basiq-relay serve --dev\n\n\
        The environment counts before the file; --help lists every setting.",
    after_long_help = settings_help()
)]
pub(super) struct ServeArgs {
    /// Use defaults for development on this machine: accept callbacks on this machine over plain HTTP, try failed ones
    /// again after 1 s, 2 s, 4 s and so on, and pause no host. A setting that is given counts first. Refused if the
    /// relay's settings show that others use it.
    #[arg(long)]
    dev: bool,
    #[command(flatten)]
    config: ConfigArg,
}

/// Lists every setting with its default and meaning.
fn settings_help() -> String {
    let lines = SETTINGS.iter().map(|setting| {
        let default = setting.default.unwrap_or("none");
        format!(
            "  {}\n      {} [default: {default}]",
            setting.name, setting.meaning
        )
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    format!(
        "Example: RELAY_BASIQ_API_KEY=… basiq-relay serve --config relay.toml\n\
         Example: RELAY_BASIQ_URL=http://127.0.0.1:8090 RELAY_BASIQ_API_KEY=any basiq-relay serve --dev\n\n\
         Settings, from the environment or, in lower case without RELAY_, from the file; the environment \
         counts first. RELAY_X_FILE names a file that holds the value of RELAY_X.\n\n{lines}"
    )
}

pub(super) async fn run(args: ServeArgs) -> Result<(), CommandFailure> {
    relay_runtime::raise_handle_limit();
    let ServeArgs { dev, config } = args;
    let settings = load(config.config.as_deref(), dev).map_err(CommandFailure::usage)?;
    settings.require_api_key().map_err(CommandFailure::usage)?;
    app::validate(&settings).map_err(CommandFailure::usage)?;
    let telemetry = telemetry::init(&settings.log).map_err(CommandFailure::usage)?;
    let hangups = ReloadSignal::listen().context("SIGHUP cannot be heard")?;
    let relay = app::Relay::build(settings, Clock::system()).await?;
    let reloading = reload(hangups, relay.secrets.clone(), config.config, dev);
    let (listener, metrics) = relay.bind()?;
    let summary = summary(&relay, &listener, metrics.as_ref()).await?;
    let signals = (stop_after(summary), second_signal());
    let served = tokio::select! {
        served = relay.serve_on(listener, metrics, signals) => served,
        never = reloading => match never {},
    };
    drop(telemetry);
    served.context("the relay stopped")?;
    Ok(())
}

fn load(config: Option<&Path>, dev: bool) -> Result<Settings, ConfigError> {
    if dev {
        Settings::load_for_development(config)
    } else {
        Settings::load(config)
    }
}

/// Returns what tells a person at a terminal the relay's addresses, and what is switched on or off. Returns none for a
/// file or a pipe: the log says the same there.
async fn summary(
    relay: &app::Relay,
    listener: &TcpListener,
    metrics: Option<&TcpListener>,
) -> anyhow::Result<Option<String>> {
    if !io::stdout().is_terminal() {
        return Ok(None);
    }
    let clients = relay.store.list_clients().await;
    let clients = clients.context("the clients cannot be listed")?;
    let metrics = metrics.map(TcpListener::local_addr).transpose();
    let summary = StartSummary {
        settings: &relay.settings,
        listen: listener
            .local_addr()
            .context("the listener has no address")?,
        metrics: metrics.context("the listener for metrics has no address")?,
        has_no_client: clients.is_empty(),
    };
    let described = summary.describe(Painter::detect(), &Screen::detect());
    Ok(Some(described))
}

/// Prints the summary once Ctrl-C is heard, and waits for the first signal.
async fn stop_after(summary: Option<String>) {
    let mut signal = pin!(first_signal());
    if poll!(signal.as_mut()).is_pending() {
        if let Some(summary) = summary {
            // a relay whose terminal went away serves all the same
            output::line(summary).unwrap_or_default();
        }
        signal.await;
    }
}

/// Reads the secrets from the settings again at each SIGHUP.
async fn reload(
    mut hangups: ReloadSignal,
    secrets: app::ReloadableSecrets,
    config: Option<PathBuf>,
    dev: bool,
) -> Infallible {
    loop {
        hangups.next().await;
        let settings = load(config.as_deref(), dev).map_err(Into::into);
        secrets.reload(settings).await;
    }
}

async fn first_signal() {
    match relay_runtime::signalled().await {
        Ok(signal) => tracing::info!(signal, "stopping: work in flight is finished first"),
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            std::future::pending::<()>().await;
        }
    }
}

async fn second_signal() {
    match relay_runtime::signalled().await {
        Ok(signal) => tracing::warn!(signal, "second signal: stopping at once"),
        Err(_) => std::future::pending().await,
    }
}
