//! The page that lists deliveries of all clients: which are dead and why, and which wait. The operator can send them
//! again.

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp};
use relay_domain::{DeliveryId, DeliveryState};
use relay_store::{DeliveryContent, DeliveryEntry, DeliveryQuery, Redelivery};
use serde::Deserialize;
use tracing::info;

use crate::console::{
    fault::ErrorPage,
    form::SessionForm,
    notice::Notice,
    state::ConsoleState,
    view::{Badge, PageClock, ShownTime},
    visit::{ConsolePath, PageContext, PageFrame, Section, watch_page},
    watches::{ClientNames, Tab, names},
    words,
};

/// The number of deliveries on a page.
const PAGE: usize = 50;

/// The spans for which the operator can queue dead deliveries again: the form's value, a label, and hours.
const SPANS: [(&str, &str, i64); 4] = [
    ("1", "the last hour", 1),
    ("24", "the last 24 hours", 24),
    ("168", "the last 7 days", 168),
    ("720", "the last 30 days", 720),
];

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new()
        .route("/console/deliveries", get(show))
        .route("/console/deliveries/redeliver", post(redeliver_dead))
        .route("/console/deliveries/{id}/redeliver", post(redeliver_one))
}

#[derive(Deserialize)]
struct Asked {
    state: Option<String>,
    after: Option<String>,
}

/// A delivery in the list.
struct Line {
    id: String,
    /// The page of the watch. None for a notice or a message of Basiq's.
    watch: Option<String>,
    /// The job, the person of a notice, or the type of a message.
    subject: String,
    client: String,
    host: String,
    event: Badge,
    action: &'static str,
    attempts: usize,
    /// How the latest attempt ended.
    ending: String,
    answer: Option<String>,
    changed: ShownTime,
    next: Option<ShownTime>,
}

#[derive(Template)]
#[template(path = "deliveries.html", blocks = ["live"])]
struct Page {
    shell: PageFrame,
    tabs: Vec<Tab>,
    state: DeliveryState,
    can_redeliver: bool,
    is_dead: bool,
    spans: [(&'static str, &'static str, i64); 4],
    lines: Vec<Line>,
    here: String,
    first: String,
    older: Option<String>,
    is_first: bool,
}

async fn show(
    State(state): State<ConsoleState>,
    Query(asked): Query<Asked>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let wanted = asked.state.as_deref().and_then(DeliveryState::from_word);
    let wanted = wanted.unwrap_or(DeliveryState::Dead);
    let after = asked.after.as_deref().and_then(parse_place);
    let query = DeliveryQuery {
        owner: None,
        state: wanted,
        after,
        limit: PAGE + 1,
    };
    let mut entries = state.parts.store.list_deliveries(&query).await?;
    let more = entries.len() > PAGE;
    entries.truncate(PAGE);
    let last = entries.last().filter(|_| more);
    let older = last.map(|last| address(wanted, Some((last.updated_at, last.delivery.id))));
    let names = names(&*state.parts.store).await?;
    let lines = entries
        .iter()
        .map(|entry| line(entry, &names, visit.clock()));
    let page = Page {
        shell: visit.shell(Section::Deliveries, "Deliveries"),
        tabs: tabs(wanted),
        state: wanted,
        can_redeliver: can_redeliver(wanted),
        is_dead: wanted == DeliveryState::Dead,
        spans: SPANS,
        lines: lines.collect(),
        here: address(wanted, after),
        first: address(wanted, None),
        older,
        is_first: after.is_none(),
    };
    visit.answer(&page, &page.as_live())
}

fn can_redeliver(state: DeliveryState) -> bool {
    match state {
        DeliveryState::Pending
        | DeliveryState::Delivered
        | DeliveryState::Dead
        | DeliveryState::Expired => true,
        DeliveryState::Superseded | DeliveryState::Cancelled => false,
    }
}

fn tabs(current: DeliveryState) -> Vec<Tab> {
    let order = [
        DeliveryState::Dead,
        DeliveryState::Pending,
        DeliveryState::Expired,
        DeliveryState::Delivered,
        DeliveryState::Superseded,
        DeliveryState::Cancelled,
    ];
    let tab = |state: DeliveryState| Tab {
        name: state.as_str(),
        address: address(state, None),
        is_current: state == current,
    };
    order.into_iter().map(tab).collect()
}

