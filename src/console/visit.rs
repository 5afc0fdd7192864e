//! A request of an operator with an open session, and how pages answer it.

use std::str::FromStr;

use askama::Template;
use axum::{
    extract::{FromRequestParts, Path},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use jiff::Timestamp;
use relay_domain::{Actor, Requester, SubscriptionId, WatchId};
use url::form_urlencoded;

use crate::{
    console::{
        action_result::ActionResult,
        assets,
        fault::ErrorPage,
        session::ConsoleSession,
        state::ConsoleState,
        view::{PageClock, ShownTime},
    },
    web::PeerAddress,
};

/// The content security policy. It allows only the relay's own files and forms, and nothing inline or evaluated. No
/// site can show the pages in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The header of requests by htmx, which asks for the live part of a page.
const HTMX: &str = "hx-request";

/// The sections of the console, as its navigation names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Watches,
    Subscriptions,
    Deliveries,
    Hosts,
    Clients,
    Erase,
    Audit,
}

impl Section {
    const ALL: [Self; 8] = [
        Self::Overview,
        Self::Watches,
        Self::Subscriptions,
        Self::Deliveries,
        Self::Hosts,
        Self::Clients,
        Self::Erase,
        Self::Audit,
    ];

    fn address(self) -> &'static str {
        match self {
            Self::Overview => "/console",
            Self::Watches => "/console/watches",
            Self::Subscriptions => "/console/subscriptions",
            Self::Deliveries => "/console/deliveries",
            Self::Hosts => "/console/hosts",
            Self::Clients => "/console/clients",
            Self::Erase => "/console/erase",
            Self::Audit => "/console/audit",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Watches => "Watches",
            Self::Subscriptions => "Subscriptions",
            Self::Deliveries => "Deliveries",
            Self::Hosts => "Hosts",
            Self::Clients => "Clients",
            Self::Erase => "Erase",
            Self::Audit => "Audit log",
        }
    }
}

/// A request for a page by an operator with an open session.
pub(super) struct PageContext {
    session: ConsoleSession,
    actor: Actor,
    is_fragment: bool,
    /// The result of the previous action.
    notice: Option<ActionResult>,
    now: Timestamp,
}

/// What every page of the console shows around its content: title, navigation, operator.
pub(super) struct PageFrame {
    pub(super) title: String,
    pub(super) assets: &'static str,
    pub(super) navigation: Vec<NavigationLink>,
    pub(super) form_token: String,
    /// Who is logged in.
    pub(super) operator: String,
    pub(super) notice: Option<ActionResult>,
    pub(super) now: ShownTime,
}

/// A link of the navigation to a section.
pub(super) struct NavigationLink {
    pub(super) address: &'static str,
    pub(super) name: &'static str,
    pub(super) is_current: bool,
}

impl FromRequestParts<ConsoleState> for PageContext {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &ConsoleState) -> Result<Self, Response> {
        if !state.parts.admin.is_set() {
            return Err(ErrorPage::off().into_response());
        }
        let now = state.parts.clock.now();
        let is_fragment = parts.headers.contains_key(HTMX);
        match ConsoleSession::of(&state.parts.admin, &parts.headers, now) {
            Some(session) => Ok(Self {
                actor: Actor {
                    operator: session.operator().clone(),
                    from: PeerAddress::of(&parts.extensions),
                },
                session,
                is_fragment,
                notice: ActionResult::of_query(parts.uri.query().unwrap_or_default()),
                now,
            }),
            None => Err(to_log_in(parts, is_fragment)),
        }
    }
}

impl PageContext {
    /// Returns the time of the request.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns who acts, and from where.
    pub(super) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Returns the operator as one who asks the store.
    pub(super) fn requester(&self) -> Requester {
        Requester::Operator(self.actor.clone())
    }

    /// Returns the clock that the page's times are relative to.
    pub(super) fn clock(&self) -> PageClock {
        PageClock(self.now)
    }

    /// Whether a form's token belongs to this session.
    pub(super) fn is_of_session(&self, form_token: &str) -> bool {
        self.session.is_of(form_token)
    }

