//! The page of callback hosts that get nothing or fail: which are paused, by whom, until when and why. The operator can
//! pause and resume them.

use askama::Template;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::StatusCode;
use relay_store::{FailingHost, ManualPause};
use tracing::info;
use url::Host;

use crate::console::{
    action_result::ActionResult,
    fault::ErrorPage,
    form::SessionForm,
    state::ConsoleState,
    view::{Badge, PageClock, ShownTime, Tone},
    visit::{PageContext, PageFrame, Section},
    words,
};

/// The maximum number of hosts that each list of the page shows.
const MOST: usize = 100;

/// The maximum length of a host's name.
const LONGEST: usize = 253;

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new()
        .route("/console/hosts", get(show))
        .route("/console/hosts/pause", post(pause))
        .route("/console/hosts/resume", post(resume))
}

/// A host that keeps failing.
struct Line {
    host: String,
    state: Badge,
    failures: u64,
    until: Option<ShownTime>,
    failed: ShownTime,
    why: String,
    waiting: String,
    /// Whether an operator can pause it, because none did.
    can_pause: bool,
}

/// A host that an operator paused.
struct PausedLine {
    host: String,
    by: String,
    since: ShownTime,
    waiting: String,
}

#[derive(Template)]
#[template(path = "hosts.html", blocks = ["live"])]
struct Page {
    frame: PageFrame,
    paused: Vec<PausedLine>,
    lines: Vec<Line>,
}

async fn show(
    State(state): State<ConsoleState>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let store = &state.parts.store;
    let manual = store.list_manual_pauses(MOST).await?;
    let hosts = store.list_failing_hosts(MOST).await?;
    let clock = visit.clock();
    let lines = hosts.into_iter().map(|host| line(host, &manual, clock));
    let page = Page {
        frame: visit.frame(Section::Hosts, "Callback hosts"),
        lines: lines.collect(),
        paused: manual.iter().map(|pause| paused(pause, clock)).collect(),
    };
    visit.answer(&page, &page.as_live())
}

fn paused(pause: &ManualPause, clock: PageClock) -> PausedLine {
    PausedLine {
        host: pause.host.clone(),
        by: pause.paused_by.to_string(),
        since: clock.when(pause.paused_at),
        waiting: waiting(pause.waiting),
    }
}

fn waiting(count: u64) -> String {
    if count >= FailingHost::MOST_WAITING {
        format!("{} or more", FailingHost::MOST_WAITING)
    } else {
        count.to_string()
    }
}

fn line(host: FailingHost, manual: &[ManualPause], clock: PageClock) -> Line {
    let is_manual = manual.iter().any(|pause| pause.host == host.host);
    let paused = host.paused_until.filter(|until| *until > clock.0);
    let (tone, word) = match (host.probing, paused) {
        _ if is_manual => (Tone::Warn, "paused by hand"),
        (true, _) => (Tone::Warn, "being probed"),
        (false, Some(_)) => (Tone::Bad, "paused"),
        (false, None) if host.paused_until.is_some() => (Tone::Warn, "probed next"),
        (false, None) => (Tone::Warn, "failing"),
    };
    let why = host.last.map(|last| words::ending(last.status, last.error));
    Line {
        state: Badge {
            tone,
            word: word.to_owned(),
        },
        failures: host.failures,
        until: paused.map(|until| clock.when(until)),
        failed: clock.when(host.failed_at),
        why: why.unwrap_or_else(|| "nothing that waits was tried".to_owned()),
        waiting: waiting(host.waiting),
        can_pause: !is_manual,
        host: host.host,
    }
}

/// Reads the host of a form, written as hosts of callbacks are: in lower case, and an IPv6 address in brackets.
fn host_of(posted: &SessionForm) -> Result<String, ErrorPage> {
    let typed = posted.form.text("host");
    let parsed = Host::parse(typed).ok();
    let host = parsed.filter(|_| typed.len() <= LONGEST);
    host.map(|host| host.to_string()).ok_or_else(|| {
        let typed: String = typed.chars().take(LONGEST).collect();
        ErrorPage::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "This host cannot be paused",
            format!(
                "host: “{typed}” is no host. Write a name or an address as callbacks have it, such as app.example, \
                 without scheme, port and path."
            ),
        )
    })
}

async fn pause(
    State(state): State<ConsoleState>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let host = host_of(&posted)?;
    let (actor, now) = (posted.visit.actor(), posted.visit.now());
    let notice = if state.parts.store.pause_host(actor, &host, now).await? {
        info!(callback.host = host, "host paused by the operator");
        ActionResult::HostPaused
    } else {
        ActionResult::HostWasPaused
    };
    Ok(back(notice))
}

async fn resume(
    State(state): State<ConsoleState>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let host = host_of(&posted)?;
    let (actor, now) = (posted.visit.actor(), posted.visit.now());
    let notice = if state.parts.store.resume_host(actor, &host, now).await? {
        (state.parts.notify_delivery)();
        info!(callback.host = host, "host resumed by the operator");
        ActionResult::HostResumed
    } else {
        ActionResult::HostWasNotPaused
    };
    Ok(back(notice))
}

fn back(notice: ActionResult) -> Response {
    Redirect::to(&format!("/console/hosts?{}", notice.to_query())).into_response()
}
