//! `basiq-relay list`: lists the watches of a client at a running relay.

use clap::builder::PossibleValuesParser;
use relay_domain::{JobId, WatchState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{
    colour::Painter,
    exit::CommandFailure,
    output::{self, harmless},
    progress,
    relay_client::{RelayArgs, RelayCallError, RelayClient},
    terminal::{Screen, columns},
    watch_document::{EventDocument, WatchDocument},
};

/// The maximum number of watches on one page of the relay's answers.
const PAGE: u32 = 200;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay list --state awaiting-user
Example: basiq-relay list --job 248b2883 --key-file key.txt --json

Times are local; the heading of their column has the difference from UTC.
Exit codes: 0 done; 1 the relay is out of reach; 2 wrong usage, or the relay refused the request.")]
pub(super) struct ListArgs {
    /// List only the watches in this state.
    #[arg(long, value_parser = states())]
    state: Option<String>,
    /// List only the watches of this job.
    #[arg(long, value_name = "JOB_ID")]
    job: Option<JobId>,
    /// List this many watches at most, the newest ones.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    relay: RelayArgs,
    /// Print the watches as JSON, as `GET /watch` returns them.
    #[arg(long)]
    json: bool,
}

/// Watches as the relay returns them, newest first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedWatches {
    items: Vec<Value>,
    next_cursor: Option<String>,
}

fn states() -> PossibleValuesParser {
    WatchState::ALL.iter().map(|word| word.as_str()).into()
}

pub(super) async fn run(args: ListArgs) -> Result<(), CommandFailure> {
    let relay = RelayClient::new(&args.relay)?;
    let listed = progress::shown("waiting for the relay", fetch(&relay, &args)).await?;
    if args.json {
        let text = serde_json::to_string(&listed).map_err(anyhow::Error::new)?;
        return Ok(output::line(text)?);
    }
    let watches = listed.items.iter().map(WatchDocument::deserialize);
    let watches: Result<Vec<_>, _> = watches.collect();
    let watches = watches.map_err(anyhow::Error::new)?;
    if watches.is_empty() {
        return Ok(output::line("no such watches")?);
    }
    output::line(table(&watches, Painter::detect(), &Screen::detect()))?;
    if listed.next_cursor.is_some() {
        output::line(format!(
            "there are more: --limit {}",
            args.limit.saturating_mul(2)
        ))?;
    }
    Ok(())
}

/// Reads as many pages as the limit needs.
async fn fetch(relay: &RelayClient, args: &ListArgs) -> Result<ListedWatches, RelayCallError> {
    let mut all = ListedWatches {
        items: Vec::new(),
        next_cursor: None,
    };
    let mut left = args.limit;
    loop {
        let size = left.min(PAGE);
        let page: ListedWatches = relay
            .get(&path(args, size, all.next_cursor.as_deref()))
            .await?;
        all.items.extend(page.items);
        all.next_cursor = page.next_cursor;
        left -= size;
        if left == 0 || all.next_cursor.is_none() {
            return Ok(all);
        }
    }
}

fn path(args: &ListArgs, limit: u32, cursor: Option<&str>) -> String {
    let parameters = [
        ("state", args.state.as_deref()),
        ("jobId", args.job.as_ref().map(JobId::as_str)),
        ("cursor", cursor),
    ];
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    for (name, value) in parameters {
        query.extend_pairs(value.map(|value| (name, value)));
    }
    format!("watch?{}", query.finish())
}

