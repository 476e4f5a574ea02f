//! Which peers may be reached.
//!
//! Owns the list of ranges that are not the public internet, and the operator's exceptions. Whether
//! an address is our own is the server's question, asked before this.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    ip: IpAddr,
    bits: u8,
}

/// The prefix is longer than the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a prefix has at most 32 bits for IPv4, 128 for IPv6")]
pub struct PrefixTooLong;

impl Prefix {
    /// All addresses that agree with `ip` in the first `bits` bits.
    ///
    /// # Errors
    /// `bits` is larger than the address.
    pub fn new(ip: IpAddr, bits: u8) -> Result<Self, PrefixTooLong> {
        let most = if ip.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(PrefixTooLong);
        }
        Ok(Self { ip, bits })
    }

    const fn v4(octets: [u8; 4], bits: u8) -> Self {
        let [a, b, c, d] = octets;
        Self {
            ip: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            bits,
        }
    }

    const fn v6(first: [u16; 3], bits: u8) -> Self {
        let [a, b, c] = first;
        Self {
            ip: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)),
            bits,
        }
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let differ = a.to_bits() ^ b.to_bits();
                differ.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let differ = a.to_bits() ^ b.to_bits();
                differ.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Not the public internet. (IANA special-purpose registries, RFC 6890; RFC 8656 §21.1.6)
const INTERNAL: [Prefix; 23] = [
    Prefix::v4([0, 0, 0, 0], 8),
    Prefix::v4([10, 0, 0, 0], 8),
    Prefix::v4([100, 64, 0, 0], 10),
    Prefix::v4([127, 0, 0, 0], 8),
    Prefix::v4([169, 254, 0, 0], 16),
    Prefix::v4([172, 16, 0, 0], 12),
    Prefix::v4([192, 0, 0, 0], 24),
    Prefix::v4([192, 0, 2, 0], 24),
    Prefix::v4([192, 88, 99, 0], 24),
    Prefix::v4([192, 168, 0, 0], 16),
    Prefix::v4([198, 18, 0, 0], 15),
    Prefix::v4([198, 51, 100, 0], 24),
    Prefix::v4([203, 0, 113, 0], 24),
    // Multicast and what is reserved behind it, broadcast included.
    Prefix::v4([224, 0, 0, 0], 3),
    // Unspecified, loopback, and IPv4 in old clothes.
    Prefix::v6([0, 0, 0], 64),
    Prefix::v6([0x64, 0xFF9B, 1], 48),
    Prefix::v6([0x100, 0, 0], 64),
    // Teredo reaches IPv4 in ways of its own.
    Prefix::v6([0x2001, 0, 0], 32),
    Prefix::v6([0x2001, 0xDB8, 0], 32),
    Prefix::v6([0xFC00, 0, 0], 7),
    Prefix::v6([0xFE80, 0, 0], 10),
    Prefix::v6([0xFEC0, 0, 0], 10),
    Prefix::v6([0xFF00, 0, 0], 8),
];

/// IPv6 ranges that lead to the IPv4 address within, and where that begins. (RFC 6052, RFC 3056)
const TRANSLATED: [(Prefix, u32); 2] = [
    (Prefix::v6([0x64, 0xFF9B, 0], 96), 0),
    (Prefix::v6([0x2002, 0, 0], 16), 80),
];

/// The operator's word on peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Internal ranges that may be reached all the same.
    pub allow: Vec<Prefix>,
    /// Ranges that may not, internal or not: this has the last word.
    pub deny: Vec<Prefix>,
}

impl PeerPolicy {
    /// Whether a peer may be reached.
    #[must_use]
    pub fn allows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let within = |ranges: &[Prefix], ip| ranges.iter().any(|range| range.contains(ip));
        let inner = translated(ip);
        if within(&self.deny, ip) || inner.is_some_and(|inner| within(&self.deny, inner)) {
            return false;
        }
        let internal = |ip| within(&INTERNAL, ip) && !within(&self.allow, ip);
        !internal(ip) && !inner.is_some_and(internal)
    }

    /// Whether a range that is let in names this peer: then it may even be this machine.
    #[must_use]
    pub fn excepts(&self, ip: IpAddr) -> bool {
        self.allow
            .iter()
            .any(|range| range.contains(ip.to_canonical()))
    }
}

/// The IPv4 address that an IPv6 address leads to.
pub(crate) fn translated(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = ip else {
        return None;
    };
    let (_, shift) = TRANSLATED.iter().find(|(range, _)| range.contains(ip))?;
    Some(IpAddr::V4(Ipv4Addr::from_bits(
        (v6.to_bits() >> shift) as u32,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn range(text: &str, bits: u8) -> Prefix {
        Prefix::new(ip(text), bits).expect("short enough")
    }

    #[test]
    fn internal_ranges_are_refused_in_every_guise_and_public_ones_are_not() {
        let policy = PeerPolicy::default();
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2002:a00:1::",
        ] {
            assert!(!policy.allows(ip(text)), "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "223.255.255.255",
            "2600::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(policy.allows(ip(text)), "{text}");
        }
    }

    #[test]
    fn an_internal_range_may_be_let_in_and_a_denial_has_the_last_word() {
        let policy = PeerPolicy {
            allow: vec![range("10.0.0.0", 8), range("::1", 128)],
            deny: vec![range("10.9.0.0", 16), range("1.1.1.0", 24)],
        };
        assert!(policy.allows(ip("10.1.2.3")) && policy.allows(ip("::1")));
        assert!(!policy.allows(ip("10.9.2.3")) && !policy.allows(ip("192.168.0.1")));
        assert!(!policy.allows(ip("1.1.1.1")) && !policy.allows(ip("64:ff9b::1.1.1.1")));
    }

    #[test]
    fn a_prefix_of_no_bits_holds_everything_of_its_family() {
        assert!(range("1.2.3.4", 0).contains(ip("200.1.1.1")));
        assert!(!range("1.2.3.4", 0).contains(ip("::1")));
        assert!(range("::", 0).contains(ip("ff::1")));
        assert_eq!(Prefix::new(ip("1.1.1.1"), 33), Err(PrefixTooLong));
    }
}
