//! The payloads of one upstream's last second, for fan-out and for retransmission.
//!
//! Owns a ring of bytes and a ring of packets; bounded by both and by age. Never overwrites a packet
//! it holds with a later copy, never allocates after the first packet (but for one growth of a
//! screen share). Filled by `upstream`, read by whoever forwards.
//!
//! A subscriber's head is written over the skipped front of a payload, so that both lie in one
//! piece and are sealed from here without being copied. The next subscriber writes its own.

use crate::ids::MediaKind;
use crate::media::packet::{Head, Packet, Span};
use crate::units::ExtSeq;
use std::time::{Duration, Instant};

/// How much an upstream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Ring of payload bytes.
    pub bytes: usize,
    /// Packets; a power of two.
    pub slots: usize,
    /// Older packets than this are not found any more.
    pub age: Duration,
    /// What the ring may grow to, once, if it proves to hold less than [`SHORT`].
    pub grown: Option<usize>,
}

impl Limits {
    /// 0.5 s of Opus at up to 256 kbit/s and 100 packets a second. (LK: sfu-media §8.15)
    pub const AUDIO: Self = Self {
        bytes: 16 << 10,
        slots: 128,
        age: Duration::from_millis(500),
        grown: None,
    };
    /// 1 s of video by spatial layer: about 0.5, 1.2 and 3 Mbit/s. (LK: sfu-media §8.15)
    pub const VIDEO: [Self; 3] = [
        Self::video(64 << 10, 128),
        Self::video(160 << 10, 256),
        Self::video(384 << 10, 512),
    ];
    /// A screen's whole-picture updates come in bursts of megabytes.
    const SCREEN_BYTES: usize = 1 << 20;
    /// Of 1000-byte packets.
    const SCREEN_SLOTS: usize = 1024;

    const fn video(bytes: usize, slots: usize) -> Self {
        Self {
            bytes,
            slots,
            age: Duration::from_secs(1),
            grown: None,
        }
    }

    /// The limits of an upstream by what it carries.
    #[must_use]
    pub fn of(kind: MediaKind, spatial: u8, screen_share: bool) -> Self {
        match kind {
            MediaKind::Audio => Self::AUDIO,
            MediaKind::Video => {
                let layer = usize::from(spatial).min(Self::VIDEO.len() - 1);
                let mut limits = Self::VIDEO[layer];
                if screen_share && layer == Self::VIDEO.len() - 1 {
                    limits.grown = Some(Self::SCREEN_BYTES);
                    limits.slots = Self::SCREEN_SLOTS;
                }
                limits
            }
        }
    }
}

/// A ring that wraps sooner is too small for a retransmission to find anything.
pub const SHORT: Duration = Duration::from_millis(500);

/// Bytes free before each payload, for a head that replaces nothing.
const HEADROOM: usize = Head::ROOM;

/// A packet and how many ring bytes had been used when it was written.
#[derive(Debug, Clone, Copy)]
struct Slot {
    packet: Packet,
    position: u64,
}

/// The rings.
#[derive(Debug)]
pub struct History {
    limits: Limits,
    bytes: Vec<u8>,
    slots: Vec<Option<Slot>>,
    /// Where the next payload goes.
    offset: usize,
    /// Ring bytes used so far, those skipped at the end of a lap included.
    used: u64,
    lap_began: Option<Instant>,
    newest: Option<Instant>,
}

