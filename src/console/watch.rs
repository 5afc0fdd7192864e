//! The page of one watch: its facts, its time line, and the actions on it.

use askama::Template;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use relay_domain::{DeliveryState, JobMemory, Phase, WatchId, WatchState, visible_json};
use relay_store::{HostPause, WatchDetails};
use tracing::info;

use crate::console::{
    action_result::ActionResult,
    deliveries::came_to,
    fault::ErrorPage,
    form::SessionForm,
    names::names,
    state::ConsoleState,
    timeline::{TimelineEntry, timeline},
    view::{Badge, PageClock, ShownTime, length},
    visit::{ConsolePath, PageContext, PageFrame, Section, watch_page},
    words,
};

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new()
        .route("/console/watches/{id}", get(show))
        .route("/console/watches/{id}/redeliver", post(redeliver))
        .route("/console/watches/{id}/cancel", post(cancel))
}

/// A fact about a watch. If `others` is set, the page links to watches that share the fact.
struct Fact {
    name: &'static str,
    text: String,
    is_id: bool,
    can_copy: bool,
    others: bool,
}

#[derive(Template)]
#[template(path = "watch.html", blocks = ["live"])]
struct Page {
    frame: PageFrame,
    here: String,
    state: Badge,
    /// Whether the watch or its deliveries may still change by themselves.
    is_live: bool,
    can_cancel: bool,
    can_redeliver: bool,
    facts: Vec<Fact>,
    metadata: Option<String>,
    created: ShownTime,
    updated: ShownTime,
    settled: Option<ShownTime>,
    next_look: Option<ShownTime>,
    steps: Vec<(String, Badge)>,
    seen: Option<ShownTime>,
    remarks: Vec<String>,
    moments: Vec<TimelineEntry>,
    job_id: String,
}

async fn show(
    State(state): State<ConsoleState>,
    visit: PageContext,
    ConsolePath(id): ConsolePath<WatchId>,
) -> Result<Response, ErrorPage> {
    let parts = &state.parts;
    let found = parts.store.find_watch(None, id).await?;
    let details = found.ok_or_else(no_such_watch)?;
    let client = names(&*parts.store).await?.of(details.watch.client_id);
    let host = details.watch.request.callback_url.host();
    let waits = details
        .events
        .iter()
        .any(|event| event.delivery.next_attempt_at.is_some());
    let pauses = if waits {
        parts.store.pauses_of(&[host], visit.now()).await?
    } else {
        Vec::new()
    };
    let page = page(&details, &client, pauses.first(), &visit);
    visit.answer(&page, &page.as_live())
}

fn no_such_watch() -> ErrorPage {
    ErrorPage::nothing("There is no such watch; what settled long ago is deleted.")
}

fn page(
    details: &WatchDetails,
    client: &str,
    pause: Option<&HostPause>,
    visit: &PageContext,
) -> Page {
    let (watch, clock) = (&details.watch, visit.clock());
    let waits = details
        .events
        .iter()
        .any(|event| event.delivery.next_attempt_at.is_some());
    let metadata = &watch.request.options.metadata;
    let steps = details.job.steps.iter();
    Page {
        frame: visit.frame(Section::Watches, format!("Job {}", watch.request.job_id)),
        here: watch_page(watch.id),
        state: Badge::watch(watch.state),
        is_live: watch.state.is_open() || waits,
        can_cancel: watch.state.is_open(),
        can_redeliver: can_redeliver(details),
        facts: facts(details, client),
        metadata: (!metadata.is_empty()).then(|| visible_json(metadata.as_str())),
        created: clock.when(watch.created_at),
        updated: clock.when(watch.updated_at),
        settled: watch.settled_at.map(|at| clock.when(at)),
        next_look: details.next_look_at.map(|at| clock.when(at)),
        steps: steps
            .map(|step| (step.title.clone(), Badge::step(&step.status)))
            .collect(),
        seen: details.job.seen_at.map(|at| clock.when(at)),
        remarks: remarks(&details.job, clock),
        moments: timeline(details, client, pause, clock),
        job_id: watch.request.job_id.to_string(),
    }
}

