//! What is missing before a packet: media, or padding that nobody needs?
//!
//! Owns what the newest packets told of frames. Decides nothing about numbers: `order` does, which
//! asks for every packet that is newer than all others.

use super::Arrival;
use crate::units::{ExtSeq, RtpTime};

/// Numbers that carried nothing though they never came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The first one that may.
    pub first: ExtSeq,
    /// Beyond doubt. If not, it is worth asking for them: [`Rejected::Settled`] tells of a mistake.
    pub certain: bool,
}

/// Of which frame a packet is a part, where its codec tells in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The picture's number, if it has one.
    pub picture: Option<Picture>,
    /// Its first packet.
    pub starts: bool,
    /// Its last packet.
    pub ends: bool,
}

/// A picture's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// The number.
    pub number: u16,
    /// The highest one there is; then they begin anew with zero.
    pub last: u16,
}

impl Picture {
    const fn follows(self, before: Self) -> bool {
        let next = if before.number >= self.last {
            0
        } else {
            before.number + 1
        };
        self.number == next
    }
}

/// The newest packet.
#[derive(Debug, Clone, Copy)]
struct Newest {
    raw: ExtSeq,
    time: RtpTime,
    /// Nothing more of its frame follows: it is the frame's last packet, or padding, which senders
    /// never put into the middle of one.
    closes: bool,
}

/// The last frame of which we saw the end in its turn, if nothing came behind it but padding.
#[derive(Debug, Clone, Copy)]
struct FrameEnd {
    raw: ExtSeq,
    picture: Option<Picture>,
}

/// How close frames follow each other: the shortest distance among the last ones.
#[derive(Debug, Default)]
struct Rhythm {
    shortest: [Option<u64>; 2],
    count: u32,
}

impl Rhythm {
    /// Frames in each half of what is remembered.
    const HALF: u32 = 32;

    /// Two frames followed each other at this distance.
    fn note(&mut self, ticks: u64) {
        if self.count >= Self::HALF {
            self.shortest = [None, self.shortest[0]];
            self.count = 0;
        }
        self.count += 1;
        let shortest = self.shortest[0].map_or(ticks, |known| known.min(ticks));
        self.shortest[0] = Some(shortest);
    }

    /// Is this too short for another frame in between?
    fn leaves_no_room(&self, ticks: u64) -> bool {
        let shortest = self.shortest.into_iter().flatten().min();
        shortest.is_some_and(|shortest| ticks < 2 * shortest)
    }
}

/// What the newest packets told.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    newest: Option<Newest>,
    frame_end: Option<FrameEnd>,
    rhythm: Rhythm,
}

impl Gaps {
    /// Which numbers before the newest packet carried nothing, though they did not come?
    ///
    /// Padding on the media stream itself, which senders without RTX use, has the timestamp of the
    /// frame before it and never stands in the middle of one. A hole that it leaves stops decoders
    /// that go by sequence numbers, for as long as a lost frame would.
    pub(super) fn judge(
        &self,
        raw: ExtSeq,
        time: RtpTime,
        (kind, frame): (Arrival, Option<Frame>),
    ) -> Option<Settled> {
        let newest = self.newest.filter(|newest| newest.closes)?;
        let direct = |certain| {
            let first = ExtSeq(newest.raw.0 + 1);
            (first < raw).then_some(Settled { first, certain })
        };
        if kind == Arrival::Empty {
            return direct(true).filter(|_| time == newest.time);
        }
        let frame = frame.filter(|frame| frame.starts)?;
        let end = self.frame_end;
        let numbered = end.and_then(|end| Some((end.picture?, frame.picture?)));
        match (numbered, end) {
            (Some((before, this)), Some(end)) => {
                let first = ExtSeq(end.raw.0 + 1);
                let certain = true;
                (this.follows(before) && first < raw).then_some(Settled { first, certain })
            }
            _ => {
                let ticks = time.0.saturating_sub(newest.time.0);
                direct(false).filter(|_| self.rhythm.leaves_no_room(ticks))
            }
        }
    }

    /// Something that carried media came late: if it belongs behind the frame's end, more may.
    pub(super) fn handle_late(&mut self, raw: ExtSeq) {
        if self.frame_end.is_some_and(|end| end.raw < raw) {
            self.frame_end = None;
        }
    }

    /// Remembers the newest packet, for what is said of the next one.
    pub(super) fn note(
        &mut self,
        raw: ExtSeq,
        time: RtpTime,
        (kind, frame): (Arrival, Option<Frame>),
    ) {
        let empty = kind == Arrival::Empty;
        if let Some(frame) = frame.filter(|_| !empty) {
            let before = self.newest.filter(|newest| newest.raw.0 + 1 == raw.0);
            // Nothing was lost between the two.
            if frame.starts
                && let Some(before) = before.filter(|before| before.closes && time > before.time)
            {
                self.rhythm.note(time.0 - before.time.0);
            }
            self.frame_end = frame.ends.then_some(FrameEnd {
                raw,
                picture: frame.picture,
            });
        } else if !empty {
            self.frame_end = None;
        }
        let ends = frame.is_some_and(|frame| frame.ends);
        self.newest = Some(Newest {
            raw,
            time,
            closes: empty || ends,
        });
    }
}
