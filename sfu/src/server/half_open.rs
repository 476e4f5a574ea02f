//! Connections that have not said yet what they are.
//!
//! Owns how many there may be, of all and of one network. Counts only; who is one too many is closed by
//! `tls_port`.

use std::collections::HashMap;
use std::net::IpAddr;

/// At a time: each has a buffer of 2 to 16 KiB. In a second the machine shakes some thousand hands, so
/// that there are more only if most of them say nothing.
pub(super) const MOST: usize = 2048;
/// Of one address, of IPv6 one network of 64 bits: a whole office behind one that comes back at once,
/// and still far from all there may be.
pub(super) const MOST_OF_ONE: u32 = 128;

/// Whoever has one address of IPv6 has its whole network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
            v4 => v4,
        })
    }
}

/// How many of each network there are now.
#[derive(Debug, Default)]
pub(super) struct HalfOpen(HashMap<Network, u32>);

impl HalfOpen {
    /// One more, unless that is too many.
    pub(super) fn admit(&mut self, network: Network) -> bool {
        let count = self.0.entry(network).or_default();
        let fits = *count < MOST_OF_ONE;
        *count += u32::from(fits);
        fits
    }

    /// One less.
    pub(super) fn leave(&mut self, network: Network) {
        if let Some(count) = self.0.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_and_its_place_is_free_again_when_one_leaves() {
        let mut half_open = HalfOpen::default();
        let network = |text: &str| Network::of(text.parse().expect("an address"));
        let (one, same) = (network("2001:db8::1"), network("2001:db8::ffff"));
        for _ in 0..MOST_OF_ONE {
            assert!(half_open.admit(one));
        }
        assert!(!half_open.admit(same));
        assert!(half_open.admit(network("2001:db8:0:1::1")));
        assert!(half_open.admit(network("192.0.2.1")));
        assert!(half_open.admit(network("::ffff:192.0.2.1")));
        assert_eq!(half_open.0[&network("192.0.2.1")], 2);
        half_open.leave(same);
        assert!(half_open.admit(one));
        for _ in 0..MOST_OF_ONE {
            half_open.leave(one);
        }
        assert!(!half_open.0.contains_key(&one));
    }
}
