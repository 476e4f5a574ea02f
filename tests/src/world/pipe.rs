//! One direction of a TCP connection in the world: bytes in order or not at all.
//!
//! Owns what was written and not acknowledged, the window, and what the receiver holds until a hole
//! before it is filled. Segments and acknowledgements go by the world's roads, where they are lost,
//! late and out of turn as any datagram; they are cut where chance has it. Knows no frame. Driven by
//! the world; all its chance comes from a seed. (RFC 9293, RFC 5681, RFC 2018 as far as a call can
//! tell)

use crate::link::Link;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The largest segment: what any road of the world takes.
const SEGMENT_BYTES: usize = 1200;
/// What TCP has more of headers than UDP, for a road's rate.
pub const HEAD_BYTES: usize = 12;
/// Bytes that may wait unsent of a server, which has the kernel tell it to come again beyond.
/// (`TCP_NOTSENT_LOWAT`)
pub const SERVER_UNSENT: usize = 32 * 1024;
/// The same of a client: what libwebrtc and the kernel keep for it.
pub const CLIENT_UNSENT: usize = 256 * 1024;
/// The window at first, at least and at most. (RFC 6928)
const WINDOW_FIRST: usize = 10 * SEGMENT_BYTES;
const WINDOW_LEAST: usize = 2 * SEGMENT_BYTES;
const WINDOW_MOST: usize = 1 << 20;
/// The round trip while none was measured.
const ROUND_TRIP_FIRST: Duration = Duration::from_millis(200);
/// A loss is noticed after two round trips, but no sooner; what is lost again after this and twice as
/// long each time. (As RACK and the timer of Linux have it)
const NOTICED_LEAST: Duration = Duration::from_millis(30);
const AGAIN_LEAST: Duration = Duration::from_millis(200);
const AGAIN_MOST: Duration = Duration::from_secs(60);

/// Bytes on their way that were not acknowledged.
#[derive(Debug, Clone, Copy)]
struct Segment {
    len: usize,
    sent: Instant,
    again: Instant,
    tries: u32,
}

/// What reaches the other end of a road.
#[derive(Debug)]
enum Arrival {
    /// Bytes from an offset on.
    Bytes(u64, Vec<u8>),
    /// All before the first offset has come, and the segment that begins at the second one.
    Ack(u64, u64),
}

/// One direction.
#[derive(Debug)]
pub struct Pipe {
    chance: StdRng,
    /// Bytes that may wait unsent; a writer is told to come again beyond.
    unsent: usize,
    /// Written, and not acknowledged from the front on.
    buffer: VecDeque<u8>,
    /// Offset of the buffer's first byte, and of the first one that was never sent.
    base: u64,
    next: u64,
    flying: BTreeMap<u64, Segment>,
    window: usize,
    threshold: usize,
    /// The window shrinks once a round trip.
    shrunk: Option<Instant>,
    round_trip: Duration,
    arriving: BTreeMap<(Instant, u64), Arrival>,
    count: u64,
    /// The receiver's: the next byte wanted, what came before its turn, what may be read.
    wanted: u64,
    held: BTreeMap<u64, Vec<u8>>,
    ready: Vec<u8>,
    /// Segments sent more than once.
    pub repeated: u64,
}

impl Pipe {
    /// Nothing written yet.
    #[must_use]
    pub fn new(unsent: usize, seed: u64) -> Self {
        Self {
            chance: StdRng::seed_from_u64(seed),
            unsent,
            buffer: VecDeque::new(),
            base: 0,
            next: 0,
            flying: BTreeMap::new(),
            window: WINDOW_FIRST,
            threshold: WINDOW_MOST,
            shrunk: None,
            round_trip: ROUND_TRIP_FIRST,
            arriving: BTreeMap::new(),
            count: 0,
            wanted: 0,
            held: BTreeMap::new(),
            ready: Vec::new(),
            repeated: 0,
        }
    }

    /// Bytes that may be written now.
    #[must_use]
    pub fn room(&self) -> usize {
        let unsent = self.base + self.buffer.len() as u64 - self.next;
        self.unsent.saturating_sub(unsent as usize)
    }

