//! What encoders of a call put out: speech with pauses, pictures in layers, each packet with its
//! truth inside.
//!
//! Owns the clock, the numbering and the sizes of one track's packets; knows nothing of SSRCs,
//! sequence numbers or keys. Called by a client of the world, which sends what comes.

use super::invariants::print;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// Opus frames. (RFC 7587 §4.2)
const SPEECH_EVERY: Duration = Duration::from_millis(20);
/// In a pause an encoder with DTX sends one frame in so long. (RFC 7587 §3.1.3)
const COMFORT_EVERY: Duration = Duration::from_millis(400);
/// 30 pictures a second, in units of the 90 kHz clock.
const PICTURE_TICKS: u32 = 3000;
const PICTURE_EVERY: Duration = Duration::from_nanos(33_333_333);
/// Payload of one packet at most, as libwebrtc cuts them with all its headers.
const PIECE_BYTES: usize = 1100;
/// Bytes of a picture of each layer, on average; key pictures have so many times more.
const PICTURE_BYTES: [usize; 3] = [600, 1900, 6000];
const KEY_TIMES: usize = 5;
/// An encoder makes no two key pictures within this, as libwebrtc.
const KEY_APART: Duration = Duration::from_millis(300);
/// Marks where the truth begins.
const MAGIC: [u8; 2] = [0xF0, 0xC1];
/// Bytes of the truth: magic, layer and temporal layer, key, frame, piece, pieces, capture, check sum
/// of the rest.
pub const TRUTH_BYTES: usize = 20;

/// A track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sound.
    Opus {
        /// Silence is not sent.
        dtx: bool,
    },
    /// Pictures.
    Vp8 {
        /// Simulcast layers, 1 to 3.
        layers: u8,
        /// Temporal layers, 1 to 3; 0 for pictures without numbers of any kind.
        temporal: u8,
    },
    /// Pictures in one layer.
    H264,
}

impl Kind {
    /// Is it sound?
    #[must_use]
    pub const fn is_sound(self) -> bool {
        matches!(self, Self::Opus { .. })
    }

    /// Ticks of its RTP clock in a second. (RFC 7587 §4.1, RFC 7741 §4.1, RFC 6184 §5.1)
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        if self.is_sound() { 48_000 } else { 90_000 }
    }

    /// Streams it is sent in.
    #[must_use]
    pub const fn layers(self) -> u8 {
        match self {
            Self::Vp8 { layers, .. } => layers,
            _ => 1,
        }
    }
}

/// A packet before it has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Simulcast layer, 0 lowest.
    pub layer: u8,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// What is to be sealed.
    pub payload: Vec<u8>,
    /// Sound: how loud, in -dBov. (RFC 6464)
    pub level: Option<u8>,
}

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truth {
    /// Simulcast layer.
    pub layer: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Part of a key picture.
    pub key: bool,
    /// The frame's number in its layer.
    pub frame: u32,
    /// The packet's place in its frame.
    pub piece: u16,
    /// Packets of the frame.
    pub pieces: u16,
    /// When it was captured, in microseconds since its publisher's tracks began.
    pub captured_us: u32,
    /// What follows is as it was sent. Always true where it is written.
    pub whole: bool,
}

