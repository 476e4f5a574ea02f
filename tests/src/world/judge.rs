//! A subscriber's jitter buffer, as far as it decides what people see and hear.
//!
//! Owns what came of one stream: which frames are whole, which could be decoded, how long the
//! picture stood still, what is to be asked for again. Reads the bytes as a receiver must; the
//! truth inside a packet only serves to catch a server that would fool it. Called by a client of
//! the world for each packet of a stream, retransmissions unwrapped.

use super::source::Truth;
use sfu::rtp::vp8;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A packet this far behind the newest is given up, as libwebrtc's buffers do.
const AGE_PACKETS: u64 = 1000;
/// A frame that cannot be completed in so long is skipped.
const PATIENCE: Duration = Duration::from_millis(500);
/// A missing packet is asked for at once, then in these intervals, so many times.
const NACK_AGAIN: Duration = Duration::from_millis(60);
const NACKS_MAX: u8 = 10;
/// A key picture is asked for at most so often; also while nothing can be decoded at all.
const KEY_APART: Duration = Duration::from_millis(300);
/// Sequence numbers missing at once: more is a jump, not a loss.
const MISSING_MAX: u64 = 500;

/// What a stream is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Sound: each packet a frame.
    Opus,
    /// Pictures that name what they stand on.
    Vp8,
    /// Pictures that stand on the one before.
    H264,
}

/// What became of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Packets, each counted once.
    pub packets: u64,
    /// Packets that came again, or after they were given up.
    pub useless: u64,
    /// Frames shown or played.
    pub decoded: u64,
    /// Frames skipped: something of them was missing for too long, or what they stand on.
    pub skipped: u64,
    /// Packets asked for again.
    pub nacked: u64,
    /// Key pictures asked for.
    pub key_requests: u64,
    /// Longest time between two shown frames, while the track was not paused.
    pub longest_freeze: Duration,
    /// Highest layer seen of those decoded.
    pub highest_layer: u8,
    /// Frames decoded although what they truly stand on was never decoded.
    pub fooled: u64,
    /// Packets whose payload is not as it was sent.
    pub spoiled: u64,
    /// Pictures that follow each other and whose picture ids do not.
    pub misnumbered: u64,
}

#[derive(Debug, Clone)]
struct Piece {
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    arrived: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Instant,
    asked: u8,
    next: Instant,
}

/// The jitter buffer of one stream.
#[derive(Debug)]
pub struct Judge {
    codec: Codec,
    /// Packets not used yet, by their extended number.
    waiting: BTreeMap<u64, Piece>,
    missing: BTreeMap<u64, Missing>,
    seen: BTreeSet<u64>,
    /// Numbers of padding.
    empty: BTreeSet<u64>,
    newest: Option<u64>,
    /// The next number of a frame that is to be shown.
    cursor: Option<u64>,
    /// The stream is unbroken up to here: what follows can stand on it.
    intact: bool,
    last_shown: Option<Instant>,
    last_tl0: Option<u8>,
    /// Picture id of the last frame taken.
    last_picture: Option<u16>,
    paused: bool,
    broken_since: Option<Instant>,
    key_asked: Option<Instant>,
    /// The truly last frame shown, for each layer.
    shown: BTreeMap<u8, u32>,
    figures: Figures,
    moments: Vec<(u32, Instant)>,
}

