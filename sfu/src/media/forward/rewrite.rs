//! The numbers of one subscriber's copy: sequence numbers, timestamps, VP8 picture ids.
//!
//! Owns the mapping from the source stream being forwarded to the copy, across switches, pauses
//! and restarts. Decides what to leave out *before* it numbers, so that only packets the network
//! lost make holes (LK: sfu-media §2.2, §2.3, §2.5). Never chooses a layer. Used by the downstream.

mod pictures;
mod times;

use self::pictures::Pictures;
use self::times::Times;
use crate::media::packet::{CodecInfo, Head, Packet};
use crate::rtp::sequence::{SentWindow, SequenceMap};
use crate::units::{ExtSeq, RtpTime};
use std::time::Instant;

/// Runs of packets left out that late packets can be placed around: one second of 60 frames with
/// every second one filtered, and some to spare. Older late packets are dropped.
const SEQUENCE_RUNS: usize = 64;

/// A jump this large, forward or back, is a new stream under an old name (RFC 3550 A.1,
/// MAX_DROPOUT). It also keeps the receiver's guess of the roll-over count safe (2^15).
const MAX_JUMP: u64 = 3000;

/// What ingest knows of a track, besides its packets. The plane fills it once a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Source {
    /// Bit mask of the spatial layers that live.
    pub alive: u8,
    /// For each layer, how often its stream began anew (a new SSRC: replaceTrack, restart). Numbers
    /// and times of different generations have nothing in common.
    pub generations: [u32; 3],
    /// For each layer, the newest sender report of its *present* generation.
    pub clocks: [Option<SenderClock>; 3],
    /// The publisher muted the track.
    pub muted: bool,
}

impl Source {
    /// The generation of a layer's stream.
    #[must_use]
    pub fn generation(&self, spatial: u8) -> u32 {
        let index = usize::from(spatial);
        self.generations.get(index).copied().unwrap_or_default()
    }

    fn clock(&self, spatial: u8) -> Option<SenderClock> {
        self.clocks.get(usize::from(spatial)).copied().flatten()
    }
}

/// A publisher's sender report: one moment on its wall clock and on a layer's media clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// NTP time, 32.32 bits.
    pub ntp: u64,
    /// The same moment in the layer's RTP clock, extended like its packets.
    pub rtp: RtpTime,
    /// When the report arrived.
    pub arrival: Instant,
}

/// A packet's numbers in the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Sequence number.
    pub seq: ExtSeq,
    /// Timestamp.
    pub time: u32,
    /// What stands in front of the payload.
    pub head: Head,
    /// Bytes of the payload it replaces.
    pub skip: u8,
}

/// Where a packet stands relative to those of its stream seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Newer than all others; so many are missing in between.
    Fresh {
        /// Packets missing before it.
        gap: u64,
    },
    /// The newest once more.
    Repeated,
    /// Older than the newest.
    Late,
    /// Not of the stream being forwarded, or too far away to be.
    Foreign,
}

/// Why a packet got no numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Left out on purpose; no hole.
    Filtered,
    /// It was sent before.
    Duplicate,
    /// Late, and its place is gone or was given up.
    NoPlace,
    /// The switch must wait for a sender report, or for the timestamps to catch up.
    NotYet,
}

/// The source stream being forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream {
    spatial: u8,
    generation: u32,
}

/// The rewriter of one downstream.
#[derive(Debug)]
pub struct Rewriter {
    /// `None` until the first packet and while paused.
    stream: Option<Stream>,
    /// The stream forwarded last, to recognise its return.
    previous: Option<Stream>,
    /// Highest source number seen of the stream.
    highest: u64,
    /// Numbers are missing between the newest picture's packet and the highest.
    gap_before: bool,
    places: SequenceMap<SEQUENCE_RUNS>,
    sent: SentWindow,
    /// The next number of the copy.
    next: u64,
    /// The newest packet sent ended its frame.
    last_marker: bool,
    times: Times,
    /// Video; used for packets of VP8.
    pictures: Option<Box<Pictures>>,
    /// Holes standing in the copy because packets did not reach us.
    holes: u64,
}

