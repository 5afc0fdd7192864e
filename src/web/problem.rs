//! Errors as clients see them: RFC 9457 problems with a closed list of codes.
//!
//! A problem has a public `detail` and a private cause. Its response has no body at first.
//! [`crate::web::with_middleware`] adds the body and logs the cause once.

use std::{borrow::Cow, error::Error, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use relay_domain::ErrorChain;
use relay_store::StoreError;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::openapi::{Object, ObjectBuilder, schema::Type};

use crate::web::problem_code::ProblemCode;

/// Seconds after which a client may ask again when the store or the relay could not keep up.
const RETRY_SECONDS: u64 = 5;

/// The kind of fault of a field or parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FieldCode {
    /// The field is missing or null.
    Required,
    /// The field or parameter is not known.
    UnknownField,
    /// The value has the wrong JSON type.
    WrongType,
    /// The value has the right type but is not allowed.
    InvalidValue,
    /// The value is longer than allowed.
    TooLong,
}

/// One fault of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) into the body. For a query parameter, `/` and its name.
    #[schema(example = "/callbackUrl")]
    pub pointer: String,
    /// The kind of fault.
    pub code: FieldCode,
    /// A message for developers: the field, its value and what is allowed.
    #[schema(example = "`callbackUrl` must not have a fragment (`#…`)")]
    pub message: String,
}

/// An error that becomes the response to a client.
#[derive(Debug, Clone)]
pub struct Problem {
    code: ProblemCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<u64>,
    members: Map<String, Value>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// The body of an error response (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument<'a> {
    /// The kind of problem. Use it to decide what to do.
    #[serde(rename = "type")]
    #[schema(schema_with = type_schema)]
    pub type_uri: &'a str,
    /// The kind of problem as text for people.
    #[schema(example = "The body has invalid fields")]
    pub title: &'a str,
    /// The HTTP status of the response.
    #[schema(example = 422)]
    pub status: u16,
    /// What went wrong with this request.
    #[schema(example = "1 fault was found; see `errors`.")]
    pub detail: &'a str,
    /// The path of the request.
    #[schema(example = "/watch")]
    pub instance: &'a str,
    /// All faults of the input. Absent if the problem is not invalid input.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    #[schema(required = false)]
    pub errors: &'a [FieldError],
    /// Additional members that some kinds of problems have.
    #[serde(flatten)]
    #[schema(ignore)]
    pub members: &'a Map<String, Value>,
}

fn type_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Names the kind of problem; branch on this."))
        .enum_values(Some(ProblemCode::ALL.iter().map(|code| code.type_uri())))
        .examples([Value::from(ProblemCode::InvalidField.type_uri())])
        .build()
}

impl Problem {
    /// Creates a problem of a kind. `detail` says what went wrong with this request.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            members: Map::new(),
            cause: None,
        }
    }

    /// Creates a problem for invalid input, with [`ProblemCode::InvalidField`] or
    /// [`ProblemCode::InvalidParameter`].
    #[must_use]
    pub fn invalid(code: ProblemCode, errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => Cow::Borrowed("1 fault was found; see `errors`."),
            count => Cow::Owned(format!("{count} faults were found; see `errors`.")),
        };
        Self {
            errors,
            ..Self::new(code, detail)
        }
    }

    /// Prefixes each fault's pointer with `place`, for a body that is part of another body.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        for error in &mut self.errors {
            error.pointer.insert_str(0, place);
        }
        self
    }

    /// Creates the problem for a request without a valid key.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            ProblemCode::Unauthorized,
            "Send `Authorization: Bearer <key>` with a valid key.",
        )
    }

    /// Creates the problem for something that does not exist, or not for this client.
    #[must_use]
    pub fn not_found(detail: &'static str) -> Self {
        Self::new(ProblemCode::NotFound, detail)
    }

    /// Creates the problem for an error of the relay itself. The cause is logged but never shown.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            ProblemCode::InternalError,
            "The relay could not answer; its log says why under this answer's request id.",
        )
        .caused_by(cause)
    }

    /// Sets the `Retry-After` header, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds an additional member to the body.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the private cause for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Returns the kind of problem.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// Returns the faults of the input.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Returns the private cause with all its sources, as one line for the log.
    #[must_use]
    pub fn cause_chain(&self) -> Option<String> {
        let cause = self.cause.as_deref()?;
        Some(ErrorChain(cause).to_string())
    }

    /// Returns the body. `instance` is the path of the request.
    #[must_use]
    pub fn document<'a>(&'a self, instance: &'a str) -> ProblemDocument<'a> {
        ProblemDocument {
            type_uri: self.code.type_uri(),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            instance,
            errors: &self.errors,
            members: &self.members,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::new(
                ProblemCode::StoreUnavailable,
                "Nothing was changed; ask again shortly.",
            )
            .retry_after(RETRY_SECONDS)
            .caused_by(error),
            StoreError::Damaged(_) => Self::new(
                ProblemCode::StoreUnavailable,
                "The database is damaged; its operator has to repair it.",
            )
            .retry_after(RETRY_SECONDS)
            .caused_by(error),
            StoreError::Refused(_) | StoreError::Inconsistent { .. } => Self::internal(error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        let headers = response.headers_mut();
        if self.code == ProblemCode::Unauthorized {
            let challenge = HeaderValue::from_static("Bearer realm=\"basiq-relay\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn the_cause_is_told_to_the_log_and_not_to_the_client() {
        let cause = StoreError::refused("table `watches` is locked");
        let problem = Problem::from(cause);
        assert_eq!(
            problem.cause_chain().as_deref(),
            Some("the store refused a statement: table `watches` is locked")
        );
        let body = serde_json::to_string(&problem.document("/watch")).unwrap();
        assert!(!body.contains("watches"), "{body}");
    }

    #[test]
    fn a_body_has_the_members_of_the_standard_in_their_order() {
        let problem = Problem::not_found("There is no such watch.").member("extra", true);
        assert_eq!(
            serde_json::to_string(&problem.document("/watch/x")).unwrap(),
            r#"{"type":"/problems/not-found","title":"There is nothing here","status":404,"#
                .to_owned()
                + r#""detail":"There is no such watch.","instance":"/watch/x","extra":true}"#
        );
    }

    #[test]
    fn a_store_that_is_away_asks_to_come_back() {
        let response = Problem::from(StoreError::unavailable("gone")).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    }
}
