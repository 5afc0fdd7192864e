//! Errors as pages for people.

use std::borrow::Cow;

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use relay_store::StoreError;

use crate::{
    console::{assets, visit::page},
    web::{Problem, ProblemCode},
};

/// The wait, in seconds, before a page should be tried again when the store is unavailable.
const RETRY_SECONDS: u64 = 5;

/// A page that describes an error.
#[derive(Debug)]
pub(super) struct ErrorPage {
    status: StatusCode,
    title: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<u64>,
    /// The problem, for the log.
    problem: Option<Box<Problem>>,
}

#[derive(Template)]
#[template(path = "fault.html")]
struct Page<'a> {
    assets: &'static str,
    title: &'static str,
    detail: &'a str,
}

impl ErrorPage {
    /// Creates a page with status 404.
    pub(super) fn nothing(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Nothing here", detail)
    }

    /// Creates the page of a console that is off.
    pub(super) fn off() -> Self {
        Self::nothing(
            "The console is off. To turn it on, set RELAY_ADMIN_TOKEN, or RELAY_ADMIN_TOKENS for operators with names, \
             and restart the relay.",
        )
    }

    /// Creates a page with status 403.
    pub(super) fn refused(detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Refused", detail)
    }

    /// Creates a page with any status.
    pub(super) fn new(
        status: StatusCode,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
            retry_after: None,
            problem: None,
        }
    }
}

impl From<Problem> for ErrorPage {
    fn from(problem: Problem) -> Self {
        let detail = problem.document("").detail.to_owned();
        Self {
            problem: Some(Box::new(problem.clone())),
            ..Self::new(problem.code().status(), problem.code().title(), detail)
        }
    }
}

impl From<StoreError> for ErrorPage {
    fn from(error: StoreError) -> Self {
        let problem = Problem::from(error);
        let away = problem.code() == ProblemCode::StoreUnavailable;
        Self {
            retry_after: away.then_some(RETRY_SECONDS),
            ..Self::from(problem)
        }
    }
}

impl From<askama::Error> for ErrorPage {
    fn from(error: askama::Error) -> Self {
        Self::from(Problem::internal(error))
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        let html = Page {
            assets: assets::base_address(),
            title: self.title,
            detail: &self.detail,
        }
        .render();
        // if the page cannot be rendered, the status alone describes the error
        let mut response = page(html.unwrap_or_default()).into_response();
        *response.status_mut() = self.status;
        if let Some(seconds) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(problem) = self.problem {
            response.extensions_mut().insert(*problem);
        }
        response
    }
}
