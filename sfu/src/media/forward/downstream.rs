//! One subscriber's copy of a track: packets of its layers in, at most one outgoing packet each.
//!
//! Composes selector, rewriter, feedback and reports, and puts them in order; the rules are
//! theirs. Never sees bytes, SRTP or the network. The plane calls it for every packet of the track
//! and for what the subscriber's RTCP says about its SSRC.

use super::feedback::{Feedback, KeyFrameAsk, NackCounters, Resend, Rtx, Sent};
use super::report::{Reception, Reports, ScoreWindow, SenderReport, Totals};
use super::rewrite::{Numbers, Order, Refusal, Rewriter, Source};
use super::select::{Choice, Selector};
use crate::config::codecs::Codec;
use crate::ids::{MediaKind, TrackKey};
use crate::media::message::Wish;
use crate::media::packet::{CodecInfo, Crossing, Outgoing, Packet, TypeMap};
use crate::units::ExtSeq;
use std::time::Instant;

/// Packets remembered for resends: about what the publisher's history holds, one second of a busy
/// video stream and half a second of audio. More would only be looked for in vain, and the rings of
/// many subscribers push one another out of the cache.
const REMEMBERED_VIDEO: usize = 256;
/// The same for audio.
const REMEMBERED_AUDIO: usize = 64;

/// What a new downstream must know.
#[derive(Debug, Clone, Copy)]
pub struct DownstreamSetup {
    /// The track it copies.
    pub track: TrackKey,
    /// Codec the track began with: its kind and clock are those of all it may change to.
    pub codec: Codec,
    /// Bit mask of the spatial layers the track was negotiated with; 1 for audio.
    pub layers: u8,
    /// SSRC of the copy.
    pub ssrc: u32,
    /// First sequence number: random, below 2^15.
    pub first_seq: u16,
    /// First timestamp: random.
    pub first_time: u32,
    /// Payload types on both sides.
    pub payload_types: PayloadTypes,
    /// The RTX stream, if the subscriber negotiated one.
    pub rtx: Option<RtxSetup>,
    /// The subscriber does not know of packet trailers.
    pub cuts_trailers: bool,
    /// What the subscriber wants.
    pub wish: Wish,
}

/// Which payload types come and which go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTypes {
    /// RED as the publisher sends it, if it may.
    pub source_red: Option<u8>,
    /// What goes out for each other one. RED's newest block goes out as the first of them.
    pub media: TypeMap,
    /// RED as the subscriber negotiated it, if it did.
    pub red: Option<u8>,
}

/// The RTX stream of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtxSetup {
    /// Its SSRC.
    pub ssrc: u32,
    /// Its payload type for each of the copy's.
    pub payload_types: TypeMap,
    /// First sequence number: random, below 2^15.
    pub first_seq: u16,
}

/// Packets not forwarded, by reason, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops {
    /// The publisher muted or the subscriber disabled the track.
    pub paused: u64,
    /// Of a layer that is not current.
    pub layer: u64,
    /// Of a temporal layer not wanted.
    pub temporal: u64,
    /// RED, the subscriber does not read it, and it holds no newest block to send instead.
    pub red: u64,
    /// Sent before.
    pub duplicate: u64,
    /// Late, and its place is gone.
    pub late: u64,
    /// A switch that must wait.
    pub waiting: u64,
    /// Of a codec the subscriber has not: the publisher changed it.
    pub codec: u64,
}

/// A subscriber's copy of a track.
#[derive(Debug)]
pub struct Downstream {
    setup: DownstreamSetup,
    selector: Selector,
    rewriter: Rewriter,
    feedback: Feedback,
    ask: KeyFrameAsk,
    reports: Reports,
    /// As the control plane says.
    muted: bool,
    /// As ingest said with the newest packet.
    source_muted: bool,
    /// Payload type of the publisher that flows; video only.
    format: Option<u8>,
    /// The publisher changed to a codec the subscriber has not: no key frame would help.
    unplayable: bool,
    drops: Drops,
}