impl Judge {
    /// An empty buffer.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            waiting: BTreeMap::new(),
            missing: BTreeMap::new(),
            seen: BTreeSet::new(),
            empty: BTreeSet::new(),
            newest: None,
            cursor: None,
            intact: false,
            last_shown: None,
            last_tl0: None,
            last_picture: None,
            paused: false,
            broken_since: None,
            key_asked: None,
            shown: BTreeMap::new(),
            figures: Figures {
                packets: 0,
                useless: 0,
                decoded: 0,
                skipped: 0,
                nacked: 0,
                key_requests: 0,
                longest_freeze: Duration::ZERO,
                highest_layer: 0,
                fooled: 0,
                spoiled: 0,
                misnumbered: 0,
            },
            moments: Vec::new(),
        }
    }

    /// What the stream is made of.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Totals so far.
    #[must_use]
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// Of each frame that was shown: when it was captured (see [`Truth`]), and when it was shown.
    #[must_use]
    pub fn moments(&self) -> &[(u32, Instant)] {
        &self.moments
    }

    /// Muted or not wanted: a still picture is right now, and the time of it is not counted.
    pub const fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.last_shown = None;
    }

    /// A packet of the stream came, or was recovered.
    pub fn handle(
        &mut self,
        (seq, timestamp): (u16, u32),
        marker: bool,
        payload: &[u8],
        now: Instant,
    ) {
        let seq = self.extend(seq);
        if self.cursor.is_some_and(|cursor| seq < cursor) || !self.seen.insert(seq) {
            self.figures.useless += 1;
            return;
        }
        self.note_missing(seq, now);
        self.missing.remove(&seq);
        if payload.is_empty() {
            self.empty.insert(seq);
            self.advance(now);
            return;
        }
        self.figures.packets += 1;
        if self.codec != Codec::Opus && !self.intact {
            self.broken_since.get_or_insert(now);
        }
        let truth = Truth::read(payload);
        self.figures.spoiled += u64::from(!truth.is_some_and(|truth| truth.whole));
        if self.codec == Codec::Opus {
            self.show(truth, now);
            return;
        }
        let piece = Piece {
            timestamp,
            marker,
            payload: payload.to_vec(),
            arrived: now,
        };
        self.waiting.insert(seq, piece);
        self.advance(now);
    }

    /// Time passes: frames are given up, and what is missing is asked for.
    pub fn poll(&mut self, now: Instant) -> Vec<u16> {
        if self.codec != Codec::Opus {
            self.advance(now);
            self.give_up(now);
        }
        let mut wanted = Vec::new();
        for (seq, missing) in &mut self.missing {
            if missing.asked < NACKS_MAX && missing.next <= now {
                missing.asked += 1;
                missing.next = now + NACK_AGAIN;
                wanted.push(*seq as u16);
            }
        }
        let given_up =
            |missing: &Missing| now.saturating_duration_since(missing.since) > 2 * PATIENCE;
        self.missing.retain(|_, missing| !given_up(missing));
        self.figures.nacked += wanted.len() as u64;
        wanted
    }

    /// Is a key picture to be asked for now? Pictures wait for one, and none was asked for just now.
    pub fn wants_key_frame(&mut self, now: Instant) -> bool {
        let pictures = self.codec != Codec::Opus;
        let recent = |at: Instant| now.saturating_duration_since(at) < KEY_APART;
        let wanted = pictures && self.newest.is_some() && !self.intact && !self.paused;
        let fresh = self.broken_since.is_none_or(recent);
        if !wanted || fresh || self.key_asked.is_some_and(recent) {
            return false;
        }
        self.key_asked = Some(now);
        self.figures.key_requests += 1;
        true
    }

    fn extend(&self, seq: u16) -> u64 {
        let Some(newest) = self.newest else {
            return 0x1_0000 + u64::from(seq);
        };
        let ahead = seq.wrapping_sub(newest as u16) as i16;
        newest.saturating_add_signed(i64::from(ahead))
    }

    fn note_missing(&mut self, seq: u64, now: Instant) {
        if let Some(newest) = self.newest
            && seq > newest
            && seq - newest < MISSING_MAX
        {
            for lost in newest + 1..seq {
                let missing = Missing {
                    since: now,
                    asked: 0,
                    next: now,
                };
                self.missing.insert(lost, missing);
            }
        }
        let newest = self.newest.map_or(seq, |newest| newest.max(seq));
        self.newest = Some(newest);
        let oldest = newest.saturating_sub(AGE_PACKETS);
        self.seen = self.seen.split_off(&oldest);
        self.empty = self.empty.split_off(&oldest);
        self.missing = self.missing.split_off(&oldest);
    }

    /// Shows every frame whose turn has come.
    fn advance(&mut self, now: Instant) {
        loop {
            let Some(first) = self.first() else { return };
            let Some(last) = self.end_of(first) else {
                return;
            };
            self.take(first, last, now);
        }
    }

    /// The number the next frame begins with, if it is there: after the last one shown, or a key
    /// picture.
    fn first(&mut self) -> Option<u64> {
        while let Some(cursor) = &mut self.cursor
            && self.empty.contains(cursor)
        {
            *cursor += 1;
        }
        if let Some(cursor) = self.cursor.filter(|_| self.intact) {
            return self.waiting.contains_key(&cursor).then_some(cursor);
        }
        let starts = |piece: &Piece| self.starts_key(&piece.payload);
        let found = self.waiting.iter().find(|(_, piece)| starts(piece));
        found.map(|(seq, _)| *seq)
    }

    fn starts_key(&self, payload: &[u8]) -> bool {
        match self.codec {
            Codec::Vp8 => vp8::Descriptor::parse(payload).is_some_and(|read| read.key_frame),
            Codec::H264 => sfu::rtp::h264::starts_key_frame(payload),
            Codec::Opus => true,
        }
    }

    /// The last packet of the frame that begins with `first`, if it is whole.
    fn end_of(&self, first: u64) -> Option<u64> {
        let timestamp = self.waiting.get(&first)?.timestamp;
        let mut seq = first;
        loop {
            let piece = self.waiting.get(&seq)?;
            // A frame that was cut short by a switch has no end of its own.
            if piece.timestamp != timestamp {
                return Some(seq - 1);
            }
            if piece.marker {
                return Some(seq);
            }
            seq += 1;
        }
    }

    fn take(&mut self, first: u64, last: u64, now: Instant) {
        let key = self
            .waiting
            .get(&first)
            .is_some_and(|piece| self.starts_key(&piece.payload));
        let later = self.waiting.split_off(&(last + 1));
        let frame = std::mem::replace(&mut self.waiting, later);
        let before = frame.range(..first).count();
        self.figures.skipped += u64::from(before > 0);
        let pieces: Vec<Piece> = frame.into_values().skip(before).collect();
        self.missing = self.missing.split_off(&last);
        self.check_number(self.cursor == Some(first), &pieces);
        self.cursor = Some(last + 1);
        if !self.can_stand(&pieces[0].payload, key) {
            self.figures.skipped += 1;
            self.breaks(now);
            return;
        }
        self.intact = true;
        self.broken_since = None;
        self.judge_truth(&pieces, key);
        self.show(Truth::read(&pieces[0].payload), now);
    }

    /// One picture, one id; the next picture the next id. (RFC 7741 §4.2)
    fn check_number(&mut self, follows: bool, pieces: &[Piece]) {
        if self.codec != Codec::Vp8 {
            return;
        }
        let id = |piece: &Piece| Some(vp8::Descriptor::parse(&piece.payload)?.picture_id?.value);
        let ids: Vec<Option<u16>> = pieces.iter().map(id).collect();
        let same = ids.windows(2).all(|pair| pair[0] == pair[1]);
        let next = self.last_picture.map(|last| (last + 1) & 0x7FFF);
        if !same || (follows && next.is_some() && ids[0] != next) {
            self.figures.misnumbered += 1;
        }
        self.last_picture = ids[0];
    }

    /// VP8 with temporal layers tells by TL0PICIDX which base picture it stands on.
    fn can_stand(&mut self, payload: &[u8], key: bool) -> bool {
        if self.codec != Codec::Vp8 {
            return true;
        }
        let Some(read) = vp8::Descriptor::parse(payload) else {
            return false;
        };
        let (Some(tl0), Some(temporal)) = (read.tl0_index, read.temporal) else {
            return true;
        };
        let expected = self
            .last_tl0
            .map(|last| last.wrapping_add(u8::from(temporal.layer == 0)));
        let stands = key || expected == Some(tl0);
        if stands {
            self.last_tl0 = Some(tl0);
        }
        stands
    }

    fn judge_truth(&mut self, pieces: &[Piece], key: bool) {
        let truths: Vec<Truth> = pieces
            .iter()
            .filter_map(|piece| Truth::read(&piece.payload))
            .collect();
        let Some(truth) = truths.first().copied() else {
            self.figures.fooled += 1;
            return;
        };
        let whole = truths.len() == usize::from(truth.pieces)
            && truths
                .iter()
                .all(|other| (other.layer, other.frame) == (truth.layer, truth.frame));
        let base = self.shown.get(&truth.layer).copied();
        let stands = key || base.is_some_and(|base| truth.frame > base);
        if !whole || !stands || key != truth.key {
            self.figures.fooled += 1;
        }
        if key {
            self.shown.clear();
        }
        self.shown.insert(truth.layer, truth.frame);
        self.figures.highest_layer = self.figures.highest_layer.max(truth.layer);
    }

    /// The oldest frame is not completed in time: all is lost until a key picture.
    fn give_up(&mut self, now: Instant) {
        let Some((_, oldest)) = self.waiting.iter().next() else {
            return;
        };
        if now.saturating_duration_since(oldest.arrived) < PATIENCE {
            return;
        }
        if self.intact {
            self.figures.skipped += 1;
            self.breaks(now);
        }
        // What no key picture begins is of no use.
        let keep = self
            .waiting
            .iter()
            .find(|(_, piece)| self.starts_key(&piece.payload));
        let keep = keep.map(|(seq, _)| *seq);
        let stale = keep.is_none_or(|seq| {
            let piece = &self.waiting[&seq];
            now.saturating_duration_since(piece.arrived) >= 2 * PATIENCE
        });
        if stale {
            let after = keep.map_or(u64::MAX, |seq| seq + 1);
            self.waiting = self.waiting.split_off(&after);
        }
    }

    fn breaks(&mut self, now: Instant) {
        self.intact = false;
        self.broken_since.get_or_insert(now);
    }

    fn show(&mut self, truth: Option<Truth>, now: Instant) {
        if let Some(last) = self.last_shown
            && !self.paused
        {
            let still = now.saturating_duration_since(last);
            self.figures.longest_freeze = self.figures.longest_freeze.max(still);
        }
        self.last_shown = Some(now);
        self.figures.decoded += 1;
        self.moments
            .extend(truth.map(|truth| (truth.captured_us, now)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Kind, Source};
    use super::*;

    const KIND: Kind = Kind::Vp8 {
        layers: 1,
        temporal: 3,
    };

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// What is done to the packet with a running number.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Arrives,
        Lost,
        /// Comes when asked for, a round trip later.
        Late,
    }

    /// A stream of so many seconds; key pictures asked for are made.
    fn watch(kind: Kind, codec: Codec, seconds: u64, fate: impl Fn(u64) -> Fate) -> (Judge, u64) {
        let start = origin();
        let mut source = Source::new(kind, 5, start);
        let mut judge = Judge::new(codec);
        let (mut seq, mut late) = (65_500_u64, Vec::new());
        for ms in 0..seconds * 1000 {
            let now = start + Duration::from_millis(ms);
            for packet in source.poll(now) {
                let name = (seq as u16, packet.timestamp);
                match fate(seq - 65_500) {
                    Fate::Arrives => judge.handle(name, packet.marker, &packet.payload, now),
                    Fate::Lost => {}
                    Fate::Late => late.push((now + Duration::from_millis(80), name, packet)),
                }
                seq += 1;
            }
            for (at, name, packet) in &late {
                if *at == now {
                    judge.handle(*name, packet.marker, &packet.payload, now);
                }
            }
            judge.poll(now);
            if judge.wants_key_frame(now) {
                source.ask_key_frame(0, now);
            }
        }
        (judge, seq - 65_500)
    }

    #[test]
    fn a_whole_stream_is_shown_whole() {
        for (kind, codec, frames) in [
            (KIND, Codec::Vp8, 300),
            (Kind::H264, Codec::H264, 300),
            (Kind::Opus { dtx: false }, Codec::Opus, 500),
        ] {
            let (judge, packets) = watch(kind, codec, 10, |_| Fate::Arrives);
            let figures = judge.figures();
            assert_eq!((figures.decoded, figures.skipped), (frames, 0), "{codec:?}");
            assert_eq!((figures.packets, figures.fooled), (packets, 0));
            assert!(figures.longest_freeze <= Duration::from_millis(34));
        }
    }

    #[test]
    fn a_packet_that_comes_when_asked_for_costs_no_frame() {
        let (judge, _) = watch(KIND, Codec::Vp8, 10, |n| {
            if n % 40 == 7 {
                Fate::Late
            } else {
                Fate::Arrives
            }
        });
        let figures = judge.figures();
        assert_eq!(
            (figures.decoded, figures.skipped, figures.fooled),
            (300, 0, 0)
        );
        assert!(figures.nacked > 0 && figures.key_requests == 0);
        assert!(figures.longest_freeze > Duration::from_millis(60));
    }

    #[test]
    fn what_a_server_must_not_change_is_seen_when_it_is_changed() {
        let spoil = |at: fn(&[u8]) -> usize| {
            let start = origin();
            let mut source = Source::new(KIND, 5, start);
            let mut judge = Judge::new(Codec::Vp8);
            let packets = source.poll(start + Duration::from_secs(2));
            for (n, mut packet) in (0_u16..).zip(packets) {
                if n == 30 {
                    let at = at(&packet.payload);
                    packet.payload[at] ^= 1;
                }
                let name = (n, packet.timestamp);
                judge.handle(name, packet.marker, &packet.payload, start);
            }
            judge.figures()
        };
        let whole = |figures: Figures| (figures.spoiled, figures.misnumbered, figures.fooled);
        assert_eq!(whole(spoil(|payload| payload.len() - 1)), (1, 0, 0));
        // The low byte of the picture id, of a packet that is not all of its frame or is.
        assert!(whole(spoil(|_| 3)).1 > 0);
        // TL0PICIDX: what stands on another picture is not shown.
        assert!(spoil(|_| 4).skipped > 0);
        // The frame's number in the truth: its packets are of two frames, or it was shown before.
        assert!(
            whole(spoil(|payload| {
                let at = payload.windows(2).position(|pair| pair == [0xF0, 0xC1]);
                at.expect("a truth") + 4
            }))
            .2 > 0
        );
    }

    #[test]
    fn a_lost_packet_freezes_the_picture_until_a_key_picture_that_was_asked_for() {
        for (kind, codec) in [(KIND, Codec::Vp8), (Kind::H264, Codec::H264)] {
            let (judge, _) = watch(kind, codec, 10, |n| {
                if n == 100 { Fate::Lost } else { Fate::Arrives }
            });
            let figures = judge.figures();
            assert!(
                figures.skipped > 0 && figures.key_requests > 0,
                "{figures:?}"
            );
            assert!(figures.longest_freeze > Duration::from_millis(500));
            assert!(figures.longest_freeze < Duration::from_millis(1200));
            assert!(figures.decoded > 200 && figures.fooled == 0, "{figures:?}");
        }
    }
}
