//! Checks whether an HTTP client can send a request to a URL.
//!
//! The URL parser follows browsers, and accepts hosts that no server can have: `exa{m}ple.com`, a label of 64
//! characters, port 0. Every URL that is registered or configured must pass this check first. So a bad URL fails
//! where it is written, and not at each request.

use http::Uri;
use rustls::pki_types::ServerName;
use thiserror::Error;
use url::{Host, Url};

/// Why an HTTP client cannot use a URL.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlFault {
    /// The host is not a valid name in DNS and TLS.
    #[error(
        "the host `{0}` cannot be a server's name: labels of 1 to 63 letters, digits, `-` and `_` between dots are \
         allowed, 253 characters in all"
    )]
    Host(String),
    /// No server can listen on port 0.
    #[error("port 0 cannot be connected to")]
    PortZero,
    /// The URL parser and the HTTP client read the URL differently.
    #[error("an HTTP client cannot send it")]
    Unsendable,
}

/// Returns an error if an HTTP client cannot use the URL.
pub fn check(url: &Url) -> Result<(), UrlFault> {
    let host = url.host_str().unwrap_or_default();
    if let Some(Host::Domain(name)) = url.host()
        // TLS has the stricter rules, and a name without TLS means the same server
        && ServerName::try_from(name).is_err()
    {
        return Err(UrlFault::Host(name.to_owned()));
    }
    if url.port() == Some(0) {
        return Err(UrlFault::PortZero);
    }
    let sent: Uri = url.as_str().parse().map_err(|_| UrlFault::Unsendable)?;
    if sent.host() != Some(host) || sent.port_u16() != url.port() {
        return Err(UrlFault::Unsendable);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> Option<UrlFault> {
        check(&Url::parse(text).unwrap()).err()
    }

    #[test]
    fn a_host_is_a_name_that_dns_and_tls_know() {
        let label = "a".repeat(63);
        let long = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for good in [
            "app.example",
            "app.example.",
            "a_b.example",
            "xn--bcher-kva.example",
            &label,
            &long,
        ] {
            assert_eq!(fault(&format!("https://{good}/")), None, "{good}");
        }
        let (label, long) = (format!("a{label}"), format!("{long}a"));
        for bad in [
            "exa{m}ple.com",
            "a\"b",
            "a`b",
            "a..b",
            ".a",
            "a..",
            "-a.b",
            "a-.b",
            "a!b",
            &label,
            &long,
        ] {
            let fault = fault(&format!("https://{bad}/"));
            assert!(matches!(fault, Some(UrlFault::Host(_))), "{bad}: {fault:?}");
        }
        assert_eq!(fault("https://a.example:0/"), Some(UrlFault::PortZero));
    }

    /// Text that people and programs write where a URL is expected, complete or in parts.
    fn written() -> impl Strategy<Value = String> {
        let scheme = prop::sample::select(vec!["https://", "http://", "HTTPS:", "https:\\\\"]);
        let host = prop_oneof![
            "[a-zA-Z0-9.-]{1,40}",
            "[ -~]{1,20}",
            "\\PC{1,12}",
            "(xn--)?[a-z0-9-]{1,70}(\\.[a-z0-9-]{0,64}){0,5}\\.?",
            "[0-9xa-f.]{1,16}",
            "\\[[0-9a-f:.]{2,30}\\]",
        ];
        let rest = prop_oneof![
            "",
            ":[0-9]{0,6}",
            "[:/?#@ -~]{0,20}",
            "(/\\PC{0,20})?(\\?\\PC{0,20})?"
        ];
        (scheme, host, rest).prop_map(|(scheme, host, rest)| format!("{scheme}{host}{rest}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_passes_can_be_sent_to_the_host_that_was_checked(text in written()) {
            let Ok(url) = Url::parse(&text) else { return Ok(()) };
            if !url.has_host() || check(&url).is_err() {
                return Ok(());
            }
            let uri: Uri = url.as_str().parse().unwrap();
            prop_assert_eq!(uri.host(), url.host_str());
            prop_assert_eq!(uri.port_u16(), url.port());
            prop_assert_eq!(uri.path(), url.path());
            prop_assert_eq!(uri.query(), url.query());
            let host = uri.host().unwrap_or_default();
            prop_assert!(HeaderValue::from_str(host).is_ok());
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            prop_assert!(ServerName::try_from(bare).is_ok(), "{}", host);
        }
    }
}
