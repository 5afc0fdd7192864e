//! The proxy through which callbacks are reached.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use relay_domain::http_url;
use url::Url;

/// An HTTP proxy that supports `CONNECT`. `Debug` does not show its address, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct EgressProxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl EgressProxy {
    /// Parses `http://[USER:PASSWORD@]HOST[:PORT]`. Returns none for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || !bare || http_url::check(&without_user(&url)?).is_err() {
            return None;
        }
        let port = url.port_or_known_default()?;
        let uri = format!("http://{}:{port}/", url.host_str()?).parse().ok()?;
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(basic(user, password.unwrap_or_default())?),
        };
        Some(Self { uri, authorization })
    }

    /// Returns the address of the proxy, without user and password.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns the value of `Proxy-Authorization`, if the setting names a user.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.clone()
    }
}

/// Returns the address without the user, which is sent in a header instead.
fn without_user(url: &Url) -> Option<Url> {
    let mut bare = url.clone();
    bare.set_username("").ok()?;
    bare.set_password(None).ok()?;
    Some(bare)
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EgressProxy(***)")
    }
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let plain = |text| percent_decode_str(text).decode_utf8().ok();
    let pair = format!("{}:{}", plain(user)?, plain(password)?);
    let text = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_address_and_keeps_its_password_to_itself() {
        let proxy = EgressProxy::parse("http://relay:p%40ss@proxy.internal:3128").unwrap();
        assert_eq!(proxy.uri(), "http://proxy.internal:3128/");
        let sent = proxy.authorization().unwrap();
        assert_eq!(sent, "Basic cmVsYXk6cEBzcw==");
        assert_eq!(format!("{proxy:?}"), "EgressProxy(***)");
        let plain = EgressProxy::parse("http://10.0.0.1").unwrap();
        assert_eq!(
            (plain.uri().port_u16(), plain.authorization()),
            (Some(80), None)
        );
        for odd in [
            "proxy:3128",
            "https://proxy",
            "socks5://proxy",
            "http://proxy/path",
            "http://p?x",
            "http://p:0",
            "http://p{}:3128",
            "http://p..internal",
            "",
        ] {
            assert_eq!(EgressProxy::parse(odd), None, "{odd}");
        }
    }
}
