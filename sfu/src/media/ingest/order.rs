//! The order of one upstream: extended numbers, duplicates, and numbers taken out.
//!
//! Owns the window of seen packets and the map from the publisher's numbering to the contiguous one
//! forwarded: a packet that carries nothing (padding, muted) leaves no hole, even if it was lost,
//! where frames tell that nothing of theirs is missing. Never sees payloads.
//! Called by `upstream` for every packet. (LK: sfu-media §1.2, §1.6, §9 trap 3)

use crate::units::{ExtSeq, RtpTime};
use gap::Gaps;
pub use gap::{Frame, Picture, Settled};
use std::collections::VecDeque;

mod gap;

#[cfg(test)]
mod tests;

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
    /// Number in the forwarded numbering; `None` if the packet was taken out. Padding has one only if
    /// it came late.
    pub seq: Option<ExtSeq>,
    /// Extended timestamp.
    pub time: RtpTime,
    /// An earlier one than the newest.
    pub late: bool,
    /// Numbers passed over directly before it.
    pub gap: u64,
    /// What is missing of the numbers from this one on, below `raw`, carried nothing.
    pub settled: Option<Settled>,
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
    /// Of a number that was thought to have carried nothing.
    Settled {
        /// The number.
        raw: ExtSeq,
        /// It carries something all the same: what was forwarded lacks it.
        media: bool,
    },
}

/// What kind of packet asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Media to be forwarded.
    Media,
    /// No payload at all.
    Padding,
    /// Received, but not to be forwarded. Late, it leaves a hole: decoders lack what it carried.
    Empty,
    /// Media that came on the RTX stream: it never begins nor advances a stream.
    Repair,
}

impl Arrival {
    /// Is it to be forwarded?
    const fn carries(self) -> bool {
        matches!(self, Self::Media | Self::Repair)
    }
}

#[derive(Debug)]
struct Progress {
    first: ExtSeq,
    highest: ExtSeq,
    /// The highest one that got a number of the forwarded numbering.
    given: Option<ExtSeq>,
    time: RtpTime,
}

/// The order of one upstream.
#[derive(Debug)]
pub struct Order {
    progress: Option<Progress>,
    seen: [u64; WORDS],
    /// Numbers that carried nothing though they never came.
    settled: [u64; WORDS],
    gaps: Gaps,
    /// From each number on, how many numbers were taken out before it.
    ranges: VecDeque<(ExtSeq, u64)>,
}

impl Default for Order {
    fn default() -> Self {
        Self::new(true)
    }
}

impl Order {
    /// Nothing was seen yet. With `asks`, missing packets are asked for, so that a wrong guess about one
    /// is noticed.
    #[must_use]
    pub fn new(asks: bool) -> Self {
        let mut ranges = VecDeque::with_capacity(RANGES);
        ranges.push_back((ExtSeq(0), 0));
        Self {
            progress: None,
            seen: [0; WORDS],
            settled: [0; WORDS],
            gaps: Gaps::new(asks),
            ranges,
        }
    }

    /// Finds the place of a packet by its wire numbers.
    ///
    /// # Errors
    /// The packet is to be dropped.
    pub fn place(
        &mut self,
        seq: u16,
        timestamp: u32,
        kind: Arrival,
        frame: Option<Frame>,
    ) -> Result<Place, Rejected> {
        let Some(progress) = &self.progress else {
            if kind == Arrival::Repair {
                return Err(Rejected::Ahead);
            }
            return Ok(self.begin(seq, timestamp, (kind, frame)));
        };
        let raw = progress.highest.nearest(seq);
        let time = progress.time.nearest(timestamp);
        if raw > progress.highest {
            if kind == Arrival::Repair {
                return Err(Rejected::Ahead);
            }
            return Ok(self.advance(raw, time, (kind, frame)));
        }
        let too_old = raw < progress.first || progress.highest.0 - raw.0 >= WINDOW;
        if too_old || time > progress.time {
            return Err(Rejected::TooOld);
        }
        let (word, bit) = Self::bit(raw);
        if self.seen[word] & bit != 0 {
            if self.settled[word] & bit == 0 {
                return Err(Rejected::Duplicate);
            }
            self.settled[word] &= !bit;
            let media = kind.carries();
            return Err(Rejected::Settled { raw, media });
        }
        let passed = progress.given.is_some_and(|given| raw < given);
        let offset = self.offset(raw).ok_or(Rejected::TooOld)?;
        self.mark(raw);
        if kind.carries() {
            self.gaps.handle_late(raw);
            self.give(raw);
        } else if !passed {
            self.take_out_late(raw, offset + 1);
        }
        // Late padding fills the hole that subscribers see by now.
        let numbered = kind.carries() || (kind == Arrival::Padding && passed);
        Ok(Place {
            raw,
            seq: numbered.then(|| ExtSeq(raw.0 - offset)),
            time,
            late: true,
            gap: 0,
            settled: None,
        })
    }

    /// Does the sender put padding into this stream?
    #[must_use]
    pub const fn pads(&self) -> bool {
        self.gaps.pads()
    }

