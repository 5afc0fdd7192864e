//! The page that lists deliveries of all clients: which are dead and why, and which wait. The operator can send them
//! again.

use std::collections::{BTreeSet, HashMap};

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use relay_domain::{DeliveryId, DeliveryState};
use relay_store::{DeliveryContent, DeliveryEntry, HostPause, Redelivery, Store, StoreError};
use tracing::info;
use url::form_urlencoded;

use crate::console::{
    action_result::ActionResult,
    fault::ErrorPage,
    filter::{ConsoleFilter, FilterForm},
    form::SessionForm,
    lists::{ScanProgress, Tab},
    names::{ClientNames, names},
    scan::{
        DeliveryPosition, DeliveryScan, MOST_LOOKED_AT, ScanLimits, Scanned, parse_position,
        write_position,
    },
    state::ConsoleState,
    view::{Badge, PageClock, ShownTime},
    visit::{ConsolePath, PageContext, PageFrame, Section, watch_page},
    words,
};

/// The number of deliveries on a page.
const PAGE: usize = 50;

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new()
        .route("/console/deliveries", get(show))
        .route("/console/deliveries/{id}/redeliver", post(redeliver_one))
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
    /// Why the delivery waits although it may be due: its host is paused.
    paused: Option<String>,
}

#[derive(Template)]
#[template(path = "deliveries.html", blocks = ["live"])]
struct Page {
    frame: PageFrame,
    tabs: Vec<Tab>,
    state: DeliveryState,
    form: FilterForm,
    can_redeliver: bool,
    is_dead: bool,
    /// The page that asks before all that pass the filter are sent again.
    redeliver_all: String,
    lines: Vec<Line>,
    here: String,
    first: String,
    older: Option<String>,
    is_first: bool,
    /// How far the page looked, if it ended before the list and before the page was full.
    looked: Option<ScanProgress>,
}

/// The list that was requested.
struct List {
    state: DeliveryState,
    filter: ConsoleFilter,
}

impl List {
    fn address(&self, after: Option<DeliveryPosition>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("state", self.state.as_str());
        self.filter.append_to(&mut query);
        if let Some((at, id)) = after {
            query.append_pair("after", &write_position((at, id)));
        }
        format!("/console/deliveries?{}", query.finish())
    }

    fn in_state(&self, state: DeliveryState) -> Self {
        Self {
            state,
            filter: self.filter.clone(),
        }
    }

    fn form(&self, names: &ClientNames) -> FilterForm {
        let state = self.state.as_str().to_owned();
        FilterForm {
            hidden: vec![("state", state)],
            without: format!("/console/deliveries?state={}", self.state),
            ..FilterForm::new("/console/deliveries", &self.filter, names)
        }
    }
}

async fn show(
    State(state): State<ConsoleState>,
    Query(params): Query<HashMap<String, String>>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let text = |name: &str| params.get(name).cloned().unwrap_or_default();
    let after = parse_position(&text("after"));
    let list = List {
        state: DeliveryState::from_word(&text("state")).unwrap_or(DeliveryState::Dead),
        filter: ConsoleFilter::read(text)?,
    };
    let store = &*state.parts.store;
    let names = names(store).await?;
    let scan = DeliveryScan {
        store,
        state: list.state,
        filter: &list.filter,
        owner: list.filter.owner(&names),
        last: None,
    };
    let limits = ScanLimits {
        wanted: PAGE,
        looked_at: MOST_LOOKED_AT,
    };
    let scanned = scan.run(after, limits).await?;
    let pauses = pauses(store, &scanned.found, visit.now()).await?;
    let page = page(&list, &scanned, after, &names, &pauses, &visit);
    visit.answer(&page, &page.as_live())
}

fn page(
    list: &List,
    scanned: &Scanned<DeliveryEntry, DeliveryPosition>,
    after: Option<DeliveryPosition>,
    names: &ClientNames,
    pauses: &[HostPause],
    visit: &PageContext,
) -> Page {
    let clock = visit.clock();
    let lines = scanned.found.iter();
    let lines = lines.map(|entry| line(entry, names, pauses, clock));
    let is_full = scanned.found.len() == PAGE;
    let older = scanned.rest.filter(|_| is_full);
    let mut all = form_urlencoded::Serializer::new(String::new());
    list.filter.append_to(&mut all);
    Page {
        frame: visit.frame(Section::Deliveries, "Deliveries"),
        tabs: tabs(list),
        state: list.state,
        form: list.form(names),
        can_redeliver: can_redeliver(list.state),
        is_dead: list.state == DeliveryState::Dead,
        redeliver_all: format!("/console/deliveries/redeliver?{}", all.finish()),
        lines: lines.collect(),
        here: list.address(after),
        first: list.address(None),
        older: older.map(|place| list.address(Some(place))),
        is_first: after.is_none(),
        looked: ScanProgress::of(scanned, PAGE, |place| list.address(Some(*place)), clock),
    }
}

