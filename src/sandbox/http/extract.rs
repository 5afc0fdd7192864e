//! What handlers take from a call: its token, its JSON body, the address its links begin with.

use std::convert::Infallible;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{header, request::Parts},
};
use serde_json::{Map, Value};

use crate::sandbox::{Sandbox, error::ApiError, token::TokenScope};

/// A call with a token of scope `SERVER_ACCESS`.
pub(super) struct ServerToken;

/// A call with a token of scope `CLIENT_ACCESS`, and its user.
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

/// What follows that scheme in the `Authorization` header.
pub(super) fn authorization<'a>(parts: &'a Parts, scheme: &str) -> Option<&'a str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (given, rest) = value.trim().split_once(' ')?;
    let rest = rest.trim();
    (given.eq_ignore_ascii_case(scheme) && !rest.is_empty()).then_some(rest)
}

/// The address that absolute links begin with: where the caller found the sandbox.
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

/// A JSON object as body.
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
    /// The fields.
    pub(super) fn into_fields(self) -> Map<String, Value> {
        self.0
    }

    /// The field at a path such as `institution.id`, if it is there.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    /// The text at a path, if it is there.
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

    /// The text at a path that must be there.
    pub(super) fn required_text(&self, path: &str) -> Result<String, ApiError> {
        self.text(path)?.ok_or_else(|| ApiError::not_supplied(path))
    }
}
