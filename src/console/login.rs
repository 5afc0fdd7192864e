//! Log-in with an operator's token, and log-out.

use std::net::IpAddr;

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{Extensions, HeaderMap, StatusCode, header};
use metrics::counter;
use relay_domain::{Actor, ApiKey, AuditAct, OperatorName};
use relay_store::AuditEntry;
use serde::Deserialize;
use tracing::{info, warn};

use crate::{
    console::{
        assets,
        fault::ErrorPage,
        form::{Form, SessionForm},
        origin::is_by_https,
        session::{ConsoleSession, no_cookie},
        state::ConsoleState,
        visit::{next_page, page},
    },
    web::{LongPoll, PeerAddress},
};

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new()
        .route("/console/login", get(show).post(log_in))
        .route("/console/logout", post(log_out))
}

#[derive(Template)]
#[template(path = "login.html")]
struct Page<'a> {
    assets: &'static str,
    next: &'a str,
    fault: Option<&'a str>,
}

impl Page<'_> {
    fn answer(next: &str, fault: Option<&str>) -> Result<Response, ErrorPage> {
        let shown = Page {
            assets: assets::base_address(),
            next,
            fault,
        };
        Ok(page(shown.render()?).into_response())
    }
}

#[derive(Deserialize)]
struct PageQuery {
    next: Option<String>,
}

fn check_on(state: &ConsoleState) -> Result<(), ErrorPage> {
    if state.parts.admin.is_set() {
        return Ok(());
    }
    Err(ErrorPage::off())
}

async fn show(
    State(state): State<ConsoleState>,
    Query(params): Query<PageQuery>,
    headers: HeaderMap,
) -> Result<Response, ErrorPage> {
    check_on(&state)?;
    let next = next_page(params.next.as_deref().unwrap_or_default());
    if ConsoleSession::of(&state.parts.admin, &headers, state.parts.clock.now()).is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    Page::answer(next, None)
}

async fn log_in(
    State(state): State<ConsoleState>,
    extensions: Extensions,
    long_poll: LongPoll,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, ErrorPage> {
    check_on(&state)?;
    let next = next_page(form.text("next"));
    let (from, parts) = (PeerAddress::of(&extensions), &state.parts);
    let wait = state.throttle.begin(from, parts.clock.now());
    if !wait.is_zero() {
        long_poll.take();
        tokio::time::sleep(wait).await;
    }
    let Some(operator) = parts.admin.find(&ApiKey::presented(form.text("token"))) else {
        return refuse(&state, from, next).await;
    };
    state.throttle.succeeded(from);
    let now = parts.clock.now();
    let is_secure = is_by_https(&headers, parts.public_url.as_ref());
    let session = ConsoleSession::begin(&parts.admin, operator.clone(), now);
    let cookie = session.and_then(|session| session.cookie(is_secure));
    let cookie = cookie.ok_or_else(|| ErrorPage::nothing("The console was switched off."))?;
    count(&operator, "ok");
    info!(operator.name = %operator, "an operator logged in to the console");
    let actor = Actor { operator, from };
    // a log-in that cannot be recorded is refused
    let entry = AuditEntry::new(&actor, AuditAct::LoggedIn, "", now);
    parts.store.record_act(entry).await?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response())
}

/// Answers a log-in with a wrong token, and records it.
async fn refuse(
    state: &ConsoleState,
    from: Option<IpAddr>,
    next: &str,
) -> Result<Response, ErrorPage> {
    let operator = OperatorName::unknown();
    count(&operator, "refused");
    warn!("a log-in to the console with another token was refused");
    if state.recorded_failures.check().is_ok() {
        let (actor, now) = (Actor { operator, from }, state.parts.clock.now());
        let entry = AuditEntry::new(&actor, AuditAct::LogInFailed, "", now);
        state.parts.store.record_act(entry).await?;
    }
    let fault = "This is not the token of an operator of this relay.";
    let refused = Page::answer(next, Some(fault))?;
    Ok((StatusCode::FORBIDDEN, refused).into_response())
}

fn count(operator: &OperatorName, result: &'static str) {
    counter!("relay_console_logins_total", "operator" => operator.to_string(), "result" => result)
        .increment(1);
}

async fn log_out(
    State(state): State<ConsoleState>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let (actor, now) = (posted.visit.actor(), posted.visit.now());
    info!(operator.name = %actor.operator, "an operator logged out of the console");
    let entry = AuditEntry::new(actor, AuditAct::LoggedOut, "", now);
    state.parts.store.record_act(entry).await?;
    let cookie = [(header::SET_COOKIE, no_cookie())];
    Ok((cookie, Redirect::to("/console/login")).into_response())
}
