//! The page that lists watches of all clients, by state and a filter, or by a search text.

use std::collections::HashMap;

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use relay_domain::{WatchId, WatchState};
use relay_store::{Store, StoreError, WatchDetails};
use url::form_urlencoded;

use crate::console::{
    fault::ErrorPage,
    filter::{ConsoleFilter, FilterForm},
    lists::{ScanProgress, Tab},
    names::{ClientNames, names},
    scan::{MOST_LOOKED_AT, ScanLimits, Scanned, WatchScan},
    search::{self, Found},
    state::ConsoleState,
    view::{Badge, PageClock, ShownTime, state_word},
    visit::{PageContext, PageFrame, Section, watch_page},
    words,
};

/// The number of watches on a page.
const PAGE: usize = 50;

/// The maximum length of a search text in characters; ids and host names are shorter.
const LONGEST_SEARCH: usize = 255;

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console/watches", get(show))
}

/// The list that was requested.
struct List {
    state: Option<WatchState>,
    /// What was searched for. The state and the filter do not count then.
    search: String,
    filter: ConsoleFilter,
}

/// A watch in the list.
struct Line {
    address: String,
    id: String,
    job_id: String,
    state: Badge,
    client: String,
    host: String,
    /// The status and the action of the latest event.
    told: Option<(Badge, &'static str)>,
    next_look: Option<ShownTime>,
    created: ShownTime,
}

#[derive(Template)]
#[template(path = "watches.html", blocks = ["live"])]
struct Page {
    frame: PageFrame,
    tabs: Vec<Tab>,
    search: String,
    form: FilterForm,
    /// Whether what was found only begins with what was searched for.
    is_beginning: bool,
    lines: Vec<Line>,
    /// The address of this page, from which htmx refreshes it.
    here: String,
    /// The address of the first page.
    first: String,
    /// The address of the page with older watches, if there are any.
    older: Option<String>,
    is_first: bool,
    /// How far the page looked, if it ended before the list and before the page was full.
    looked: Option<ScanProgress>,
}

async fn show(
    State(state): State<ConsoleState>,
    Query(params): Query<HashMap<String, String>>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let text = |name: &str| params.get(name).cloned().unwrap_or_default();
    let search = text("q").trim().chars().take(LONGEST_SEARCH).collect();
    let before = text("before").parse().ok();
    let mut list = List {
        state: WatchState::from_word(&text("state")),
        filter: ConsoleFilter::read(text)?,
        search,
    };
    let store = &*state.parts.store;
    let names = names(store).await?;
    let (scanned, is_beginning) = if list.search.is_empty() {
        (list.scan(store, &names, before).await?, false)
    } else {
        match search::find(store, &list.search, before, PAGE).await? {
            Found::Page(page) => return Ok(Redirect::to(&page).into_response()),
            Found::Metadata(filter) => {
                (list.filter, list.search) = (*filter, String::new());
                return Ok(Redirect::to(&list.address(None)).into_response());
            }
            Found::Watches(found) => (found, false),
            Found::Beginning(found) => (found, true),
        }
    };
    let page = page(&list, &scanned, before, &names, &visit);
    let page = Page {
        is_beginning,
        ..page
    };
    visit.answer(&page, &page.as_live())
}

fn page(
    list: &List,
    scanned: &Scanned<WatchDetails, WatchId>,
    before: Option<WatchId>,
    names: &ClientNames,
    visit: &PageContext,
) -> Page {
    let clock = visit.clock();
    let lines = scanned
        .found
        .iter()
        .map(|details| line(details, names, clock));
    let is_full = scanned.found.len() == PAGE;
    let older = scanned.rest.filter(|_| is_full);
    Page {
        frame: visit.frame(Section::Watches, "Watches"),
        tabs: tabs(list),
        form: list.form(names),
        is_beginning: false,
        lines: lines.collect(),
        here: list.address(before),
        first: list.address(None),
        older: older.map(|last| list.address(Some(last))),
        is_first: before.is_none(),
        looked: ScanProgress::of(scanned, PAGE, |last| list.address(Some(*last)), clock),
        search: list.search.clone(),
    }
}

impl List {
    async fn scan(
        &self,
        store: &dyn Store,
        names: &ClientNames,
        before: Option<WatchId>,
    ) -> Result<Scanned<WatchDetails, WatchId>, StoreError> {
        let scan = WatchScan {
            store,
            state: self.state,
            filter: &self.filter,
            owner: self.filter.owner(names),
        };
        let limits = ScanLimits {
            wanted: PAGE,
            looked_at: MOST_LOOKED_AT,
        };
        scan.run(before, limits).await
    }

    fn address(&self, before: Option<WatchId>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("q", &self.search);
        }
        if let Some(state) = self.state {
            query.append_pair("state", state.as_str());
        }
        self.filter.append_to(&mut query);
        if let Some(before) = before {
            query.append_pair("before", &before.to_string());
        }
        format!("/console/watches?{}", query.finish())
    }

    fn form(&self, names: &ClientNames) -> FilterForm {
        let state = self.state.map(|state| ("state", state.as_str().to_owned()));
        let without = Self {
            filter: ConsoleFilter::default(),
            search: String::new(),
            state: self.state,
        };
        FilterForm {
            hidden: state.into_iter().collect(),
            times: "Registered",
            has_metadata: true,
            without: without.address(None),
            ..FilterForm::new("/console/watches", &self.filter, names)
        }
    }
}

fn tabs(list: &List) -> Vec<Tab> {
    let is_search = !list.search.is_empty();
    let tab = |name, state| {
        let other = List {
            state,
            search: String::new(),
            filter: list.filter.clone(),
        };
        Tab {
            name,
            address: other.address(None),
            is_current: !is_search && list.state == state,
        }
    };
    let states = WatchState::ALL.iter();
    let states = states.map(|state| tab(state_word(*state), Some(*state)));
    std::iter::once(tab("all", None)).chain(states).collect()
}

fn line(details: &WatchDetails, names: &ClientNames, clock: PageClock) -> Line {
    let watch = &details.watch;
    let told = details.events.last().map(|event| &event.body);
    Line {
        address: watch_page(watch.id),
        id: watch.id.to_string(),
        job_id: watch.request.job_id.to_string(),
        state: Badge::watch(watch.state),
        client: names.of(watch.client_id),
        host: watch.request.callback_url.host().to_owned(),
        told: told.map(|body| (Badge::status(body.status), words::action(body.action))),
        next_look: details.next_look_at.map(|at| clock.when(at)),
        created: clock.when(watch.created_at),
    }
}