impl Truth {
    /// Reads it from a payload as a subscriber got it, whatever stands before.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        // What stands before may look like it by chance.
        let starts = payload.windows(2).enumerate();
        let mut found = starts
            .filter(|(_, pair)| *pair == MAGIC)
            .filter_map(|(at, _)| Self::read_at(payload, at));
        let first = found.next()?;
        Some(if first.whole {
            first
        } else {
            found.find(|truth| truth.whole).unwrap_or(first)
        })
    }

    fn read_at(payload: &[u8], at: usize) -> Option<Self> {
        let bytes: &[u8; TRUTH_BYTES] = payload.get(at..at + TRUTH_BYTES)?.try_into().ok()?;
        Some(Self {
            layer: bytes[2] >> 4,
            temporal: bytes[2] & 0x0F,
            key: bytes[3] == 1,
            frame: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            piece: u16::from_be_bytes([bytes[8], bytes[9]]),
            pieces: u16::from_be_bytes([bytes[10], bytes[11]]),
            captured_us: u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            whole: bytes[16..] == sum(&payload[at + TRUTH_BYTES..]).to_be_bytes(),
        })
    }

    fn write(self, rest: &[u8], out: &mut Vec<u8>) {
        out.extend(MAGIC);
        out.push((self.layer << 4) | self.temporal);
        out.push(u8::from(self.key));
        out.extend(self.frame.to_be_bytes());
        out.extend(self.piece.to_be_bytes());
        out.extend(self.pieces.to_be_bytes());
        out.extend(self.captured_us.to_be_bytes());
        out.extend(sum(rest).to_be_bytes());
        out.extend(rest);
    }
}

/// FNV-1a.
fn sum(bytes: &[u8]) -> u32 {
    print(bytes) as u32
}

/// One layer's encoder.
#[derive(Debug)]
struct Encoder {
    frame: u32,
    picture_id: u16,
    tl0: u8,
    key_wanted: bool,
    last_key: Option<Instant>,
    /// Each layer's RTP clock begins anywhere. (RFC 3550 §5.1)
    clock: u32,
}

/// One track's encoders.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    encrypted: bool,
    muted: bool,
    highest: Option<u8>,
    encoders: Vec<Encoder>,
    /// Position in the rhythm of temporal layers, common to all layers.
    beat: u32,
    /// RTP time of what comes next, without the layer's own beginning.
    timestamp: u32,
    start: Instant,
    next: Instant,
    speaking_until: Instant,
    pause_until: Instant,
    comfort_at: Instant,
    talk_spurt: bool,
    chance: StdRng,
    /// Of bytes that mean nothing: sizes and times do not hang on it.
    static_noise: StdRng,
}

