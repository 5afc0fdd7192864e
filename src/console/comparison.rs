//! The page that compares banks, callback hosts and clients: what succeeds there, and how long it takes.

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use jiff::Timestamp;
use relay_domain::{ActivityCounts, ActivityScope, ActivityTally};
use relay_store::StoreError;

use crate::console::{
    chart::{grouped, lasted},
    fault::ErrorPage,
    span::{SpanQuery, SpanTab, TimeSpan},
    state::ConsoleState,
    view::{ShownTime, Tone},
    visit::{PageContext, PageFrame, Section},
};

const PAGE: &str = "/console/comparison";

/// The maximum number of names in a table.
const MOST: usize = 20;

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route(PAGE, get(show))
}

/// A table of banks, hosts or clients.
struct Table {
    id: &'static str,
    title: &'static str,
    /// What one row is about.
    name: &'static str,
    /// What is counted and measured.
    about: &'static str,
    /// The name of a success.
    good: &'static str,
    rows: Vec<Row>,
    /// How many names are not shown by themselves.
    others: usize,
    /// What to say if there is no row.
    nothing: &'static str,
}

/// The counts of one bank, host or client.
struct Row {
    name: String,
    /// The address of the page about it.
    address: Option<String>,
    good: String,
    bad: String,
    rate: String,
    tone: Tone,
    median: String,
    p95: String,
}

#[derive(Template)]
#[template(path = "comparison.html", blocks = ["live"])]
struct Page {
    frame: PageFrame,
    tabs: Vec<SpanTab>,
    here: String,
    since: ShownTime,
    /// What is counted as a whole: hours or days.
    whole: &'static str,
    most: usize,
    most_names: usize,
    tables: Vec<Table>,
}

async fn show(
    State(state): State<ConsoleState>,
    Query(params): Query<SpanQuery>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let span = params.span();
    let since = span.first_whole(visit.now());
    let [bank, host, client] = span.named_scopes();
    let page = Page {
        frame: visit.frame(Section::Overview, "By bank, host and client"),
        tabs: span.tabs(PAGE),
        here: span.of_page(PAGE),
        since: visit.clock().when(since),
        whole: span.whole_words(),
        most: MOST,
        most_names: ActivityTally::MOST_NAMES,
        tables: vec![
            banks(&read(&state, bank, since).await?),
            hosts(&read(&state, host, since).await?),
            clients(&read(&state, client, since).await?),
        ],
    };
    visit.answer(&page, &page.as_live())
}

/// Returns the address of this page for a span.
pub(super) fn address(span: TimeSpan) -> String {
    span.of_page(PAGE)
}

async fn read(
    state: &ConsoleState,
    scope: ActivityScope,
    since: Timestamp,
) -> Result<ActivityTally, StoreError> {
    let rows = state.parts.store.list_activity(scope, since).await?;
    let mut sum = ActivityTally::default();
    for row in &rows {
        sum.merge(&row.tally);
    }
    Ok(sum)
}

fn banks(tally: &ActivityTally) -> Table {
    let (rows, others) = rows(tally, |_| None);
    Table {
        id: "banks",
        title: "By bank",
        name: "Bank",
        about: "jobs that ended, and how long they took from their creation",
        good: "Succeeded",
        rows,
        others,
        nothing: "No job of a bank has ended in this time.",
    }
}

fn hosts(tally: &ActivityTally) -> Table {
    let watches = |host: &str| {
        let host: String = url::form_urlencoded::byte_serialize(host.as_bytes()).collect();
        Some(format!("/console/watches?q={host}"))
    };
    let (rows, others) = rows(tally, watches);
    Table {
        id: "hosts",
        title: "By callback host",
        name: "Host",
        about: "attempts to deliver, and how long each took",
        good: "Accepted",
        rows,
        others,
        nothing: "No delivery was attempted in this time.",
    }
}

fn clients(tally: &ActivityTally) -> Table {
    let (rows, others) = rows(tally, |_| None);
    Table {
        id: "clients",
        title: "By client",
        name: "Client",
        about: "attempts to deliver, and how long each took",
        good: "Accepted",
        rows,
        others,
        nothing: "No delivery to a client was attempted in this time.",
    }
}

/// Returns the rows of those with the most, and the number of others. The last row has the others together.
fn rows(tally: &ActivityTally, address: impl Fn(&str) -> Option<String>) -> (Vec<Row>, usize) {
    let is_named = |(name, _): &(&str, &ActivityCounts)| *name != ActivityTally::ALL;
    let mut named: Vec<_> = tally.iter().filter(is_named).collect();
    named.sort_by(|(a, x), (b, y)| y.volume().cmp(&x.volume()).then(a.cmp(b)));
    let hidden = named.split_off(MOST.min(named.len()));
    let mut others = ActivityCounts::default();
    let unnamed = tally.iter().filter(|one| !is_named(one));
    for (_, counts) in hidden.iter().copied().chain(unnamed) {
        others.merge(counts);
    }
    let mut rows: Vec<_> = named
        .into_iter()
        .map(|(name, counts)| row(name.to_owned(), address(name), counts))
        .collect();
    if !others.is_empty() {
        rows.push(row("all others".to_owned(), None, &others));
    }
    (rows, hidden.len())
}

fn row(name: String, address: Option<String>, counts: &ActivityCounts) -> Row {
    let time = |percent| {
        let took = counts.took.percentile(percent);
        took.map_or_else(|| "–".to_owned(), lasted)
    };
    let thousandths = counts.succeeded.saturating_mul(1000) / counts.volume().max(1);
    let tone = match thousandths {
        950.. => Tone::Good,
        800.. => Tone::Warn,
        _ => Tone::Bad,
    };
    Row {
        name,
        address,
        good: grouped(counts.succeeded),
        bad: grouped(counts.failed),
        rate: percentage(thousandths),
        tone,
        median: time(50),
        p95: time(95),
    }
}

/// Writes thousandths as a percentage. What is rounded down is never shown as 100 %.
fn percentage(thousandths: u64) -> String {
    match (thousandths / 10, thousandths % 10) {
        (whole, 0) => format!("{whole} %"),
        (whole, tenth) => format!("{whole}.{tenth} %"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_largest_come_first_and_the_others_are_one_row() {
        let mut tally = ActivityTally::default();
        for n in 0..30_u64 {
            let counts = tally.counts_of(&format!("host{n:02}.example"));
            counts.succeeded = n * 10;
            counts.failed = 1;
            counts.took.add(Duration::from_millis(40));
        }
        tally.counts_of(ActivityTally::ALL).failed = 1000;
        let (rows, others) = rows(&tally, |_| None);
        assert_eq!((rows.len(), others), (MOST + 1, 10));
        assert_eq!(
            (rows[0].name.as_str(), rows[0].good.as_str()),
            ("host29.example", "290")
        );
        assert_eq!(rows[0].rate, "99.6 %");
        let last = &rows[MOST];
        assert_eq!(
            (last.name.as_str(), last.bad.as_str()),
            ("all others", "1,010")
        );
        assert_eq!(last.tone, Tone::Bad);
    }

    #[test]
    fn a_rate_that_is_not_whole_is_never_shown_as_whole() {
        let counts = ActivityCounts {
            succeeded: 99_999,
            failed: 1,
            ..ActivityCounts::default()
        };
        let row = row("app.example".to_owned(), None, &counts);
        assert_eq!((row.rate.as_str(), row.median.as_str()), ("99.9 %", "–"));
        assert_eq!(percentage(1000), "100 %");
    }
}
