//! `POST /token`.

use axum::{
    Json,
    extract::{Form, FromRequest, Request, State, rejection::FormRejection},
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::{
    Sandbox,
    error::ApiError,
    http::extract::authorization,
    token::{LIFETIME, TokenScope},
};

/// The versions of Basiq's API that have this route.
const VERSIONS: &[&str] = &["3.0", "2.1", "2.0"];

#[derive(Debug, Default, Deserialize)]
struct TokenForm {
    scope: Option<String>,
    #[serde(rename = "userId")]
    user_id: Option<String>,
}

/// Issues a token for an API key. The key is sent without another encoding: `Authorization: Basic KEY`.
pub(super) async fn issue(
    State(sandbox): State<Sandbox>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let version = parts.headers.get("basiq-version");
    match version.map(|value| value.to_str().unwrap_or_default()) {
        None => return Err(ApiError::not_supplied("basiq-version")),
        Some(version) if VERSIONS.contains(&version) => {}
        Some(_) => {
            let detail = "Route not found for this API version.";
            return Err(ApiError::not_found(detail));
        }
    }
    if parts.headers.get(http::header::AUTHORIZATION).is_none() {
        return Err(ApiError::unauthorized());
    }
    let key = authorization(&parts, "Basic").filter(|key| is_accepted(&sandbox, key));
    // Basiq answers 404 for an unknown key.
    key.ok_or_else(|| ApiError::not_found("Resource not found."))?;
    let form: Result<Form<TokenForm>, FormRejection> =
        Form::from_request(Request::from_parts(parts, body), &sandbox).await;
    let Form(form) = form.map_err(|rejection| ApiError::unreadable(&rejection.body_text()))?;
    let scope = scope(&sandbox, form)?;
    let now = sandbox.now();
    let token = sandbox.memory().tokens.issue(scope, now)?;
    Ok(Json(json!({
        "access_token": token,
        "expires_in": LIFETIME.as_secs(),
        "token_type": "Bearer",
    })))
}

fn is_accepted(sandbox: &Sandbox, key: &str) -> bool {
    sandbox.api_key().is_none_or(|expected| {
        let expected = expected.expose_secret().as_bytes();
        expected.ct_eq(key.as_bytes()).into()
    })
}

fn scope(sandbox: &Sandbox, form: TokenForm) -> Result<TokenScope, ApiError> {
    match form.scope.as_deref() {
        None | Some("" | "SERVER_ACCESS") => Ok(TokenScope::Server),
        Some("CLIENT_ACCESS") => {
            let missing = || ApiError::not_supplied("userId");
            let user_id = form
                .user_id
                .filter(|id| !id.is_empty())
                .ok_or_else(missing)?;
            let known = sandbox.memory().users.get(&user_id).is_some();
            let unknown = || ApiError::not_valid("userId", "User does not exist.");
            known
                .then_some(TokenScope::Client { user_id })
                .ok_or_else(unknown)
        }
        Some(_) => Err(ApiError::not_valid(
            "scope",
            "The scope is SERVER_ACCESS or CLIENT_ACCESS.",
        )),
    }
}
