//! Where a request comes from, according to the browser and the proxy.

use http::{HeaderMap, HeaderName, header};
use url::Url;

/// The header in which a proxy passes on the host of the browser's request.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The header in which a proxy passes on the scheme of the browser's request.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether a form comes from a page of this relay.
///
/// Current browsers send `Sec-Fetch-Site` over HTTPS and to this machine. Without it, `Origin` must name the host that
/// the request is for, or the host of `RELAY_PUBLIC_URL`. A request without either comes from no current browser, and
/// the form's token protects the session.
pub(super) fn is_from_here(headers: &HeaderMap, public_url: Option<&Url>) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    // `null`, the origin of a sandboxed page, is no URL
    let origin = origin.to_str().ok().and_then(|text| Url::parse(text).ok());
    let Some(origin) = origin.filter(|origin| matches!(origin.scheme(), "http" | "https")) else {
        return false;
    };
    let hosts = [FORWARDED_HOST, header::HOST];
    let mut hosts = hosts.iter().filter_map(|name| first_value(headers, name));
    hosts.any(|host| is_at(&origin, host))
        || public_url.is_some_and(|own| own.origin() == origin.origin())
}

/// Whether browsers reach the relay by HTTPS, according to `RELAY_PUBLIC_URL` or to the proxy.
pub(super) fn is_by_https(headers: &HeaderMap, public_url: Option<&Url>) -> bool {
    let proto = first_value(headers, &FORWARDED_PROTO);
    public_url.is_some_and(|url| url.scheme() == "https")
        || proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}

/// Whether an origin has this host and port. A host without a port has the port of the origin's scheme.
fn is_at(origin: &Url, host: &str) -> bool {
    let here = Url::parse(&format!("{}://{host}", origin.scheme()));
    here.is_ok_and(|here| here.origin() == origin.origin())
}

/// Returns the first value of a header that may have a list of them.
fn first_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?;
    text.split(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn is_accepted(headers: &[(&'static str, &'static str)], public_url: Option<&str>) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let url = public_url.map(|url| Url::parse(url).unwrap());
        is_from_here(&headers.collect(), url.as_ref())
    }

    #[test]
    fn an_origin_is_the_host_of_the_request_or_of_the_public_address() {
        let public = Some("https://relay.example/base");
        for (origin, host, public_url, expected) in [
            ("http://10.0.0.5:8080", "10.0.0.5:8080", None, true),
            ("https://relay.example", "relay.example", None, true),
            ("https://relay.example", "relay.example:443", None, true),
            ("https://relay.example:8443", "relay.example", None, false),
            ("http://[::1]:8080", "[::1]:8080", None, true),
            ("http://RELAY.example", "relay.EXAMPLE", None, true),
            ("https://relay.example", "127.0.0.1:8080", public, true),
            ("http://relay.example", "127.0.0.1:8080", public, false),
            ("https://relay.example", "127.0.0.1:8080", None, false),
            ("http://127.0.0.1:1", "127.0.0.1:8080", None, false),
            ("https://evil.example", "relay.example", public, false),
            (
                "https://relay.example.evil.example",
                "relay.example",
                public,
                false,
            ),
            ("null", "relay.example", public, false),
            ("", "relay.example", public, false),
            ("null", "null", None, false),
            ("file://relay.example", "relay.example", None, false),
        ] {
            let headers = [("origin", origin), ("host", host)];
            assert_eq!(
                is_accepted(&headers, public_url),
                expected,
                "{origin} {host}"
            );
        }
    }

    #[test]
    fn a_proxy_may_pass_the_host_on() {
        let host = ("host", "127.0.0.1:8080");
        let origin = ("origin", "https://relay.example");
        for (passed_on, expected) in [
            ("relay.example", true),
            ("relay.example, 10.0.0.1", true),
            ("10.0.0.1, relay.example", false),
            ("evil.example", false),
        ] {
            let headers = [host, origin, ("x-forwarded-host", passed_on)];
            assert_eq!(is_accepted(&headers, None), expected, "{passed_on}");
        }
    }

    #[test]
    fn what_the_browser_says_of_the_site_comes_first() {
        let (host, evil) = (
            ("host", "relay.example"),
            ("origin", "https://evil.example"),
        );
        let own = ("origin", "https://relay.example");
        for (site, origin, expected) in [
            ("same-origin", evil, true),
            ("none", evil, true),
            ("same-site", own, false),
            ("cross-site", own, false),
        ] {
            let headers = [host, origin, ("sec-fetch-site", site)];
            assert_eq!(is_accepted(&headers, None), expected, "{site}");
        }
        assert!(is_accepted(&[host], None), "no browser");
    }
}
