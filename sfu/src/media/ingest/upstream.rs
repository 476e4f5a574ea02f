//! One received RTP stream: a track, or one simulcast layer of it, with its RTX stream.
//!
//! Owns the stream's parts and the order in which a packet passes them: payload type, codec header,
//! place, counts, losses, history. Never demultiplexes, opens SRTP or writes RTCP. SSRC 0 and the
//! transport-wide number are dealt with before. Called by `track`. (LK: sfu-media §1.2)

use crate::config::codecs::Codec;
use crate::ids::MediaKind;
use crate::media::counters::Useless;
use crate::media::ingest::clock::{SenderClock, SourceClock};
use crate::media::ingest::formats::{Format, Formats};
use crate::media::ingest::history::{History, Limits};
use crate::media::ingest::key_frames::KeyFrameRequests;
use crate::media::ingest::loss::Losses;
use crate::media::ingest::order::{Arrival, Frame, Order, Picture, Place, Rejected};
use crate::media::ingest::outage::Outage;
use crate::media::ingest::reception::{Reception, Window};
use crate::media::packet::{CodecInfo, Crossing, Head, Packet, Span};
use crate::rtp::h264;
use crate::rtp::header::Header;
use crate::rtp::red;
use crate::rtp::rtcp::{ReportBlock, SenderInfo};
use crate::rtp::trailer;
use crate::rtp::vp8;
use crate::units::ExtSeq;
use std::time::{Duration, Instant};

/// A pause between packets of a stream that pads or films means that its road was broken.
const PAUSE: Duration = Duration::from_millis(300);
/// What was asked for while a road was broken was asked for within this: all tries take less.
const LATELY: Duration = Duration::from_secs(2);

/// So long no number is filled after media came for one: the path is longer than we took it to be.
const DISTRUST: Duration = Duration::from_secs(60);

/// What negotiation says of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamSetup {
    /// The media stream.
    pub ssrc: u32,
    /// The codec it begins with: its clock and kind hold for all it may change to.
    pub codec: Codec,
    /// The payload types it may use.
    pub formats: Formats,
    /// Its payloads are encrypted end to end, RED's headers too.
    pub encrypted: bool,
    /// Its frames may end in a trailer.
    pub trailers: bool,
    /// Spatial layer, 0 lowest.
    pub spatial: u8,
    /// The track's one layer, however many pixels it has: kept as long as a highest layer.
    pub only_layer: bool,
    /// Slow pictures in bursts.
    pub screen_share: bool,
    /// NACK was negotiated.
    pub nack: bool,
    /// Least time between key-frame requests: [`THROTTLE`](crate::media::ingest::key_frames::THROTTLE) or configured.
    pub key_frame_throttle: Duration,
}

/// What happened to packets, for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets given on.
    pub forwarded: u64,
    /// Of these, repaired through RTX.
    pub repaired: u64,
    /// Padding only, on either stream.
    pub padding: u64,
    /// Of a number that had been thought to carry nothing.
    pub settled: u64,
    /// NACKed numbers, repetitions included.
    pub nacked: u64,
    /// What was of no use since [`Upstream::take_useless`] was asked last.
    pub useless: Useless,
}

/// A packet apart from its place.
struct Content<'a> {
    payload_type: u8,
    marker: bool,
    codec: CodecInfo,
    /// A key frame begins in it.
    key_frame: bool,
    trailer: u8,
    payload: &'a [u8],
}

impl Content<'_> {
    /// Padding: nothing but its number.
    const fn empty(payload_type: u8) -> Self {
        Self {
            payload_type,
            marker: false,
            codec: CodecInfo::None,
            key_frame: false,
            trailer: 0,
            payload: &[],
        }
    }

    /// Its frame, if the codec tells.
    fn frame(&self) -> Option<Frame> {
        let CodecInfo::Vp8(descriptor) = self.codec else {
            return None;
        };
        let picture = descriptor.picture_id.map(|id| Picture {
            number: id.value,
            last: if id.wide { 0x7FFF } else { 0x7F },
        });
        Some(Frame {
            picture,
            starts: descriptor.frame_start,
            ends: self.marker,
        })
    }
}