fn address(state: DeliveryState, after: Option<(Timestamp, DeliveryId)>) -> String {
    let after = after.map(|(at, id)| format!("&after={}.{id}", at.as_millisecond()));
    format!(
        "/console/deliveries?state={state}{}",
        after.unwrap_or_default()
    )
}

fn parse_place(text: &str) -> Option<(Timestamp, DeliveryId)> {
    let (millis, id) = text.split_once('.')?;
    let at = Timestamp::from_millisecond(millis.parse().ok()?).ok()?;
    Some((at, id.parse().ok()?))
}

/// Returns what a delivery is about: a job, the person of a notice, or the type of a message of Basiq's.
fn subject(entry: &DeliveryEntry) -> String {
    match &entry.content {
        DeliveryContent::Event(body) => {
            let user = body.context.user_id.as_deref();
            body.job_id.as_deref().or(user).unwrap_or("?").to_owned()
        }
        DeliveryContent::Message(message) => message.event_type.clone(),
    }
}

fn line(entry: &DeliveryEntry, names: &ClientNames, clock: PageClock) -> Line {
    let body = entry.body();
    let latest = entry.delivery.attempts.last();
    let ending = latest.map(|latest| words::ending(latest.status, latest.error));
    let answer = latest.and_then(|latest| {
        let detail = latest.error_detail.as_deref();
        latest.response.as_deref().or(detail)
    });
    let answer = answer.map(|answer| answer.chars().take(120).collect::<String>());
    Line {
        id: entry.delivery.id.to_string(),
        watch: body.and_then(|body| body.watch_id).map(watch_page),
        subject: subject(entry),
        client: entry.client_id.map_or_else(String::new, |id| names.of(id)),
        host: entry.callback_url.host().to_owned(),
        event: body.map_or_else(Badge::message, |body| Badge::status(body.status)),
        action: body.map_or("passed on", |body| words::action(body.action)),
        attempts: entry.delivery.attempts.len(),
        ending: ending.unwrap_or_else(|| "not tried yet".to_owned()),
        answer: answer.filter(|answer| !answer.trim().is_empty()),
        changed: clock.when(entry.updated_at),
        next: entry.delivery.next_attempt_at.map(|at| clock.when(at)),
    }
}

async fn redeliver_one(
    State(state): State<ConsoleState>,
    ConsolePath(id): ConsolePath<DeliveryId>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let now = posted.visit.now();
    let by = posted.visit.requester();
    let redelivery = state.parts.store.redeliver_one(&by, id, now).await?;
    let notice = came_to(&state, redelivery);
    let list = DeliveryState::from_word(posted.form.text("state"));
    Ok(back_to(list.unwrap_or(DeliveryState::Dead), notice))
}

fn back_to(list: DeliveryState, notice: Notice) -> Response {
    let address = format!("{}&{}", address(list, None), notice.to_query());
    Redirect::to(&address).into_response()
}

/// Returns the notice for the result of a redelivery. Wakes the delivery worker if an event was queued.
pub(super) fn came_to(state: &ConsoleState, redelivery: Redelivery) -> Notice {
    match redelivery {
        Redelivery::Queued(event_id) => {
            (state.parts.delivery_ring)();
            info!(event.id = %event_id, "event queued once more by the operator");
            Notice::Queued
        }
        Redelivery::NotFound => Notice::Gone,
        Redelivery::NoEvent => Notice::NoEvent,
        Redelivery::Superseded(_) => Notice::NewerEvent,
        Redelivery::Cancelled => Notice::IsCancelled,
    }
}

async fn redeliver_dead(
    State(state): State<ConsoleState>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let chosen = posted.form.text("since");
    let span = SPANS.iter().find(|(value, _, _)| *value == chosen);
    let Some((_, _, hours)) = span else {
        return Err(ErrorPage::nothing(
            "There is no such span of time to choose.",
        ));
    };
    let now = posted.visit.now();
    let since = now.checked_sub(SignedDuration::from_hours(*hours));
    let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
    let by = posted.visit.requester();
    let queued = state.parts.store.redeliver_dead(&by, since, now).await?;
    if queued > 0 {
        (state.parts.delivery_ring)();
    }
    info!(queued, "dead deliveries queued again by the operator");
    Ok(back_to(DeliveryState::Dead, Notice::QueuedMany(queued)))
}
