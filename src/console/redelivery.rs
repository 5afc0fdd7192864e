//! Sends all dead deliveries that pass a filter again. A page first says how many they are, and which.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use jiff::Timestamp;
use relay_domain::{DeliveryId, DeliveryState, clock::later};
use relay_store::{DeliveryEntry, Store};
use tracing::info;
use url::form_urlencoded;

use crate::console::{
    action_result::ActionResult,
    fault::ErrorPage,
    filter::ConsoleFilter,
    form::{Form, SessionForm},
    names::{ClientNames, names},
    scan::{DeliveryPosition, DeliveryScan, ScanLimits, Scanned, parse_position, write_position},
    state::ConsoleState,
    view::{PageClock, ShownTime},
    visit::{PageContext, PageFrame, Section},
};

/// How many deliveries one act sends again, and how many it looks at, at most.
const LIMITS: ScanLimits = ScanLimits {
    wanted: 1_000,
    looked_at: 10_000,
};

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console/deliveries/redeliver", get(ask).post(redeliver))
}

#[derive(Template)]
#[template(path = "redelivery.html")]
struct Page {
    frame: PageFrame,
    /// The number of deliveries that are sent again.
    count: usize,
    /// The number of those that pass the filter, and cannot be sent again.
    left_out: usize,
    filter: Vec<(&'static str, String)>,
    /// How many go to each client and host.
    clients: String,
    hosts: String,
    /// When they died.
    died: Option<TimeRange>,
    /// What the form says besides: until when and to where the deliveries were counted.
    counted_at: i64,
    last: String,
    /// Where the search for dead deliveries ended, if there are older ones.
    searched: Option<SearchEnd>,
    list: String,
}

/// The first and the last of some times.
struct TimeRange {
    first: ShownTime,
    last: ShownTime,
}

/// The end of a search that did not reach the oldest dead delivery.
struct SearchEnd {
    /// The number of dead deliveries that were looked at.
    looked_at: usize,
    back_to: ShownTime,
    /// The address of this page for the older ones.
    older: String,
}

/// The dead deliveries that pass a filter.
struct Chosen {
    scanned: Scanned<DeliveryEntry, DeliveryPosition>,
    /// Those of them that can be sent again.
    sendable: HashSet<DeliveryId>,
}

async fn choose(
    store: &dyn Store,
    filter: &ConsoleFilter,
    names: &ClientNames,
    last: Option<DeliveryPosition>,
) -> Result<Chosen, ErrorPage> {
    let scan = DeliveryScan {
        store,
        state: DeliveryState::Dead,
        filter,
        owner: filter.owner(names),
        last,
    };
    let scanned = scan.run(None, LIMITS).await?;
    let ids = scanned.found.iter().map(|entry| entry.delivery.id);
    let ids: Vec<_> = ids.collect();
    let sendable = store.filter_redeliverable(&ids).await?;
    Ok(Chosen {
        scanned,
        sendable: sendable.into_iter().collect(),
    })
}

async fn ask(
    State(state): State<ConsoleState>,
    Query(params): Query<HashMap<String, String>>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let filter = ConsoleFilter::read(|name| params.get(name).cloned().unwrap_or_default())?;
    let store = &*state.parts.store;
    let names = names(store).await?;
    let counted = filter.before(counted_at(&visit));
    let chosen = choose(store, &counted, &names, None).await?;
    let page = page(&filter, &chosen, &names, &visit);
    visit.answer(&page, &page)
}

fn page(filter: &ConsoleFilter, chosen: &Chosen, names: &ClientNames, visit: &PageContext) -> Page {
    let clock = visit.clock();
    let found = &chosen.scanned.found;
    let sent = found.iter().filter(|entry| chosen.is_sent(entry));
    let client = |entry: &DeliveryEntry| match entry.client_id {
        Some(id) => names.of(id),
        None => "Basiq’s webhooks, passed on".to_owned(),
    };
    let position = |entry: &DeliveryEntry| (entry.updated_at, entry.delivery.id);
    let last = found.last().map(position);
    let count = chosen.sendable.len();
    let title = match count {
        0 => "Nothing to send again".to_owned(),
        1 => "Send 1 delivery again?".to_owned(),
        many => format!("Send {many} deliveries again?"),
    };
    let back_to = chosen
        .scanned
        .back_to
        .filter(|_| chosen.scanned.rest.is_some());
    Page {
        frame: visit.frame(Section::Deliveries, title),
        count,
        left_out: found.len() - count,
        filter: filter.fields(),
        clients: counted(sent.clone().map(client)),
        hosts: counted(
            sent.clone()
                .map(|entry| entry.callback_url.host().to_owned()),
        ),
        died: time_range(sent.map(|entry| entry.updated_at), clock),
        counted_at: counted_at(visit).as_millisecond(),
        last: last.map_or_else(String::new, write_position),
        searched: back_to.map(|at| SearchEnd {
            looked_at: chosen.scanned.looked_at,
            back_to: clock.when(at),
            older: older(filter, at),
        }),
        list: address("/console/deliveries", filter),
    }
}

/// Returns the time before which deliveries are counted: what dies later is not sent.
fn counted_at(visit: &PageContext) -> Timestamp {
    visit.now() + Duration::from_millis(1)
}

impl Chosen {
    fn is_sent(&self, entry: &DeliveryEntry) -> bool {
        self.sendable.contains(&entry.delivery.id)
    }
}

/// Says how often each text occurs, the most frequent first.
fn counted(texts: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let counts = counts
        .into_iter()
        .map(|(text, count)| format!("{text}: {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

fn time_range(times: impl Iterator<Item = Timestamp>, clock: PageClock) -> Option<TimeRange> {
    let times: Vec<_> = times.collect();
    let (first, last) = (times.iter().min()?, times.iter().max()?);
    Some(TimeRange {
        first: clock.when(*first),
        last: clock.when(*last),
    })
}

/// Returns the address of this page for what died at `back_to` or before.
fn older(filter: &ConsoleFilter, back_to: Timestamp) -> String {
    let end = later(back_to, Duration::from_millis(1));
    address("/console/deliveries/redeliver", &filter.before(end))
}

fn address(path: &str, filter: &ConsoleFilter) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("state", DeliveryState::Dead.as_str());
    filter.append_to(&mut query);
    format!("{path}?{}", query.finish())
}

/// What was counted before: until when, to which delivery, and how many.
struct Counted {
    at: Timestamp,
    last: DeliveryPosition,
    count: usize,
}

impl Counted {
    fn read(form: &Form) -> Option<Self> {
        let at = form.text("counted_at").parse().ok()?;
        Some(Self {
            at: Timestamp::from_millisecond(at).ok()?,
            last: parse_position(form.text("last"))?,
            count: form.text("count").parse().ok()?,
        })
    }
}

/// Sends what was counted, and nothing else. Meanwhile some may have been sent again already; those are left out. If
/// there are more than were counted, the page asks again.
async fn redeliver(
    State(state): State<ConsoleState>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let filter = ConsoleFilter::read(|name| posted.form.text(name).to_owned())?;
    let Some(counted) = Counted::read(&posted.form) else {
        return Ok(ask_again(&filter));
    };
    let store = &*state.parts.store;
    let names = names(store).await?;
    let before = filter.before(counted.at);
    let chosen = choose(store, &before, &names, Some(counted.last)).await?;
    if chosen.sendable.len() > counted.count {
        return Ok(ask_again(&filter));
    }
    let ids: Vec<_> = chosen.sendable.into_iter().collect();
    let actor = posted.visit.actor();
    let subject = subject(&filter);
    let queued = store.redeliver_chosen(actor, &ids, &subject, posted.visit.now());
    let queued = queued.await?;
    if queued > 0 {
        (state.parts.notify_delivery)();
    }
    info!(queued, "dead deliveries queued again by the operator");
    let list = address("/console/deliveries", &filter);
    let notice = ActionResult::QueuedMany(queued).to_query();
    Ok(Redirect::to(&format!("{list}&{notice}")).into_response())
}

fn ask_again(filter: &ConsoleFilter) -> Response {
    let page = address("/console/deliveries/redeliver", filter);
    let notice = ActionResult::CountAgain.to_query();
    Redirect::to(&format!("{page}&{notice}")).into_response()
}

/// Returns the subject for the audit log: the filter, as an address says it.
fn subject(filter: &ConsoleFilter) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    filter.append_to(&mut query);
    match query.finish() {
        all if all.is_empty() => "all dead deliveries".to_owned(),
        some => some,
    }
}