/// A received stream.
#[derive(Debug)]
pub struct Upstream {
    setup: UpstreamSetup,
    order: Order,
    reception: Reception,
    losses: Losses,
    clock: SenderClock,
    key_frames: KeyFrameRequests,
    history: History,
    counters: Counters,
    muted: bool,
    /// Media was asked for in vain, and no key frame has come since.
    harmed: bool,
    /// When a packet came last, and when one last came after a long pause.
    heard: Option<Instant>,
    resumed: Option<Instant>,
    outage: Outage,
    /// When media last came for a number that was thought to have carried nothing.
    mistaken: Option<Instant>,
    /// The payload type that came last.
    payload_type: u8,
    /// Numbers asked for in vain, and the empty packets that fill them: at most
    /// [`MISSING_LIMIT`](crate::media::ingest::loss::MISSING_LIMIT), emptied with each poll.
    unanswered: Vec<ExtSeq>,
    fillers: Vec<Packet>,
}

impl Upstream {
    /// A stream nothing was received of yet.
    #[must_use]
    pub fn new(setup: UpstreamSetup) -> Self {
        let size = if setup.only_layer {
            u8::MAX
        } else {
            setup.spatial
        };
        let limits = Limits::of(setup.codec.kind(), size, setup.screen_share);
        Self {
            setup,
            order: Order::new(setup.nack),
            reception: Reception::new(setup.codec.clock_rate()),
            losses: Losses::default(),
            clock: SenderClock::default(),
            key_frames: KeyFrameRequests::new(setup.key_frame_throttle),
            history: History::new(limits),
            counters: Counters::default(),
            muted: false,
            harmed: false,
            heard: None,
            resumed: None,
            outage: Outage::default(),
            mistaken: None,
            payload_type: 0,
            unanswered: Vec::new(),
            fillers: Vec::new(),
        }
    }

    /// What negotiation said.
    #[must_use]
    pub const fn setup(&self) -> &UpstreamSetup {
        &self.setup
    }

    /// A packet came on the media stream; `payload` is without padding. Returns what is to be
    /// forwarded.
    pub fn handle_packet(
        &mut self,
        header: &Header,
        payload: &[u8],
        now: Instant,
    ) -> Option<Packet> {
        let Some(format) = self.setup.formats.find(header.payload_type) else {
            self.counters.useless.payload_type += 1;
            return None;
        };
        let content = self.inspect(format, header.marker, payload);
        let kind = match content {
            Some(_) => Arrival::Media,
            None if payload.is_empty() => Arrival::Padding,
            None => Arrival::Empty,
        };
        self.note_pause(now);
        let frame = content.as_ref().and_then(Content::frame);
        let name = (header.sequence, header.timestamp);
        let place = self.place(name, kind, frame, now)?;
        if self.reception.highest().is_none() {
            self.seed_key_frame(now);
        }
        self.reception.handle_packet(&place, payload.len(), now);
        self.note_losses(&place, now);
        self.payload_type = format.payload_type;
        let filler = Content::empty(format.payload_type);
        let filler = (kind == Arrival::Padding).then_some(filler);
        self.keep(&place, &content.or(filler)?, now)
    }

    /// A packet came on the RTX stream (RFC 4588 §4); `payload` is without padding.
    pub fn handle_rtx(&mut self, header: &Header, payload: &[u8], now: Instant) -> Option<Packet> {
        let Some(format) = self.setup.formats.repeated_by(header.payload_type) else {
            self.counters.useless.payload_type += 1;
            return None;
        };
        // Without original number, or with nothing behind it: a bandwidth probe.
        let original = payload.split_first_chunk::<2>();
        let Some((number, payload)) = original.filter(|(_, payload)| !payload.is_empty()) else {
            self.counters.padding += 1;
            return None;
        };
        let content = self.inspect(format, header.marker, payload)?;
        let number = u16::from_be_bytes(*number);
        let place = self.place((number, header.timestamp), Arrival::Repair, None, now)?;
        self.reception.handle_repair(payload.len());
        self.counters.repaired += 1;
        self.note_losses(&place, now);
        self.keep(&place, &content, now)
    }

