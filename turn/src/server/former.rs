//! Addresses that were the SFU's or the relays' until a short while ago. Calls go by them in process, so
//! that they work as before: they go on until their clients have heard of the new ones.
//!
//! Owns which they are and until when. It is asked for each payload, so there are few.

use crate::config::Own;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Kept at once: what several changes of a machine with many addresses leave. Then the oldest go.
const MOST: usize = 64;

/// What an address was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    Sfu(SocketAddr),
    /// The one told for relays.
    Relays(IpAddr),
}

impl Was {
    /// All of somebody's.
    fn of(own: &Own) -> impl Iterator<Item = Self> {
        let sfu = own.sfu.iter().copied().map(Self::Sfu);
        sfu.chain(own.external.iter().copied().map(Self::Relays))
    }

    const fn ip(self) -> IpAddr {
        match self {
            Self::Sfu(address) => address.ip(),
            Self::Relays(ip) => ip,
        }
    }
}

/// All of them, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Former(Vec<(Was, Instant)>);

impl Former {
    /// What of `old` is not in `new` counts until then.
    pub(super) fn note(&mut self, (old, new): (&Own, &Own), until: Instant, now: Instant) {
        let gone = |was: &Was| !Was::of(new).any(|is| is == *was);
        self.0
            .retain(|(was, until)| *until > now && gone(was) && !Was::of(old).any(|is| is == *was));
        self.0
            .extend(Was::of(old).filter(gone).map(|was| (was, until)));
        let over = self.0.len().saturating_sub(MOST);
        self.0.drain(..over);
    }

    pub(super) fn is_sfu(&self, address: SocketAddr, now: Instant) -> bool {
        self.live(now).any(|was| was == Was::Sfu(address))
    }

    pub(super) fn is_sfu_ip(&self, ip: IpAddr, now: Instant) -> bool {
        self.live(now)
            .any(|was| matches!(was, Was::Sfu(at) if at.ip() == ip))
    }

    pub(super) fn is_relays(&self, ip: IpAddr, now: Instant) -> bool {
        self.live(now).any(|was| was == Was::Relays(ip))
    }

    pub(super) fn has(&self, ip: IpAddr, now: Instant) -> bool {
        self.live(now).any(|was| was.ip() == ip)
    }

    fn live(&self, now: Instant) -> impl Iterator<Item = Was> {
        let live = self.0.iter().filter(move |(_, until)| *until > now);
        live.map(|(was, _)| *was)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_are_kept_each_once_and_none_that_is_ours_again() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let until = now + Duration::from_secs(300);
        let at = |n: u16| SocketAddr::from(([9, 9, 9, 9], n));
        let own = |ports: &[u16]| Own {
            sfu: ports.iter().map(|port| at(*port)).collect(),
            ..Own::default()
        };
        let mut former = Former::default();
        former.note((&own(&[1, 2]), &own(&[2])), until, now);
        assert!(former.is_sfu(at(1), now) && !former.is_sfu(at(2), now));
        assert!(!former.is_sfu(at(1), until));
        former.note((&own(&[2]), &own(&[1, 2])), until, now);
        assert!(!former.is_sfu(at(1), now), "ours again");
        for _ in 0..3 {
            former.note((&own(&[7]), &own(&[])), until, now);
        }
        assert_eq!(former.0.len(), 1);
        let many: Vec<u16> = (100..300).collect();
        former.note((&own(&many), &own(&[])), until, now);
        assert_eq!(former.0.len(), MOST);
        assert!(former.is_sfu(at(299), now) && !former.is_sfu(at(7), now));
    }
}
