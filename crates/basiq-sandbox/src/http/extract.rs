//! Extractors of handlers: the token, the JSON body, and the base address for links.

use std::convert::Infallible;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{header, request::Parts},
};
use serde_json::{Map, Value};

use crate::{Sandbox, error::ApiError, token::TokenScope};

/// A call with a token of scope `SERVER_ACCESS`.
pub(super) struct ServerToken;

/// A call with a token of scope `CLIENT_ACCESS`, and the token's user.
pub(super) struct ClientToken(pub(super) String);

impl FromRequestParts<Sandbox> for ServerToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, sandbox: &Sandbox) -> Result<Self, ApiError> {
        match scope(parts, sandbox)? {
            TokenScope::Server => Ok(Self),
            TokenScope::Client { .. } => Err(ApiError::forbidden(
                "Access to this resource is forbidden. It needs a token of scope SERVER_ACCESS.",
            )),
        }
    }
}

impl FromRequestParts<Sandbox> for ClientToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, sandbox: &Sandbox) -> Result<Self, ApiError> {
        match scope(parts, sandbox)? {
            TokenScope::Client { user_id } => Ok(Self(user_id)),
            TokenScope::Server => Err(ApiError::forbidden(
                "Access to this resource is forbidden. It needs a token of scope CLIENT_ACCESS.",
            )),
        }
    }
}

fn scope(parts: &Parts, sandbox: &Sandbox) -> Result<TokenScope, ApiError> {
    let token = authorization(parts, "Bearer").ok_or_else(ApiError::unauthorized)?;
    sandbox.memory().tokens.check(token, sandbox.now())
}

/// Returns the credentials in the `Authorization` header, if it has that scheme.
pub(super) fn authorization<'a>(parts: &'a Parts, scheme: &str) -> Option<&'a str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (given, rest) = value.trim().split_once(' ')?;
    let rest = rest.trim();
    (given.eq_ignore_ascii_case(scheme) && !rest.is_empty()).then_some(rest)
}

/// The base address of absolute links. It uses the host that the caller called.
pub(super) struct BaseUrl(pub(super) String);

impl FromRequestParts<Sandbox> for BaseUrl {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Sandbox) -> Result<Self, Infallible> {
        let host = parts.headers.get(header::HOST);
        let host = host.and_then(|value| value.to_str().ok());
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let host = host.or(authority).unwrap_or("localhost");
        Ok(Self(format!("http://{host}")))
    }
}

/// The body of a request to the sandbox, which must be a JSON object.
pub(super) struct JsonBody(Map<String, Value>);

impl FromRequest<Sandbox> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, sandbox: &Sandbox) -> Result<Self, ApiError> {
        let read: Result<Json<Value>, JsonRejection> = Json::from_request(request, sandbox).await;
        match read {
            Ok(Json(Value::Object(fields))) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::unreadable("The body must be a JSON object.")),
            Err(rejection) => Err(ApiError::unreadable(&rejection.body_text())),
        }
    }
}

impl JsonBody {
    /// Returns the fields of the body.
    pub(super) fn into_fields(self) -> Map<String, Value> {
        self.0
    }

    /// Returns the field at a path such as `institution.id`, if it exists.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    /// Returns the text at a path, if it exists. Fails if the value is no text or empty.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, ApiError> {
        match self.get(path) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(ApiError::not_valid(
                path,
                &format!("{path} must be text that is not empty."),
            )),
        }
    }

    /// Returns the text at a path. Fails if it is missing.
    pub(super) fn required_text(&self, path: &str) -> Result<String, ApiError> {
        self.text(path)?.ok_or_else(|| ApiError::not_supplied(path))
    }
}