/// Formats watches in aligned columns. On a narrow terminal a row continues on the next line.
fn table(watches: &[WatchDocument], paint: Painter, screen: &Screen) -> String {
    let created = watches
        .first()
        .map(|watch| format!("created ({})", screen.offset(watch.created_at)))
        .unwrap_or_default();
    let heading = [
        "watch",
        "state",
        &created,
        "job",
        "user",
        "connection",
        "last event",
    ]
    .map(ToOwned::to_owned);
    let id = |id: &Option<String>| harmless(id.as_deref().unwrap_or_default()).into_owned();
    let rows = watches.iter().map(|watch| {
        [
            harmless(&watch.id).into_owned(),
            harmless(&watch.state).into_owned(),
            screen.date_time(watch.created_at),
            harmless(&watch.job_id).into_owned(),
            id(&watch.context.user_id),
            id(&watch.context.connection_id),
            watch.last_event().map(in_short).unwrap_or_default(),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = columns(cell).max(*width);
        }
    }
    let lines = rows.iter().enumerate().map(|(index, row)| {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match (index, column) {
            (0, _) => paint.dim(format!("{cell:<width$}")),
            (_, 1) => paint.standing(cell, width),
            _ => format!("{cell:<width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        screen.fit(line.trim_end(), 4)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Describes an event in few words. Says so if the callback has not accepted it.
fn in_short(event: &EventDocument) -> String {
    let mut text = event.status.clone();
    if let Some(code) = &event.error_code {
        text = format!("{text} {code}");
    }
    match event.delivery_state() {
        None | Some("delivered") => {}
        Some(state) => text = format!("{text} ({state})"),
    }
    harmless(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn watches() -> Vec<WatchDocument> {
        let watch = |id: &str, (job, state): (&str, &str), context: Value, events: Value| {
            let document = json!({
                "id": id, "jobId": job, "callbackUrl": "https://app.example/hook", "state": state,
                "createdAt": "2026-11-23T09:14:28Z", "events": events, "context": context,
            });
            serde_json::from_value(document).unwrap()
        };
        let event = json!([{
            "id": "evt_1", "sequence": 1, "status": "failed", "action": "retry", "errorCode": "invalid-credentials",
            "failedStep": null, "final": true, "userMessage": "", "timestamp": "2026-11-23T09:14:30Z",
            "deliveries": [{ "state": "dead", "nextAttemptAt": null }],
        }]);
        vec![
            watch(
                "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q",
                ("248b2883", "settled"),
                json!({ "userId": "1c7ea4e4", "connectionId": "cc\u{1b}1" }),
                event,
            ),
            watch(
                "wch_01KAR2D3CV9Z8X7W6V5T4S3R2P",
                ("j\u{1b}[2J", "awaiting-user"),
                json!({ "userId": null, "connectionId": null }),
                json!([]),
            ),
        ]
    }

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: ListArgs,
    }

    #[test]
    fn errors_name_an_address_without_a_loose_end() {
        for (arguments, expected) in [
            (&[][..], "watch?limit=20"),
            (
                &["--state", "delayed", "--job", "j-1"],
                "watch?limit=20&state=delayed&jobId=j-1",
            ),
        ] {
            let arguments = ["list"].iter().chain(arguments);
            let Cli { args } = clap::Parser::parse_from(arguments);
            assert_eq!(path(&args, args.limit, None), expected);
        }
    }

    #[test]
    fn people_read_aligned_columns_that_fit_the_terminal() {
        let told = table(&watches(), Painter::PLAIN, &Screen::utc(None));
        assert_eq!(
            told,
            "watch                           state          created (+00:00)     job       user      connection  last event\n\
             wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q  settled        2026-11-23 09:14:28  248b2883  1c7ea4e4  cc\u{fffd}1        \
             failed invalid-credentials (dead)\n\
             wch_01KAR2D3CV9Z8X7W6V5T4S3R2P  awaiting-user  2026-11-23 09:14:28  j\u{fffd}[2J"
        );
        let narrow = table(&watches(), Painter::PLAIN, &Screen::utc(Some(80)));
        assert!(narrow.lines().all(|line| columns(line) <= 80), "{narrow}");
        assert!(
            narrow
                .contains("\n    1c7ea4e4  cc\u{fffd}1        failed invalid-credentials (dead)\n"),
            "{narrow}"
        );
    }
}
