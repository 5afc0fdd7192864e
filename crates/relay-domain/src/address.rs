//! Rules for the network addresses that a callback must not reach. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 networks outside the public internet: IANA's special-purpose registry, multicast and the reserved class E.
/// The metadata addresses of clouds lie in the link-local and CGNAT ranges.
const RESERVED_V4: &[Ipv4Net] = &[
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8),
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(168, 63, 129, 16), 32),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 0, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 31, 196, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 52, 193, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 88, 99, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 175, 48, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Reserved parts of `2000::/3`, from IANA's special-purpose registry. Only this range, global unicast, is public
/// IPv6. The list includes the tunnels Teredo (in `2001::/23`) and 6to4, because no receiver has an address in them.
const RESERVED_V6: &[Ipv6Net] = &[
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
    Ipv6Net::new_assert(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_UNICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// NAT64 (RFC 6052): the last 32 bits are an IPv4 address. In an IPv6-only network, DNS returns such an address for
/// each name that has only IPv4 addresses.
const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Returns whether an address is outside the public internet. Handles IPv4, IPv6, and IPv4 inside IPv6.
#[must_use]
pub fn is_reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_reserved_v4(v4),
        IpAddr::V6(v6) if NAT64.contains(&v6) => is_reserved_v4(last_v4(v6)),
        IpAddr::V6(v6) => {
            !GLOBAL_UNICAST.contains(&v6)
                || is_isatap(v6)
                || RESERVED_V6.iter().any(|net| net.contains(&v6))
        }
    }
}

fn is_reserved_v4(address: Ipv4Addr) -> bool {
    RESERVED_V4.iter().any(|net| net.contains(&address))
}

/// Returns whether the interface id contains an IPv4 address (ISATAP, RFC 5214). Packets to it go to that address in
/// a tunnel.
fn is_isatap(address: Ipv6Addr) -> bool {
    let [_, _, _, _, high, low, _, _] = address.segments();
    matches!(high, 0 | 0x200) && low == 0x5efe
}

/// Returns the IPv4 address inside a mapped or NAT64 address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let is_embedded = NAT64.contains(&address) || address.to_ipv4_mapped().is_some();
    is_embedded.then(|| last_v4(address))
}

/// Returns the last 32 bits as an IPv4 address.
fn last_v4(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

/// The reserved networks that a deployment lets callbacks reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedNetworks(Vec<IpNet>);

impl AllowedNetworks {
    /// Makes the list of allowed networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns whether a callback may connect to the address.
    ///
    /// An IPv4 address inside an IPv6 address is allowed if the IPv4 address is allowed.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let plain = match address {
            IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        !is_reserved(address) || self.name(address, plain)
    }

    /// Returns whether a URL may contain this address. A mapped or NAT64 address must be in an allowed network. NAT64
    /// addresses are for the responses of DNS: no receiver has one as its own address.
    #[must_use]
    pub fn permits_written(&self, address: Ipv6Addr) -> bool {
        match embedded_v4(address) {
            Some(plain) => self.name(address.into(), plain.into()),
            None => self.permits(address.into()),
        }
    }

    /// Returns whether a network contains the address, or the IPv4 address that it stands for.
    fn name(&self, address: IpAddr, plain: IpAddr) -> bool {
        let mut networks = self.0.iter();
        networks.any(|net| net.contains(&address) || net.contains(&plain))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn public_addresses_are_free_and_others_are_reserved() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "203.0.114.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
        ] {
            assert!(!is_reserved(public.parse().unwrap()), "{public}");
        }
        for reserved in [
            "0.0.0.0",
            "127.0.0.1",
            "10.1.2.3",
            "100.100.100.200",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "192.0.2.7",
            "198.51.100.9",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:5db8:d822::1",
            "::ffff:1.1.1.1",
            "2606:4700::5efe:101:101",
            "2606:4700::200:5efe:808:808",
            "2001:20::1",
            "5f00::1",
            "3fff::1",
            "::127.0.0.1",
            "2001::1",
            "100::1",
            "168.63.129.16",
        ] {
            assert!(is_reserved(reserved.parse().unwrap()), "{reserved}");
        }
    }

    #[test]
    fn allowed_networks_are_permitted_in_every_form() {
        let allowed = AllowedNetworks::new(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(allowed.permits("10.1.2.3".parse().unwrap()));
        assert!(allowed.permits("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!allowed.permits("192.168.0.1".parse().unwrap()));
        assert!(allowed.permits("1.1.1.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn every_address_of_a_reserved_network_is_refused_in_every_form(
            index in 0..RESERVED_V4.len(),
            host: u32,
        ) {
            let net = RESERVED_V4[index];
            let host = host & net.hostmask().to_bits();
            let v4 = Ipv4Addr::from_bits(net.addr().to_bits() | host);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let forms = [
                IpAddr::V4(v4),
                IpAddr::V6(v4.to_ipv6_mapped()),
                IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)),
                IpAddr::V6(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 0)),
                IpAddr::V6(v4.to_ipv6_compatible()),
            ];
            for form in forms {
                prop_assert!(is_reserved(form), "{}", form);
                prop_assert!(!AllowedNetworks::default().permits(form), "{}", form);
            }
        }

        #[test]
        fn no_address_outside_global_unicast_is_public(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let is_global = bits >> 125 == 1;
            if !is_global && embedded_v4(address).is_none() {
                prop_assert!(is_reserved(IpAddr::V6(address)));
            }
        }
    }
}
