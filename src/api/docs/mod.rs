//! `GET /openapi.json`, `GET /docs` and `GET /problems`: the OpenAPI document, and pages to read and try it.

mod assets;
mod calls;
mod problems;

use askama::Template;
use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode, header};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    calls::{OperationSummary, calls},
    problems::{ProblemList, ProblemPage},
};
use crate::{
    api::{ApiState, openapi::document},
    web::{Problem, ProblemCode},
};

const TAG: &str = "documentation";

const NO_SUCH_PROBLEM: &str = "There is no such problem. `/problems` lists those there are.";

/// The policy of the pages without a script.
const PROBLEM_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(read_document))
        .routes(routes!(read_docs))
        .routes(routes!(list_problems))
        .routes(routes!(explain_problem))
        // for the pages, so not part of the API
        .route(assets::PATH, get(assets::read_asset))
        // for people who open the relay's address in a browser
        .route("/", get(async || Redirect::to("/docs")))
}

/// What the pages show, read from the OpenAPI document once when the relay starts.
pub(super) struct DocPages {
    document: String,
    calls: Vec<OperationSummary>,
}

impl DocPages {
    pub(super) fn new() -> Self {
        let document = document();
        Self {
            document: document.to_json().unwrap_or_default(),
            calls: calls(&document),
        }
    }
}

#[derive(Template)]
#[template(path = "reference.html")]
struct Reference<'a> {
    assets: &'a str,
    nonce: &'a str,
    version: &'a str,
    calls: &'a [OperationSummary],
}

/// Returns the content security policy of the reference. Scripts come from this relay alone, and so does all that the
/// page asks for. Scalar's script adds style elements, which carry the nonce of the answer. It also writes `style`
/// attributes as HTML, for the numbers of lines in samples, which no nonce can admit: only for these is inline style
/// allowed.
fn reference_policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
         style-src 'self' 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// Returns a page, or the problem that it could not be written.
fn page(template: &impl Template, policy: String) -> Result<Response, Problem> {
    let html = template.render().map_err(Problem::internal)?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    Ok((headers, html).into_response())
}

/// Read this document
///
/// The document in the format OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "readDocument",
    tag = TAG,
    responses((status = 200, description = "The document", body = HashMap<String, serde_json::Value>,
        content_type = "application/json", example = json!({"openapi": "3.1.0"}))),
)]
async fn read_document(State(state): State<ApiState>) -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, state.docs.document.clone())
}

/// Read the documentation
///
/// A page to read this document and to try its calls.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "readDocs",
    tag = TAG,
    responses((status = 200, description = "The page", body = String,
        content_type = "text/html", example = json!("<!doctype html>"))),
)]
async fn read_docs(State(state): State<ApiState>) -> Result<Response, Problem> {
    let nonce = STANDARD.encode(rand::random::<[u8; 16]>());
    let reference = Reference {
        assets: assets::place(),
        nonce: &nonce,
        version: env!("CARGO_PKG_VERSION"),
        calls: &state.docs.calls,
    };
    page(&reference, reference_policy(&nonce))
}

/// List the kinds of problems
///
/// A page with the kinds of problems that calls are answered with. Each leads to its own page.
#[utoipa::path(
    get,
    path = "/problems",
    operation_id = "listProblems",
    tag = TAG,
    responses((status = 200, description = "The page", body = String,
        content_type = "text/html", example = json!("<!doctype html>"))),
)]
async fn list_problems() -> Result<Response, Problem> {
    page(&ProblemList::known(), PROBLEM_POLICY.to_owned())
}

/// Explain a kind of problem
///
/// A page about a kind of problem: its cause, what to do, and an example. Its path is the `type` of such problems. For a
/// kind that does not exist, callers that accept HTML get a page that lists the kinds there are. Others get a problem.
#[utoipa::path(
    get,
    path = "/problems/{code}",
    operation_id = "explainProblem",
    tag = TAG,
    params(("code" = String, Path, description = "The code of the problem", example = json!("invalid-field"))),
    responses(
        (status = 200, description = "The page", body = String,
            content_type = "text/html", example = json!("<!doctype html>")),
        (status = 404, description = "There is no such kind", body = String,
            content_type = "text/html", example = json!("<!doctype html>")),
    ),
)]
async fn explain_problem(
    State(state): State<ApiState>,
    code: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let policy = PROBLEM_POLICY.to_owned();
    let code = code
        .ok()
        .and_then(|Path(word)| ProblemCode::from_word(&word));
    let Some(code) = code else {
        if !accepts_html(&headers) {
            return Err(Problem::not_found(NO_SUCH_PROBLEM));
        }
        let unknown = page(&ProblemList::unknown(), policy)?;
        return Ok((StatusCode::NOT_FOUND, unknown).into_response());
    };
    page(&ProblemPage::new(code, &state.docs.calls), policy)
}

/// Returns whether a caller asks for HTML by name, as browsers do.
fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(','));
    types.any(|range| {
        let name = range.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("text/html")
    })
}
