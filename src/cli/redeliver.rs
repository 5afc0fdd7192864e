//! `basiq-relay redeliver`: sends an event once more, or all dead events, from a running relay.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{WatchId, clock::Clock};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cli::{
        exit::CommandFailure,
        output::{self, harmless},
        progress,
        relay_client::{RelayArgs, RelayClient},
        watch_document::watch_id,
    },
    config::parse_duration,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay redeliver wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q
Example: basiq-relay redeliver --dead --since 2h
Example: basiq-relay redeliver --dead --since 2026-11-23T20:00:00+11:00 --json

The `webhook-id` stays the same. If an event is still pending, the relay sends it now, without a second copy.
Exit codes: 0 queued, also if --dead found none; 1 there is no such watch, nothing to send, or the relay is out of reach;
2 wrong usage, or the relay refused the request.")]
pub(super) struct RedeliverArgs {
    #[command(flatten)]
    which: WhichEvents,
    /// Needed with --dead: send the events that died since then; a duration such as `30m`, `2h` or `7d`, or an RFC 3339 time.
    #[arg(long, value_name = "WHEN", value_parser = since, requires = "dead", conflicts_with = "watch")]
    since: Option<Since>,
    #[command(flatten)]
    relay: RelayArgs,
    /// Print the relay's answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct WhichEvents {
    /// Id of the watch whose latest event is sent once more.
    #[arg(value_name = "WATCH", value_parser = watch_id)]
    watch: Option<WatchId>,
    /// Send all dead events that are the latest of their watch, and all dead notices.
    #[arg(long, requires = "since")]
    dead: bool,
}

/// A time, given by itself or by its distance from now.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Since {
    Time(Timestamp),
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    let ago = parse_duration(text).map(Since::Ago);
    let time = || text.parse().ok().map(Since::Time);
    ago.or_else(time).ok_or_else(|| {
        "allowed are durations such as `30m`, `2h` or `7d`, and times such as `2026-11-23T09:14:28Z`"
            .to_owned()
    })
}

impl Since {
    fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Time(time) => time,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

/// The fields of both answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedeliveryDocument {
    event_id: Option<String>,
    queued: Option<u64>,
}

pub(super) async fn run(args: RedeliverArgs) -> Result<(), CommandFailure> {
    let relay = RelayClient::new(&args.relay)?;
    let (path, body) = request(&args, Clock::system().now());
    let ordering = relay.post::<Value>(&path, &body);
    let (_, document) = progress::shown("waiting for the relay", ordering).await?;
    if args.json {
        return Ok(output::line(document)?);
    }
    let queued = RedeliveryDocument::deserialize(&document).map_err(anyhow::Error::new)?;
    let told = match (args.which.watch, queued) {
        (Some(watch), queued) => format!(
            "{} is sent once more; see what becomes of it: {}",
            harmless(&queued.event_id.unwrap_or_default()),
            relay.command_line("show", &watch.to_string())
        ),
        (None, queued) => match queued.queued.unwrap_or_default() {
            0 => "no event died since then; nothing is sent".to_owned(),
            1 => "1 dead event is sent once more".to_owned(),
            more => format!("{more} dead events are sent once more"),
        },
    };
    Ok(output::line(told)?)
}

/// Returns the path and the body of the request.
fn request(args: &RedeliverArgs, now: Timestamp) -> (String, Value) {
    match (args.which.watch, args.since) {
        (Some(watch), _) => (format!("watch/{watch}/redeliver"), json!({})),
        (None, since) => {
            let since = since.map(|since| since.before(now));
            ("deliveries/redeliver".to_owned(), json!({ "since": since }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_a_duration_before_now() {
        let now: Timestamp = "2026-11-23T09:14:28Z".parse().unwrap();
        for (text, expected) in [
            ("2h", "2026-11-23T07:14:28Z"),
            ("7d", "2026-11-16T09:14:28Z"),
            ("2026-11-23T20:00:00+11:00", "2026-11-23T09:00:00Z"),
        ] {
            let time = since(text).unwrap().before(now);
            assert_eq!(time.to_string(), expected);
        }
        for text in ["", "yesterday", "2", "-2h", "2026-11-23"] {
            assert!(since(text).unwrap_err().contains("`2h`"), "{text}");
        }
    }
}
