//! The memory of what was sent: from a number of the copy back to the source packet.
//!
//! Owns a ring of fixed size, allocated when the first packet is sent. Slots of numbers left
//! out hold older packets and miss.

use crate::media::forward::rewrite::Source;
use crate::media::packet::{Head, Outgoing};
use crate::rtp::vp8::MAX_LEN;
use crate::units::ExtSeq;
use std::time::{Duration, Instant};

/// Resends of one packet: Chromium asks ten times before it gives up and waits for a key frame. At
/// 30 % loss LiveKit's limit of three (LK: sfu-media §3.1) left more than one packet a second
/// unrepaired, and the picture stood still for seconds.
const MAX_RESENDS: u8 = 10;

/// A packet that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Spatial layer of the source packet.
    pub spatial: u8,
    /// Its number there.
    pub source: ExtSeq,
    /// The generation of that layer's stream: numbers of another one mean other packets.
    pub generation: u32,
    /// As it was sent.
    pub outgoing: Outgoing,
}

/// Why a packet is not resent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// Not remembered.
    Unknown,
    /// Too soon or too often.
    Throttled,
}

/// The spatial layer of an empty slot.
const EMPTY: u8 = u8::MAX;

/// A packet in 32 bytes: two to a cache line. The SSRC is the copy's.
#[derive(Debug, Clone, Copy)]
struct Entry {
    source: u64,
    /// Low bits of the number in the copy: far more than the ring is long.
    seq: u32,
    time: u32,
    /// Milliseconds since the sequencer's start.
    sent_ms: u32,
    head: [u8; MAX_LEN],
    skip: u16,
    payload_type: u8,
    spatial: u8,
    /// Low bits of the source's generation.
    generation: u8,
    /// From the top: the marker bit, the length of the head, the resends.
    flags: u8,
}

/// The marker bit among the flags.
const MARKER: u8 = 0x80;
/// Where the length of the head stands, in three bits.
const HEAD_SHIFT: u32 = 4;
/// The resends among the flags.
const RESENDS: u8 = 0x0F;
const _: () = assert!(MAX_LEN < 8 && MAX_RESENDS < RESENDS && size_of::<Entry>() == 32);

impl Entry {
    const EMPTY: Self = Self {
        source: 0,
        seq: 0,
        time: 0,
        sent_ms: 0,
        head: [0; MAX_LEN],
        skip: 0,
        payload_type: 0,
        spatial: EMPTY,
        generation: 0,
        flags: 0,
    };

    fn sent(&self, seq: ExtSeq, generation: u32) -> Sent {
        let mut head = Head::EMPTY;
        let len = usize::from((self.flags & !MARKER) >> HEAD_SHIFT);
        head.push(self.head.get(..len).unwrap_or_default());
        Sent {
            spatial: self.spatial,
            source: ExtSeq(self.source),
            generation,
            outgoing: Outgoing {
                ssrc: 0,
                seq,
                time: self.time,
                payload_type: self.payload_type,
                marker: self.flags & MARKER != 0,
                head,
                skip: self.skip,
                cut: false,
            },
        }
    }
}

/// The ring.
#[derive(Debug)]
pub struct Sequencer {
    ring: Vec<Entry>,
    /// A power of two: a division per packet would cost as much as the rest of it.
    capacity: usize,
    /// One above the highest number pushed.
    end: u64,
    start: Instant,
}

impl Sequencer {
    /// For `capacity` packets, or as many more as make a power of two; nothing is allocated yet.
    #[must_use]
    pub fn new(capacity: usize, start: Instant) -> Self {
        Self {
            ring: Vec::new(),
            capacity: capacity.next_power_of_two(),
            end: 0,
            start,
        }
    }

    /// Remembers a packet, over the one a ring's length before it.
    pub fn push(&mut self, sent: &Sent, now: Instant) {
        if self.ring.is_empty() {
            self.ring = vec![Entry::EMPTY; self.capacity];
        }
        let sent_ms = self.millis(now);
        let out = &sent.outgoing;
        let index = self.index(out.seq);
        let Some(entry) = self.ring.get_mut(index) else {
            return;
        };
        // Only a late packet can meet a newer one. A fresh one does not look: the slot was last
        // touched a lap ago, and reading it would wait for memory where writing need not.
        if out.seq.0 >= self.end {
            self.end = out.seq.0 + 1;
        } else if entry.spatial != EMPTY && (out.seq.0 as u32).wrapping_sub(entry.seq) as i32 <= 0 {
            return;
        }
        // A descriptor has at most MAX_LEN bytes, and before RTX nothing else stands there.
        let bytes = out.head.as_slice();
        debug_assert!(bytes.len() <= MAX_LEN, "head of a first send");
        let mut head = [0; MAX_LEN];
        for (slot, byte) in head.iter_mut().zip(bytes) {
            *slot = *byte;
        }
        *entry = Entry {
            source: sent.source.0,
            seq: out.seq.0 as u32,
            time: out.time,
            sent_ms,
            head,
            skip: out.skip,
            payload_type: out.payload_type,
            spatial: sent.spatial,
            generation: sent.generation as u8,
            flags: if out.marker { MARKER } else { 0 }
                | (bytes.len().min(MAX_LEN) as u8) << HEAD_SHIFT,
        };
    }

    /// The packet sent as `seq`, counted as sent once more; its SSRC is left zero.
    pub(super) fn take(
        &mut self,
        seq: ExtSeq,
        source: &Source,
        pause: Duration,
        now: Instant,
    ) -> Result<Sent, Miss> {
        let now_ms = self.millis(now);
        let index = self.index(seq);
        let entry = self.ring.get_mut(index).ok_or(Miss::Unknown)?;
        let generation = source.generation(entry.spatial);
        if entry.spatial == EMPTY
            || entry.seq != seq.0 as u32
            || entry.generation != generation as u8
        {
            return Err(Miss::Unknown);
        }
        let since = Duration::from_millis(u64::from(now_ms.wrapping_sub(entry.sent_ms)));
        if since < pause || entry.flags & RESENDS >= MAX_RESENDS {
            return Err(Miss::Throttled);
        }
        entry.flags += 1;
        entry.sent_ms = now_ms;
        Ok(entry.sent(seq, generation))
    }

    /// Forgets the packets of a layer.
    pub fn forget(&mut self, spatial: u8) {
        for entry in &mut self.ring {
            if entry.spatial == spatial {
                *entry = Entry::EMPTY;
            }
        }
    }

    fn index(&self, seq: ExtSeq) -> usize {
        seq.0 as usize & (self.capacity - 1)
    }

    /// Wraps after 49 days; only differences count.
    fn millis(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.start).as_millis() as u32
    }
}
