//! Makes `reqwest` connect to the address that responds first.

use std::{io, net::SocketAddr};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::{connect_to, race, resolve};

/// A resolver for one server. It finds out which of several addresses accepts connections, and puts that address
/// first.
///
/// `reqwest` takes no connector. It tries the addresses of one family one after the other, each for as long as the
/// system allows. So the race runs in the resolver, and costs a second connection if a name has several addresses.
#[derive(Debug, Clone)]
pub struct FirstToAnswer {
    /// The port to try, if it is known.
    port: Option<u16>,
}

impl FirstToAnswer {
    /// Makes a resolver for a client that connects to this URL directly.
    #[must_use]
    pub fn at(url: &Url) -> Self {
        Self {
            port: url.port_or_known_default(),
        }
    }

    /// Makes a resolver for a client that connects to this URL, or to the proxy for it from the environment.
    #[must_use]
    pub fn towards(url: &Url) -> Self {
        let uri = Uri::try_from(url.as_str()).ok();
        let proxy = uri.and_then(|uri| Matcher::from_env().intercept(&uri));
        match proxy {
            Some(proxy) => Self {
                port: port_of(proxy.uri()),
            },
            None => Self::at(url),
        }
    }

    async fn ordered(self, name: String) -> io::Result<Vec<SocketAddr>> {
        let found = resolve(&name).await?;
        let winner = match self.port {
            Some(port) if found.len() > 1 => {
                let raced = race(&found, async |address| {
                    connect_to((address, port).into()).await.map(|_| address)
                });
                raced.await.and_then(Result::ok)
            }
            Some(_) | None => None,
        };
        let others = found.into_iter().filter(|address| Some(*address) != winner);
        // port 0 stands for the port of the URL
        let with_port = |address| SocketAddr::new(address, 0);
        Ok(winner.into_iter().chain(others).map(with_port).collect())
    }
}

impl Resolve for FirstToAnswer {
    fn resolve(&self, name: Name) -> Resolving {
        let ordered = self.clone().ordered(name.as_str().to_owned());
        Box::pin(async move {
            let addresses: Addrs = Box::new(ordered.await?.into_iter());
            Ok(addresses)
        })
    }
}

fn port_of(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        Some(_) | None => None,
    })
}
