//! `basiq-relay cancel`: cancels a watch at a running relay.

use relay_domain::{WatchId, WatchState};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{
    exit::CommandFailure,
    output::{self, harmless},
    progress,
    relay_client::{RelayArgs, RelayCallError, RelayClient},
    watch_document::{WatchDocument, watch_id},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay cancel wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q

Exit codes: 0 the watch is cancelled, or had ended before; 1 there is no such watch, or the relay is out of reach;
2 wrong usage, or the relay refused the request.")]
pub(super) struct CancelArgs {
    /// Id of the watch.
    #[arg(value_name = "WATCH", value_parser = watch_id)]
    watch: WatchId,
    #[command(flatten)]
    relay: RelayArgs,
    /// Print the watch as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: CancelArgs) -> Result<(), CommandFailure> {
    let relay = RelayClient::new(&args.relay)?;
    let cancelling = cancel(&relay, args.watch);
    let document = progress::shown("waiting for the relay", cancelling).await?;
    if args.json {
        return Ok(output::line(document)?);
    }
    let watch = WatchDocument::deserialize(&document).map_err(anyhow::Error::new)?;
    let id = harmless(&watch.id);
    let told = match WatchState::from_word(&watch.state) {
        Some(WatchState::Cancelled) => format!("{id} is cancelled; nothing more is posted for it"),
        _ => format!("{id} had ended before: {}", harmless(&watch.state)),
    };
    Ok(output::line(told)?)
}

/// Cancels the watch, and reads what became of it: one that had settled before stays settled.
async fn cancel(relay: &RelayClient, watch: WatchId) -> Result<Value, RelayCallError> {
    let path = format!("watch/{watch}");
    relay.order(Method::DELETE, &path, None).await?;
    relay.get(&path).await
}