    /// Takes it that a number carried nothing: a packet that comes with it all the same is refused
    /// ([`Rejected::Settled`]). Its forwarded number, if others have passed it, is to be filled.
    pub fn give_up(&mut self, raw: ExtSeq) -> Option<ExtSeq> {
        let progress = self.progress.as_ref()?;
        let (word, bit) = Self::bit(raw);
        let known = progress.first <= raw && raw <= progress.highest;
        if !known || progress.highest.0 - raw.0 >= WINDOW || self.seen[word] & bit != 0 {
            return None;
        }
        let passed = progress.given.is_some_and(|given| raw < given);
        let offset = self.offset(raw)?;
        self.seen[word] |= bit;
        self.settled[word] |= bit;
        if !passed {
            self.take_out_late(raw, offset + 1);
        }
        passed.then(|| ExtSeq(raw.0 - offset))
    }

    /// The newest timestamp.
    #[must_use]
    pub fn newest_time(&self) -> Option<RtpTime> {
        self.progress.as_ref().map(|progress| progress.time)
    }

    /// One round above zero, so that there is something below the first packet.
    fn begin(&mut self, seq: u16, timestamp: u32, what: (Arrival, Option<Frame>)) -> Place {
        let raw = ExtSeq(0x1_0000 + u64::from(seq));
        let time = RtpTime(0x1_0000_0000 + u64::from(timestamp));
        self.progress = Some(Progress {
            first: raw,
            highest: raw,
            given: None,
            time,
        });
        self.take(raw, time, 0, what)
    }

    fn advance(&mut self, raw: ExtSeq, time: RtpTime, what: (Arrival, Option<Frame>)) -> Place {
        let mut gap = 0;
        if let Some(progress) = &mut self.progress {
            gap = raw.0 - progress.highest.0 - 1;
            progress.highest = raw;
            progress.time = time;
        }
        if gap >= WINDOW {
            self.seen = [0; WORDS];
            self.settled = [0; WORDS];
        } else {
            (raw.0 - gap..=raw.0).for_each(|passed| self.unmark(ExtSeq(passed)));
        }
        self.take(raw, time, gap, what)
    }

    /// Gives the newest packet its place, or closes the numbering behind it.
    fn take(
        &mut self,
        raw: ExtSeq,
        time: RtpTime,
        gap: u64,
        (kind, frame): (Arrival, Option<Frame>),
    ) -> Place {
        self.mark(raw);
        let settled = self.gaps.judge(raw, time, (kind, frame));
        let settled = settled.filter(|settled| self.settle(settled.first, raw));
        let offset = self.ranges.back().map_or(0, |range| range.1);
        let seq = kind.carries().then(|| ExtSeq(raw.0 - offset));
        if seq.is_none() {
            self.take_out(raw, offset + 1);
        } else {
            self.give(raw);
        }
        self.gaps.note(raw, time, (kind, frame));
        Place {
            raw,
            seq,
            time,
            late: false,
            gap,
            settled,
        }
    }

    /// Takes out what is missing of these numbers, and never gives them to a packet that comes late.
    /// False if they are too many to know of.
    fn settle(&mut self, first: ExtSeq, raw: ExtSeq) -> bool {
        if raw.0 - first.0 >= WINDOW {
            return false;
        }
        let mut holes = 0;
        for passed in first.0..raw.0 {
            let (word, bit) = Self::bit(ExtSeq(passed));
            if self.seen[word] & bit == 0 {
                self.seen[word] |= bit;
                self.settled[word] |= bit;
                holes += 1;
            }
        }
        if holes > 0 {
            let offset = self.ranges.back().map_or(0, |range| range.1);
            self.begin_range(raw, offset + holes);
        }
        true
    }

    fn take_out(&mut self, raw: ExtSeq, offset: u64) {
        let from = ExtSeq(raw.0 + 1);
        match self.ranges.back_mut() {
            // A run of empty packets is one range.
            Some(last) if last.0 == raw && offset > 1 => *last = (from, offset),
            _ => self.begin_range(from, offset),
        }
    }

    /// The same for one that is not the newest, while no higher one has a number.
    fn take_out_late(&mut self, raw: ExtSeq, offset: u64) {
        let from = ExtSeq(raw.0 + 1);
        let mut at = self.ranges.partition_point(|range| range.0 < from);
        for later in self.ranges.range_mut(at..) {
            later.1 += 1;
        }
        if self.ranges.get(at).is_some_and(|range| range.0 == from) {
            return;
        }
        if self.ranges.len() == RANGES {
            self.ranges.pop_front();
            at = at.saturating_sub(1);
        }
        self.ranges.insert(at, (from, offset));
    }

    fn give(&mut self, raw: ExtSeq) {
        if let Some(progress) = &mut self.progress {
            progress.given = progress.given.max(Some(raw));
        }
    }

    fn begin_range(&mut self, from: ExtSeq, offset: u64) {
        match self.ranges.back_mut() {
            Some(last) if last.0 == from => last.1 = offset,
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

    const fn mark(&mut self, raw: ExtSeq) {
        let (word, bit) = Self::bit(raw);
        self.seen[word] |= bit;
    }

    const fn unmark(&mut self, raw: ExtSeq) {
        let (word, bit) = Self::bit(raw);
        self.seen[word] &= !bit;
        self.settled[word] &= !bit;
    }
}
