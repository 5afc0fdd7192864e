//! The pages of subscriptions: a list for all people or for one, and one subscription with its notices.

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use relay_domain::{BasiqId, SubscriptionId, SubscriptionState};
use relay_store::{EventDetails, SubscriptionDetails, SubscriptionQuery};
use serde::Deserialize;
use tracing::info;
use url::form_urlencoded;

use crate::console::{
    action_result::ActionResult,
    fault::ErrorPage,
    form::SessionForm,
    names::{ClientNames, names},
    state::ConsoleState,
    view::{Badge, PageClock, ShownTime},
    visit::{ConsolePath, PageContext, PageFrame, Section, subscription_page},
    words,
};

/// The number of subscriptions on a page, and of notices on the page of one.
const PAGE: usize = 50;

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new()
        .route("/console/subscriptions", get(show_all))
        .route("/console/subscriptions/{id}", get(show))
        .route("/console/subscriptions/{id}/end", post(end))
}

#[derive(Deserialize)]
struct PageQuery {
    user: Option<String>,
    before: Option<String>,
}

/// A subscription in the list.
struct Line {
    address: String,
    id: String,
    user_id: String,
    connection_id: Option<String>,
    state: Badge,
    client: String,
    host: String,
    open_watches: u64,
    next_list: Option<ShownTime>,
    created: ShownTime,
}

#[derive(Template)]
#[template(path = "subscriptions.html", blocks = ["live"])]
struct ListPage {
    frame: PageFrame,
    search: String,
    lines: Vec<Line>,
    here: String,
    first: String,
    older: Option<String>,
    is_first: bool,
}

/// A notice of the subscription.
struct NoticeLine {
    id: String,
    status: Badge,
    event_type: String,
    message: String,
    action: &'static str,
    delivery: Badge,
    at: ShownTime,
}

#[derive(Template)]
#[template(path = "subscription.html", blocks = ["live"])]
struct Page {
    frame: PageFrame,
    here: String,
    line: Line,
    is_active: bool,
    callback: String,
    listed: Option<ShownTime>,
    ended: Option<ShownTime>,
    notices: Vec<NoticeLine>,
}

async fn show_all(
    State(state): State<ConsoleState>,
    Query(params): Query<PageQuery>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let search = params.user.as_deref().unwrap_or_default().trim().to_owned();
    let before = params.before.as_deref();
    let before = before.and_then(|before| before.parse().ok());
    let user_id: Option<BasiqId> = search.parse().ok();
    // what is no id has no subscriptions
    let limit = if search.is_empty() || user_id.is_some() {
        PAGE + 1
    } else {
        0
    };
    let store = &*state.parts.store;
    let query = SubscriptionQuery {
        owner: None,
        user_id,
        before,
        limit,
    };
    let mut found = store.list_subscriptions(&query).await?;
    let more = found.len() > PAGE;
    found.truncate(PAGE);
    let last = found
        .last()
        .filter(|_| more)
        .map(|last| last.subscription.id);
    let names = names(store).await?;
    let lines = found
        .iter()
        .map(|details| line(details, &names, visit.clock()));
    let page = ListPage {
        frame: visit.frame(Section::Subscriptions, "Subscriptions"),
        lines: lines.collect(),
        here: list_address(&search, before),
        first: list_address(&search, None),
        older: last.map(|last| list_address(&search, Some(last))),
        is_first: before.is_none(),
        search,
    };
    visit.answer(&page, &page.as_live())
}

fn list_address(user: &str, before: Option<SubscriptionId>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !user.is_empty() {
        query.append_pair("user", user);
    }
    if let Some(before) = before {
        query.append_pair("before", &before.to_string());
    }
    format!("/console/subscriptions?{}", query.finish())
}

fn line(details: &SubscriptionDetails, names: &ClientNames, clock: PageClock) -> Line {
    let subscription = &details.subscription;
    let request = &subscription.request;
    Line {
        address: subscription_page(subscription.id),
        id: subscription.id.to_string(),
        user_id: request.user_id.to_string(),
        connection_id: request.connection_id.as_ref().map(ToString::to_string),
        state: Badge::subscription(subscription.state),
        client: names.of(subscription.client_id),
        host: request.callback_url.host().to_owned(),
        open_watches: details.open_watches,
        next_list: details.next_list_at.map(|at| clock.when(at)),
        created: clock.when(subscription.created_at),
    }
}

async fn show(
    State(state): State<ConsoleState>,
    visit: PageContext,
    ConsolePath(id): ConsolePath<SubscriptionId>,
) -> Result<Response, ErrorPage> {
    let store = &*state.parts.store;
    let found = store.find_subscription(None, id).await?;
    let details = found.ok_or_else(no_such_subscription)?;
    let notices = store.notices_of(id, PAGE).await?;
    let (subscription, clock) = (&details.subscription, visit.clock());
    let line = line(&details, &names(store).await?, clock);
    let page = Page {
        frame: visit.frame(Section::Subscriptions, format!("Person {}", line.user_id)),
        here: subscription_page(id),
        line,
        is_active: subscription.state == SubscriptionState::Active,
        callback: words::without_query(&subscription.request.callback_url),
        listed: details.last_listed_at.map(|at| clock.when(at)),
        ended: subscription.ended_at.map(|at| clock.when(at)),
        notices: notices
            .iter()
            .map(|event| notice_line(event, clock))
            .collect(),
    };
    visit.answer(&page, &page.as_live())
}

fn no_such_subscription() -> ErrorPage {
    ErrorPage::nothing("There is no such subscription; what ended long ago is deleted.")
}

fn notice_line(event: &EventDetails, clock: PageClock) -> NoticeLine {
    NoticeLine {
        id: event.id.to_string(),
        status: Badge::status(event.body.status),
        event_type: event.body.event_type.clone(),
        message: event.body.user_message.clone(),
        action: words::action(event.body.action),
        delivery: Badge::delivery(event.delivery.state),
        at: clock.when(event.body.timestamp),
    }
}

async fn end(
    State(state): State<ConsoleState>,
    ConsolePath(id): ConsolePath<SubscriptionId>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let now = posted.visit.now();
    let by = posted.visit.requester();
    if !state.parts.store.end_subscription(&by, id, now).await? {
        return Err(no_such_subscription());
    }
    info!(subscription.id = %id, "subscription ended by the operator");
    let address = format!(
        "{}?{}",
        subscription_page(id),
        ActionResult::Ended.to_query()
    );
    Ok(Redirect::to(&address).into_response())
}
