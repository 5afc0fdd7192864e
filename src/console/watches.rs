//! The page that lists watches of all clients, by state or by a search text.

use std::collections::HashMap;

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use relay_domain::{ClientId, WatchId, WatchState};
use relay_store::{Store, StoreError, WatchDetails, WatchQuery, WatchSearch};
use serde::Deserialize;
use url::form_urlencoded;

use crate::console::{
    fault::ErrorPage,
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

#[derive(Deserialize)]
struct Asked {
    q: Option<String>,
    state: Option<String>,
    before: Option<String>,
}

/// The list that was requested.
enum List {
    All(Option<WatchState>),
    Found(String),
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

/// A tab that leads to one list.
pub(super) struct Tab {
    pub(super) name: &'static str,
    pub(super) address: String,
    pub(super) is_current: bool,
}

#[derive(Template)]
#[template(path = "watches.html", blocks = ["live"])]
struct Page {
    shell: PageFrame,
    tabs: Vec<Tab>,
    search: String,
    lines: Vec<Line>,
    /// The address of this page, from which htmx refreshes it.
    here: String,
    /// The address of the first page.
    first: String,
    /// The address of the page with older watches, if there are any.
    older: Option<String>,
    is_first: bool,
}

async fn show(
    State(state): State<ConsoleState>,
    Query(asked): Query<Asked>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let search = asked.q.as_deref().unwrap_or_default().trim();
    let search: String = search.chars().take(LONGEST_SEARCH).collect();
    let store = &*state.parts.store;
    if let Ok(id) = search.parse()
        && store.find_watch(None, id).await?.is_some()
    {
        return Ok(Redirect::to(&watch_page(id)).into_response());
    }
    let chosen = if search.is_empty() {
        List::All(asked.state.as_deref().and_then(WatchState::from_word))
    } else {
        List::Found(search)
    };
    let before = asked
        .before
        .as_deref()
        .and_then(|before| before.parse().ok());
    let mut details = read(store, &chosen, before).await?;
    let more = details.len() > PAGE;
    details.truncate(PAGE);
    let last = details.last().filter(|_| more).map(|story| story.watch.id);
    let names = names(store).await?;
    let lines = details
        .iter()
        .map(|story| line(story, &names, visit.clock()));
    let page = Page {
        shell: visit.shell(Section::Watches, "Watches"),
        tabs: tabs(&chosen),
        lines: lines.collect(),
        here: chosen.address(before),
        first: chosen.address(None),
        older: last.map(|last| chosen.address(Some(last))),
        is_first: before.is_none(),
        search: chosen.search(),
    };
    visit.answer(&page, &page.as_live())
}

async fn read(
    store: &dyn Store,
    list: &List,
    before: Option<WatchId>,
) -> Result<Vec<WatchDetails>, StoreError> {
    // one row more than the page holds shows whether there are older watches
    let limit = PAGE + 1;
    match list {
        List::All(state) => {
            let query = WatchQuery {
                state: *state,
                before,
                limit,
                ..WatchQuery::default()
            };
            store.list_watches(&query).await
        }
        List::Found(text) => {
            let search = WatchSearch {
                text: text.clone(),
                before,
                limit,
            };
            store.search_watches(&search).await
        }
    }
}

impl List {
    fn search(&self) -> String {
        match self {
            Self::All(_) => String::new(),
            Self::Found(text) => text.clone(),
        }
    }

    fn address(&self, before: Option<WatchId>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        match self {
            Self::All(None) => {}
            Self::All(Some(state)) => {
                query.append_pair("state", state.as_str());
            }
            Self::Found(text) => {
                query.append_pair("q", text);
            }
        }
        if let Some(before) = before {
            query.append_pair("before", &before.to_string());
        }
        format!("/console/watches?{}", query.finish())
    }
}

fn tabs(list: &List) -> Vec<Tab> {
    let tab = |name, state| Tab {
        name,
        address: List::All(state).address(None),
        is_current: matches!(list, List::All(current) if *current == state),
    };
    let states = WatchState::ALL.iter();
    let states = states.map(|state| tab(state_word(*state), Some(*state)));
    std::iter::once(tab("all", None)).chain(states).collect()
}

fn line(story: &WatchDetails, names: &ClientNames, clock: PageClock) -> Line {
    let watch = &story.watch;
    let told = story.events.last().map(|event| &event.body);
    Line {
        address: watch_page(watch.id),
        id: watch.id.to_string(),
        job_id: watch.request.job_id.to_string(),
        state: Badge::watch(watch.state),
        client: names.of(watch.client_id),
        host: watch.request.callback_url.host().to_owned(),
        told: told.map(|body| (Badge::status(body.status), words::action(body.action))),
        next_look: story.next_look_at.map(|at| clock.when(at)),
        created: clock.when(watch.created_at),
    }
}

/// The names of all clients, by id.
pub(super) struct ClientNames(HashMap<ClientId, String>);

impl ClientNames {
    pub(super) fn of(&self, client: ClientId) -> String {
        self.0.get(&client).cloned().unwrap_or_default()
    }
}

/// Reads the names of all clients.
pub(super) async fn names(store: &dyn Store) -> Result<ClientNames, StoreError> {
    let clients = store.list_clients().await?;
    let names = clients
        .into_iter()
        .map(|client| (client.id, client.name.to_string()));
    Ok(ClientNames(names.collect()))
}