/// Returns the pauses of the hosts that pending deliveries wait for.
async fn pauses(
    store: &dyn Store,
    entries: &[DeliveryEntry],
    now: Timestamp,
) -> Result<Vec<HostPause>, StoreError> {
    let waiting = entries
        .iter()
        .filter(|entry| entry.delivery.state == DeliveryState::Pending);
    let hosts: BTreeSet<_> = waiting.map(|entry| entry.callback_url.host()).collect();
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let hosts: Vec<_> = hosts.into_iter().collect();
    store.pauses_of(&hosts, now).await
}

/// Whether deliveries in this state can be sent again. An event that expired is of no use to anybody.
fn can_redeliver(state: DeliveryState) -> bool {
    match state {
        DeliveryState::Pending | DeliveryState::Delivered | DeliveryState::Dead => true,
        DeliveryState::Expired | DeliveryState::Superseded | DeliveryState::Cancelled => false,
    }
}

fn tabs(list: &List) -> Vec<Tab> {
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
        address: list.in_state(state).address(None),
        is_current: state == list.state,
    };
    order.into_iter().map(tab).collect()
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

fn line(
    entry: &DeliveryEntry,
    names: &ClientNames,
    pauses: &[HostPause],
    clock: PageClock,
) -> Line {
    let body = entry.body();
    let latest = entry.delivery.attempts.last();
    let ending = latest.map(|latest| words::ending(latest.status, latest.error));
    let answer = latest.and_then(|latest| {
        let detail = latest.error_detail.as_deref();
        latest.response.as_deref().or(detail)
    });
    let answer = answer.map(|answer| answer.chars().take(120).collect::<String>());
    let host = entry.callback_url.host();
    let pause = pauses.iter().find(|pause| pause.host == host);
    Line {
        id: entry.delivery.id.to_string(),
        watch: body.and_then(|body| body.watch_id).map(watch_page),
        subject: subject(entry),
        client: entry.client_id.map_or_else(String::new, |id| names.of(id)),
        host: host.to_owned(),
        event: body.map_or_else(Badge::message, |body| Badge::status(body.status)),
        action: body.map_or("passed on", |body| words::action(body.action)),
        attempts: entry.delivery.attempts.len(),
        ending: ending.unwrap_or_else(|| "not tried yet".to_owned()),
        answer: answer.filter(|answer| !answer.trim().is_empty()),
        changed: clock.when(entry.updated_at),
        next: entry.delivery.next_attempt_at.map(|at| clock.when(at)),
        paused: pause.map(words::pause),
    }
}

async fn redeliver_one(
    State(state): State<ConsoleState>,
    ConsolePath(id): ConsolePath<DeliveryId>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let list = List {
        state: DeliveryState::from_word(posted.form.text("state")).unwrap_or(DeliveryState::Dead),
        filter: ConsoleFilter::read(|name| posted.form.text(name).to_owned())?,
    };
    let now = posted.visit.now();
    let by = posted.visit.requester();
    let redelivery = state.parts.store.redeliver_one(&by, id, now).await?;
    let notice = came_to(&state, redelivery);
    let address = format!("{}&{}", list.address(None), notice.to_query());
    Ok(Redirect::to(&address).into_response())
}

/// Returns the notice for the result of a redelivery. Wakes the delivery worker if an event was queued.
pub(super) fn came_to(state: &ConsoleState, redelivery: Redelivery) -> ActionResult {
    match redelivery {
        Redelivery::Queued(event_id) => {
            (state.parts.notify_delivery)();
            info!(event.id = %event_id, "event queued once more by the operator");
            ActionResult::Queued
        }
        Redelivery::NotFound => ActionResult::Gone,
        Redelivery::NoEvent => ActionResult::NoEvent,
        Redelivery::Superseded(_) => ActionResult::NewerEvent,
        Redelivery::Cancelled => ActionResult::IsCancelled,
    }
}
