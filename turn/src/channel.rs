//! The channels of one allocation: a number for a peer. (RFC 8656 §12)
//!
//! Owns their list and its rules; says nothing of whether the peer may be reached.

use std::net::SocketAddr;
use std::time::Instant;

/// Numbers that may be bound. RFC 8656 has them end at 0x4FFF; clients of RFC 5766 use all of these,
/// and no other use was ever made of them.
const NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x7FFE;

/// Why a channel is not bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unbound {
    /// Not a channel's number.
    Number,
    /// The number or the peer is bound otherwise.
    Taken,
    /// As many as there may be.
    Full,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    until: Instant,
}

/// All of an allocation: a few, so they are looked through.
#[derive(Debug, Default)]
pub(crate) struct Channels(Vec<Channel>);

impl Channels {
    /// Whether a number may be bound to a peer now.
    pub(crate) fn check(
        &self,
        number: u16,
        peer: SocketAddr,
        most: usize,
        now: Instant,
    ) -> Result<(), Unbound> {
        if !NUMBERS.contains(&number) {
            return Err(Unbound::Number);
        }
        let live = || self.0.iter().filter(|channel| channel.until > now);
        let touched = live().find(|channel| channel.number == number || channel.peer == peer);
        match touched {
            Some(channel) if channel.number == number && channel.peer == peer => Ok(()),
            // A peer may have but one number, so a second one that touches cannot agree.
            Some(_) => Err(Unbound::Taken),
            None if live().count() >= most => Err(Unbound::Full),
            None => Ok(()),
        }
    }

    /// Binds what was checked, or keeps it bound for longer.
    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr, until: Instant) {
        // What has expired and touches goes.
        self.0
            .retain(|channel| channel.number != number && channel.peer != peer);
        self.0.push(Channel {
            number,
            peer,
            until,
        });
    }

    /// The peer of a number.
    pub(crate) fn peer(&self, number: u16, now: Instant) -> Option<SocketAddr> {
        let found = self.0.iter().find(|channel| channel.number == number)?;
        (found.until > now).then_some(found.peer)
    }

    /// The number of a peer.
    pub(crate) fn number(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let found = self.0.iter().find(|channel| channel.peer == peer)?;
        (found.until > now).then_some(found.number)
    }

    /// Drops what has expired; tells when the next one does.
    pub(crate) fn sweep(&mut self, now: Instant) -> Option<Instant> {
        self.0.retain(|channel| channel.until > now);
        self.0.iter().map(|channel| channel.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn peer(port: u16) -> SocketAddr {
        ([1, 1, 1, 1], port).into()
    }

    #[test]
    fn a_number_has_one_peer_and_a_peer_one_number_until_they_expire() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let later = now + Duration::from_secs(600);
        let mut channels = Channels::default();
        assert_eq!(channels.check(0x4000, peer(1), 2, now), Ok(()));
        channels.bind(0x4000, peer(1), later);
        assert_eq!(channels.check(0x4000, peer(1), 2, now), Ok(()));
        assert_eq!(channels.check(0x4000, peer(2), 2, now), Err(Unbound::Taken));
        assert_eq!(channels.check(0x4001, peer(1), 2, now), Err(Unbound::Taken));
        channels.bind(0x4001, peer(2), later);
        assert_eq!(channels.check(0x4002, peer(3), 2, now), Err(Unbound::Full));
        assert_eq!(channels.check(0x4000, peer(2), 2, now), Err(Unbound::Taken));
        assert_eq!(
            channels.check(0x3FFF, peer(9), 2, now),
            Err(Unbound::Number)
        );
        assert_eq!(
            channels.check(0x7FFF, peer(9), 2, now),
            Err(Unbound::Number)
        );
        assert_eq!(channels.peer(0x4001, now), Some(peer(2)));
        assert_eq!(channels.number(peer(1), now), Some(0x4000));
        assert_eq!(channels.peer(0x4001, later), None);
        assert_eq!(channels.check(0x4000, peer(2), 2, later), Ok(()));
        assert_eq!(channels.sweep(now), Some(later));
        assert_eq!(channels.sweep(later), None);
    }
}
