//! Callback URLs. A URL is checked once, when it enters the relay, so that all code inside can rely on it.

use std::{fmt, net::IpAddr};

use thiserror::Error;
use url::{Host, ParseError, Url};

use crate::{
    AllowedNetworks,
    http_url::{self, UrlFault},
};

/// The maximum length of a callback URL, in characters.
const MAX_LENGTH: usize = 2048;

/// Which URLs a deployment accepts as callbacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallbackRules {
    /// Whether `http://` is accepted.
    pub allow_http: bool,
    /// Private networks that callbacks may reach.
    pub allowed_networks: AllowedNetworks,
}

/// An absolute URL that events may be posted to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallbackUrl(Url);

/// Why a URL cannot be a callback.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallbackUrlError {
    /// The URL has over 2,048 characters.
    #[error("must have at most 2048 characters, has {0}")]
    TooLong(usize),
    /// The URL has no scheme.
    #[error(
        "must be an absolute URL: it must begin with `https://`, such as `https://app.example/hooks/bank`"
    )]
    NoScheme,
    /// The URL cannot be parsed.
    #[error("must be an absolute URL: {0}")]
    NotAbsolute(String),
    /// The scheme is neither `https` nor an allowed `http`.
    #[error("must begin with `https://`, not `{scheme}:`{hint}")]
    Scheme {
        /// The scheme of the URL.
        scheme: String,
        /// A note that names the setting that allows the scheme; empty if there is none.
        hint: &'static str,
    },
    /// The URL contains a user name or password.
    #[error("must not hold a user name or password")]
    Userinfo,
    /// The URL contains a `#fragment`, which clients never send.
    #[error("must not have a fragment (`#…`)")]
    Fragment,
    /// The host is not a public address.
    #[error(
        "must not lead to the private or reserved address `{0}`; \
         the relay's setting RELAY_CALLBACK_ALLOW_NETWORKS can allow its network"
    )]
    PrivateHost(String),
    /// No HTTP client can send a request to the URL.
    #[error("cannot be posted to: {0}")]
    Unsendable(#[from] UrlFault),
}

/// All the reasons why a URL cannot be a callback, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", in_words(.0))]
pub struct CallbackUrlFaults(Vec<CallbackUrlError>);

impl CallbackUrlFaults {
    /// Returns the faults, in the order in which they stand in the URL.
    #[must_use]
    pub fn all(&self) -> &[CallbackUrlError] {
        &self.0
    }
}

impl From<CallbackUrlError> for CallbackUrlFaults {
    fn from(fault: CallbackUrlError) -> Self {
        Self(vec![fault])
    }
}

impl CallbackUrl {
    /// Checks a URL against the rules, and returns all its faults. Does not resolve a name: the relay checks the
    /// resolved address at each connection.
    pub fn parse(text: &str, rules: &CallbackRules) -> Result<Self, CallbackUrlFaults> {
        let length = text.chars().count();
        if length > MAX_LENGTH {
            return Err(CallbackUrlError::TooLong(length).into());
        }
        let url = Url::parse(text).map_err(|error| match error {
            ParseError::RelativeUrlWithoutBase => CallbackUrlError::NoScheme,
            other => CallbackUrlError::NotAbsolute(other.to_string()),
        })?;
        let faults = faults(&url, rules);
        if faults.is_empty() {
            Ok(Self(url))
        } else {
            Err(CallbackUrlFaults(faults))
        }
    }

    /// Reads a URL from the store. It was checked before it was stored.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        Url::parse(text).ok().filter(Url::has_host).map(Self)
    }

    /// Returns the URL to post to.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Returns the URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the host without its port. The limit of attempts in flight applies to each host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Returns the address if the host is an address and not a name.
    #[must_use]
    pub fn literal_address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        }
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns everything that is wrong with a URL.
fn faults(url: &Url, rules: &CallbackRules) -> Vec<CallbackUrlError> {
    let scheme = check_scheme(url, rules).err();
    let has_userinfo = !url.username().is_empty() || url.password().is_some();
    let userinfo = has_userinfo.then_some(CallbackUrlError::Userinfo);
    // other schemes have no host, or not one that HTTP knows
    let host = matches!(url.scheme(), "https" | "http").then(|| {
        check_host(url, rules).and_then(|()| http_url::check(url).map_err(CallbackUrlError::from))
    });
    let fragment = url.fragment().map(|_| CallbackUrlError::Fragment);
    let host = host.and_then(Result::err);
    [scheme, userinfo, host, fragment]
        .into_iter()
        .flatten()
        .collect()
}

