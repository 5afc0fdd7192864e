//! Log-in with the admin token, and log-out.

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use governor::clock::{Clock, DefaultClock};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use relay_domain::ApiKey;
use serde::Deserialize;
use tracing::{info, warn};

use crate::console::{
    assets,
    fault::ErrorPage,
    form::{Form, SessionForm},
    session::{ConsoleSession, no_cookie},
    state::ConsoleState,
    visit::{next_page, page},
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
            assets: assets::place(),
            next,
            fault,
        };
        Ok(page(shown.render()?).into_response())
    }
}

#[derive(Deserialize)]
struct Asked {
    next: Option<String>,
}

fn check_on(state: &ConsoleState) -> Result<(), ErrorPage> {
    if state.parts.admin.is_set() {
        return Ok(());
    }
    Err(ErrorPage::nothing(
        "The console is off: no admin token is set.",
    ))
}

async fn show(
    State(state): State<ConsoleState>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, ErrorPage> {
    check_on(&state)?;
    let next = next_page(asked.next.as_deref().unwrap_or_default());
    if ConsoleSession::of(&state.parts.admin, &headers, state.parts.clock.now()).is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    Page::answer(next, None)
}

async fn log_in(
    State(state): State<ConsoleState>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, ErrorPage> {
    check_on(&state)?;
    let next = next_page(form.text("next"));
    if let Err(early) = state.logins.check() {
        let wait = early.wait_time_from(DefaultClock::default().now());
        return too_often(next, wait.as_secs() + 1);
    }
    let admin = &state.parts.admin;
    if !admin.is(&ApiKey::presented(form.text("token"))) {
        warn!("a log-in to the console with another token was refused");
        let fault = "This is not the admin token of this relay.";
        let refused = Page::answer(next, Some(fault))?;
        return Ok((StatusCode::FORBIDDEN, refused).into_response());
    }
    let session = ConsoleSession::begin(admin, state.parts.clock.now());
    let cookie = session.and_then(|session| session.cookie(is_secure(&headers)));
    let cookie = cookie.ok_or_else(|| ErrorPage::nothing("The console was switched off."))?;
    info!("the operator logged in to the console");
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response())
}

fn too_often(next: &str, seconds: u64) -> Result<Response, ErrorPage> {
    let fault = format!("Too many attempts. Try again in {seconds} seconds.");
    let refused = Page::answer(next, Some(&fault))?;
    let headers = [(header::RETRY_AFTER, HeaderValue::from(seconds))];
    Ok((StatusCode::TOO_MANY_REQUESTS, headers, refused).into_response())
}

/// Whether the browser uses HTTPS, according to the `X-Forwarded-Proto` header of a proxy.
fn is_secure(headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto");
    let proto = proto.and_then(|proto| proto.to_str().ok());
    let first = proto.and_then(|proto| proto.split(',').next());
    first.is_some_and(|first| first.trim().eq_ignore_ascii_case("https"))
}

async fn log_out(State(_): State<ConsoleState>, _: SessionForm) -> Response {
    info!("the operator logged out of the console");
    let cookie = [(header::SET_COOKIE, no_cookie())];
    (cookie, Redirect::to("/console/login")).into_response()
}
