//! Opens connections to vetted addresses only, directly or through the egress proxy.

use std::{
    error::Error,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use happy_eyeballs::{self, race};
use http::Uri;
use hyper_util::{client::legacy::connect::proxy::Tunnel, rt::TokioIo};
use relay_domain::CallbackUrl;
use rustls::{
    ClientConfig,
    pki_types::{InvalidDnsNameError, ServerName},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::{config::EgressProxy, delivery::client_identity::ClientIdentity};

/// The ALPN name of HTTP/2.
pub(super) const HTTP_2: &[u8] = b"h2";

/// The error of a tunnel that was not opened; the type's own name is not public.
type TunnelError = <Tunnel<ProxyConnector> as Service<Uri>>::Error;

/// The reason why no connection was opened.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// The callback's address cannot be connected to.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// The proxy does not let the relay connect to the callback's address.
    #[error("the egress proxy opened no tunnel")]
    Tunnel(#[source] TunnelError),
    /// The proxy cannot be reached or does not accept the relay. No request went to the callback's host.
    #[error("the egress proxy cannot be used")]
    Proxy(#[source] TunnelError),
    /// The host is no valid server name for a TLS handshake.
    #[error("no certificate can be for this host")]
    Name(#[source] InvalidDnsNameError),
    /// The client's own certificate cannot be used.
    #[error("the client's certificate for callbacks cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// The destination of a connection. Connections to the same destination can take each other's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    https: bool,
    host: String,
    port: u16,
    /// Who the connection is for, if that is proved by TLS. Plain HTTP proves nothing.
    identity: Option<ClientIdentity>,
}

impl Destination {
    /// Returns the destination of requests that prove this identity, if the URL is of TLS.
    pub(super) fn of(url: &CallbackUrl, identity: Option<ClientIdentity>) -> Self {
        let https = url.url().scheme() == "https";
        let usual = if https { 443 } else { 80 };
        Self {
            https,
            host: url.host().to_owned(),
            port: url.url().port().unwrap_or(usual),
            identity: identity.filter(|_| https),
        }
    }

    /// Returns the name that the host's certificate must be valid for.
    fn server_name(&self) -> Result<ServerName<'static>, DialError> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(bare.to_owned()).map_err(DialError::Name)
    }
}

/// A stream of bytes, encrypted or not.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A connection that was just opened to a vetted address of a callback's host.
pub(super) struct Dialed {
    pub(super) stream: Box<dyn ByteStream>,
    /// The vetted address of the peer.
    pub(super) address: IpAddr,
    /// Whether the peer chose HTTP/2.
    pub(super) http2: bool,
}

/// Opens connections for callbacks.
#[derive(Clone)]
pub(super) struct Dialer {
    proxy: Option<Tunnel<ProxyConnector>>,
    /// The configuration without a client certificate.
    tls: Arc<ClientConfig>,
}

impl Dialer {
    pub(super) fn new(tls: ClientConfig, proxy: Option<&EgressProxy>) -> Self {
        let tunnel = |proxy: &EgressProxy| {
            let tunnel = Tunnel::new(proxy.uri().clone(), ProxyConnector);
            match proxy.authorization() {
                Some(basic) => tunnel.with_auth(basic),
                None => tunnel,
            }
        };
        Self {
            proxy: proxy.map(tunnel),
            tls: Arc::new(tls),
        }
    }

    /// Connects to the first vetted address that answers.
    pub(super) async fn dial(
        &self,
        to: &Destination,
        vetted: &[IpAddr],
    ) -> Result<Dialed, DialError> {
        let (stream, address) = match &self.proxy {
            None => directly(to.port, vetted).await?,
            Some(tunnel) => by_tunnel(tunnel, to.port, vetted).await?,
        };
        if !to.https {
            return Ok(Dialed {
                stream: Box::new(stream),
                address,
                http2: false,
            });
        }
        let tls = self.tls_for(to.identity.as_ref())?;
        let shaken = tls.connect(to.server_name()?, stream).await;
        let stream = shaken.map_err(DialError::Tls)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        Ok(Dialed {
            stream: Box::new(stream),
            address,
            http2,
        })
    }

    fn tls_for(&self, identity: Option<&ClientIdentity>) -> Result<TlsConnector, DialError> {
        let tls = match identity {
            None => Arc::clone(&self.tls),
            Some(identity) => {
                let proving = identity.tls(&self.tls).map_err(DialError::Certificate)?;
                Arc::new(proving)
            }
        };
        Ok(TlsConnector::from(tls))
    }
}

async fn directly(port: u16, vetted: &[IpAddr]) -> Result<(TcpStream, IpAddr), DialError> {
    let connected = race(vetted, async |address| {
        let stream = happy_eyeballs::connect_to((address, port).into()).await;
        stream.map(|stream| (stream, address))
    });
    let none = || Err(io::Error::other("no address was vetted"));
    let connected = connected.await.unwrap_or_else(none);
    connected.map_err(DialError::Connect)
}

/// Asks the proxy for tunnels to the vetted addresses, so the proxy never resolves a name. Only the proxy knows
/// whether an address works, so tunnels race as direct connections do. If the proxy itself fails, the race ends.
async fn by_tunnel(
    tunnel: &Tunnel<ProxyConnector>,
    port: u16,
    vetted: &[IpAddr],
) -> Result<(TcpStream, IpAddr), DialError> {
    let opened = race(vetted, async |address| {
        match open_tunnel(tunnel.clone(), (address, port).into()).await {
            Ok(stream) => Ok(Ok((stream, address))),
            Err(failed) if is_of_proxy(&failed) => Ok(Err(DialError::Proxy(failed))),
            Err(refused) => Err(DialError::Tunnel(refused)),
        }
    });
    let none = || {
        Err(DialError::Connect(io::Error::other(
            "no address was vetted",
        )))
    };
    opened.await.unwrap_or_else(none)?
}

async fn open_tunnel(
    mut tunnel: Tunnel<ProxyConnector>,
    to: SocketAddr,
) -> Result<TcpStream, TunnelError> {
    // a tunnel needs only the authority of a URI
    let uri = Uri::try_from(to.to_string()).unwrap_or_default();
    poll_fn(|context| tunnel.poll_ready(context)).await?;
    Ok(tunnel.call(uri).await?.into_inner())
}

/// Whether the proxy itself failed: it was not reached, or it requires authorization.
fn is_of_proxy(error: &TunnelError) -> bool {
    // the variants are not public; only errors of the connection have a source
    error.source().is_some() || error.to_string().contains("authorization required")
}

/// Connects to the proxy. Its name may have several addresses too.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProxyConnector;

impl Service<Uri> for ProxyConnector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, proxy: Uri) -> Self::Future {
        Box::pin(async move {
            let host = proxy.host().unwrap_or_default();
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let port = proxy.port_u16().unwrap_or(80);
            let stream = happy_eyeballs::connect_to_name(bare, port).await?;
            Ok(TokioIo::new(stream))
        })
    }
}
