//! The page of failing callback hosts: which are paused, until when and why.

use askama::Template;
use axum::{Router, extract::State, response::Response, routing::get};
use relay_store::FailingHost;

use crate::console::{
    fault::ErrorPage,
    state::ConsoleState,
    view::{Badge, PageClock, ShownTime, Tone},
    visit::{PageContext, PageFrame, Section},
    words,
};

/// The maximum number of hosts that the page shows.
const MOST: usize = 100;

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console/hosts", get(show))
}

/// A host in the list.
struct Line {
    host: String,
    state: Badge,
    failures: u64,
    until: Option<ShownTime>,
    failed: ShownTime,
    why: String,
    waiting: String,
}

#[derive(Template)]
#[template(path = "hosts.html", blocks = ["live"])]
struct Page {
    shell: PageFrame,
    lines: Vec<Line>,
}

async fn show(
    State(state): State<ConsoleState>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let hosts = state.parts.store.list_failing_hosts(MOST).await?;
    let lines = hosts.into_iter().map(|host| line(host, visit.clock()));
    let page = Page {
        shell: visit.shell(Section::Hosts, "Callback hosts"),
        lines: lines.collect(),
    };
    visit.answer(&page, &page.as_live())
}

fn line(host: FailingHost, clock: PageClock) -> Line {
    let paused = host.paused_until.filter(|until| *until > clock.0);
    let (tone, word) = match (host.probing, paused) {
        (true, _) => (Tone::Warn, "being probed"),
        (false, Some(_)) => (Tone::Bad, "paused"),
        (false, None) if host.paused_until.is_some() => (Tone::Warn, "probed next"),
        (false, None) => (Tone::Warn, "failing"),
    };
    let why = host.last.map(|last| words::ending(last.status, last.error));
    let waiting = if host.waiting >= FailingHost::MOST_WAITING {
        format!("{} or more", FailingHost::MOST_WAITING)
    } else {
        host.waiting.to_string()
    };
    Line {
        state: Badge {
            tone,
            word: word.to_owned(),
        },
        failures: host.failures,
        until: paused.map(|until| clock.when(until)),
        failed: clock.when(host.failed_at),
        why: why.unwrap_or_else(|| "nothing that waits was tried".to_owned()),
        waiting,
        host: host.host,
    }
}
