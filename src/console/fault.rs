//! What goes wrong, as a page for people.

use std::borrow::Cow;

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::{
    console::{assets, visit::page},
    store::StoreError,
    web::{Problem, ProblemCode},
};

/// Seconds after which a page is worth another try when the store is away.
const RETRY_SECONDS: u64 = 5;

/// A page that says what is wrong.
#[derive(Debug)]
pub(super) struct ErrorPage {
    status: StatusCode,
    title: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<u64>,
    /// For the log.
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
    /// There is no such thing.
    pub(super) fn nothing(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Nothing here", detail)
    }

    /// Something that is not allowed.
    pub(super) fn refused(detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Refused", detail)
    }

    /// Something else that is wrong.
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
            assets: assets::place(),
            title: self.title,
            detail: &self.detail,
        }
        .render();
        // without its page the status says what there is to say
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
