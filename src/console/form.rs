//! Posted forms. They must come from a page of the relay itself, and most of them from the open session.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use url::form_urlencoded;

use crate::{
    console::{fault::ErrorPage, origin::is_from_here, state::ConsoleState, visit::PageContext},
    web::RawBody,
};

/// The form field that holds the session's form token.
const TOKEN: &str = "form_token";

/// A form from a page of this site, with or without a session.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Returns a field without surrounding space, or an empty text if the field is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(field, _)| field == name);
        field.map_or("", |(_, value)| value.trim())
    }
}

impl FromRequest<ConsoleState> for Form {
    type Rejection = ErrorPage;

    async fn from_request(request: Request, state: &ConsoleState) -> Result<Self, ErrorPage> {
        let public_url = state.parts.public_url.as_ref();
        if !is_from_here(request.headers(), public_url) {
            return Err(ErrorPage::refused("This form was sent by another site."));
        }
        if !is_form(request.headers()) {
            return Err(ErrorPage::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Refused",
                "Forms are sent as application/x-www-form-urlencoded.",
            ));
        }
        let RawBody(body) = RawBody::from_request(request, state).await?;
        Ok(Self(form_urlencoded::parse(&body).into_owned().collect()))
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next());
    essence.is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded")
}

/// A form of the open session.
pub(super) struct SessionForm {
    /// The session that sent the form.
    pub(super) visit: PageContext,
    /// The form itself.
    pub(super) form: Form,
}

impl FromRequest<ConsoleState> for SessionForm {
    type Rejection = Response;

    async fn from_request(request: Request, state: &ConsoleState) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visit = PageContext::from_request_parts(&mut parts, state).await?;
        let form = Form::from_request(Request::from_parts(parts, body), state).await;
        let form = form.map_err(IntoResponse::into_response)?;
        if !visit.is_of_session(form.text(TOKEN)) {
            let detail = "This form is of another session. Load its page again, then send it.";
            return Err(ErrorPage::refused(detail).into_response());
        }
        Ok(Self { visit, form })
    }
}
