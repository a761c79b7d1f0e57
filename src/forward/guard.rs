use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Cidr;

/// Refuses addresses that no agent has business with, whatever name led to them: a name in an
/// allowed catalog may resolve to the metadata service (DNS rebinding).
#[derive(Debug, Clone)]
pub struct AddressGuard {
    allow: Vec<Cidr>,
}

impl AddressGuard {
    #[must_use]
    pub fn new(allow: &[Cidr]) -> Self {
        Self { allow: allow.to_vec() }
    }

    /// What kind of forbidden address this is; None when it may be dialled.
    #[must_use]
    pub fn forbids(&self, address: IpAddr) -> Option<&'static str> {
        let address = embedded(address);
        let kind = match address {
            IpAddr::V4(v4) => v4_kind(v4),
            IpAddr::V6(v6) => v6_kind(v6),
        }?;
        if self.allow.iter().any(|range| range.contains(address)) { None } else { Some(kind) }
    }
}

impl Cidr {
    /// Whether the range holds the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(a)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
                u32::from(base) & mask == u32::from(a) & mask
            }
            (IpAddr::V6(base), IpAddr::V6(a)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0);
                u128::from(base) & mask == u128::from(a) & mask
            }
            _ => false,
        }
    }
}

/// The IPv4 address inside an IPv6 one that a router or kernel would send there
/// (RFC 4291 §2.5.5, RFC 6052 §2.1, RFC 3056 §2).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let low = |a: u16, b: u16| IpAddr::V4(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => low(a, b),
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 => low(a, b),
        [0x2002, a, b, ..] => low(a, b),
        _ => address,
    }
}

fn v4_kind(a: Ipv4Addr) -> Option<&'static str> {
    let [x, y, z, _] = a.octets();
    match (x, y, z) {
        (0, ..) => Some("unspecified"),
        (127, ..) => Some("loopback"),
        (10, ..) | (192, 168, _) => Some("private"),
        (172, 16..=31, _) => Some("private"),
        (169, 254, _) => Some("link-local (the metadata service is there)"),
        (100, 64..=127, _) => Some("shared (RFC 6598)"),
        (192, 0, 0) | (192, 0, 2) | (198, 51, 100) | (203, 0, 113) | (198, 18..=19, _) => Some("reserved"),
        (224..=239, ..) => Some("multicast"),
        (240..=255, ..) => Some("reserved"),
        _ => None,
    }
}

fn v6_kind(a: Ipv6Addr) -> Option<&'static str> {
    let s = a.segments();
    if a.is_unspecified() {
        Some("unspecified")
    } else if a.is_loopback() {
        Some("loopback")
    } else if a.is_multicast() {
        Some("multicast")
    } else if s[0] & 0xfe00 == 0xfc00 {
        Some("private (unique local)")
    } else if s[0] & 0xffc0 == 0xfe80 {
        Some("link-local")
    } else if s[0] & 0xffc0 == 0xfec0 {
        Some("private (site-local)")
    } else if s[0] == 0x2001 && (s[1] == 0 || s[1] == 0xdb8) {
        Some("reserved")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[(&str, u8)]) -> AddressGuard {
        AddressGuard { allow: allow.iter().map(|(base, prefix)| Cidr { base: base.parse().unwrap(), prefix: *prefix }).collect() }
    }

    #[test]
    fn addresses_behind_the_proxy_are_forbidden_in_every_spelling() {
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.1.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:169.254.169.254",
            "::ffff:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
            "::7f00:1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            assert!(guard(&[]).forbids(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["1.1.1.1", "140.82.121.6", "172.32.0.1", "2606:4700::1111"] {
            assert_eq!(guard(&[]).forbids(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn a_range_is_allowed_only_by_name() {
        let g = guard(&[("127.0.0.0", 8), ("fd00::", 8)]);
        assert_eq!(g.forbids("127.0.0.1".parse().unwrap()), None);
        assert_eq!(g.forbids("::ffff:127.0.0.1".parse().unwrap()), None);
        assert_eq!(g.forbids("fd00::1".parse().unwrap()), None);
        assert!(g.forbids("10.0.0.1".parse().unwrap()).is_some());
        assert!(g.forbids("::1".parse().unwrap()).is_some());
    }
}
