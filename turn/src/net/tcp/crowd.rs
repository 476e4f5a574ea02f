//! Who has how many connections, and which of those without an allocation is the oldest.
//!
//! Owns the counts by block; closes nothing.

use crate::net::stream_limits::StreamLimits;
use crate::networks::{Block, blocks};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

/// Connections without an allocation, and since when they have none; the oldest first.
type HalfOpen = BTreeSet<(Instant, u32)>;

#[derive(Debug, Default)]
struct Count {
    all: usize,
    half_open: HalfOpen,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// As many as there are connections, or twice that.
    counts: HashMap<Block, Count>,
    /// Those of all.
    half_open: HalfOpen,
}

impl Crowd {
    /// Whether one more of this address is within what its network and its site may have.
    pub(super) fn admits(&self, ip: IpAddr, limits: &StreamLimits) -> bool {
        let most = [limits.of_address, limits.of_site];
        blocks(ip).zip(most).all(|(block, most)| {
            let count = self.counts.get(&block);
            count.is_none_or(|count| count.all < most)
        })
    }

    /// The one that has to go before another of this address comes: if its network, or its site, has as many
    /// without an allocation as it may, the one that is so for the longest.
    pub(super) fn displaced_by(&self, ip: IpAddr, limits: &StreamLimits) -> Option<u32> {
        let most = [limits.half_open_of_address, limits.half_open_of_site];
        blocks(ip).zip(most).find_map(|(block, most)| {
            let half_open = &self.counts.get(&block)?.half_open;
            let oldest = half_open.first().filter(|_| half_open.len() >= most);
            oldest.map(|(_, slot)| *slot)
        })
    }

    /// Counts a connection, and since when it is without an allocation.
    pub(super) fn enter(&mut self, ip: IpAddr, slot: u32, since: Instant) {
        for block in blocks(ip) {
            self.counts.entry(block).or_default().all += 1;
        }
        self.set_half_open(ip, slot, since, true);
    }

    /// A connection has got an allocation, having been without since then, or is without one since.
    pub(super) fn set_half_open(&mut self, ip: IpAddr, slot: u32, since: Instant, is: bool) {
        let changed = if is {
            self.half_open.insert((since, slot))
        } else {
            self.half_open.remove(&(since, slot))
        };
        if !changed {
            return;
        }
        for block in blocks(ip) {
            let Some(count) = self.counts.get_mut(&block) else {
                continue;
            };
            if is {
                count.half_open.insert((since, slot));
            } else {
                count.half_open.remove(&(since, slot));
            }
        }
    }

    /// A connection is closed.
    pub(super) fn leave(&mut self, ip: IpAddr, slot: u32, since: Instant) {
        self.set_half_open(ip, slot, since, false);
        for block in blocks(ip) {
            if let Some(count) = self.counts.get_mut(&block) {
                count.all = count.all.saturating_sub(1);
                if count.all == 0 {
                    self.counts.remove(&block);
                }
            }
        }
    }

    /// As many as whoever has this address may have of them.
    pub(super) fn count(&self, ip: IpAddr) -> usize {
        let counts = blocks(ip).filter_map(|block| self.counts.get(&block));
        counts.map(|count| count.all).max().unwrap_or_default()
    }

    /// How many are without an allocation.
    pub(super) fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// The one that is so for the longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.half_open.first().map(|(_, slot)| *slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits() -> StreamLimits {
        StreamLimits {
            of_address: 3,
            half_open_of_address: 2,
            of_site: 6,
            half_open_of_site: 4,
            ..StreamLimits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_few_that_have_proved_nothing_and_more_that_have() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let one = ip("192.0.2.1");
        crowd.enter(one, 1, now);
        assert_eq!(crowd.displaced_by(one, &limits()), None);
        crowd.enter(one, 2, now);
        assert_eq!(crowd.displaced_by(one, &limits()), Some(1));
        assert_eq!(crowd.displaced_by(ip("192.0.2.2"), &limits()), None);
        crowd.set_half_open(one, 1, now, false);
        assert_eq!(crowd.displaced_by(one, &limits()), None);
        assert!(crowd.admits(one, &limits()));
        crowd.enter(one, 3, now);
        crowd.set_half_open(one, 3, now, false);
        assert!(!crowd.admits(one, &limits()), "three in all");
        assert!(crowd.admits(ip("192.0.2.2"), &limits()));
        for slot in [1, 2, 3] {
            crowd.leave(one, slot, now);
        }
        assert!(crowd.counts.is_empty() && crowd.half_open() == 0);
    }

    #[test]
    fn a_site_of_ipv6_has_no_more_for_having_many_networks() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let network = |n: u16| IpAddr::from([0x2600, 1, 2, n, 0, 0, 0, 1]);
        for n in 0..4_u16 {
            assert_eq!(crowd.displaced_by(network(n), &limits()), None, "{n}");
            crowd.enter(network(n), n.into(), now);
        }
        assert_eq!(crowd.displaced_by(network(99), &limits()), Some(0));
        assert_eq!(crowd.displaced_by(ip("2600:1:3::1"), &limits()), None);
        for n in 4..6_u16 {
            crowd.enter(network(n), n.into(), now);
        }
        assert!(!crowd.admits(network(99), &limits()), "six in all");
        assert!(crowd.admits(ip("2600:1:3::1"), &limits()));
    }

    #[test]
    fn the_oldest_is_who_is_without_an_allocation_for_the_longest() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for slot in 0..3 {
            crowd.enter(ip("192.0.2.1"), slot, at(u64::from(slot)));
        }
        crowd.set_half_open(ip("192.0.2.1"), 0, at(0), false);
        assert_eq!((crowd.oldest(), crowd.half_open()), (Some(1), 2));
        // It has lost its allocation: it is the youngest.
        crowd.set_half_open(ip("192.0.2.1"), 0, at(9), true);
        crowd.leave(ip("192.0.2.1"), 1, at(1));
        assert_eq!(crowd.oldest(), Some(2));
    }
}
