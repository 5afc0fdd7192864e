//! Error responses in Basiq's form.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// A refused call, in Basiq's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    parameter: Option<String>,
    retry_after: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: &str) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.to_owned(),
            parameter: None,
            retry_after: None,
        }
    }

    /// A parameter or field has an invalid value.
    pub(super) fn not_valid(parameter: &str, detail: &str) -> Self {
        let error = Self::new(
            StatusCode::BAD_REQUEST,
            "parameter-not-valid",
            "Parameter value is not valid",
            detail,
        );
        error.of(parameter)
    }

    /// A required parameter or field is missing.
    pub(super) fn not_supplied(parameter: &str) -> Self {
        let detail = format!("{parameter} is required.");
        let error = Self::new(
            StatusCode::BAD_REQUEST,
            "parameter-not-supplied",
            "Required parameter not supplied",
            &detail,
        );
        error.of(parameter)
    }

    /// The body cannot be read.
    pub(super) fn unreadable(detail: &str) -> Self {
        let title = "Request is not valid";
        Self::new(StatusCode::BAD_REQUEST, "request-not-valid", title, detail)
    }

    /// The uploaded file cannot be used.
    pub(super) fn bad_file(detail: &str) -> Self {
        let code = "invalid-request-content";
        Self::new(StatusCode::BAD_REQUEST, code, "Invalid content", detail)
    }

    /// The bank does not support the operation.
    pub(super) fn bank_not_supported() -> Self {
        let error = Self::new(
            StatusCode::BAD_REQUEST,
            "institution-not-supported",
            "Institution not supported",
            "Statement upload is not available for this institution.",
        );
        error.of("institutionId")
    }

    /// The request has no token.
    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized-access",
            "Unauthorized Access",
            "You are not authorized to access this resource",
        )
    }

    /// The token was never issued.
    pub(super) fn unknown_token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid-authorization-token",
            "Invalid authorization token",
            "The authorization token is not valid.",
        )
    }

    /// The token has expired.
    pub(super) fn expired_token() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "access-denied",
            "Access denied",
            "Token has expired",
        )
    }

    /// The token does not permit this call.
    pub(super) fn forbidden(detail: &str) -> Self {
        let code = "forbidden-access";
        Self::new(StatusCode::FORBIDDEN, code, "Forbidden Access", detail)
    }

    /// Too many tokens were requested. Basiq answers this with 403.
    pub(super) fn too_many_tokens() -> Self {
        let (code, title) = ("request-not-valid", "Invalid request");
        Self::new(
            StatusCode::FORBIDDEN,
            code,
            title,
            "Invalid request: more than 1500 tokens in 5 minutes.",
        )
    }

    /// The resource does not exist.
    pub(super) fn not_found(detail: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "resource-not-found",
            "Requested resource is not found.",
            detail,
        )
    }

    /// Too many calls, answered with 429.
    pub(super) fn too_many_requests(retry_after: Option<u32>) -> Self {
        let error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            "Request rate limit reached. Try again later.",
        );
        Self {
            retry_after,
            ..error
        }
    }

    /// Too many calls, answered with 403.
    pub(super) fn over_limit() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "access-denied",
            "Access denied",
            "The request limit is reached. Try again later.",
        )
    }

    /// A server error, with a status from 500 up.
    pub(super) fn server(status: u16) -> Self {
        match StatusCode::from_u16(status) {
            Ok(status) if status.is_server_error() && status != 500 => Self::new(
                status,
                "service-unavailable",
                "Service Unavailable",
                "Service Unavailable. Try again later.",
            ),
            _ => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal-server-error",
                "Internal Server error.",
                "Internal Server error. Contact support.",
            ),
        }
    }

    fn of(self, parameter: &str) -> Self {
        Self {
            parameter: Some(parameter.to_owned()),
            ..self
        }
    }

    fn body(&self) -> Value {
        let source = self.parameter.as_ref().map(|name| {
            let pointer = name.replace('.', "/");
            json!({"parameter": name, "pointer": pointer})
        });
        json!({
            "type": "list",
            "correlationId": Uuid::new_v4().to_string(),
            "data": [{
                "type": "error",
                "code": self.code,
                "title": self.title,
                "detail": self.detail,
                "source": source,
            }],
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            let value = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_list_of_one_with_its_source() {
        let body = ApiError::not_supplied("institution.id").body();
        assert_eq!(body["type"], "list");
        assert_eq!(body["correlationId"].as_str().unwrap().len(), 36);
        let error = &body["data"][0];
        assert_eq!(error["type"], "error");
        assert_eq!(error["code"], "parameter-not-supplied");
        assert_eq!(error["source"]["parameter"], "institution.id");
        assert_eq!(error["source"]["pointer"], "institution/id");
        let expired = ApiError::expired_token().body();
        assert_eq!(expired["data"][0]["source"], Value::Null);
        assert_eq!(expired["data"][0]["detail"], "Token has expired");
    }

    #[test]
    fn only_500_is_an_internal_error() {
        for (status, code) in [
            (500, "internal-server-error"),
            (502, "service-unavailable"),
            (503, "service-unavailable"),
        ] {
            let error = ApiError::server(status);
            assert_eq!((error.status.as_u16(), error.code), (status, code));
        }
    }
}