impl Downstream {
    /// A copy that has not begun.
    #[must_use]
    pub fn new(setup: DownstreamSetup, now: Instant) -> Self {
        let video = setup.codec.kind() == MediaKind::Video;
        let clock_rate = setup.codec.clock_rate();
        let rtx = setup.rtx.map(|rtx| Rtx {
            ssrc: rtx.ssrc,
            payload_types: rtx.payload_types,
            next: ExtSeq(u64::from(rtx.first_seq & 0x7fff)),
        });
        let remembered = if video {
            REMEMBERED_VIDEO
        } else {
            REMEMBERED_AUDIO
        };
        Self {
            selector: Selector::new(video, setup.layers, setup.wish),
            rewriter: Rewriter::new(video, clock_rate, setup.first_seq, setup.first_time),
            feedback: Feedback::new(setup.ssrc, rtx, remembered, now),
            ask: KeyFrameAsk::default(),
            reports: Reports::new(clock_rate, now),
            muted: false,
            source_muted: false,
            format: None,
            unplayable: false,
            drops: Drops::default(),
            setup,
        }
    }

    /// The subscriber wants something else.
    pub fn handle_wish(&mut self, wish: Wish, now: Instant) {
        self.selector.handle_wish(wish);
        if !wish.enabled {
            self.pause(false, now);
        }
    }

    /// Which layers live at the start, a bit mask; later every packet's source tells.
    pub const fn handle_layers(&mut self, alive: u8) {
        self.selector.handle_layers(alive);
    }

    /// The publisher muted or unmuted the track.
    pub fn handle_publisher_muted(&mut self, muted: bool, now: Instant) {
        self.muted = muted;
        self.source_muted &= muted;
        if muted {
            self.pause(true, now);
        }
    }

    /// Ends the current layer; the copy goes on at the next key frame, or at any audio packet.
    fn pause(&mut self, publisher_muted: bool, now: Instant) {
        self.selector.handle_ended();
        self.rewriter.pause(publisher_muted);
        self.reports.handle_idle(now);
    }

    /// One packet of the track, of any layer. Returns it as the subscriber is to get it, or nothing.
    pub fn forward(&mut self, packet: &Packet, source: &Source, now: Instant) -> Option<Outgoing> {
        if self.is_paused(source, now) {
            self.drops.paused += 1;
            return None;
        }
        let order = self.place(packet, source);
        let Some((payload_type, redundant)) = self.payload_type(packet) else {
            self.leave_out(packet, order);
            return None;
        };
        self.unplayable = false;
        let fresh = matches!(order, Order::Fresh { .. });
        let numbers = match self.selector.choose(packet, source.alive, fresh, now) {
            Choice::Follow { filter } => self.rewriter.follow(packet, order, filter),
            Choice::Switch => self.begin(packet, source, now),
            Choice::Drop => {
                self.drops.layer += 1;
                return None;
            }
        };
        match numbers {
            Ok(numbers) => {
                let mut outgoing = self.outgoing(packet, numbers, payload_type);
                outgoing.skip += redundant;
                self.note_sent(packet, source, &outgoing, now);
                Some(outgoing)
            }
            Err(refusal) => {
                self.count(refusal);
                None
            }
        }
    }

    /// How many of these packets are of the layer that flows: what a subscriber misses who is not to be
    /// reached. Those of a temporal layer that would be left out count too, for without a decision on
    /// them their numbers are missing like the others'.
    #[must_use]
    pub fn flowing(&self, packets: &[Packet], source: &Source) -> u64 {
        let current = self.selector.current().filter(|_| !source.muted);
        let flows = |packet: &&Packet| Some(packet.spatial) == current;
        packets.iter().filter(flows).count() as u64
    }

    /// Where the packet stands; ends the current stream if it cannot go on with it.
    fn place(&mut self, packet: &Packet, source: &Source) -> Order {
        let order = self.rewriter.order(packet, source);
        let jumps = order == Order::Foreign && self.rewriter.is_cut_by(packet, source);
        if jumps {
            self.feedback.handle_jump(packet.spatial);
        }
        // Its numbers and times go on, but a decoder must begin anew.
        let changes = matches!(order, Order::Fresh { .. })
            && self
                .format
                .is_some_and(|format| format != packet.payload_type);
        if jumps || changes {
            self.selector.handle_ended();
            self.rewriter.pause(false);
            self.format = None;
            return Order::Foreign;
        }
        order
    }