fn in_words(faults: &[CallbackUrlError]) -> String {
    let words = faults.iter().map(ToString::to_string);
    words.collect::<Vec<_>>().join("; it also ")
}

fn check_scheme(url: &Url, rules: &CallbackRules) -> Result<(), CallbackUrlError> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if rules.allow_http => Ok(()),
        "http" => Err(CallbackUrlError::Scheme {
            scheme: "http".to_owned(),
            hint: "; the relay's setting RELAY_CALLBACK_ALLOW_HTTP can allow it",
        }),
        other => Err(CallbackUrlError::Scheme {
            scheme: other.to_owned(),
            hint: "",
        }),
    }
}

fn check_host(url: &Url, rules: &CallbackRules) -> Result<(), CallbackUrlError> {
    let refused = match url.host() {
        Some(Host::Ipv4(address)) => !rules.allowed_networks.permits(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => !rules.allowed_networks.permits_written(address),
        Some(Host::Domain(name)) => is_local_name(name) && !allows_loopback(rules),
        None => true,
    };
    if refused {
        let host = url.host_str().unwrap_or_default().to_owned();
        return Err(CallbackUrlError::PrivateHost(host));
    }
    Ok(())
}

/// Returns whether a name means this machine on every network (RFC 6761).
fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

fn allows_loopback(rules: &CallbackRules) -> bool {
    rules
        .allowed_networks
        .permits(std::net::Ipv4Addr::LOCALHOST.into())
        || rules
            .allowed_networks
            .permits(std::net::Ipv6Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<CallbackUrlFaults> {
        CallbackUrl::parse(text, &CallbackRules::default()).err()
    }

    #[test]
    fn a_public_https_url_is_accepted() {
        for good in [
            "https://app.example/hooks/bank?x=1",
            "https://1.1.1.1:8443/",
            "https://[2606:4700::1111]/",
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
    }

    #[test]
    fn each_rule_has_its_own_refusal() {
        let long = format!("https://app.example/{}", "x".repeat(2048));
        let table = [
            ("hooks/bank", "must begin with `https://`"),
            ("app.example/hooks/bank", "must begin with `https://`"),
            ("https://app.example:http/", "absolute URL: invalid port"),
            ("https://a..b/", "cannot be posted to: the host `a..b`"),
            (
                "ftp://app.example/",
                "must begin with `https://`, not `ftp:`",
            ),
            ("mailto:a@app.example", "must begin with `https://`"),
            (
                "http://app.example/",
                "RELAY_CALLBACK_ALLOW_HTTP can allow it",
            ),
            ("https://me@app.example/", "user name or password"),
            ("https://:pw@app.example/", "user name or password"),
            ("https://app.example/#top", "fragment"),
            (long.as_str(), "at most 2048 characters, has 2068"),
        ];
        for (text, expected) in table {
            let told = refusal(text)
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(told.contains(expected), "{text}: {told}");
            assert!(!told.contains("it also"), "{text}: {told}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = refusal("http://me@127.0.0.1:8091/hook#top").unwrap();
        assert_eq!(
            faults.to_string(),
            "must begin with `https://`, not `http:`; the relay's setting RELAY_CALLBACK_ALLOW_HTTP can allow it; \
             it also must not hold a user name or password; \
             it also must not lead to the private or reserved address `127.0.0.1`; \
             the relay's setting RELAY_CALLBACK_ALLOW_NETWORKS can allow its network; \
             it also must not have a fragment (`#…`)"
        );
        assert_eq!(faults.all().len(), 4);
        let other = refusal("ftp://127.0.0.1/").unwrap();
        assert_eq!(other.all().len(), 1, "{other}");
    }

    #[test]
    fn a_private_address_is_refused_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
            "0",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "app.localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "10.0.0.1",
            "①②⑦.0.0.1",
            "[fd00:ec2::254]",
            "[2002:5db8:d822::1]",
            "[64:ff9b::101:101]",
        ] {
            let refused = refusal(&format!("https://{host}/"));
            assert!(
                matches!(&refused, Some(faults) if matches!(faults.all(), [CallbackUrlError::PrivateHost(_)])),
                "{host}: {refused:?}"
            );
        }
    }

    #[test]
    fn an_allowed_network_is_accepted() {
        let rules = CallbackRules {
            allow_http: true,
            allowed_networks: AllowedNetworks::new(vec!["127.0.0.0/8".parse().unwrap()]),
        };
        for good in ["http://127.0.0.1:8091/", "http://localhost:8091/"] {
            assert!(CallbackUrl::parse(good, &rules).is_ok(), "{good}");
        }
        assert!(CallbackUrl::parse("http://10.0.0.1/", &rules).is_err());
    }
}
