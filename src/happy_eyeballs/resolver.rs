//! Has `reqwest` connect to the address that answers first.

use std::{io, net::SocketAddr};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::{connect_to, race, resolve};

/// A resolver for one place. It finds out which of several addresses accepts connections and puts that one first.
///
/// `reqwest` takes no connector and tries addresses of one family one after the other, each for as long as the
/// system does. So the race is run here, and costs a second connection where a name has several addresses.
#[derive(Debug, Clone)]
pub(crate) struct FirstToAnswer {
    /// The port to try, where that is known.
    port: Option<u16>,
}

impl FirstToAnswer {
    /// For a client that connects to this place itself.
    pub(crate) fn at(url: &Url) -> Self {
        Self {
            port: url.port_or_known_default(),
        }
    }

    /// For a client that connects to this place, or to the proxy that the environment names for it.
    pub(crate) fn towards(url: &Url) -> Self {
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