    /// Writes as much as there is room for: how much that was. It leaves with [`Self::drive`].
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room());
        self.buffer.extend(&bytes[..len]);
        len
    }

    /// The other end has something to read.
    #[must_use]
    pub const fn has_come(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What the other end reads.
    pub fn read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// When [`Self::drive`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let arriving = self.arriving.keys().next().map(|(at, _)| *at);
        let again = self.flying.values().map(|segment| segment.again);
        again.chain(arriving).min()
    }

    /// What is due arrives and is sent: segments by the road there, acknowledgements by the one back.
    pub fn drive(&mut self, there: &mut Link, back: &mut Link, now: Instant) {
        while let Some(entry) = self.arriving.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Arrival::Bytes(at, bytes) => self.take(at, bytes, back, now),
                Arrival::Ack(before, at) => self.acknowledged(before, at, now),
            }
        }
        let due = |segment: &Segment| segment.again <= now;
        let lost: Vec<u64> = self
            .flying
            .iter()
            .filter(|(_, segment)| due(segment))
            .map(|(at, _)| *at)
            .collect();
        for at in lost {
            self.send_again(at, there, now);
        }
        self.send_new(there, now);
    }

    fn send_new(&mut self, there: &mut Link, now: Instant) {
        loop {
            let unsent = (self.base + self.buffer.len() as u64 - self.next) as usize;
            let flying: usize = self.flying.values().map(|segment| segment.len).sum();
            let most = unsent
                .min(SEGMENT_BYTES)
                .min(self.window.saturating_sub(flying));
            if most == 0 {
                return;
            }
            // A quarter of all segments end anywhere.
            let len = if self.chance.random_bool(0.25) {
                self.chance.random_range(1..=most)
            } else {
                most
            };
            let at = self.next;
            self.next += len as u64;
            let segment = Segment {
                len,
                sent: now,
                again: now + (2 * self.round_trip).max(NOTICED_LEAST),
                tries: 0,
            };
            self.flying.insert(at, segment);
            self.send(at, len, there, now);
        }
    }

    fn send_again(&mut self, at: u64, there: &mut Link, now: Instant) {
        let base = (2 * self.round_trip).max(AGAIN_LEAST);
        let Some(segment) = self.flying.get_mut(&at) else {
            return;
        };
        segment.tries += 1;
        let wait = base * 2_u32.pow(segment.tries.min(10) - 1);
        segment.again = now + wait.min(AGAIN_MOST);
        let (len, tries) = (segment.len, segment.tries);
        self.repeated += 1;
        let recent = |at: Instant| now.saturating_duration_since(at) < self.round_trip;
        if !self.shrunk.is_some_and(recent) {
            self.shrunk = Some(now);
            self.threshold = (self.window / 2).max(WINDOW_LEAST);
            self.window = if tries > 1 {
                WINDOW_LEAST
            } else {
                self.threshold
            };
        }
        self.send(at, len, there, now);
    }

    fn send(&mut self, at: u64, len: usize, there: &mut Link, now: Instant) {
        let from = (at - self.base) as usize;
        let (front, behind) = self.buffer.as_slices();
        let in_front = front.get(from..).unwrap_or_default();
        let mut bytes = in_front[..len.min(in_front.len())].to_vec();
        let at_behind = from.saturating_sub(front.len());
        bytes.extend_from_slice(&behind[at_behind..at_behind + len - bytes.len()]);
        for arrives in there.carry(len + HEAD_BYTES, now) {
            self.put(arrives, Arrival::Bytes(at, bytes.clone()));
        }
    }

    fn put(&mut self, at: Instant, arrival: Arrival) {
        self.count += 1;
        self.arriving.insert((at, self.count), arrival);
    }

    /// A segment reaches the receiver, which acknowledges each.
    fn take(&mut self, at: u64, bytes: Vec<u8>, back: &mut Link, now: Instant) {
        if at >= self.wanted {
            self.held.entry(at).or_insert(bytes);
        }
        while let Some(bytes) = self.held.remove(&self.wanted) {
            self.wanted += bytes.len() as u64;
            self.ready.extend(bytes);
        }
        if let Some(arrives) = back.carry(HEAD_BYTES, now).into_iter().next() {
            self.put(arrives, Arrival::Ack(self.wanted, at));
        }
    }

    fn acknowledged(&mut self, before: u64, at: u64, now: Instant) {
        let mut fresh = 0;
        let told = |start: u64| start < before || start == at;
        for segment in self
            .flying
            .iter()
            .filter(|(start, _)| told(**start))
            .map(|(_, segment)| segment)
        {
            fresh += segment.len;
            if segment.tries == 0 {
                let sample = now.saturating_duration_since(segment.sent);
                self.round_trip = (7 * self.round_trip + sample) / 8;
            }
        }
        self.flying.retain(|start, _| !told(*start));
        let grows = if self.window < self.threshold {
            fresh
        } else {
            SEGMENT_BYTES * fresh / self.window
        };
        self.window = (self.window + grows).min(WINDOW_MOST);
        // What was told apart from the rest stays in the buffer until all before it has come.
        let gone = before.saturating_sub(self.base) as usize;
        self.buffer.drain(..gone);
        self.base = self.base.max(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Conditions, Loss};

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// Writes 100 bytes each millisecond for so long by a road, and goes on until all is read: what
    /// was read with its time, what was written, and the pipe.
    fn pour(change: impl FnOnce(&mut Conditions), ms: u32) -> (Vec<(Duration, u8)>, u64, Pipe) {
        let mut road = Conditions::GOOD;
        change(&mut road);
        let (mut there, mut back) = (Link::new(road.clone(), 3), Link::new(road, 4));
        let (mut pipe, start, mut written) = (Pipe::new(SERVER_UNSENT, 5), origin(), 0_u64);
        let mut read = Vec::new();
        for n in 0..ms + 20_000 {
            let now = start + n * MS;
            if n < ms {
                let bytes: Vec<u8> = (written..written + 100).map(|byte| byte as u8).collect();
                written += pipe.write(&bytes) as u64;
            }
            pipe.drive(&mut there, &mut back, now);
            read.extend(pipe.read().into_iter().map(|byte| (now - start, byte)));
        }
        (read, written, pipe)
    }

    fn in_order(read: &[(Duration, u8)], written: u64) -> bool {
        let mut expected = (0..written).map(|byte| byte as u8);
        read.len() as u64 == written && read.iter().all(|(_, byte)| expected.next() == Some(*byte))
    }

    #[test]
    fn a_good_road_brings_every_byte_in_its_turn_after_the_delay() {
        let (read, written, pipe) = pour(|_| (), 500);
        assert!(in_order(&read, written) && written == 50_000);
        assert_eq!(pipe.repeated, 0);
        for (n, (at, _)) in read.iter().enumerate() {
            let sent = n as u32 / 100;
            assert!((10..=31).contains(&(at.as_millis() as u32 - sent)), "{n}");
        }
    }

    #[test]
    fn bad_roads_bring_every_byte_in_its_turn_too_and_what_is_lost_holds_up_the_rest() {
        let (read, written, pipe) = pour(
            |road| {
                road.loss = Loss::Uniform(0.1);
                road.jitter = 50 * MS;
                road.reorder = 0.1;
                road.duplicate = 0.1;
            },
            2000,
        );
        assert!(in_order(&read, written));
        assert!(pipe.repeated > 20, "{}", pipe.repeated);
        let gaps = read.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.max() > Some(50 * MS));
    }

    #[test]
    fn a_narrow_road_fills_the_buffer_and_then_nothing_more_is_taken() {
        // 100 bytes a millisecond are 800 kbit/s.
        let (read, written, pipe) = pour(|road| road.rate_bps = Some(200_000), 5000);
        assert!(in_order(&read, written));
        assert!(written < 300_000, "{written}");
        assert_eq!(pipe.room(), SERVER_UNSENT);
    }

    #[test]
    fn an_outage_is_waited_for_longer_each_time() {
        let mut link = Link::new(Conditions::GOOD, 1);
        let mut back = Link::new(Conditions::GOOD, 2);
        let (mut pipe, start) = (Pipe::new(SERVER_UNSENT, 1), origin());
        link.break_until(start + 3000 * MS);
        pipe.write(b"late");
        let (mut times, mut now) = (Vec::new(), start);
        loop {
            pipe.drive(&mut link, &mut back, now);
            if pipe.read() == b"late" {
                break;
            }
            now = pipe.poll_timeout().expect("it goes on");
            times.push((now - start).as_millis());
        }
        assert_eq!(times[..4], [400, 800, 1600, 3200]);
    }

    #[test]
    fn one_seed_cuts_alike_and_another_does_not() {
        let cuts = |seed| {
            let mut link = Link::new(Conditions::GOOD, 1);
            let mut back = Link::new(Conditions::GOOD, 2);
            let mut pipe = Pipe::new(SERVER_UNSENT, seed);
            pipe.write(&[0; 10_000]);
            pipe.drive(&mut link, &mut back, origin());
            pipe.flying.keys().copied().collect::<Vec<_>>()
        };
        assert_eq!(cuts(1), cuts(1));
        assert_ne!(cuts(1), cuts(2));
    }
}
