//! `basiq-relay serve`: runs the relay.

use std::{convert::Infallible, path::PathBuf};

use anyhow::Context;
use relay_domain::clock::Clock;
use relay_runtime::{self, ReloadSignal};

use crate::{
    app,
    cli::{ConfigArg, exit::CommandFailure},
    config::{SETTINGS, Settings},
    telemetry,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: RELAY_BASIQ_API_KEY=… basiq-relay serve --config relay.toml\n\n\
        The environment counts before the file; --help lists every setting.",
    after_long_help = settings_help()
)]
pub(super) struct ServeArgs {
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
        "Example: RELAY_BASIQ_API_KEY=… basiq-relay serve --config relay.toml\n\n\
         Settings, from the environment or, in lower case without RELAY_, from the file; the environment \
         counts first. RELAY_X_FILE names a file that holds the value of RELAY_X.\n\n{lines}"
    )
}

pub(super) async fn run(args: ServeArgs) -> Result<(), CommandFailure> {
    relay_runtime::raise_handle_limit();
    let settings = Settings::load(args.config.config.as_deref()).map_err(CommandFailure::usage)?;
    settings.require_api_key().map_err(CommandFailure::usage)?;
    app::validate(&settings).map_err(CommandFailure::usage)?;
    let telemetry = telemetry::init(&settings.log).map_err(CommandFailure::usage)?;
    let hangups = ReloadSignal::listen().context("SIGHUP cannot be heard")?;
    let relay = app::Relay::build(settings, Clock::system()).await?;
    let reloading = reload(hangups, relay.secrets.clone(), args.config.config);
    let served = tokio::select! {
        served = relay.serve(first_signal(), second_signal()) => served,
        never = reloading => match never {},
    };
    drop(telemetry);
    served.context("the relay stopped")?;
    Ok(())
}

/// Reads the secrets from the settings again at each SIGHUP.
async fn reload(
    mut hangups: ReloadSignal,
    secrets: app::ReloadableSecrets,
    config: Option<PathBuf>,
) -> Infallible {
    loop {
        hangups.next().await;
        let settings = Settings::load(config.as_deref()).map_err(Into::into);
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
