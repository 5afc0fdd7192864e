//! `basiq-relay test-callback`: lets a running relay post a test event to a callback.

use std::time::Duration;

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::cli::{
    colour::Painter,
    exit::CommandFailure,
    output::{self, harmless},
    progress,
    relay_client::{RelayArgs, RelayClient},
    terminal::took,
    values::callback_url,
};

/// How long the command waits for the relay, which itself waits for the callback: longer than the longest delivery
/// time-out.
const PATIENCE: Duration = Duration::from_mins(11);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay test-callback https://app.example/hooks/bank
Example: basiq-relay test-callback http://127.0.0.1:8091/hook --json

Exit codes: 0 the callback answered 2xx; 1 it did not, or the relay is out of reach;
2 wrong usage, or the URL cannot be a callback.")]
pub(super) struct TestCallbackArgs {
    /// Callback URL that receives a signed `relay.test` event.
    #[arg(value_name = "CALLBACK_URL", value_parser = callback_url)]
    url: Url,
    #[command(flatten)]
    relay: RelayArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// The fields of a result that are shown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestDocument {
    status: Option<u16>,
    error: Option<String>,
    duration_ms: u64,
    address: Option<String>,
    advice: String,
}

pub(super) async fn run(args: TestCallbackArgs) -> Result<(), CommandFailure> {
    let relay = RelayClient::patient(&args.relay, PATIENCE)?;
    let body = json!({ "callbackUrl": args.url.as_str() });
    let testing = relay.post::<Value>("callback-test", &body);
    let (_, document) = progress::shown("waiting for the callback", testing).await?;
    let result = TestDocument::deserialize(&document)
        .map_err(|error| CommandFailure::failed(anyhow::Error::new(error)))?;
    if args.json {
        output::line(document)?;
    } else {
        output::line(result.in_words())?;
    }
    match result.error {
        None => Ok(()),
        Some(error) => Err(CommandFailure::failed(anyhow!(
            "the callback did not accept the event: {}",
            harmless(&error)
        ))),
    }
}

impl TestDocument {
    /// Describes the result in two lines: what happened, and what to do.
    fn in_words(&self) -> String {
        let paint = Painter::detect();
        let (what, why) = match (self.status, &self.error) {
            (Some(status), _) => (format!("HTTP {status}"), String::new()),
            (None, Some(error)) => ("no answer".to_owned(), format!(" ({})", harmless(error))),
            (None, None) => ("no answer".to_owned(), String::new()),
        };
        let from = self.address.as_deref().map(harmless);
        let from = from.map_or_else(String::new, |address| format!(" from {address}"));
        format!(
            "{}{from} after {}{why}\n{}",
            paint.bold(what),
            took(self.duration_ms),
            harmless(&self.advice)
        )
    }
}
