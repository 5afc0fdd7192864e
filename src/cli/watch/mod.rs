//! `basiq-relay watch`: registers one job at a running relay and follows it until it ends.

mod follow;
mod news;
mod relay;
mod report;

use std::{path::PathBuf, sync::LazyLock};

use anyhow::{Context, anyhow};
use clap::builder::PossibleValuesParser;
use relay_domain::{ApiKey, JobId, Operation};
use serde_json::{Map, Value};
use url::Url;

use crate::{
    cli::{
        exit::CommandFailure,
        output::harmless,
        watch::{follow::WatchPoller, relay::RelayClient, report::WatchReporter},
    },
    config::Settings,
};

/// The address of a relay with default settings.
static DEFAULT_RELAY: LazyLock<String> =
    LazyLock::new(|| format!("http://{}", Settings::default().server.listen));

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
    #[arg(long, value_name = "CALLBACK_URL")]
    url: Url,
    /// Base address of the relay.
    #[arg(long, value_name = "URL", default_value = &**DEFAULT_RELAY, value_parser = relay_address)]
    relay: Url,
    /// API key of the client; other users of this machine can see command lines.
    #[arg(long, env = "BASIQ_RELAY_KEY", hide_env_values = true)]
    key: Option<String>,
    /// File that holds the API key; it takes precedence over any other key.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
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

fn relay_address(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("allowed is an address such as https://relay.example".to_owned()),
    }
}

pub(super) async fn run(args: WatchArgs) -> Result<(), CommandFailure> {
    let key = api_key(args.key.as_deref(), args.key_file.as_ref())?;
    let relay = RelayClient::new(&args.relay, key)?;
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

/// Reads the key from its file. Without a file, takes the key from the command line or the environment.
fn api_key(given: Option<&str>, file: Option<&PathBuf>) -> Result<ApiKey, CommandFailure> {
    let text = match (file, given) {
        (Some(path), _) => std::fs::read_to_string(path)
            .with_context(|| format!("--key-file: cannot read {}", path.display()))
            .map_err(CommandFailure::usage)?,
        (None, Some(given)) => given.to_owned(),
        (None, None) => String::new(),
    };
    let text = text.trim();
    let is_sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_sendable {
        return Ok(ApiKey::presented(text));
    }
    Err(CommandFailure::usage(anyhow!(
        "a client's API key is needed: in BASIQ_RELAY_KEY, or in a file with --key-file \
         (`basiq-relay client add NAME` prints one)"
    )))
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
