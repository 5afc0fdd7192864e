//! The test of a callback, from the page of clients: a form with a URL, and a page with what happened.

use askama::Template;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::StatusCode;
use relay_domain::{AuditAct, CallbackUrl, Client, ClientName};
use relay_store::{AuditEntry, StoreError};

use crate::{
    callback_test::{CallbackTestError, TestOutcome, TooManyTests},
    console::{
        fault::ErrorPage,
        form::SessionForm,
        state::ConsoleState,
        view::took,
        visit::{ConsolePath, PageContext, PageFrame, Section, page},
        words,
    },
    web::LongPoll,
};

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console/clients/{name}/test-callback", post(test))
}

#[derive(Template)]
#[template(path = "callback_test.html")]
struct Page {
    frame: PageFrame,
    client: String,
    /// The URL as it was typed.
    typed: String,
    result: Shown,
}

/// What became of the test.
enum Shown {
    /// The URL cannot be a callback, for this reason.
    Refused(String),
    Tested {
        accepted: bool,
        /// The status, or the word for the error.
        outcome: String,
        took: String,
        address: Option<String>,
        advice: &'static str,
    },
}

async fn test(
    State(state): State<ConsoleState>,
    ConsolePath(name): ConsolePath<ClientName>,
    long_poll: LongPoll,
    posted: SessionForm,
) -> Result<Response, ErrorPage> {
    let client = find(&state, &name).await?;
    long_poll.take();
    let typed = posted.form.text("url").to_owned();
    let (status, result) = match CallbackUrl::parse(&typed, &state.parts.rules) {
        Err(error) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            Shown::Refused(format!("The URL {error}.")),
        ),
        Ok(url) => {
            let test = state.parts.tester.admit(&client).map_err(too_many)?;
            record(&state, &posted.visit, &name, &url).await?;
            (StatusCode::OK, Shown::of(&test.post(&url).await))
        }
    };
    let title = format!("Test of a callback for {name}");
    let shown = Page {
        frame: posted.visit.frame(Section::Clients, title),
        client: name.to_string(),
        typed,
        result,
    };
    Ok((status, page(shown.render()?)).into_response())
}

/// Records a test before it is made: the audit log has each event that an operator had signed.
async fn record(
    state: &ConsoleState,
    visit: &PageContext,
    client: &ClientName,
    url: &CallbackUrl,
) -> Result<(), StoreError> {
    let subject = format!("{client} {}", words::without_query(url));
    let entry = AuditEntry::new(
        visit.actor(),
        AuditAct::CallbackTested,
        subject,
        visit.now(),
    );
    state.parts.store.record_act(entry).await
}

async fn find(state: &ConsoleState, name: &ClientName) -> Result<Client, ErrorPage> {
    let clients = state.parts.store.list_clients().await?;
    let mut active = clients
        .into_iter()
        .filter(|client| client.revoked_at.is_none());
    active
        .find(|client| &client.name == name)
        .ok_or_else(|| ErrorPage::nothing("There is no such client, or it is revoked."))
}

fn too_many(refusal: TooManyTests) -> ErrorPage {
    let TooManyTests {
        per_minute,
        retry_after,
    } = refusal;
    ErrorPage::new(
        StatusCode::TOO_MANY_REQUESTS,
        "Too many tests",
        format!(
            "At most {per_minute} tests a minute for each client; try again in {retry_after} s."
        ),
    )
}

impl Shown {
    fn of(outcome: &TestOutcome) -> Self {
        let error = outcome.error.map_or("accepted", CallbackTestError::as_str);
        Self::Tested {
            accepted: outcome.error.is_none(),
            outcome: match outcome.status {
                Some(status) => format!("{error}, HTTP {status}"),
                None => error.to_owned(),
            },
            took: took(outcome.duration),
            address: outcome.address.map(|address| address.to_string()),
            advice: outcome.advice,
        }
    }
}
