//! Rejects ambiguous request heads with 400 (RFC 9112). A proxy in front of the relay may have read another host or
//! another end of the body than the relay does.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Request, Version, header, uri::Authority};

use crate::web::{problem::Problem, problem_code::ProblemCode};

/// Why a request's head is rejected. The server puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadFault(&'static str);

impl HeadFault {
    /// Returns the response. It closes the connection, so the relay reads nothing more from it.
    pub(super) fn answer(self) -> Response {
        let mut response = Problem::new(ProblemCode::BadRequest, self.0).into_response();
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        response
    }
}

/// Checks the head of a request. The HTTP library has already rejected malformed lines and conflicting lengths.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), HeadFault> {
    check_host(request.version(), request.headers())?;
    check_transfer_encoding(request.headers())
}

/// Sets `Host` from an absolute target, which takes precedence over the header.
pub(super) fn follow_target<B>(request: &mut Request<B>) {
    let Some(authority) = request.uri().authority() else {
        return;
    };
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().insert(header::HOST, host);
    }
}

fn check_host(version: Version, headers: &HeaderMap) -> Result<(), HeadFault> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        // HTTP/1.0 has no `Host` header
        return if version < Version::HTTP_11 {
            Ok(())
        } else {
            Err(HeadFault("The request has no `Host`."))
        };
    };
    if hosts.next().is_some() {
        return Err(HeadFault("The request has more than one `Host`."));
    }
    if is_host(host) {
        Ok(())
    } else {
        Err(HeadFault("`Host` is no host with or without a port."))
    }
}

/// Returns whether a value is a host with an optional port. It may be empty, for a target without a host.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<Authority>() {
        _ if text.is_empty() => true,
        Ok(host) => {
            let port = text
                .strip_prefix(host.host())
                .and_then(|rest| rest.strip_prefix(':'));
            !text.contains('@') && port.is_none_or(is_port)
        }
        Err(_) => false,
    }
}

/// Allows a single `chunked` coding only.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), HeadFault> {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let values: Vec<_> = values
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    let codings = values.iter().flat_map(|value| value.split(','));
    // empty list elements do not count
    let codings = codings.map(str::trim).filter(|coding| !coding.is_empty());
    let codings: Vec<_> = codings.map(str::to_ascii_lowercase).collect();
    let chunked = codings.iter().filter(|coding| *coding == "chunked").count();
    if values.is_empty() || (codings.len(), chunked) == (1, 1) {
        Ok(())
    } else {
        Err(HeadFault("`Transfer-Encoding` must be `chunked`, once."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(version: Version, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).is_err()
    }

    #[test]
    fn a_request_has_one_host_that_is_one_and_in_http_1_0_may_have_none() {
        let with = |host| is_refused(Version::HTTP_11, &[("host", host)]);
        for host in [
            "",
            "relay",
            "relay:8080",
            "relay:",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "a_b.example.",
        ] {
            assert!(!with(host), "{host}");
        }
        for host in [
            "a b", "a/b", "http://a", "me@a", "a:b", "a:1:2", "a?b", "a#b", "[::1", "::1", "a, b",
            "a\tb", "é",
        ] {
            assert!(with(host), "{host}");
        }
        assert!(is_refused(Version::HTTP_11, &[]));
        assert!(!is_refused(Version::HTTP_10, &[]));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(is_refused(version, &[("host", "a"), ("host", "a")]));
        }
    }

    #[test]
    fn chunked_is_the_only_transfer_coding_and_applied_once() {
        for (codings, expected) in [
            (&["chunked"][..], false),
            (&["Chunked"], false),
            (&[" chunked ,"], false),
            (&["chunked, chunked"], true),
            (&["chunked", "chunked"], true),
            (&["gzip, chunked"], true),
            (&["gzip", "chunked"], true),
            (&["identity"], true),
            (&["xchunked"], true),
            (&[""], true),
        ] {
            let mut headers = vec![("host", "relay")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            assert_eq!(
                is_refused(Version::HTTP_11, &headers),
                expected,
                "{codings:?}"
            );
        }
    }

    #[test]
    fn an_absolute_target_counts_in_place_of_the_host() {
        let request = Request::get("http://one.example:81/x").header("host", "two.example");
        let mut request = request.body(()).unwrap();
        follow_target(&mut request);
        assert_eq!(request.headers()["host"], "one.example:81");
        let mut plain = Request::get("/x")
            .header("host", "two.example")
            .body(())
            .unwrap();
        follow_target(&mut plain);
        assert_eq!(plain.headers()["host"], "two.example");
    }
}