    /// A packet there is no payload type for leaves no hole.
    fn leave_out(&mut self, packet: &Packet, order: Order) {
        self.rewriter.skip(packet, order);
        if self.setup.payload_types.source_red == Some(packet.payload_type) {
            self.drops.red += 1;
        } else {
            self.unplayable |= self.selector.current().is_none();
            self.drops.codec += 1;
        }
    }

    fn is_paused(&mut self, source: &Source, now: Instant) -> bool {
        self.source_muted = source.muted;
        if source.muted && self.rewriter.current().is_some() {
            self.pause(true, now);
        }
        source.muted || self.muted || !self.selector.wish().enabled
    }

    fn begin(
        &mut self,
        packet: &Packet,
        source: &Source,
        now: Instant,
    ) -> Result<Numbers, Refusal> {
        let numbers = self.rewriter.begin(packet, source, now)?;
        self.selector.handle_switched(packet.spatial);
        self.format = self.is_video().then_some(packet.payload_type);
        Ok(numbers)
    }

    /// The payload type to send, and how many bytes of redundancy to leave out: a subscriber that
    /// does not read RED gets its newest block. `None` if there is none, or it cannot be told.
    fn payload_type(&self, packet: &Packet) -> Option<(u8, u16)> {
        let types = &self.setup.payload_types;
        if types.source_red != Some(packet.payload_type) {
            return types.media.get(packet.payload_type).map(|own| (own, 0));
        }
        if let Some(red) = types.red {
            return Some((red, 0));
        }
        match packet.codec {
            CodecInfo::Red { primary } if primary < packet.span.len => {
                types.media.first().map(|own| (own, primary))
            }
            _ => None,
        }
    }

    const fn outgoing(&self, packet: &Packet, numbers: Numbers, payload_type: u8) -> Outgoing {
        Outgoing {
            ssrc: self.setup.ssrc,
            seq: numbers.seq,
            time: numbers.time,
            payload_type,
            marker: packet.marker,
            head: numbers.head,
            skip: numbers.skip as u16,
            cut: self.setup.cuts_trailers,
        }
    }

    /// Tells every part that the packet goes out.
    #[inline]
    fn note_sent(&mut self, packet: &Packet, source: &Source, outgoing: &Outgoing, now: Instant) {
        let sent = Sent {
            spatial: packet.spatial,
            source: packet.seq,
            generation: source.generation(packet.spatial),
            outgoing: *outgoing,
        };
        self.feedback.handle_sent(&sent, packet.key_frame, now);
        if packet.key_frame {
            self.ask.handle_key_frame_sent(self.feedback.rtt(), now);
        }
        let trailer = if outgoing.cut { packet.trailer } else { 0 };
        let left_out = usize::from(outgoing.skip) + usize::from(trailer);
        let kept = usize::from(packet.span.len).saturating_sub(left_out);
        self.reports
            .handle_sent(kept + outgoing.head.as_slice().len(), now);
    }

