//! The address from which a request came, as the relay knows it.

use std::net::IpAddr;

use http::Extensions;
use tokio::net::TcpStream;

/// The address of a request's peer. Behind a proxy it is the proxy's: what the proxy says of others is not believed.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(IpAddr);

impl PeerAddress {
    /// Returns the address of a connection's peer, if it is still known.
    pub(super) fn of_stream(stream: &TcpStream) -> Option<Self> {
        let address = stream.peer_addr().ok()?;
        Some(Self(address.ip().to_canonical()))
    }

    /// Returns the address in the extensions of a request.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<IpAddr> {
        extensions.get().map(|Self(address)| *address)
    }
}
