//! Lets browser pages of listed origins call the API (CORS). Only routes that are meant for browsers are open.

use std::time::Duration;

use axum::Router;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::web::middleware::method_not_allowed;

/// How long a browser may cache the result of a preflight request.
const REMEMBERED: Duration = Duration::from_mins(10);

/// A header that scripts send if they read streams themselves. The browser's own `EventSource` sends it without a
/// preflight request.
static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Lets pages of these origins read the responses of a router. Pages may not send an `Authorization` header,
/// because an API key must not be in a browser.
pub fn open_to_browsers<S>(router: Router<S>, origins: &[String]) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let origins: Vec<_> = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    if origins.is_empty() {
        return router;
    }
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET])
        .allow_headers([LAST_EVENT_ID.clone(), header::CACHE_CONTROL])
        .expose_headers([header::RETRY_AFTER])
        .max_age(REMEMBERED)
        .vary([header::ORIGIN]);
    // The router needs a fallback of its own so that the layer wraps it: preflight requests (`OPTIONS`) arrive
    // there.
    router
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use http::{Request, StatusCode, response};
    use tower::ServiceExt;

    use super::*;
    use crate::web::with_middleware;

    const OURS: &str = "https://app.example";

    async fn ask(method: &str, path: &str, origin: Option<&str>) -> response::Parts {
        let open = Router::new().route("/open", get(async || "open"));
        let closed = Router::new().route("/closed", get(async || "closed"));
        let router = closed.merge(open_to_browsers(open, &[OURS.to_owned()]));
        let mut request = Request::builder().method(method).uri(path);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        if method == "OPTIONS" {
            request = request.header("access-control-request-method", "GET");
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = with_middleware(router).oneshot(request).await.unwrap();
        answer.into_parts().0
    }

    #[tokio::test]
    async fn a_listed_origin_may_read_what_is_open_and_no_other_may() {
        for (method, origin, granted) in [
            ("GET", Some(OURS), true),
            ("OPTIONS", Some(OURS), true),
            ("GET", Some("https://elsewhere.example"), false),
            ("OPTIONS", Some("https://elsewhere.example"), false),
            ("GET", Some("null"), false),
            ("GET", None, false),
        ] {
            let answer = ask(method, "/open", origin).await;
            assert_eq!(answer.status, StatusCode::OK, "{method} {origin:?}");
            assert_eq!(answer.headers["vary"], "origin");
            let grant = answer.headers.get("access-control-allow-origin");
            let expected = granted.then_some(OURS);
            assert_eq!(grant.map(|grant| grant.to_str().unwrap()), expected);
            let credentials = "access-control-allow-credentials";
            assert!(!answer.headers.contains_key(credentials));
        }
    }

    #[tokio::test]
    async fn what_is_closed_stays_closed_and_methods_are_told_as_before() {
        let closed = ask("GET", "/closed", Some(OURS)).await;
        let asked = ask("OPTIONS", "/closed", Some(OURS)).await;
        assert_eq!(asked.status, StatusCode::METHOD_NOT_ALLOWED);
        for parts in [closed, asked] {
            let mut names = parts.headers.keys();
            assert!(!names.any(|name| name.as_str().starts_with("access-control")));
            assert!(!parts.headers.contains_key("vary"));
        }
        let wrong = ask("POST", "/open", Some(OURS)).await;
        assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(wrong.headers["allow"], "GET,HEAD");
        assert_eq!(wrong.headers["content-type"], "application/problem+json");
    }
}
