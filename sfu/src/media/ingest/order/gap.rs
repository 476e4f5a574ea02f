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
    /// Senders may write small numbers in fewer bits than large ones.
    const fn follows(self, before: Self) -> bool {
        self.number == before.number + 1 || (self.number == 0 && before.number == before.last)
    }

    /// Few numbers come round within an outage.
    const fn is_narrow(self) -> bool {
        self.last < 0x7FFF
    }
}

/// Narrow picture numbers say something only so close together: below what 128 frames take.
const NARROW_PACKETS: u64 = 64;
/// The same in ticks of the video clock: one second.
const NARROW_TICKS: u64 = 90_000;

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
    time: RtpTime,
    picture: Option<Picture>,
}

impl FrameEnd {
    /// Is `picture`, which begins then, surely the next one?
    fn precedes(&self, picture: Picture, raw: ExtSeq, time: RtpTime) -> bool {
        let near = raw.0 - self.raw.0 <= NARROW_PACKETS
            && time.0.saturating_sub(self.time.0) < NARROW_TICKS;
        self.picture.is_some_and(|before| {
            picture.follows(before) && (near || !(picture.is_narrow() || before.is_narrow()))
        })
    }
}

/// How close frames follow each other: the shortest distance among the last ones.
#[derive(Debug, Default)]
struct Rhythm {
    shortest: [Option<u64>; 2],
    /// Frames in the newer half.
    count: u32,
}

impl Rhythm {
    /// Frames in each half of what is remembered.
    const HALF: u32 = 32;
    /// So many make a rhythm.
    const LEAST: u32 = 8;

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
        let known = self.count >= Self::LEAST || self.shortest[1].is_some();
        let shortest = self.shortest.into_iter().flatten().min();
        known && shortest.is_some_and(|shortest| ticks < 2 * shortest)
    }
}

/// What the newest packets told.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Mere likelihood may be told: what is wrong about it will be noticed, for it is asked for.
    guesses: bool,
    /// The sender has put padding into this stream.
    pads: bool,
    newest: Option<Newest>,
    frame_end: Option<FrameEnd>,
    rhythm: Rhythm,
}

impl Gaps {
    pub(super) fn new(guesses: bool) -> Self {
        Self {
            guesses,
            ..Self::default()
        }
    }

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
        let since = |raw_before: ExtSeq, certain| {
            let first = ExtSeq(raw_before.0 + 1);
            (first < raw).then_some(Settled { first, certain })
        };
        let newest = self.newest.filter(|newest| newest.closes)?;
        if kind == Arrival::Padding {
            return since(newest.raw, true).filter(|_| time == newest.time);
        }
        let frame = frame.filter(|frame| frame.starts)?;
        if let Some(picture) = frame.picture {
            let end = self
                .frame_end
                .filter(|end| end.precedes(picture, raw, time))?;
            return since(end.raw, true);
        }
        let ticks = time
            .0
            .checked_sub(newest.time.0)
            .filter(|ticks| *ticks > 0)?;
        let likely = self.guesses && self.pads && self.rhythm.leaves_no_room(ticks);
        since(newest.raw, false).filter(|_| likely)
    }

    pub(super) const fn pads(&self) -> bool {
        self.pads
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
        self.pads |= kind == Arrival::Padding;
        if let Some(frame) = frame.filter(|_| kind == Arrival::Media) {
            let before = self.newest.filter(|newest| newest.raw.0 + 1 == raw.0);
            // Nothing was lost between the two.
            if frame.starts
                && let Some(before) = before.filter(|before| before.closes && time > before.time)
            {
                self.rhythm.note(time.0 - before.time.0);
            }
            self.frame_end = frame.ends.then_some(FrameEnd {
                raw,
                time,
                picture: frame.picture,
            });
        } else if kind != Arrival::Padding {
            self.frame_end = None;
        }
        let ends = frame.is_some_and(|frame| frame.ends);
        self.newest = Some(Newest {
            raw,
            time,
            closes: kind == Arrival::Padding || ends,
        });
    }
}
