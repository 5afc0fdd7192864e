//! `basiq-relay watch`: registers one job at a running relay and follows it until it ends.

mod follow;
mod news;
mod report;

use anyhow::{Context, anyhow};
use clap::builder::PossibleValuesParser;
use relay_domain::{JobId, Operation};
use serde_json::{Map, Value};
use url::Url;

use crate::cli::{
    exit::CommandFailure,
    output::harmless,
    relay_client::{RelayArgs, RelayClient},
    values::callback_url,
    watch::{follow::WatchPoller, report::WatchReporter},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay watch 248b2883 --url https://app.example/hooks/bank
Example: basiq-relay watch 248b2883 --url http://127.0.0.1:8091/hook --key-file key.txt --json

Exit codes: 0 the job succeeded; 1 it failed, the watch was cancelled, or the relay is out of reach;
2 wrong usage, or the relay refused the request. Ctrl-C ends the command, not the watch.")]
pub(super) struct WatchArgs {
    /// Basiq's id of the job.
    #[arg(value_name = "JOB_ID")]
    job: JobId,
    /// Callback URL that receives the job's events.
    #[arg(long, value_name = "CALLBACK_URL", value_parser = callback_url)]
    url: Url,
    #[command(flatten)]
    relay: RelayArgs,
    /// Operation that started the job.
    #[arg(long, value_parser = operations())]
    operation: Option<String>,
    /// Title of the step at which the job counts as successful.
    #[arg(long, value_name = "STEP")]
    until: Option<String>,
    /// Language of the messages, as a BCP 47 tag.
    #[arg(long)]
    locale: Option<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

fn operations() -> PossibleValuesParser {
    Operation::ALL.iter().map(|word| word.as_str()).into()
}

pub(super) async fn run(args: WatchArgs) -> Result<(), CommandFailure> {
    let relay = RelayClient::new(&args.relay)?;
    let reporter = WatchReporter::new(args.json);
    let mut follower = WatchPoller::begin(relay, reporter, &registration(&args)).await?;
    let watch_id = follower.watch_id().to_owned();
    let ended = tokio::select! {
        ended = follower.follow() => ended?,
        heard = relay_runtime::signalled() => {
            heard.context("signals cannot be received")?;
            return Err(CommandFailure::failed(anyhow!("stopped following; the relay keeps watching {watch_id}")));
        }
    };
    match ended.fault() {
        None => Ok(()),
        Some(fault) => Err(CommandFailure::failed(anyhow!("{}", harmless(&fault)))),
    }
}

/// Builds the body of `POST /watch`.
fn registration(args: &WatchArgs) -> Value {
    let fields = [
        ("jobId", Some(args.job.as_str())),
        ("callbackUrl", Some(args.url.as_str())),
        ("operation", args.operation.as_deref()),
        ("until", args.until.as_deref()),
        ("locale", args.locale.as_deref()),
    ];
    let given = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    Value::Object(given.collect::<Map<_, _>>())
}
