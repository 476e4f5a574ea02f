//! Which allocations come from one network.
//!
//! Owns whom an address counts for, and the places of the allocations of each. A network is an IPv4
//! address or an IPv6 /64; since whoever is given a /48, a site, has 65,536 of these, that counts besides.
//! It refuses nothing: the server asks.

use crate::hash::{Keyed, Map};
use std::net::{IpAddr, Ipv6Addr};

/// Whom an address counts for, a network or a site: its first address, and the length of its prefix.
pub(crate) type Block = (IpAddr, u8);

/// All that an address counts for: its network, and for IPv6 its site.
pub(crate) fn blocks(ip: IpAddr) -> impl Iterator<Item = Block> {
    let (network, site) = match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let of = |bits: u8| {
                let prefix = ip.to_bits() >> (128 - u32::from(bits)) << (128 - u32::from(bits));
                (IpAddr::V6(Ipv6Addr::from_bits(prefix)), bits)
            };
            (of(64), Some(of(48)))
        }
        v4 @ IpAddr::V4(_) => ((v4, 32), None),
    };
    std::iter::once(network).chain(site)
}

/// Who has which allocations, by place; as many as there are allocations, or twice that.
#[derive(Debug)]
pub(crate) struct Networks(Map<Block, Vec<u32>>);

impl Networks {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self(Map::with_hasher(keyed))
    }

    /// The places of the allocations of a network or a site.
    pub(crate) fn allocations(&self, block: Block) -> &[u32] {
        self.0.get(&block).map_or(&[], Vec::as_slice)
    }

    /// As many as whoever has this address may have of them.
    pub(crate) fn count(&self, ip: IpAddr) -> usize {
        let counts = blocks(ip).map(|block| self.allocations(block).len());
        counts.max().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, ip: IpAddr, slot: u32) {
        for block in blocks(ip) {
            self.0.entry(block).or_default().push(slot);
        }
    }

    pub(crate) fn remove(&mut self, ip: IpAddr, slot: u32) {
        for block in blocks(ip) {
            let Some(slots) = self.0.get_mut(&block) else {
                continue;
            };
            if let Some(at) = slots.iter().position(|other| *other == slot) {
                slots.swap_remove(at);
            }
            if slots.is_empty() {
                self.0.remove(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_for_its_network_and_its_site_until_its_last_allocation_ends() {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let mut networks = Networks::new(Keyed::new([1, 2]));
        let all = ["2600:1:2:3::1", "2600:1:2:3::2", "2600:1:2:4::1", "1.2.3.4"];
        for (slot, text) in (0..).zip(all) {
            networks.add(ip(text), slot);
        }
        let network = |text: &str| blocks(ip(text)).next().expect("a network");
        assert_eq!(networks.allocations(network("2600:1:2:3::9")), [0, 1]);
        assert_eq!(networks.count(ip("2600:1:2:4::1")), 3, "its site has");
        assert_eq!(networks.count(ip("::ffff:1.2.3.4")), 1);
        networks.remove(ip("2600:1:2:3::9"), 0);
        assert_eq!(networks.allocations(network("2600:1:2:3::9")), [1]);
        for (slot, text) in (0..).zip(all) {
            networks.remove(ip(text), slot);
        }
        assert!(networks.0.is_empty());
    }
}