/// Whether the latest event can be sent again. One that expired is of no use to anybody.
fn can_redeliver(details: &WatchDetails) -> bool {
    let latest = details.events.last();
    let is_useful = latest.is_some_and(|event| event.delivery.state != DeliveryState::Expired);
    is_useful && details.watch.state != WatchState::Cancelled
}

fn facts(details: &WatchDetails, client: &str) -> Vec<Fact> {
    let (request, context) = (&details.watch.request, &details.job.context);
    let fact = |name, text: &str, others| Fact {
        name,
        text: text.to_owned(),
        is_id: others || matches!(name, "Watch" | "Callback" | "Bank"),
        can_copy: others || matches!(name, "Watch" | "Bank"),
        others,
    };
    let callback = words::without_query(&request.callback_url);
    let mut facts = vec![
        fact("Watch", &details.watch.id.to_string(), false),
        fact("Job", request.job_id.as_str(), true),
        fact("Client", client, false),
        fact("Callback", &callback, false),
        fact("Callback host", request.callback_url.host(), true),
    ];
    let known = [
        ("Person", &context.user_id, true),
        ("Connection", &context.connection_id, true),
        ("Bank", &context.institution_id, false),
        ("Kind of job", &context.job_type, false),
    ];
    for (name, text, others) in known {
        facts.extend(text.as_ref().map(|text| fact(name, text, others)));
    }
    let options = words::options(&request.options).into_iter();
    facts.extend(options.map(|(name, text)| fact(name, &text, false)));
    facts
}

/// Returns remarks about a job: what is unusual, and what it waits for.
fn remarks(job: &JobMemory, clock: PageClock) -> Vec<String> {
    let mut remarks = Vec::new();
    match &job.phase {
        Phase::Running => {}
        Phase::RetryQueue { next_retry_at, .. } => {
            let at = next_retry_at.strftime("%H:%M:%S UTC on %-d %b");
            remarks.push(format!("Basiq retries the update by itself; next at {at}."));
        }
        Phase::Outage { bank, .. } => {
            let bank = &bank.institution_id;
            remarks.push(format!(
                "The bank {bank} is down for everybody and is looked at instead."
            ));
        }
    }
    if let Some(open) = &job.challenges.open {
        let answers = match open.challenge.inputs.len() {
            1 => "one answer".to_owned(),
            many => format!("{many} answers"),
        };
        let method = &open.challenge.method;
        let since = clock.0.duration_since(open.first_seen_at).as_secs();
        let since = length(since.unsigned_abs());
        remarks.push(format!(
            "A challenge is open for {since} now: {method}, {answers} wanted."
        ));
    }
    if job.errors_in_a_row > 0 {
        let errors = job.errors_in_a_row;
        remarks.push(format!(
            "Looks in a row that brought no usable answer: {errors}."
        ));
    }
    remarks
}

async fn redeliver(
    State(state): State<ConsoleState>,
    ConsolePath(id): ConsolePath<WatchId>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let now = posted.visit.now();
    let by = posted.visit.requester();
    let redelivery = state.parts.store.redeliver_watch(&by, id, now).await?;
    let notice = came_to(&state, redelivery);
    let address = format!("{}?{}", watch_page(id), notice.to_query());
    Ok(Redirect::to(&address).into_response())
}

async fn cancel(
    State(state): State<ConsoleState>,
    ConsolePath(id): ConsolePath<WatchId>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let now = posted.visit.now();
    let by = posted.visit.requester();
    if !state.parts.store.cancel_watch(&by, id, now).await? {
        return Err(no_such_watch());
    }
    info!(watch.id = %id, "watch cancelled by the operator");
    let address = format!("{}?{}", watch_page(id), ActionResult::Cancelled.to_query());
    Ok(Redirect::to(&address).into_response())
}