    /// What the payload's clear header says; `None` if the packet is not to be forwarded.
    fn inspect<'a>(
        &mut self,
        format: Format,
        marker: bool,
        payload: &'a [u8],
    ) -> Option<Content<'a>> {
        if payload.is_empty() {
            self.counters.padding += 1;
            return None;
        }
        if self.muted {
            self.counters.useless.muted += 1;
            return None;
        }
        let (codec, key_frame) = match format.codec {
            Codec::Opus | Codec::Pcmu | Codec::Pcma => (CodecInfo::None, false),
            Codec::Red => (self.redundancy(payload), false),
            Codec::H264 => (CodecInfo::None, h264::starts_key_frame(payload)),
            Codec::Vp8 => {
                let descriptor = vp8::Descriptor::parse(payload)
                    .filter(|found| usize::from(found.len) < payload.len());
                let Some(descriptor) = descriptor else {
                    self.counters.useless.malformed += 1;
                    return None;
                };
                (CodecInfo::Vp8(descriptor), descriptor.key_frame)
            }
        };
        let trailer = if marker && self.setup.trailers {
            trailer::len(payload)
        } else {
            0
        };
        Some(Content {
            trailer,
            payload_type: format.payload_type,
            marker,
            codec,
            key_frame,
            payload,
        })
    }

    /// What RED's headers say, if they can be read. Encrypted ones may look as if they could.
    fn redundancy(&self, payload: &[u8]) -> CodecInfo {
        let opus = self.setup.formats.of(Codec::Opus);
        opus.filter(|_| !self.setup.encrypted)
            .and_then(|opus| red::primary(payload, opus))
            .and_then(|primary| u16::try_from(primary).ok())
            .map_or(CodecInfo::None, |primary| CodecInfo::Red { primary })
    }

    fn place(
        &mut self,
        (seq, timestamp): (u16, u32),
        kind: Arrival,
        frame: Option<Frame>,
        now: Instant,
    ) -> Option<Place> {
        match self.order.place(seq, timestamp, kind, frame) {
            Ok(place) => Some(place),
            Err(Rejected::Settled { raw, media }) => {
                self.losses.handle_arrival(raw);
                self.counters.settled += 1;
                self.counters.useless.late += u64::from(media);
                if kind != Arrival::Repair {
                    self.reception.handle_settled();
                }
                if media {
                    self.mistaken = Some(now);
                }
                // Decoders went on without it.
                if media && self.losses.is_missed(raw) {
                    self.harm(now);
                }
                None
            }
            Err(Rejected::Duplicate) => {
                self.counters.useless.repeated += 1;
                // SRTP lets each packet of the media stream pass once: the other one came by RTX.
                if kind != Arrival::Repair {
                    self.reception.handle_repaired();
                }
                None
            }
            Err(Rejected::TooOld | Rejected::Ahead) => {
                self.counters.useless.late += 1;
                None
            }
        }
    }

    /// Notes pauses long enough to mean that the road was broken.
    fn note_pause(&mut self, now: Instant) {
        let pause = self
            .heard
            .map(|heard| now.saturating_duration_since(heard))
            .unwrap_or_default();
        if pause >= PAUSE {
            self.resumed = Some(now);
        }
        let highest = self.reception.highest();
        self.outage.handle_pause(pause, highest, now);
        self.heard = Some(now);
    }

    /// Decoders cannot go on, or are wrong: asks for a key frame, and with each packet that comes until
    /// there is one, for the road may be broken. A layer that nobody sends is not asked.
    fn harm(&mut self, now: Instant) {
        self.harmed = true;
        self.request_key_frame(false, now);
    }

    /// What the place says about others: those passed over are missing, this one is not any more.
    fn note_losses(&mut self, place: &Place, now: Instant) {
        if place.late {
            self.losses.handle_arrival(place.raw);
            return;
        }
        let settled = place.settled;
        if let Some(settled) = settled.filter(|settled| settled.certain) {
            self.losses.handle_settled(settled.first, place.raw);
        } else if self.setup.nack && !self.muted {
            // Live sound is not listened to later, and pictures go on with the next key frame.
            if self.outage.handle_gap(place.gap, place.raw, now) {
                self.losses.abandon(place.gap);
                self.key_frames.handle_outage();
                self.harm(now);
                return;
            }
            let gap = ExtSeq(place.raw.0 - place.gap)..place.raw;
            if self.losses.handle_gap(gap, settled.is_some(), now) {
                self.request_key_frame(false, now);
            }
        }
    }

    /// Stores a packet that has its place.
    fn keep(&mut self, place: &Place, content: &Content<'_>, now: Instant) -> Option<Packet> {
        if content.key_frame {
            self.losses.handle_key_frame(place.raw);
        }
        if content.key_frame && self.outage.is_over(place.raw) {
            self.harmed = false;
            self.key_frames.handle_key_frame();
        } else if self.harmed {
            self.request_key_frame(false, now);
        }
        let packet = Packet {
            seq: place.seq?,
            time: place.time,
            arrival: now,
            payload_type: content.payload_type,
            marker: content.marker,
            spatial: self.setup.spatial,
            key_frame: content.key_frame,
            late: place.late,
            codec: content.codec,
            trailer: content.trailer,
            span: Span { start: 0, len: 0 },
        };
        let stored = self.history.push(packet, content.payload);
        match stored {
            Some(_) => self.counters.forwarded += 1,
            None => self.counters.useless.limit += 1,
        }
        stored
    }

    /// A sender report about the stream came; false if it was ignored.
    pub fn handle_sender_report(&mut self, info: &SenderInfo, now: Instant) -> bool {
        // Without a packet the report's timestamp cannot be extended.
        self.order
            .newest_time()
            .is_some_and(|newest| self.clock.handle_sender_report(info, newest, now))
    }

    /// The block about this stream for a receiver report, and what it says of the way here; `None` before
    /// the first packet.
    pub fn report_block(&mut self, now: Instant) -> Option<(ReportBlock, Crossing)> {
        let counts = self.reception.report()?;
        let (last_report, delay) = self.clock.last_report(now);
        let block = ReportBlock {
            ssrc: self.setup.ssrc,
            fraction_lost: counts.fraction_lost,
            cumulative_lost: counts.cumulative_lost,
            highest: counts.highest,
            jitter: counts.jitter,
            last_report,
            delay,
        };
        Some((block, counts.crossing))
    }

    /// What arrived since the last call, for the score.
    pub fn take_window(&mut self) -> Window {
        self.reception.take_window()
    }

    /// Someone needs a key frame; an urgent wish passes the throttle by, once in its window.
    pub fn request_key_frame(&mut self, urgent: bool, now: Instant) {
        if !self.muted && self.setup.codec.kind() == MediaKind::Video {
            self.key_frames.request(urgent, now);
        }
    }

    /// The layer starts anew: asks for key frames until one comes.
    pub fn seed_key_frame(&mut self, now: Instant) {
        if !self.muted && self.setup.codec.kind() == MediaKind::Video {
            self.key_frames.seed(now);
        }
    }

    /// True if a PLI is to be sent now.
    pub fn poll_key_frame_request(&mut self, now: Instant) -> bool {
        self.key_frames.poll(now)
    }

    /// Appends the numbers to NACK now, in the publisher's numbering, ascending, at most
    /// [`MISSING_LIMIT`](crate::media::ingest::loss::MISSING_LIMIT). What was asked for in vain makes
    /// decoders stand still until a key frame: libwebrtc asks for one after three seconds, we at once.
    pub fn poll_nacks(&mut self, rtt: Option<Duration>, now: Instant, out: &mut Vec<u16>) {
        let before = out.len();
        // A sender that answers has nothing to send again; one that cannot be heard tells nothing.
        let lately = |at: Instant| now.saturating_duration_since(at) < LATELY;
        let silent = self
            .heard
            .is_some_and(|at| now.saturating_duration_since(at) >= PAUSE);
        let broken = silent || self.resumed.is_some_and(lately);
        let distrusted = |at: Instant| now.saturating_duration_since(at) < DISTRUST;
        let fills = !broken && self.order.pads() && !self.mistaken.is_some_and(distrusted);
        let unanswered = fills.then_some(&mut self.unanswered);
        // A screen's next picture may be a second away, and each key frame of it is large.
        if let Some(rtt) = rtt.filter(|_| !self.setup.screen_share) {
            self.key_frames.handle_round_trip(rtt);
        }
        let given_up = self.losses.poll_nacks(rtt, now, out, unanswered);
        self.fill(now);
        if given_up.media || (given_up.likely_nothing && broken) {
            self.harm(now);
        }
        self.counters.nacked += (out.len() - before) as u64;
    }

    /// Decoders that go by sequence numbers wait for padding as for anything else.
    fn fill(&mut self, now: Instant) {
        for raw in std::mem::take(&mut self.unanswered) {
            let seq = self.order.give_up(raw);
            let Some((seq, time)) = seq.zip(self.order.newest_time()) else {
                continue;
            };
            let place = Place {
                raw,
                seq: Some(seq),
                time,
                late: true,
                gap: 0,
                settled: None,
            };
            let filler = self.keep(&place, &Content::empty(self.payload_type), now);
            self.fillers.extend(filler);
        }
    }

    /// An empty packet that fills a number for which nothing will come, after
    /// [`poll_nacks`](Self::poll_nacks).
    pub fn poll_filler(&mut self) -> Option<Packet> {
        self.fillers.pop()
    }

    /// When [`poll_nacks`](Self::poll_nacks) or
    /// [`poll_key_frame_request`](Self::poll_key_frame_request) has work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.losses.poll_timeout(), self.key_frames.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// The layer is not sent any more: nothing is asked for.
    pub fn stop(&mut self) {
        self.losses.clear();
        self.key_frames.clear();
        self.harmed = false;
    }

    /// While muted whatever comes is taken out of the numbering, and nothing is asked for.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
        if muted {
            self.stop();
        }
    }

    /// The payload of a packet returned earlier as it is to be sealed, unless overwritten since:
    /// [`History::framed`], without its trailer if that is to be cut.
    #[inline]
    pub fn framed(
        &mut self,
        packet: &Packet,
        head: &Head,
        (skip, cut): (u16, bool),
    ) -> Option<&[u8]> {
        let framed = self.history.framed(packet, head, skip)?;
        let trailer = if cut { packet.trailer } else { 0 };
        framed.get(..framed.len().checked_sub(usize::from(trailer))?)
    }

    /// A packet to send again.
    #[must_use]
    pub fn find(&self, seq: ExtSeq) -> Option<Packet> {
        self.history.find(seq)
    }

    /// The last sender report believed.
    #[must_use]
    pub const fn clock(&self) -> Option<&SourceClock> {
        self.clock.latest()
    }

    /// What happened to packets.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What came and was of no use since this was asked last.
    pub fn take_useless(&mut self) -> Useless {
        std::mem::take(&mut self.counters.useless)
    }

    /// Bytes of history held.
    #[must_use]
    pub const fn footprint(&self) -> usize {
        self.history.footprint()
    }
}

#[cfg(test)]
mod tests;
