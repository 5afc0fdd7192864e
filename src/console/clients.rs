//! The page of clients: add, rotate key and secret, revoke. A key or secret is shown only once, in the response to
//! the action that created it.

use askama::Template;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::StatusCode;
use jiff::Timestamp;
use relay_domain::{ApiKey, Client, ClientName, ROTATION_OVERLAP, SigningSecret};
use tracing::info;

use crate::{
    console::{
        action_result::ActionResult,
        fault::ErrorPage,
        form::SessionForm,
        state::ConsoleState,
        view::{PageClock, ShownTime},
        visit::{ConsolePath, PageContext, PageFrame, Section, page},
    },
    web::Problem,
};

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new()
        .route("/console/clients", get(show).post(add))
        .route("/console/clients/{name}/rotate-secret", post(rotate_secret))
        .route("/console/clients/{name}/retire-secret", post(retire_secret))
        .route("/console/clients/{name}/rotate-key", post(rotate_key))
        .route("/console/clients/{name}/revoke", post(revoke))
}

/// A client in the list.
struct Line {
    name: String,
    created: ShownTime,
    /// Until when the previous secret also signs.
    previous_until: Option<ShownTime>,
    revoked: Option<ShownTime>,
    /// What its callbacks get beside the signature, without secrets.
    callback_auth: Option<String>,
}

#[derive(Template)]
#[template(path = "clients.html")]
struct Page {
    frame: PageFrame,
    lines: Vec<Line>,
    refused: Option<RefusedName>,
}

/// A client name that was typed and refused.
struct RefusedName {
    typed: String,
    reason: &'static str,
}

/// The page that shows a key or secret once.
#[derive(Template)]
#[template(path = "secrets.html")]
struct Secrets<'a> {
    frame: PageFrame,
    intro: &'static str,
    key: Option<&'a str>,
    secret: Option<&'a str>,
    previous_until: Option<ShownTime>,
}

async fn show(
    State(state): State<ConsoleState>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    list(&state, &visit, None).await
}

async fn list(
    state: &ConsoleState,
    visit: &PageContext,
    refused: Option<RefusedName>,
) -> Result<Response, ErrorPage> {
    let clients = state.parts.store.list_clients().await?;
    let lines = clients
        .into_iter()
        .map(|client| line(client, visit.clock()));
    let shown = Page {
        frame: visit.frame(Section::Clients, "Clients"),
        lines: lines.collect(),
        refused,
    };
    visit.answer(&shown, &shown)
}

fn line(client: Client, clock: PageClock) -> Line {
    let until = client.previous_secret.map(|(_, until)| until);
    let until = until.filter(|until: &Timestamp| *until > clock.0);
    Line {
        name: client.name.to_string(),
        created: clock.when(client.created_at),
        previous_until: until.map(|until| clock.when(until)),
        revoked: client.revoked_at.map(|at| clock.when(at)),
        callback_auth: client.callback_auth.described(clock.0),
    }
}

async fn add(
    State(state): State<ConsoleState>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let typed = posted.form.text("name");
    let refuse = async |reason| {
        let refused = RefusedName {
            typed: typed.to_owned(),
            reason,
        };
        let list = list(&state, &posted.visit, Some(refused)).await?;
        Ok((StatusCode::UNPROCESSABLE_ENTITY, list).into_response())
    };
    let Ok(name) = ClientName::parse_new(typed) else {
        return refuse(
            "A name has 1 to 64 of the letters A-Z and a-z, digits, and . _ -, and is not . or ..",
        )
        .await;
    };
    let (key, secret) = (ApiKey::generate(), SigningSecret::generate());
    let (hash, now) = (key.hash(), posted.visit.now());
    let (store, actor) = (&state.parts.store, posted.visit.actor());
    let added = store.add_client(&name, &hash, &secret, actor, now).await?;
    if added.is_none() {
        return refuse("There is or was a client of this name; choose another.").await;
    }
    info!(client.name = %name, "client added by the operator");
    tell_once(&Secrets {
        frame: posted
            .visit
            .frame(Section::Clients, format!("New client {name}")),
        intro: "Give both to the client's developers now: they are shown this once.",
        key: Some(key.expose()),
        secret: Some(secret.expose()),
        previous_until: None,
    })
}

fn tell_once(secrets: &Secrets<'_>) -> Result<Response, ErrorPage> {
    Ok(page(secrets.render()?).into_response())
}

async fn rotate_secret(
    State(state): State<ConsoleState>,
    ConsolePath(name): ConsolePath<ClientName>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let secret = SigningSecret::generate();
    let now = posted.visit.now();
    let until = now.checked_add(ROTATION_OVERLAP);
    let until = until.map_err(Problem::internal)?;
    let (store, actor) = (&state.parts.store, posted.visit.actor());
    let rotated = store.rotate_secret(&name, &secret, until, actor, now);
    if !rotated.await? {
        return Err(no_such_client());
    }
    info!(client.name = %name, "signing secret rotated by the operator");
    tell_once(&Secrets {
        frame: posted
            .visit
            .frame(Section::Clients, format!("New signing secret of {name}")),
        intro: "Give it to the client's developers now: it is shown this once.",
        key: None,
        secret: Some(secret.expose()),
        previous_until: Some(posted.visit.clock().when(until)),
    })
}

async fn rotate_key(
    State(state): State<ConsoleState>,
    ConsolePath(name): ConsolePath<ClientName>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let key = ApiKey::generate();
    let (now, actor) = (posted.visit.now(), posted.visit.actor());
    let store = &state.parts.store;
    if !store.rotate_key(&name, &key.hash(), actor, now).await? {
        return Err(no_such_client());
    }
    info!(client.name = %name, "API key rotated by the operator");
    tell_once(&Secrets {
        frame: posted
            .visit
            .frame(Section::Clients, format!("New API key of {name}")),
        intro: "Give it to the client's developers now: it is shown this once. The one before works no more.",
        key: Some(key.expose()),
        secret: None,
        previous_until: None,
    })
}

async fn retire_secret(
    State(state): State<ConsoleState>,
    ConsolePath(name): ConsolePath<ClientName>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let (now, actor) = (posted.visit.now(), posted.visit.actor());
    let retired = state.parts.store.retire_previous_secret(&name, actor, now);
    match retired.await? {
        None => Err(no_such_client()),
        Some(true) => {
            info!(client.name = %name, "old signing secret retired by the operator");
            Ok(back_with(ActionResult::Retired))
        }
        Some(false) => Ok(back_with(ActionResult::NotRotated)),
    }
}

async fn revoke(
    State(state): State<ConsoleState>,
    ConsolePath(name): ConsolePath<ClientName>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let now = posted.visit.now();
    let revoked = state
        .parts
        .store
        .revoke_client(&name, posted.visit.actor(), now);
    let cancelled = revoked.await?;
    let watches = cancelled.ok_or_else(no_such_client)?;
    info!(client.name = %name, watches, "client revoked by the operator");
    Ok(back_with(ActionResult::Revoked(watches)))
}

fn back_with(notice: ActionResult) -> Response {
    Redirect::to(&format!("/console/clients?{}", notice.to_query())).into_response()
}

fn no_such_client() -> ErrorPage {
    ErrorPage::nothing("There is no such client, or it is revoked.")
}