impl Rewriter {
    /// A rewriter that starts at `first_seq` (random, below 2^15, so that a receiver that misses
    /// the first packets still guesses the roll-over count) and `first_time`.
    #[must_use]
    pub fn new(video: bool, clock_rate: u32, first_seq: u16, first_time: u32) -> Self {
        debug_assert!(first_seq < 1 << 15, "the first number may wrap too soon");
        Self {
            stream: None,
            previous: None,
            highest: 0,
            gap_before: false,
            places: SequenceMap::default(),
            sent: SentWindow::default(),
            next: u64::from(first_seq & 0x7fff),
            last_marker: true,
            times: Times::new(clock_rate, first_time),
            pictures: video.then(Box::default),
            holes: 0,
        }
    }

    /// Where `packet` stands in the stream being forwarded.
    #[must_use]
    pub fn order(&self, packet: &Packet, source: &Source) -> Order {
        let own = Stream {
            spatial: packet.spatial,
            generation: source.generation(packet.spatial),
        };
        if self.stream != Some(own) {
            return Order::Foreign;
        }
        let jump = packet.seq.0.abs_diff(self.highest);
        if jump == 0 {
            Order::Repeated
        } else if packet.seq.0 > self.highest {
            if jump > MAX_JUMP {
                return Order::Foreign;
            }
            Order::Fresh { gap: jump - 1 }
        } else if jump > MAX_JUMP && !packet.late {
            Order::Foreign
        } else {
            Order::Late
        }
    }

    /// Did the stream being forwarded give way to another one on the same layer, or to a jump that
    /// amounts to it? Then the caller pauses and begins anew.
    #[must_use]
    pub fn is_cut_by(&self, packet: &Packet, source: &Source) -> bool {
        self.stream.is_some_and(|s| s.spatial == packet.spatial)
            && self.order(packet, source) == Order::Foreign
    }

    /// Stops: the copy goes on at the next [`Rewriter::begin`]. Late packets of before find no place.
    pub fn pause(&mut self, publisher_muted: bool) {
        if self.stream.take().is_some() {
            self.times.handle_pause();
        }
        if publisher_muted {
            self.times.handle_mute();
        }
    }

    /// Begins with `packet`: for the first time, after a pause, or on another layer.
    ///
    /// # Errors
    /// [`Refusal::NotYet`] if the timestamps of two layers cannot be joined yet; nothing changed
    /// and the old layer goes on.
    pub fn begin(
        &mut self,
        packet: &Packet,
        source: &Source,
        now: Instant,
    ) -> Result<Numbers, Refusal> {
        let stream = Stream {
            spatial: packet.spatial,
            generation: source.generation(packet.spatial),
        };
        self.join_times(stream, packet, source, now)?;
        // A frame cut short: the decoder must see a loss, not one merged frame.
        let cut = self.pictures.is_some() && !self.last_marker;
        let seq = self.next + u64::from(cut);
        self.places.restart(packet.seq.0, seq);
        self.highest = packet.seq.0;
        self.gap_before = false;
        self.stream = Some(stream);
        self.previous = Some(stream);
        let mut head = (Head::EMPTY, 0);
        if let (Some(pictures), CodecInfo::Vp8(descriptor)) = (&mut self.pictures, packet.codec) {
            head = (pictures.begin(&descriptor), descriptor.len);
        }
        self.sent.insert(seq);
        Ok(self.number(seq, packet, head))
    }

    /// Continues the timestamps with `packet` of `stream`.
    fn join_times(
        &mut self,
        stream: Stream,
        packet: &Packet,
        source: &Source,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Some(previous) = self.previous else {
            self.times.begin(packet);
            return Ok(());
        };
        if source.generation(previous.spatial) == previous.generation {
            self.times.anchor(source.clock(previous.spatial));
        }
        let mapped = self.times.mapped(packet, source.clock(stream.spatial));
        if self.stream.is_some() {
            return self.times.switch(packet, mapped, now);
        }
        let returned = stream == previous;
        self.times.resume(packet, returned, mapped, now);
        Ok(())
    }

    /// Numbers a packet of the stream being forwarded. `filter` asks to leave it out.
    ///
    /// # Errors
    /// Why it is not to be sent.
    pub fn follow(
        &mut self,
        packet: &Packet,
        order: Order,
        filter: bool,
    ) -> Result<Numbers, Refusal> {
        match order {
            Order::Fresh { gap } => self.follow_fresh(packet, gap, filter),
            Order::Late => self.follow_late(packet),
            Order::Repeated => Err(Refusal::Duplicate),
            Order::Foreign => Err(Refusal::NoPlace),
        }
    }

