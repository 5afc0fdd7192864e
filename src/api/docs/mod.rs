//! `GET /openapi.json` and `GET /docs`: the OpenAPI document, and a page to read and try it.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::header;
use sha2::{Digest, Sha256};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiState, openapi::document},
    web::{Problem, ProblemCode},
};

const TAG: &str = "documentation";
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(read_document))
        .routes(routes!(read_docs))
        .routes(routes!(explain_problem))
        // for people who open the relay's address in a browser, so not part of the API
        .route("/", get(async || Redirect::to("/docs")))
}

/// The pages, created once when the relay starts.
pub(super) struct DocPages {
    document: String,
    page: String,
    policy: String,
}

impl DocPages {
    pub(super) fn new() -> Self {
        Self {
            document: document().to_json().unwrap_or_default(),
            page: PAGE
                .replace("/*style*/", STYLE)
                .replace("/*script*/", SCRIPT),
            policy: policy(),
        }
    }
}

/// Returns the content security policy. It allows the page's own style and script, by their hashes, and calls to
/// this relay.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
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
async fn read_docs(State(state): State<ApiState>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, state.docs.policy.clone()),
    ];
    (headers, state.docs.page.clone())
}

/// Look up a kind of problem
///
/// Redirects from the `type` of a problem to its section in the documentation.
#[utoipa::path(
    get,
    path = "/problems/{code}",
    operation_id = "explainProblem",
    tag = TAG,
    params(("code" = String, Path, description = "The code of the problem", example = json!("invalid-field"))),
    responses(
        (status = 303, description = "A redirect to the section in the documentation",
            headers(("location" = String, description = "The address of the section"))),
        (status = 200, description = "The page, for clients that have followed the redirect", body = String,
            content_type = "text/html", example = json!("<!doctype html>")),
    ),
)]
async fn explain_problem(Path(code): Path<String>) -> Result<Response, Problem> {
    let code = ProblemCode::from_word(&code)
        .ok_or_else(|| Problem::not_found("There is no such kind of problem."))?;
    let place = format!("/docs#problem-{}", code.as_str());
    Ok(Redirect::to(&place).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_all_it_needs() {
        let page = DocPages::new().page;
        assert!(page.contains(STYLE) && page.contains(SCRIPT));
        for outside in ["https://", "http://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_page_writes_texts_as_texts_only() {
        for risky in ["innerHTML", "outerHTML", "document.write", "eval("] {
            assert!(!SCRIPT.contains(risky), "{risky}");
        }
    }
}