    /// Returns the frame of a page.
    pub(super) fn frame(&self, current: Section, title: impl Into<String>) -> PageFrame {
        let navigation = Section::ALL.iter().map(|section| NavigationLink {
            address: section.address(),
            name: section.name(),
            is_current: *section == current,
        });
        PageFrame {
            title: title.into(),
            assets: assets::base_address(),
            navigation: navigation.collect(),
            form_token: self.session.form_token(),
            operator: self.actor.operator.to_string(),
            notice: self.notice,
            now: self.clock().when(self.now),
        }
    }

    /// Renders the whole page, or only its live part if htmx asked for that.
    pub(super) fn answer(
        &self,
        whole: &impl Template,
        live: &impl Template,
    ) -> Result<Response, ErrorPage> {
        if !self.is_fragment {
            return Ok(page(whole.render()?).into_response());
        }
        let mut html = live.render()?;
        if let Some(notice) = self.notice {
            // the notice goes outside the live part, so that the next refresh does not remove it
            let place = "<div id=\"notice\" hx-swap-oob=\"innerHTML\">";
            html = format!("{html}{place}{notice}</div>");
        }
        Ok(page(html).into_response())
    }
}

/// The name or id in a path. An invalid one leads to the page for things that do not exist.
pub(super) struct ConsolePath<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for ConsolePath<T>
where
    T: FromStr + Send,
    S: Send + Sync,
{
    type Rejection = ErrorPage;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorPage> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let named = text.ok().and_then(|Path(text)| text.parse().ok());
        named
            .map(Self)
            .ok_or_else(|| ErrorPage::nothing("There is nothing of this name or id."))
    }
}

/// Returns a page with its headers.
pub(super) fn page(html: String) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::VARY, HTMX),
        // with `no-referrer`, browsers send `Origin: null` with the relay's own forms
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (headers, html)
}

/// Redirects a request without a session to the log-in page.
fn to_log_in(parts: &Parts, is_fragment: bool) -> Response {
    if is_fragment {
        return (StatusCode::OK, [("hx-redirect", "/console/login")]).into_response();
    }
    if parts.method != Method::GET {
        return Redirect::to("/console/login").into_response();
    }
    let wanted = parts
        .uri
        .path_and_query()
        .map_or("", |wanted| wanted.as_str());
    if comes_from_elsewhere(&parts.headers) {
        return come_again(wanted);
    }
    if wanted == "/console" {
        return Redirect::to("/console/login").into_response();
    }
    let next: String = form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
    Redirect::to(&format!("/console/login?next={next}")).into_response()
}

/// Whether the request comes from a link on another site. Browsers then send no cookie, although there may be a
/// session.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// Makes the browser repeat the request by itself. The repeated request comes from this site.
fn come_again(wanted: &str) -> Response {
    let again = HeaderValue::from_str(&format!("0; url={wanted}"));
    let mut response = page(String::new()).into_response();
    if let Ok(again) = again {
        response.headers_mut().insert("refresh", again);
    }
    response
}

/// Returns `text` if it is an address in the console, otherwise the first page.
pub(super) fn next_page(text: &str) -> &str {
    let path = text.split('?').next().unwrap_or_default();
    let inside = path == "/console" || path.starts_with("/console/");
    let parsed: Result<Uri, _> = text.parse();
    let plain = parsed.is_ok_and(|uri| uri.host().is_none()) && !text.contains('\\');
    if inside && plain { text } else { "/console" }
}

/// Returns the address of a subscription's page.
pub(super) fn subscription_page(id: SubscriptionId) -> String {
    format!("/console/subscriptions/{id}")
}

/// Returns the address of a watch's page.
pub(super) fn watch_page(id: WatchId) -> String {
    format!("/console/watches/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_console_are_gone_on_to() {
        for good in ["/console", "/console/watches?state=delayed&before=wch_1"] {
            assert_eq!(next_page(good), good);
        }
        for bad in [
            "",
            "/",
            "/docs",
            "//evil.example/console/",
            "https://evil.example/console/",
            "/console/\\evil",
            "/consoles",
            "/console/\r\nset-cookie: a=b",
            "javascript:alert(1)",
        ] {
            assert_eq!(next_page(bad), "/console", "{bad}");
        }
    }
}