    fn follow_fresh(
        &mut self,
        packet: &Packet,
        gap: u64,
        filter: bool,
    ) -> Result<Numbers, Refusal> {
        let before = self.highest;
        let mut head = (Head::EMPTY, 0);
        self.gap_before |= gap > 0;
        if let (Some(pictures), CodecInfo::Vp8(descriptor)) = (&mut self.pictures, packet.codec) {
            let missing = std::mem::take(&mut self.gap_before);
            match pictures.follow(&descriptor, missing, filter) {
                pictures::Verdict::Keep(bytes) => head = (bytes, descriptor.len),
                pictures::Verdict::Drop => {
                    self.leave_out(packet, gap);
                    return Err(Refusal::Filtered);
                }
                pictures::Verdict::DropWithGap => {
                    // The missing packets belong to the same picture: nobody will miss them.
                    self.highest = packet.seq.0;
                    self.places.exclude(before + 1, packet.seq.0);
                    return Err(Refusal::Filtered);
                }
            }
        }
        self.highest = packet.seq.0;
        self.holes = self.holes.saturating_add(gap);
        let seq = self.places.place(packet.seq.0).ok_or(Refusal::NoPlace)?;
        self.sent.insert(seq);
        Ok(self.number(seq, packet, head))
    }

    fn follow_late(&mut self, packet: &Packet) -> Result<Numbers, Refusal> {
        let seq = self.places.place(packet.seq.0).ok_or(Refusal::NoPlace)?;
        let mut head = (Head::EMPTY, 0);
        let stale = self.times.is_stale(packet);
        if let (Some(pictures), CodecInfo::Vp8(descriptor)) = (&self.pictures, packet.codec) {
            let bytes = pictures.late(&descriptor, stale).ok_or(Refusal::NoPlace)?;
            head = (bytes, descriptor.len);
        }
        if !self.sent.insert(seq) {
            return Err(Refusal::Duplicate);
        }
        self.holes = self.holes.saturating_sub(1);
        Ok(self.number(seq, packet, head))
    }

    /// Notes a packet of the stream that the subscriber cannot use at all, so that it leaves no hole.
    pub fn skip(&mut self, packet: &Packet, order: Order) {
        if let Order::Fresh { gap } = order {
            self.gap_before |= gap > 0;
            self.leave_out(packet, gap);
        }
    }

    /// Leaves out one packet; those missing before it keep their places.
    fn leave_out(&mut self, packet: &Packet, gap: u64) {
        self.highest = packet.seq.0;
        self.holes = self.holes.saturating_add(gap);
        self.places.exclude(packet.seq.0, packet.seq.0);
    }

    fn number(&mut self, seq: u64, packet: &Packet, head: (Head, u8)) -> Numbers {
        // A late packet may be the copy's newest, if those after it were left out.
        if seq >= self.next {
            self.next = seq + 1;
            // Padding never stands in the middle of a frame.
            self.last_marker = packet.marker || packet.is_empty();
        }
        Numbers {
            seq: ExtSeq(seq),
            time: self.times.stamp(packet),
            head: head.0,
            skip: head.1,
        }
    }

    /// The layer being forwarded.
    #[must_use]
    pub fn current(&self) -> Option<u8> {
        self.stream.map(|stream| stream.spatial)
    }

    /// Highest number sent, if any was.
    #[must_use]
    pub fn last_seq(&self) -> Option<ExtSeq> {
        self.previous.map(|_| ExtSeq(self.next.saturating_sub(1)))
    }

    /// Packets missing in the copy because they did not reach us, since the start.
    #[must_use]
    pub const fn holes(&self) -> u64 {
        self.holes
    }

    /// The newest sender report of the current stream that its timestamps still agree with, and
    /// its moment in the copy's clock.
    #[must_use]
    pub fn clock(&self, source: &Source) -> Option<(SenderClock, u32)> {
        let stream = self.stream?;
        if source.generation(stream.spatial) != stream.generation {
            return None;
        }
        self.times.copied(source.clock(stream.spatial)?)
    }
}

#[cfg(test)]
mod tests;