impl Source {
    /// Encoders that begin now; all their chance comes from `seed`.
    #[must_use]
    pub fn new(kind: Kind, seed: u64, now: Instant) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let encoders = (0..kind.layers())
            .map(|_| Encoder {
                frame: 0,
                picture_id: chance.random::<u16>() & 0x7FFF,
                tl0: chance.random(),
                key_wanted: true,
                last_key: None,
                clock: chance.random(),
            })
            .collect();
        Self {
            kind,
            encrypted: false,
            muted: false,
            highest: Some(kind.layers() - 1),
            encoders,
            beat: 0,
            timestamp: 0,
            start: now,
            next: now,
            speaking_until: now + Duration::from_secs(2),
            pause_until: now,
            comfort_at: now,
            talk_spurt: true,
            chance,
            static_noise: StdRng::seed_from_u64(seed),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// End-to-end encryption: all but what must stay clear looks like noise. The truth stays, so
    /// that both kinds can be judged alike.
    #[must_use]
    pub const fn encrypted(mut self, encrypted: bool) -> Self {
        self.encrypted = encrypted;
        self
    }

    /// A muted track sends nothing; what follows begins with a key picture.
    pub fn set_muted(&mut self, muted: bool) {
        if self.muted && !muted {
            self.want_keys();
        }
        self.muted = muted;
    }

    /// The highest layer that is to be sent, `None` for none. (LK: dynacast)
    pub fn send_up_to(&mut self, highest: Option<u8>) {
        let before = self.highest;
        self.highest = highest.map(|layer| layer.min(self.kind.layers() - 1));
        for (layer, encoder) in (0..).zip(&mut self.encoders) {
            let was = before.is_some_and(|highest| layer <= highest);
            let is = self.highest.is_some_and(|highest| layer <= highest);
            encoder.key_wanted |= is && !was;
        }
    }

    /// A layer's next picture is to be a key picture, unless one was just made.
    pub fn ask_key_frame(&mut self, layer: u8, now: Instant) {
        if let Some(encoder) = self.encoders.get_mut(usize::from(layer)) {
            let recent = |at: Instant| now.saturating_duration_since(at) < KEY_APART;
            encoder.key_wanted |= !encoder.last_key.is_some_and(recent);
        }
    }

    /// When [`Self::poll`] has something again.
    #[must_use]
    pub const fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// The packets due now, in order.
    pub fn poll(&mut self, now: Instant) -> Vec<Packet> {
        let mut packets = Vec::new();
        while self.next <= now {
            let at = self.next;
            match self.kind {
                Kind::Opus { dtx } => {
                    packets.extend(self.speak(dtx, at));
                    self.timestamp = self.timestamp.wrapping_add(960);
                    self.next += SPEECH_EVERY;
                }
                Kind::Vp8 { .. } | Kind::H264 => {
                    if !self.muted {
                        self.film(at, &mut packets);
                    }
                    self.timestamp = self.timestamp.wrapping_add(PICTURE_TICKS);
                    self.beat = self.beat.wrapping_add(1);
                    self.next += PICTURE_EVERY;
                }
            }
        }
        packets
    }

    /// RTP time of a layer at `now`, as a sender report tells it: no packet needs to bear it.
    #[must_use]
    pub fn rtp_time(&self, layer: u8, now: Instant) -> u32 {
        let rate = self.kind.clock_rate();
        let ticks = |span: Duration| (span.as_secs_f64() * f64::from(rate)).round() as u32;
        let encoder = &self.encoders[usize::from(layer)];
        let then = self.timestamp.wrapping_add(encoder.clock);
        then.wrapping_add(ticks(now.saturating_duration_since(self.next)))
            .wrapping_sub(ticks(self.next.saturating_duration_since(now)))
    }

    fn since_start_us(&self, at: Instant) -> u32 {
        at.saturating_duration_since(self.start).as_micros() as u32
    }

    fn want_keys(&mut self) {
        for encoder in &mut self.encoders {
            encoder.key_wanted = true;
        }
    }

    /// Speech comes in spurts with pauses.
    fn speak(&mut self, dtx: bool, at: Instant) -> Option<Packet> {
        if at >= self.speaking_until && at >= self.pause_until {
            let pause = Duration::from_millis(self.chance.random_range(300..1500));
            let speech = Duration::from_millis(self.chance.random_range(800..3000));
            self.pause_until = at + pause;
            self.speaking_until = self.pause_until + speech;
        }
        let silent = at < self.pause_until;
        if self.muted {
            return None;
        }
        if silent && dtx {
            self.talk_spurt = true;
            if at < self.comfort_at {
                return None;
            }
            self.comfort_at = at + COMFORT_EVERY;
        }
        let captured_us = self.since_start_us(at);
        let encoder = &mut self.encoders[0];
        encoder.frame += 1;
        let mut payload = vec![0x78];
        let truth = Truth {
            layer: 0,
            temporal: 0,
            key: true,
            frame: encoder.frame,
            piece: 0,
            pieces: 1,
            captured_us,
            whole: true,
        };
        let more = if silent { 2 } else { 60 };
        let rest: Vec<u8> = (0..more).map(|_| noise(&mut self.static_noise)).collect();
        truth.write(&rest, &mut payload);
        let marker = std::mem::take(&mut self.talk_spurt) && !silent;
        let level = Some(if silent { 127 } else { 25 });
        Some(Packet {
            layer: 0,
            timestamp: self.timestamp.wrapping_add(encoder.clock),
            marker,
            payload,
            level,
        })
    }

    fn film(&mut self, at: Instant, packets: &mut Vec<Packet>) {
        let Some(highest) = self.highest else {
            return;
        };
        let temporal = match self.kind {
            Kind::Vp8 { temporal, .. } => rhythm(self.beat, temporal),
            _ => 0,
        };
        for layer in 0..=highest {
            self.encode(layer, temporal, at, packets);
        }
    }

    fn encode(&mut self, layer: u8, temporal: u8, at: Instant, packets: &mut Vec<Packet>) {
        let captured_us = self.since_start_us(at);
        let encoder = &mut self.encoders[usize::from(layer)];
        // A key picture belongs to the lowest temporal layer; the rhythm waits for nobody.
        let key = encoder.key_wanted;
        let temporal = if key { 0 } else { temporal };
        if key {
            encoder.key_wanted = false;
            encoder.last_key = Some(at);
        }
        encoder.frame += 1;
        encoder.picture_id = (encoder.picture_id + 1) & 0x7FFF;
        if temporal == 0 {
            encoder.tl0 = encoder.tl0.wrapping_add(1);
        }
        let (frame, picture_id, tl0) = (encoder.frame, encoder.picture_id, encoder.tl0);
        let timestamp = self.timestamp.wrapping_add(encoder.clock);
        let mean = PICTURE_BYTES[usize::from(layer).min(2)] * if key { KEY_TIMES } else { 1 };
        let bytes = mean / 2 + self.chance.random_range(0..mean);
        let pieces = bytes.div_ceil(PIECE_BYTES).max(1) as u16;
        for piece in 0..pieces {
            let truth = Truth {
                layer,
                temporal,
                key,
                frame,
                piece,
                pieces,
                captured_us,
                whole: true,
            };
            let mut payload = match self.kind {
                Kind::H264 => h264_front(truth),
                _ => vp8_front(truth, picture_id, tl0, self.kind),
            };
            let share = bytes / usize::from(pieces);
            let noisy = self.encrypted;
            let byte =
                |n: usize, chance: &mut StdRng| if noisy { noise(chance) } else { n as u8 & 0x3F };
            let rest: Vec<u8> = (0..share)
                .map(|n| byte(n, &mut self.static_noise))
                .collect();
            truth.write(&rest, &mut payload);
            packets.push(Packet {
                layer,
                timestamp,
                marker: piece + 1 == pieces,
                payload,
                level: None,
            });
        }
    }
}

/// A byte that cannot be taken for the beginning of a truth.
fn noise(chance: &mut StdRng) -> u8 {
    chance.random_range(0..MAGIC[1])
}

/// The temporal layer of a picture: 0, 0 1, or 0 2 1 2. (libwebrtc's patterns)
const fn rhythm(beat: u32, temporal: u8) -> u8 {
    match (temporal, beat % 4) {
        (2, 1 | 3) => 1,
        (3, 1 | 3) => 2,
        (3, 2) => 1,
        _ => 0,
    }
}

/// The payload descriptor with all that libwebrtc writes, and the frame header. (RFC 7741 §4.2, §4.3)
fn vp8_front(truth: Truth, picture_id: u16, tl0: u8, kind: Kind) -> Vec<u8> {
    let layered = matches!(kind, Kind::Vp8 { temporal, .. } if temporal > 1);
    let start = u8::from(truth.piece == 0) << 4;
    let numbered = !matches!(kind, Kind::Vp8 { temporal: 0, .. });
    let non_reference = u8::from(layered && truth.temporal > 0 && is_top(truth, kind)) << 5;
    let mut front = vec![(u8::from(numbered) << 7) | non_reference | start];
    if numbered {
        front.push(if layered { 0xE0 } else { 0x80 });
        front.extend([0x80 | (picture_id >> 8) as u8, picture_id as u8]);
    }
    if layered {
        front.extend([tl0, truth.temporal << 6]);
    }
    if truth.piece == 0 {
        front.extend([u8::from(!truth.key), 0, 0]);
        if truth.key {
            let width = 320_u16 << truth.layer;
            let height = 180_u16 << truth.layer;
            front.extend([0x9D, 0x01, 0x2A]);
            front.extend(width.to_le_bytes());
            front.extend(height.to_le_bytes());
        }
    }
    front
}

fn is_top(truth: Truth, kind: Kind) -> bool {
    matches!(kind, Kind::Vp8 { temporal, .. } if truth.temporal + 1 == temporal)
}

/// One NAL unit alone, or a fragment of it: parameter sets come as a unit of their own in front of
/// the key picture's slice, in one aggregate. (RFC 6184 §5.6, §5.7.1, §5.8)
fn h264_front(truth: Truth) -> Vec<u8> {
    let slice = if truth.key { 5 } else { 1 };
    match (truth.pieces, truth.piece, truth.key) {
        (1, _, false) => vec![0x60 | slice],
        // STAP-A that begins with the sequence parameter set.
        (_, 0, true) => vec![0x78, 0, 4, 0x67, 0x42, 0xE0, 0x1F, 0, 2, 0x68, 0xCE, 0, 0],
        (pieces, piece, _) => {
            let first = u8::from(piece == 0 || (truth.key && piece == 1)) << 7;
            let last = u8::from(piece + 1 == pieces) << 6;
            vec![0x60 | 28, first | last | slice]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::rtp::{h264, vp8};

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn run(kind: Kind, span: Duration) -> Vec<Packet> {
        let start = origin();
        Source::new(kind, 3, start).poll(start + span)
    }

    #[test]
    fn pictures_of_three_layers_carry_descriptors_that_can_be_read() {
        let kind = Kind::Vp8 {
            layers: 3,
            temporal: 3,
        };
        let packets = run(kind, Duration::from_secs(1));
        let mut frames = [0_u32; 3];
        for packet in &packets {
            let truth = Truth::read(&packet.payload).expect("a truth");
            let read = vp8::Descriptor::parse(&packet.payload).expect("a descriptor");
            assert_eq!(read.key_frame, truth.key && truth.piece == 0);
            assert_eq!(read.temporal.map(|t| t.layer), Some(truth.temporal));
            assert_eq!(packet.marker, truth.piece + 1 == truth.pieces);
            frames[usize::from(packet.layer)] += u32::from(packet.marker);
        }
        assert_eq!(frames, [31; 3]);
    }

    #[test]
    fn h264_tells_its_key_pictures_and_no_others() {
        for packet in run(Kind::H264, Duration::from_secs(2)) {
            let truth = Truth::read(&packet.payload).expect("a truth");
            let begins = h264::starts_key_frame(&packet.payload);
            assert_eq!(begins, truth.key && truth.piece == 0, "{truth:?}");
        }
    }

    #[test]
    fn silence_is_not_sent_with_discontinuous_transmission() {
        let span = Duration::from_secs(20);
        let all = run(Kind::Opus { dtx: false }, span).len();
        let some = run(Kind::Opus { dtx: true }, span).len();
        assert_eq!(all, 1001);
        assert!((400..900).contains(&some), "{some}");
    }

    #[test]
    fn a_layer_that_comes_back_and_a_request_bring_a_key_picture() {
        let start = origin();
        let kind = Kind::Vp8 {
            layers: 2,
            temporal: 1,
        };
        let mut source = Source::new(kind, 3, start);
        let key = |packets: &[Packet], layer| {
            let of = |p: &&Packet| p.layer == layer;
            let mut truths = packets
                .iter()
                .filter(of)
                .filter_map(|p| Truth::read(&p.payload));
            truths.any(|truth| truth.key)
        };
        let second = Duration::from_secs(1);
        source.poll(start + second);
        source.send_up_to(Some(0));
        assert!(!key(&source.poll(start + 2 * second), 1));
        source.send_up_to(Some(1));
        let packets = source.poll(start + 3 * second);
        assert!(key(&packets, 1) && !key(&packets, 0));
        source.ask_key_frame(0, start + 3 * second);
        let packets = source.poll(start + 4 * second);
        assert!(key(&packets, 0) && !key(&packets, 1));
    }
}
