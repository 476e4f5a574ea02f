//! How many come from one network.
//!
//! Owns whom an address counts for, and the counts: whoever has one address of IPv6 has its /64, and whoever
//! rents a line or a server mostly a /48. Of an address that is not public nobody knows: a proxy or a NAT of
//! ours may be there, and everybody behind it. Counts only; asked by all who take connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Bits of an address of IPv6 that are its network's.
const NETWORK_BITS: u32 = 64;
/// Those that are its site's: what a provider gives to one customer. (RFC 6177 §2)
const SITE_BITS: u32 = 48;

/// Whom an address counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Block {
    /// One address of IPv4, or a /64.
    Network(IpAddr),
    /// A /48.
    Site(Ipv6Addr),
}

/// How many there may be of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Of one address of IPv4, or of a /64.
    pub network: u32,
    /// Of a /48.
    pub site: u32,
}

/// How many there are of each now. It grows with those that are counted, whose number the caller limits.
#[derive(Debug)]
pub struct Crowd {
    most: Most,
    counts: HashMap<Block, u32>,
}

/// All that an address counts for: its network, and for IPv6 its site.
pub fn blocks(ip: IpAddr) -> impl Iterator<Item = Block> {
    let (network, site) = match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let network = cut(ip, NETWORK_BITS).into();
            (network, Some(Block::Site(cut(ip, SITE_BITS))))
        }
        v4 => (v4, None),
    };
    std::iter::once(Block::Network(network)).chain(site)
}

/// Does an address mean the same machine to everybody?
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 6598: between a provider and his customers, and in VPNs (Tailscale).
            let shared = a == 100 && (64..128).contains(&b);
            let special = ip.is_unspecified() || ip.is_loopback() || ip.is_broadcast();
            !(special || shared || ip.is_private() || ip.is_link_local() || ip.is_multicast())
        }
        IpAddr::V6(ip) => {
            let special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
            !(special || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

fn cut(ip: Ipv6Addr, bits: u32) -> Ipv6Addr {
    let rest = Ipv6Addr::BITS - bits;
    (ip.to_bits() >> rest << rest).into()
}

impl Most {
    /// Of this block.
    #[must_use]
    pub const fn of(self, block: Block) -> u32 {
        match block {
            Block::Network(_) => self.network,
            Block::Site(_) => self.site,
        }
    }
}

impl Crowd {
    /// Nobody yet.
    #[must_use]
    pub fn new(most: Most) -> Self {
        Self {
            most,
            counts: HashMap::new(),
        }
    }

    /// One more, unless that is too many.
    pub fn admit(&mut self, ip: IpAddr) -> bool {
        let count = |block| self.counts.get(&block).copied().unwrap_or_default();
        let fits = blocks(ip).all(|block| count(block) < self.most.of(block));
        if fits {
            for block in blocks(ip) {
                *self.counts.entry(block).or_default() += 1;
            }
        }
        fits
    }

    /// One less of those that were admitted.
    pub fn leave(&mut self, ip: IpAddr) {
        for block in blocks(ip) {
            if let Some(count) = self.counts.get_mut(&block) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&block);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_is_public_if_it_is_nobody_else_s_elsewhere() {
        for public in [
            "192.0.2.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "2001:db8::1",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
        for not in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.254",
            "::ffff:100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip(not)), "{not}");
        }
    }

    #[test]
    fn a_network_has_so_many_and_its_place_is_free_again_when_one_leaves() {
        let mut crowd = Crowd::new(Most {
            network: 3,
            site: 100,
        });
        let (one, same) = (ip("2001:db8::1"), ip("2001:db8::ffff"));
        for _ in 0..3 {
            assert!(crowd.admit(one));
        }
        assert!(!crowd.admit(same));
        assert!(crowd.admit(ip("2001:db8:0:1::1")));
        assert!(crowd.admit(ip("192.0.2.1")));
        assert!(crowd.admit(ip("::ffff:192.0.2.1")));
        assert_eq!(crowd.counts[&Block::Network(ip("192.0.2.1"))], 2);
        assert!(crowd.admit(ip("192.0.2.2")));
        crowd.leave(same);
        assert!(crowd.admit(one));
        for _ in 0..3 {
            crowd.leave(one);
        }
        for at in ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.1", "192.0.2.2"] {
            crowd.leave(ip(at));
        }
        assert!(crowd.counts.is_empty());
    }

    #[test]
    fn a_site_has_so_many_in_all_its_networks() {
        let mut crowd = Crowd::new(Most {
            network: 3,
            site: 4,
        });
        for network in 0..4 {
            assert!(crowd.admit(ip(&format!("2001:db8:0:{network}::1"))));
        }
        assert!(!crowd.admit(ip("2001:db8:0:9::1")));
        assert!(crowd.admit(ip("2001:db8:1::1")), "another one's");
        crowd.leave(ip("2001:db8:0:2::1"));
        assert!(crowd.admit(ip("2001:db8:0:9::1")));
    }
}
