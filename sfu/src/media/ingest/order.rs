//! The order of one upstream: extended numbers, duplicates, and numbers taken out.
//!
//! Owns the window of seen packets and the map from the publisher's numbering to the contiguous one
//! forwarded: a packet that carries nothing (padding, muted) leaves no hole. Never sees payloads.
//! Called by `upstream` for every packet. (LK: sfu-media §1.2, §1.6, §9 trap 3)

use crate::units::{ExtSeq, RtpTime};
use std::collections::VecDeque;

/// Packets whose arrival is remembered: more than any history holds.
const WINDOW: u64 = 2048;
const WORDS: usize = (WINDOW / 64) as usize;
/// Ranges of the numbering kept for late packets; the oldest is forgotten, and with it the right
/// of packets before it to come late.
const RANGES: usize = 64;

/// Where a packet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Extended number in the publisher's numbering.
    pub raw: ExtSeq,
    /// Number in the forwarded numbering; `None` if the packet was taken out, or carries nothing.
    pub seq: Option<ExtSeq>,
    /// Extended timestamp.
    pub time: RtpTime,
    /// An earlier one than the newest.
    pub late: bool,
    /// Numbers passed over directly before it.
    pub gap: u64,
}

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It came before.
    Duplicate,
    /// Before the first packet, beyond the window, or its number and timestamp disagree.
    TooOld,
    /// A retransmission of what was never sent.
    Ahead,
}

/// What kind of packet asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Media to be forwarded.
    Media,
    /// Received, but not to be forwarded.
    Empty,
    /// Media that came on the RTX stream: it never begins nor advances a stream.
    Repair,
}

#[derive(Debug)]
struct Progress {
    first: ExtSeq,
    highest: ExtSeq,
    time: RtpTime,
}

/// The order of one upstream.
#[derive(Debug)]
pub struct Order {
    progress: Option<Progress>,
    seen: [u64; WORDS],
    /// From each number on, how many numbers were taken out before it.
    ranges: VecDeque<(ExtSeq, u64)>,
}

impl Default for Order {
    fn default() -> Self {
        let mut ranges = VecDeque::with_capacity(RANGES);
        ranges.push_back((ExtSeq(0), 0));
        Self {
            progress: None,
            seen: [0; WORDS],
            ranges,
        }
    }
}

impl Order {
    /// Finds the place of a packet by its wire numbers.
    ///
    /// # Errors
    /// The packet is to be dropped.
    pub fn place(&mut self, seq: u16, timestamp: u32, kind: Arrival) -> Result<Place, Rejected> {
        let Some(progress) = &self.progress else {
            if kind == Arrival::Repair {
                return Err(Rejected::Ahead);
            }
            return Ok(self.begin(seq, timestamp, kind));
        };
        let raw = progress.highest.nearest(seq);
        let time = progress.time.nearest(timestamp);
        if raw > progress.highest {
            if kind == Arrival::Repair {
                return Err(Rejected::Ahead);
            }
            return Ok(self.advance(raw, time, kind));
        }
        let too_old = raw < progress.first || progress.highest.0 - raw.0 >= WINDOW;
        if too_old || time > progress.time {
            return Err(Rejected::TooOld);
        }
        if self.is_seen(raw) {
            return Err(Rejected::Duplicate);
        }
        let offset = self.offset(raw).ok_or(Rejected::TooOld)?;
        self.mark(raw);
        Ok(Place {
            raw,
            // A late empty packet's number was promised to subscribers already: a hole remains.
            seq: (kind != Arrival::Empty).then(|| ExtSeq(raw.0 - offset)),
            time,
            late: true,
            gap: 0,
        })
    }

    /// The newest timestamp.
    #[must_use]
    pub fn newest_time(&self) -> Option<RtpTime> {
        self.progress.as_ref().map(|progress| progress.time)
    }

    /// One round above zero, so that there is something below the first packet.
    fn begin(&mut self, seq: u16, timestamp: u32, kind: Arrival) -> Place {
        let raw = ExtSeq(0x1_0000 + u64::from(seq));
        let time = RtpTime(0x1_0000_0000 + u64::from(timestamp));
        self.progress = Some(Progress {
            first: raw,
            highest: raw,
            time,
        });
        self.take(raw, time, 0, kind)
    }

