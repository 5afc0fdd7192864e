//! Connects to what was vetted, directly or through the egress proxy, and to nothing else.

use std::{
    collections::HashMap,
    future,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name, proxy::Tunnel},
    rt::TokioIo,
};
use thiserror::Error;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::EgressProxy;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Dialing = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;

/// Why there is no tunnel; its own name is not public.
pub(super) type TunnelError = <Tunnel<HttpConnector> as Service<Uri>>::Error;

/// The proxy cannot be reached or does not know the relay: the callback's host was not asked.
#[derive(Debug, Error)]
#[error("the egress proxy cannot be used")]
pub(super) struct ProxyFailed(#[source] TunnelError);

/// What each host of an attempt in flight may be reached at.
///
/// A connection that is begun when its attempt has ended finds nothing and is not made.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins(Arc<Mutex<HashMap<String, Pinned>>>);

#[derive(Debug, Default)]
struct Pinned {
    addresses: Vec<IpAddr>,
    attempts: usize,
}

impl Pins {
    /// Lets connections to `host` be made to `addresses`, which were vetted, while the pin is held.
    pub(super) fn pin(&self, host: &str, addresses: Vec<IpAddr>) -> HeldPin {
        let mut pins = self.lock();
        let pinned = pins.entry(host.to_owned()).or_default();
        pinned.addresses = addresses;
        pinned.attempts += 1;
        HeldPin {
            pins: self.clone(),
            host: host.to_owned(),
        }
    }

    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match self.lock().get(host) {
            Some(pinned) => Ok(pinned.addresses.clone()),
            None => Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "no address of this host was vetted",
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pinned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a host's addresses pinned; the last one to go removes them.
#[derive(Debug)]
pub(super) struct HeldPin {
    pins: Pins,
    host: String,
}

impl Drop for HeldPin {
    fn drop(&mut self) {
        let mut pins = self.pins.lock();
        if let Some(pinned) = pins.get_mut(&self.host) {
            pinned.attempts = pinned.attempts.saturating_sub(1);
            if pinned.attempts == 0 {
                pins.remove(&self.host);
            }
        }
    }
}

/// The resolver of direct connections: it knows what is pinned, and nothing else.
impl Service<Name> for Pins {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = future::Ready<Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        // port 0 stands for the port of the URL
        let with_port = |address| SocketAddr::new(address, 0);
        future::ready(self.addresses(name.as_str()).map(|addresses| {
            let found: Vec<_> = addresses.into_iter().map(with_port).collect();
            found.into_iter()
        }))
    }
}

/// Opens connections for callbacks.
#[derive(Clone)]
pub(super) struct Dialer {
    pins: Pins,
    route: Route,
}

#[derive(Clone)]
enum Route {
    Direct(HttpConnector<Pins>),
    /// A tunnel to the vetted address: the proxy is never given a name to resolve.
    Proxied(Tunnel<HttpConnector>),
}

impl Dialer {
    pub(super) fn new(pins: Pins, proxy: Option<&EgressProxy>) -> Self {
        let route = match proxy {
            None => {
                let mut direct = HttpConnector::new_with_resolver(pins.clone());
                direct.enforce_http(false);
                direct.set_nodelay(true);
                Route::Direct(direct)
            }
            Some(proxy) => {
                let mut connector = HttpConnector::new();
                connector.set_nodelay(true);
                let tunnel = Tunnel::new(proxy.uri().clone(), connector);
                Route::Proxied(match proxy.authorization() {
                    Some(basic) => tunnel.with_auth(basic),
                    None => tunnel,
                })
            }
        };
        Self { pins, route }
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Dialing;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // both routes are always ready
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Dialing {
        let host = to.host().unwrap_or_default();
        let addresses = match self.pins.addresses(host) {
            Ok(addresses) => addresses,
            Err(error) => return Box::pin(future::ready(Err(error.into()))),
        };
        match &mut self.route {
            Route::Direct(direct) => {
                let dialing = direct.call(to);
                Box::pin(async move { Ok(dialing.await?) })
            }
            Route::Proxied(tunnel) => Box::pin(by_tunnel(tunnel.clone(), to, addresses)),
        }
    }
}

/// Asks the proxy for one address after the other.
async fn by_tunnel(
    mut tunnel: Tunnel<HttpConnector>,
    to: Uri,
    addresses: Vec<IpAddr>,
) -> Result<TokioIo<TcpStream>, BoxError> {
    let https = to.scheme_str() == Some("https");
    let port = to.port_u16().unwrap_or(if https { 443 } else { 80 });
    let mut last = None;
    for address in addresses {
        let to = Uri::builder()
            .scheme("http")
            .authority(SocketAddr::new(address, port).to_string())
            .path_and_query("/")
            .build()?;
        future::poll_fn(|context| tunnel.poll_ready(context)).await?;
        match tunnel.call(to).await {
            Ok(stream) => return Ok(stream),
            Err(failed) if is_of_proxy(&failed) => return Err(ProxyFailed(failed).into()),
            Err(refused) => last = Some(refused),
        }
    }
    Err(last.map_or_else(|| "no address was vetted".into(), Into::into))
}

/// Whether the proxy itself is what failed: it was not reached, or it wants to know who asks.
fn is_of_proxy(error: &TunnelError) -> bool {
    use std::error::Error;
    // the variants are not public; those of the connection have a source
    error.source().is_some() || error.to_string().contains("authorization required")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_pinned_while_an_attempt_holds_it() {
        let pins = Pins::default();
        let addresses = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
        assert!(pins.addresses("app.example").is_err());
        let first = pins.pin("app.example", addresses("1.1.1.1"));
        let second = pins.pin("app.example", addresses("1.1.1.2"));
        drop(first);
        assert_eq!(pins.addresses("app.example").unwrap(), addresses("1.1.1.2"));
        assert!(pins.addresses("other.example").is_err());
        drop(second);
        assert!(pins.addresses("app.example").is_err());
        assert!(pins.lock().is_empty());
    }
}