    fn count(&mut self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Filtered => &mut self.drops.temporal,
            Refusal::Duplicate => &mut self.drops.duplicate,
            Refusal::NoPlace => &mut self.drops.late,
            Refusal::NotYet => &mut self.drops.waiting,
        };
        *counter += 1;
    }

    /// The subscriber misses packets of the copy: appends what to resend, a bounded number. The
    /// plane drops those whose payload is gone from the history.
    pub fn handle_nack(
        &mut self,
        seqs: impl Iterator<Item = u16>,
        source: &Source,
        out: &mut Vec<Resend>,
        now: Instant,
    ) {
        self.ask.handle_proof();
        let last = self.rewriter.last_seq();
        let before = out.len();
        self.feedback.handle_nack(seqs, last, source, out, now);
        // The memory of what was sent does not hold it: it is the same for all of a copy.
        for resend in out.iter_mut().skip(before) {
            resend.outgoing.cut = self.setup.cuts_trailers;
        }
    }

    /// A resend without RTX went out with `octets` of payload: it counts in sender reports.
    pub fn handle_resent(&mut self, octets: usize) {
        if self.feedback.resends_in_place() {
            self.reports.handle_resent(octets);
        }
    }

    /// The subscriber asked for a key frame (PLI or FIR).
    pub fn handle_key_frame_request(&mut self) {
        if self.is_video() {
            self.ask.handle_proof();
            self.ask.handle_request();
            self.feedback.handle_key_frame_request();
        }
    }

    /// What was sent of late never reached the subscriber, which does not know yet what it misses.
    pub fn handle_gap(&mut self) {
        if self.is_video() {
            self.ask.handle_request();
        }
    }

    /// The subscriber reported on the copy's SSRC; what that says of this leg.
    pub fn handle_receiver_report(
        &mut self,
        reception: Reception,
        now: Instant,
    ) -> Option<Crossing> {
        self.ask.handle_proof();
        let crossing = self.reports.crossing(&reception, self.rewriter.holes());
        if let Some(rtt) = self.reports.handle_reception(reception, now) {
            self.feedback.handle_round_trip(rtt);
        }
        crossing
    }

    /// The key frame to ask the publisher for: its layer, and whether past the throttle.
    pub fn poll_key_frame_wanted(&mut self, now: Instant) -> Option<(u8, bool)> {
        if self.asks_for_nothing() {
            return None;
        }
        let missing = self.selector.wants_key_frame(now);
        let current = self.current_video();
        self.ask.poll(missing, current, self.feedback.rtt(), now)
    }

    /// The sender report due now. Call it when [`Downstream::poll_timeout`] has come.
    pub fn poll_sender_report(&mut self, source: &Source, now: Instant) -> Option<SenderReport> {
        let clock = self.rewriter.clock(source);
        self.reports.poll(self.setup.ssrc, clock, now)
    }

    /// When to poll for a key frame or a sender report.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let missing = self.selector.wants_key_frame(now);
        let ask = if self.asks_for_nothing() {
            None
        } else {
            let ask = self.ask.poll_timeout(missing, self.current_video(), now);
            ask.or_else(|| self.selector.poll_timeout(now))
        };
        [ask, self.reports.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    const fn asks_for_nothing(&self) -> bool {
        self.muted || self.source_muted || self.unplayable
    }

    fn is_video(&self) -> bool {
        self.setup.codec.kind() == MediaKind::Video
    }

    fn current_video(&self) -> Option<u8> {
        self.selector.current().filter(|_| self.is_video())
    }

    /// What happened since the last window of the quality score.
    pub fn take_window(&mut self, now: Instant) -> ScoreWindow {
        ScoreWindow {
            rtt: self.feedback.measured_rtt(),
            missing_layers: self.selector.missing_layers(),
            ..self.reports.take_window(self.rewriter.holes(), now)
        }
    }

    /// How it was set up.
    #[must_use]
    pub const fn setup(&self) -> &DownstreamSetup {
        &self.setup
    }

    /// What the subscriber wants.
    #[must_use]
    pub const fn wish(&self) -> Wish {
        self.selector.wish()
    }

    /// The spatial layer that flows.
    #[must_use]
    pub const fn current_layer(&self) -> Option<u8> {
        self.selector.current()
    }

    /// The highest spatial layer wanted or still flowing: what the publisher must go on sending.
    #[must_use]
    pub fn highest_layer_in_use(&self) -> Option<u8> {
        self.selector.highest_in_use()
    }

    /// Packets not forwarded.
    #[must_use]
    pub const fn drops(&self) -> Drops {
        self.drops
    }

    /// Packets sent.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.reports.totals()
    }

    /// What became of NACKed packets.
    #[must_use]
    pub const fn nacks(&self) -> NackCounters {
        self.feedback.counters()
    }

    /// The subscriber's newest report.
    #[must_use]
    pub const fn reception(&self) -> Option<Reception> {
        self.reports.newest()
    }

    /// The measured round trip.
    #[must_use]
    pub const fn rtt(&self) -> Option<std::time::Duration> {
        self.feedback.measured_rtt()
    }
}

#[cfg(test)]
mod tests;