    fn advance(&mut self, raw: ExtSeq, time: RtpTime, kind: Arrival) -> Place {
        let mut gap = 0;
        if let Some(progress) = &mut self.progress {
            gap = raw.0 - progress.highest.0 - 1;
            progress.highest = raw;
            progress.time = time;
        }
        if gap >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            (raw.0 - gap..=raw.0).for_each(|passed| self.unmark(ExtSeq(passed)));
        }
        self.take(raw, time, gap, kind)
    }

    /// Gives the newest packet its place, or closes the numbering behind it.
    fn take(&mut self, raw: ExtSeq, time: RtpTime, gap: u64, kind: Arrival) -> Place {
        self.mark(raw);
        let offset = self.ranges.back().map_or(0, |range| range.1);
        let seq = (kind != Arrival::Empty).then(|| ExtSeq(raw.0 - offset));
        if seq.is_none() {
            self.take_out(raw, offset + 1);
        }
        Place {
            raw,
            seq,
            time,
            late: false,
            gap,
        }
    }

    fn take_out(&mut self, raw: ExtSeq, offset: u64) {
        let from = ExtSeq(raw.0 + 1);
        match self.ranges.back_mut() {
            // A run of empty packets is one range.
            Some(last) if last.0 == raw && offset > 1 => *last = (from, offset),
            _ => {
                if self.ranges.len() == RANGES {
                    self.ranges.pop_front();
                }
                self.ranges.push_back((from, offset));
            }
        }
    }

    fn offset(&self, raw: ExtSeq) -> Option<u64> {
        let range = self.ranges.iter().rev().find(|range| range.0 <= raw)?;
        Some(range.1)
    }

    const fn bit(raw: ExtSeq) -> (usize, u64) {
        let at = raw.0 % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }

    const fn is_seen(&self, raw: ExtSeq) -> bool {
        let (word, bit) = Self::bit(raw);
        self.seen[word] & bit != 0
    }

    const fn mark(&mut self, raw: ExtSeq) {
        let (word, bit) = Self::bit(raw);
        self.seen[word] |= bit;
    }

    const fn unmark(&mut self, raw: ExtSeq) {
        let (word, bit) = Self::bit(raw);
        self.seen[word] &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Empty, Media, Repair};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Forwarded number relative to the first packet's.
    fn forwarded(order: &mut Order, base: u16, seq: u16, kind: Arrival) -> Option<i64> {
        let place = order.place(seq, u32::from(seq), kind).expect("taken");
        let base = i64::from(base) + 0x1_0000;
        place.seq.map(|seq| seq.0 as i64 - base)
    }

    #[test]
    fn numbers_and_times_extend_over_the_wrap() {
        let mut order = Order::default();
        let first = order.place(0xFFFF, u32::MAX, Media).expect("first");
        let second = order.place(0, 0, Media).expect("second");
        assert_eq!(second.raw.0, first.raw.0 + 1);
        assert_eq!(second.time.0, first.time.0 + 1);
        assert_eq!((second.gap, second.late), (0, false));
    }

    #[test]
    fn a_gap_is_told_and_filled_late() {
        let mut order = Order::default();
        order.place(10, 0, Media).expect("first");
        let after = order.place(13, 30, Media).expect("after the gap");
        assert_eq!(after.gap, 2);
        let late = order.place(11, 10, Media).expect("late");
        assert!(late.late);
        assert_eq!(late.gap, 0);
        assert_eq!(order.place(11, 10, Media), Err(Rejected::Duplicate));
        assert_eq!(order.place(13, 30, Media), Err(Rejected::Duplicate));
    }

    #[test]
    fn what_is_older_than_the_stream_or_the_window_is_refused() {
        let mut order = Order::default();
        order.place(100, 0, Media).expect("first");
        assert_eq!(order.place(99, 0, Media), Err(Rejected::TooOld));
        order.place(100 + 2048, 9, Media).expect("far ahead");
        assert_eq!(order.place(100, 0, Media), Err(Rejected::TooOld));
        assert!(order.place(101, 0, Media).is_ok());
        // An old number with a newer timestamp.
        assert_eq!(order.place(102, 10, Media), Err(Rejected::TooOld));
    }

    #[test]
    fn a_repair_neither_begins_nor_advances_a_stream() {
        let mut order = Order::default();
        assert_eq!(order.place(10, 0, Repair), Err(Rejected::Ahead));
        order.place(10, 0, Media).expect("first");
        assert_eq!(order.place(11, 0, Repair), Err(Rejected::Ahead));
        order.place(12, 0, Media).expect("third");
        assert!(order.place(11, 0, Repair).expect("repair").late);
    }

    #[test]
    fn empty_packets_leave_no_hole() {
        let mut order = Order::default();
        assert_eq!(forwarded(&mut order, 10, 10, Media), Some(0));
        assert_eq!(forwarded(&mut order, 10, 11, Empty), None);
        assert_eq!(forwarded(&mut order, 10, 12, Empty), None);
        assert_eq!(forwarded(&mut order, 10, 13, Media), Some(1));
        // A padding packet behind a gap: the gap keeps its numbers.
        assert_eq!(forwarded(&mut order, 10, 16, Empty), None);
        assert_eq!(forwarded(&mut order, 10, 17, Media), Some(4));
        assert_eq!(forwarded(&mut order, 10, 14, Media), Some(2));
        assert_eq!(forwarded(&mut order, 10, 15, Repair), Some(3));
        assert_eq!(order.ranges.len(), 3);
    }

    #[test]
    fn a_late_empty_packet_is_tolerated() {
        let mut order = Order::default();
        assert_eq!(forwarded(&mut order, 10, 10, Media), Some(0));
        assert_eq!(forwarded(&mut order, 10, 12, Media), Some(2));
        assert_eq!(forwarded(&mut order, 10, 11, Empty), None);
        assert_eq!(forwarded(&mut order, 10, 13, Media), Some(3));
    }

    #[test]
    fn a_stream_may_begin_with_empty_packets() {
        let mut order = Order::default();
        assert_eq!(forwarded(&mut order, 10, 10, Empty), None);
        assert_eq!(forwarded(&mut order, 10, 11, Empty), None);
        assert_eq!(forwarded(&mut order, 10, 12, Media), Some(0));
    }

    proptest! {
        /// Forwarded numbers are unique, ordered as the publisher's, and without holes but for
        /// losses and late empty packets.
        #[test]
        fn the_forwarded_numbering_is_contiguous(
            start: u16,
            packets in proptest::collection::vec((any::<bool>(), 0usize..6), 1..300),
        ) {
            // Sort by delayed position: bounded reordering.
            let mut arrivals: Vec<_> = packets
                .iter()
                .enumerate()
                .map(|(i, (empty, delay))| (i + delay, i, *empty))
                .collect();
            arrivals.sort_unstable();
            let mut order = Order::default();
            let mut map = BTreeMap::new();
            let (mut highest, mut closed) = (None, 0u64);
            let first = arrivals[0].1;
            for (_, i, empty) in arrivals {
                let kind = if empty { Empty } else { Media };
                let seq = start.wrapping_add(i as u16);
                let Ok(place) = order.place(seq, i as u32, kind) else {
                    prop_assert!(i < first);
                    continue;
                };
                prop_assert_eq!(place.seq.is_none(), empty);
                prop_assert_eq!(place.late, highest > Some(i));
                if empty && !place.late {
                    closed += 1;
                }
                highest = highest.max(Some(i));
                if let Some(seq) = place.seq {
                    prop_assert_eq!(map.insert(place.raw, seq), None);
                }
            }
            let numbers: Vec<u64> = map.values().map(|seq| seq.0).collect();
            prop_assert!(numbers.is_sorted());
            let mut unique = numbers.clone();
            unique.dedup();
            prop_assert_eq!(unique.len(), numbers.len());
            if let Some((raw, seq)) = map.last_key_value() {
                prop_assert!(raw.0 - seq.0 <= closed);
            }
        }

        #[test]
        fn any_numbers_are_placed_without_panic(
            packets in proptest::collection::vec((any::<u16>(), any::<u32>(), 0u8..3), 0..300),
        ) {
            let mut order = Order::default();
            for (seq, timestamp, kind) in packets {
                let kind = [Media, Empty, Repair][usize::from(kind)];
                let _ = order.place(seq, timestamp, kind);
                prop_assert!(order.ranges.len() <= RANGES);
            }
        }
    }
}
