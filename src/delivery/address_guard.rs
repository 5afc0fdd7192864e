//! Checks the addresses that a callback's host name resolves to, so that attempts connect only to allowed ones.
//!
//! Each attempt resolves the name once and connects to the permitted addresses ([`super::dialer`]). A second
//! resolution could return other addresses than the ones that were checked.

use std::{io, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use happy_eyeballs;
use relay_domain::{AllowedNetworks, CallbackUrl};

/// Resolves host names to addresses.
#[async_trait]
pub trait NameResolver: Send + Sync {
    /// Returns the addresses of `name` in the order to try them. Fails if there are none.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Resolves names with the system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

#[async_trait]
impl NameResolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        happy_eyeballs::resolve(name).await
    }
}

/// The reason why a callback has no address to connect to.
#[derive(Debug)]
pub enum NoAddress {
    /// None of the callback's addresses is allowed.
    Refused,
    /// The callback's host name does not resolve.
    Unresolved(io::Error),
}

/// Vets the addresses of callbacks: permits public ones and those in the allowed networks.
#[derive(Clone)]
pub struct AddressGuard {
    resolver: Arc<dyn NameResolver>,
    allowed: AllowedNetworks,
}

impl AddressGuard {
    /// Creates a guard that permits public addresses and addresses in `allowed`.
    #[must_use]
    pub fn new(resolver: Arc<dyn NameResolver>, allowed: AllowedNetworks) -> Self {
        Self { resolver, allowed }
    }

    /// Returns the permitted addresses of the callback's host, in the order to try them. There is at least one.
    pub async fn vet(&self, url: &CallbackUrl) -> Result<Vec<IpAddr>, NoAddress> {
        let found = match url.literal_address() {
            Some(address) => vec![address],
            None => self
                .resolver
                .resolve(url.host())
                .await
                .map_err(NoAddress::Unresolved)?,
        };
        let permitted: Vec<_> = found
            .into_iter()
            .filter(|address| self.allowed.permits(*address))
            .collect();
        if permitted.is_empty() {
            return Err(NoAddress::Refused);
        }
        Ok(permitted)
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

    async fn vet(url: &str, found: &'static [&'static str], allowed: &[&str]) -> Vec<String> {
        let networks = allowed.iter().map(|net| net.parse().unwrap()).collect();
        let guard = AddressGuard::new(Arc::new(Fixed(found)), AllowedNetworks::new(networks));
        let url = CallbackUrl::from_stored(url).unwrap();
        match guard.vet(&url).await {
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect(),
            Err(NoAddress::Refused) => Vec::new(),
            Err(NoAddress::Unresolved(error)) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn only_allowed_addresses_of_a_name_are_left() {
        let url = "https://app.example/";
        let found = &["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"];
        assert_eq!(vet(url, found, &[]).await, ["1.1.1.1", "2606:4700::1111"]);
        let found = &["127.0.0.1", "10.0.0.1"];
        assert_eq!(vet(url, found, &["127.0.0.0/8"]).await, ["127.0.0.1"]);
    }

    #[tokio::test]
    async fn a_name_without_an_allowed_address_is_refused() {
        for found in [
            &["127.0.0.1"][..],
            &["10.0.0.1", "169.254.169.254"],
            &["::ffff:10.0.0.1"],
            &["64:ff9b::a00:1"],
            &[],
        ] {
            let left = vet("https://app.example/", found, &[]).await;
            assert!(left.is_empty(), "{found:?}");
        }
    }

    #[tokio::test]
    async fn an_address_in_the_url_is_checked_as_well() {
        for (url, left) in [
            ("https://127.0.0.1/", None),
            ("https://[::ffff:a00:1]/", None),
            ("https://1.1.1.1/", Some("1.1.1.1")),
            ("https://[2606:4700::1111]/", Some("2606:4700::1111")),
        ] {
            let expected: Vec<_> = left.into_iter().collect();
            assert_eq!(vet(url, &["8.8.8.8"], &[]).await, expected, "{url}");
        }
    }
}