impl History {
    /// An empty history; memory is taken with the first packet.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes: Vec::new(),
            slots: Vec::new(),
            offset: 0,
            used: 0,
            lap_began: None,
            newest: None,
        }
    }

    /// Stores `payload` and returns the packet with its span. `None` if the slot holds the same or
    /// a newer packet, or the payload is longer than any datagram.
    pub fn push(&mut self, mut packet: Packet, payload: &[u8]) -> Option<Packet> {
        let len = u16::try_from(payload.len()).ok()?;
        if self.bytes.is_empty() {
            self.bytes = vec![0; self.limits.bytes];
            self.slots = vec![None; self.limits.slots];
        }
        let index = self.index(packet.seq)?;
        if self.slots[index].is_some_and(|held| held.packet.seq >= packet.seq)
            || payload.len() > self.limits.bytes / 2
        {
            return None;
        }
        if self.offset + HEADROOM + payload.len() > self.bytes.len() {
            self.wrap(packet.arrival);
        }
        if self.offset == 0 {
            self.lap_began = Some(packet.arrival);
        }
        let start = self.offset + HEADROOM;
        let end = start + payload.len();
        self.bytes.get_mut(start..end)?.copy_from_slice(payload);
        packet.span = Span {
            start: start as u32,
            len,
        };
        self.slots[index] = Some(Slot {
            packet,
            position: self.used,
        });
        self.used += (end - self.offset) as u64;
        self.offset = end;
        self.newest = self.newest.max(Some(packet.arrival));
        Some(packet)
    }

    /// Leaves the rest of the lap unused and starts over, or goes on behind it in a larger ring.
    fn wrap(&mut self, now: Instant) {
        let end = self.bytes.len();
        self.used += (end - self.offset) as u64;
        self.offset = end;
        let short = self
            .lap_began
            .is_some_and(|began| now.saturating_duration_since(began) < SHORT);
        match self.limits.grown {
            Some(grown) if short && end < grown => self.bytes.resize(grown, 0),
            _ => self.offset = 0,
        }
    }

    /// The payload of a packet that [`push`](Self::push) or [`find`](Self::find) returned, with
    /// `head` in place of its first `skip` bytes; `None` if overwritten since, or shorter.
    ///
    /// The skipped bytes are lost by it: whoever reads the packet again must skip as many.
    #[inline]
    pub fn framed(&mut self, packet: &Packet, head: &Head, skip: u16) -> Option<&[u8]> {
        let slot = self.slot(packet.seq)?;
        if slot.packet.span != packet.span || skip > packet.span.len {
            return None;
        }
        let start = packet.span.start as usize;
        let head = head.as_slice();
        let front = (start + usize::from(skip)).checked_sub(head.len())?;
        let end = start + usize::from(packet.span.len);
        let framed = self.bytes.get_mut(front..end)?;
        framed.get_mut(..head.len())?.copy_from_slice(head);
        Some(framed)
    }

    /// The packet with this number, unless overwritten or too old; age counts against the newest
    /// packet, so that the end of a burst outlives a pause.
    #[must_use]
    pub fn find(&self, seq: ExtSeq) -> Option<Packet> {
        let packet = self.slot(seq)?.packet;
        let age = self.newest?.saturating_duration_since(packet.arrival);
        (age <= self.limits.age).then_some(packet)
    }

    /// Bytes of memory held.
    #[must_use]
    pub const fn footprint(&self) -> usize {
        self.bytes.len() + self.slots.len() * size_of::<Option<Slot>>()
    }

    fn index(&self, seq: ExtSeq) -> Option<usize> {
        let slots = self.slots.len() as u64;
        usize::try_from(seq.0.checked_rem(slots)?).ok()
    }

    fn slot(&self, seq: ExtSeq) -> Option<&Slot> {
        let slot = self.slots.get(self.index(seq)?)?.as_ref()?;
        let alive = self.used - slot.position <= self.bytes.len() as u64;
        (slot.packet.seq == seq && alive).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::packet::CodecInfo;
    use crate::units::RtpTime;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    fn packet(seq: u64, arrival: Instant) -> Packet {
        Packet {
            seq: ExtSeq(seq),
            time: RtpTime(0),
            arrival,
            payload_type: 96,
            marker: false,
            spatial: 0,
            key_frame: false,
            late: false,
            codec: CodecInfo::None,
            trailer: 0,
            span: Span { start: 0, len: 0 },
        }
    }

    /// The payload as it came, where nothing was written over it.
    fn whole<'a>(history: &'a mut History, packet: &Packet) -> Option<&'a [u8]> {
        history.framed(packet, &Head::EMPTY, 0)
    }

    fn found(history: &mut History, seq: u64) -> Option<&[u8]> {
        let packet = history.find(ExtSeq(seq))?;
        whole(history, &packet)
    }

    fn head(bytes: &[u8]) -> Head {
        let mut head = Head::EMPTY;
        head.push(bytes);
        head
    }

    const SMALL: Limits = Limits {
        bytes: 4096,
        slots: 16,
        age: Duration::from_secs(1),
        grown: None,
    };

    #[test]
    fn what_is_pushed_is_found_by_number_and_by_packet() {
        let now = instant();
        let mut history = History::new(Limits::AUDIO);
        assert_eq!(history.footprint(), 0);
        let held = history.push(packet(70_000, now), b"hello").expect("stored");
        assert_eq!(whole(&mut history, &held), Some(&b"hello"[..]));
        assert_eq!(found(&mut history, 70_000), Some(&b"hello"[..]));
        assert!(history.find(ExtSeq(70_001)).is_none());
        assert!(history.find(ExtSeq(70_000 - 65_536)).is_none());
    }

    #[test]
    fn a_duplicate_does_not_overwrite() {
        let now = instant();
        let mut history = History::new(SMALL);
        history.push(packet(5, now), b"first").expect("stored");
        assert!(history.push(packet(5, now), b"again").is_none());
        assert_eq!(found(&mut history, 5), Some(&b"first"[..]));
        history.push(packet(21, now), b"newer").expect("stored");
        assert!(history.push(packet(5, now), b"older").is_none());
    }

    #[test]
    fn old_packets_are_not_found_though_their_bytes_remain() {
        let now = instant();
        let mut history = History::new(Limits::AUDIO);
        history.push(packet(1, now), b"old").expect("stored");
        let later = now + Duration::from_millis(501);
        history.push(packet(2, later), b"new").expect("stored");
        assert!(history.find(ExtSeq(1)).is_none());
        assert!(history.find(ExtSeq(2)).is_some());
    }

    #[test]
    fn a_payload_larger_than_half_the_ring_is_refused() {
        let mut history = History::new(SMALL);
        assert!(history.push(packet(1, instant()), &[0; 2049]).is_none());
        assert!(history.push(packet(1, instant()), &[0; 70_000]).is_none());
    }

    #[test]
    fn every_reader_gets_its_own_head_before_the_same_rest() {
        let now = instant();
        let mut history = History::new(SMALL);
        let before = history.push(packet(1, now), b"before").expect("stored");
        let held = history.push(packet(2, now), b"abcREST").expect("stored");
        let after = history.push(packet(3, now), b"after").expect("stored");
        for (front, skip, expected) in [
            (&b"12"[..], 3, &b"12REST"[..]),
            (b"12345678", 3, b"12345678REST"),
            (b"", 3, b"REST"),
            (b"1234", 3, b"1234REST"),
            (b"12345678", 7, b"12345678"),
        ] {
            assert_eq!(history.framed(&held, &head(front), skip), Some(expected));
        }
        assert_eq!(history.framed(&held, &Head::EMPTY, 8), None);
        // A head that replaces nothing fits too, and no neighbour is touched.
        let longest = history.framed(&after, &head(b"12345678"), 0);
        assert_eq!(longest, Some(&b"12345678after"[..]));
        let first = history.framed(&before, &head(b"12345678"), 0);
        assert_eq!(first, Some(&b"12345678before"[..]));
        assert_eq!(found(&mut history, 3), Some(&b"after"[..]));
        assert_eq!(found(&mut history, 1), Some(&b"before"[..]));
    }

    #[test]
    fn a_short_screen_share_ring_grows_once_and_keeps_what_it_holds() {
        let now = instant();
        let mut history = History::new(Limits::of(MediaKind::Video, 2, true));
        let payload = |seq: u64| [(seq % 251) as u8; 1000];
        let mut sizes = Vec::new();
        for seq in 0..3000 {
            history
                .push(packet(seq, now), &payload(seq))
                .expect("stored");
            sizes.push(history.bytes.len());
            let oldest_kept = (seq + 1).saturating_sub(350);
            for seq in [oldest_kept, seq] {
                assert_eq!(found(&mut history, seq), Some(&payload(seq)[..]));
            }
        }
        sizes.dedup();
        assert_eq!(sizes, [384 << 10, 1 << 20]);
        // Camera layers never grow.
        assert_eq!(Limits::of(MediaKind::Video, 2, false).grown, None);
    }

    proptest! {
        /// Whatever is found is what was written: no stale or torn payload.
        #[test]
        fn only_true_payloads_are_found(
            sizes in proptest::collection::vec(0usize..1500, 1..400),
            jumps in proptest::collection::vec(1u64..4, 400),
            step_ms in 0u64..30,
            grows: bool,
        ) {
            let limits = Limits { grown: grows.then_some(16_384), ..SMALL };
            let mut now = instant();
            let mut history = History::new(limits);
            let mut model = BTreeMap::new();
            let mut seq = 0;
            for (size, jump) in sizes.into_iter().zip(jumps) {
                seq += jump;
                now += Duration::from_millis(step_ms);
                let payload: Vec<u8> = (0..size).map(|i| (seq as usize * 7 + i) as u8).collect();
                let held = history.push(packet(seq, now), &payload).expect("stored");
                prop_assert_eq!(whole(&mut history, &held), Some(&payload[..]));
                model.insert(seq, payload);
                for (seq, payload) in model.iter().rev().take(40) {
                    if let Some(found) = history.find(ExtSeq(*seq)) {
                        prop_assert_eq!(found.seq, ExtSeq(*seq));
                        prop_assert_eq!(whole(&mut history, &found), Some(&payload[..]));
                    }
                }
            }
            prop_assert!(history.bytes.len() <= 16_384);
        }
    }
}
