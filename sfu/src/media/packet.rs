//! A media packet after ingest and before rewriting: what both sides of the fan-out agree on.
//!
//! The bytes stay in the upstream's history; this is a cache line beside them.

use crate::rtp::vp8;
use crate::units::{ExtSeq, RtpTime};
use std::time::Instant;

/// One received media packet, decrypted, unwrapped from RTX, in the numbering of its upstream with
/// padding-only packets taken out.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Extended sequence number, contiguous but for real losses.
    pub seq: ExtSeq,
    /// Extended timestamp in the publisher's clock.
    pub time: RtpTime,
    /// When it arrived.
    pub arrival: Instant,
    /// The payload type it came with: tells RED from Opus, and one video codec from another.
    pub payload_type: u8,
    /// The marker bit.
    pub marker: bool,
    /// Spatial layer of its upstream, 0 lowest.
    pub spatial: u8,
    /// First packet of a key frame: where a switch may begin.
    pub key_frame: bool,
    /// It came late: a retransmission, or out of order.
    pub late: bool,
    /// What the codec's clear header says.
    pub codec: CodecInfo,
    /// Bytes at the payload's end that only some clients know of.
    pub trailer: u8,
    /// Where the payload lies in the upstream's history.
    pub span: Span,
}

impl Packet {
    /// Carries it nothing? Then it fills a hole that padding left: those who wait for its number, as
    /// decoders do that go by sequence numbers, need to be told.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.span.len == 0
    }
}

/// A payload's place in the history ring of its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset into the ring.
    pub start: u32,
    /// Bytes.
    pub len: u16,
}

/// The codec's clear header, parsed once at ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecInfo {
    /// Nothing to know: audio, and H264, whose packets say no more than whether a key frame begins.
    None,
    /// The VP8 payload descriptor and its length in bytes.
    Vp8(vp8::Descriptor),
    /// Redundant audio.
    Red {
        /// Where the newest block begins; it reaches to the payload's end and may be empty.
        primary: u16,
    },
}

/// A packet as one subscriber is to get it; the payload is taken from the source packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// SSRC of the downstream, or of its RTX stream.
    pub ssrc: u32,
    /// Extended sequence number; its roll-over count is SRTP's.
    pub seq: ExtSeq,
    /// Timestamp.
    pub time: u32,
    /// Payload type the subscriber negotiated.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Bytes put in front of the payload: RTX's original sequence number, a new descriptor.
    pub head: Head,
    /// Bytes of the source payload that `head` replaces: a descriptor, or RED's older blocks.
    pub skip: u16,
    /// Leave out the trailer.
    pub cut: bool,
}

/// Up to [`Head::ROOM`] bytes written in front of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    bytes: [u8; Self::ROOM],
    len: u8,
}

impl Head {
    /// Bytes it holds at most: RTX's sequence number and the longest VP8 descriptor.
    pub const ROOM: usize = 8;

    /// No bytes.
    pub const EMPTY: Self = Self {
        bytes: [0; Self::ROOM],
        len: 0,
    };

    /// Appends `bytes`. What does not fit is a caller's bug and is cut off (debug builds panic).
    pub fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        let end = (start + bytes.len()).min(self.bytes.len());
        debug_assert_eq!(end - start, bytes.len(), "head overflow");
        self.bytes[start..end].copy_from_slice(&bytes[..end - start]);
        self.len = end as u8;
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Which payload type stands for which. A handful at most, the one in use first: searched in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TypeMap {
    pairs: [Option<(u8, u8)>; Self::ROOM],
}

impl TypeMap {
    /// Pairs it holds at most: every video format that can be negotiated, and some to spare.
    pub const ROOM: usize = 8;

    /// Adds a pair at the end, unless `from` is known. What does not fit is left out.
    pub fn insert(&mut self, from: u8, to: u8) {
        if self.get(from).is_none()
            && let Some(slot) = self.pairs.iter_mut().find(|slot| slot.is_none())
        {
            *slot = Some((from, to));
        }
    }

    /// What stands for `from`.
    #[must_use]
    pub fn get(&self, from: u8) -> Option<u8> {
        let mut pairs = self.pairs.iter().map_while(Option::as_ref);
        let found = pairs.find(|(known, _)| *known == from)?;
        Some(found.1)
    }

    /// What stands for the first.
    #[must_use]
    pub fn first(&self) -> Option<u8> {
        self.pairs[0].map(|(_, to)| to)
    }
}

impl FromIterator<(u8, u8)> for TypeMap {
    fn from_iter<T: IntoIterator<Item = (u8, u8)>>(pairs: T) -> Self {
        let mut map = Self::default();
        for (from, to) in pairs {
            map.insert(from, to);
        }
        map
    }
}

/// What went one way between two reports on it. Packets that one report has too many the next has too few,
/// so that numbers of one mean little. Sums have no use for more than fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crossing {
    /// Packets that were sent.
    pub sent: i64,
    /// Of these, lost on the way, however they were repaired; those that came late count against it.
    pub lost: i64,
}

impl std::ops::AddAssign for Crossing {
    fn add_assign(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.lost = self.lost.saturating_add(other.lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_map_keeps_the_first_of_each_and_no_more_than_it_has_room_for() {
        let map: TypeMap = [(96, 100), (97, 101), (96, 102)].into_iter().collect();
        assert_eq!(
            (map.get(96), map.get(97), map.get(98)),
            (Some(100), Some(101), None)
        );
        assert_eq!((map.first(), TypeMap::default().first()), (Some(100), None));
        let full: TypeMap = (0..20).map(|n| (n, n)).collect();
        assert_eq!((full.get(7), full.get(8)), (Some(7), None));
    }
}
