//! The page on which an operator erases the data of a person or a connection.

use askama::Template;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use relay_domain::BasiqId;
use relay_store::{ErasureCounts, ErasureSubject};

use crate::console::{
    fault::ErrorPage,
    form::SessionForm,
    state::ConsoleState,
    visit::{PageContext, PageFrame, Section},
};

/// The title of the page.
const TITLE: &str = "Erase a person's data";

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console/erase", get(show).post(erase))
}

#[derive(Template)]
#[template(path = "erase.html")]
struct Page<'f> {
    frame: PageFrame,
    /// What was typed, if it was refused.
    typed: &'f str,
    is_connection: bool,
    refused: Option<&'static str>,
    erased: Option<ErasureCounts>,
}

async fn show(visit: PageContext) -> Result<Response, ErrorPage> {
    let shown = Page {
        frame: visit.frame(Section::Erase, TITLE),
        typed: "",
        is_connection: false,
        refused: None,
        erased: None,
    };
    visit.answer(&shown, &shown)
}

async fn erase(
    State(state): State<ConsoleState>,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let typed = posted.form.text("id").trim();
    let is_connection = posted.form.text("kind") == "connection";
    let answer = |refused: Option<&'static str>, erased| {
        let shown = Page {
            frame: posted.visit.frame(Section::Erase, TITLE),
            typed: refused.map_or("", |_| typed),
            is_connection,
            refused,
            erased,
        };
        posted.visit.answer(&shown, &shown)
    };
    let refuse = |why| {
        let shown = answer(Some(why), None)?;
        Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response())
    };
    let Ok(id) = typed.parse::<BasiqId>() else {
        return refuse("An id has 1 to 128 of the letters A-Z and a-z, digits, and . _ -");
    };
    if posted.form.text("again").trim() != typed {
        return refuse("The two ids differ. Nothing was erased.");
    }
    let subject = if is_connection {
        ErasureSubject::Connection(id)
    } else {
        ErasureSubject::User(id)
    };
    let store = &state.parts.store;
    let (actor, now) = (posted.visit.actor(), posted.visit.now());
    let erased = store.erase(&subject, actor, now).await?;
    answer(None, Some(erased))
}
