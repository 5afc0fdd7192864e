//! Lets a callback connect only to addresses that are allowed, whatever its name resolves to.
//!
//! The guard is the HTTP client's own resolver: what it lets through is what is connected to, so
//! that a name cannot show one address to a check and another to the connection.

use std::{error::Error, io, net::IpAddr, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use crate::domain::{AllowedNetworks, CallbackUrl};

/// Finds the addresses of a name.
#[async_trait]
pub trait NameResolver: Send + Sync {
    /// The addresses of `name`, in the order to try them; an error if there are none.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Resolves names as the system does.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

#[async_trait]
impl NameResolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// No address of a host may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the host has no address that callbacks may reach")]
pub struct AddressRefused;

impl AddressRefused {
    /// Whether this is what an error comes from.
    #[must_use]
    pub fn caused(error: &(dyn Error + 'static)) -> bool {
        causes(error).any(<dyn Error>::is::<Self>)
    }
}

/// An error and what it comes from, the outermost first. An I/O error keeps what it wraps out of
/// its own chain of sources, so that is looked up apart.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner),
            None => (*error).source(),
        }
    })
}

/// Stands between a client and the resolver.
#[derive(Clone)]
pub struct AddressGuard {
    resolver: Arc<dyn NameResolver>,
    allowed: AllowedNetworks,
}

impl AddressGuard {
    /// Lets through what is public or in the allowed networks.
    #[must_use]
    pub fn new(resolver: Arc<dyn NameResolver>, allowed: AllowedNetworks) -> Self {
        Self { resolver, allowed }
    }

    /// Checks a host that is an address itself: clients connect to those without a resolver.
    pub fn check_literal(&self, url: &CallbackUrl) -> Result<(), AddressRefused> {
        match url.literal_address() {
            Some(address) if !self.allowed.permits(address) => Err(AddressRefused),
            Some(_) | None => Ok(()),
        }
    }
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { resolver, allowed } = self.clone();
        Box::pin(async move {
            let found = resolver.resolve(name.as_str()).await?;
            let permitted: Vec<_> = found
                .into_iter()
                .filter(|address| allowed.permits(*address))
                // port 0 stands for the port of the URL
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            if permitted.is_empty() {
                return Err(AddressRefused.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static [&'static str]);

    #[async_trait]
    impl NameResolver for Fixed {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.iter().map(|text| text.parse().unwrap()).collect())
        }
    }

    async fn resolve(found: &'static [&'static str], allowed: &[&str]) -> Option<Vec<String>> {
        let networks = allowed.iter().map(|net| net.parse().unwrap()).collect();
        let guard = AddressGuard::new(Arc::new(Fixed(found)), AllowedNetworks::new(networks));
        match guard.resolve("app.example".parse().unwrap()).await {
            Ok(addresses) => Some(addresses.map(|address| address.to_string()).collect()),
            Err(error) => {
                assert!(AddressRefused::caused(error.as_ref()), "{error}");
                None
            }
        }
    }

    #[tokio::test]
    async fn only_allowed_addresses_of_a_name_are_left() {
        let mixed = resolve(&["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"], &[]).await;
        assert_eq!(mixed.unwrap(), ["1.1.1.1:0", "[2606:4700::1111]:0"]);
        let allowed = resolve(&["127.0.0.1", "10.0.0.1"], &["127.0.0.0/8"]).await;
        assert_eq!(allowed.unwrap(), ["127.0.0.1:0"]);
    }

    #[tokio::test]
    async fn a_name_without_an_allowed_address_is_refused() {
        for found in [
            &["127.0.0.1"][..],
            &["10.0.0.1", "169.254.169.254"],
            &["::ffff:10.0.0.1"],
            &["64:ff9b::a00:1"],
        ] {
            assert_eq!(resolve(found, &[]).await, None, "{found:?}");
        }
    }

    #[test]
    fn an_address_in_the_url_is_checked_as_well() {
        let guard = AddressGuard::new(Arc::new(SystemResolver), AllowedNetworks::default());
        for (url, allowed) in [
            ("https://127.0.0.1/", false),
            ("https://[::ffff:a00:1]/", false),
            ("https://1.1.1.1/", true),
            ("https://app.example/", true),
        ] {
            let url = CallbackUrl::from_stored(url).unwrap();
            assert_eq!(guard.check_literal(&url).is_ok(), allowed, "{url}");
        }
    }
}
