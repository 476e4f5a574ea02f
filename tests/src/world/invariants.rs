//! What must hold of the opened packets a server sends to one subscriber, whatever the roads do.
//!
//! Owns what was seen of each stream, in the order of sending, before a road could lose it. A rule
//! is broken by an error that names it. Knows no socket, key or description: who feeds it opens
//! packets and tells what was published. Called by the world and by the tests beside it, which
//! tamper with a good stream and see that very rule broken.

mod pictures;
mod clocks;
mod ways;

#[cfg(test)]
mod tests;

pub use clocks::Report;
pub use ways::{Frames, Ledger};

use aws_lc_rs::digest;
use clocks::Clocks;
use pictures::Pictures;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A hole of the server's own making must lead to a key picture, or a wish for one, within this.
const MENDED_WITHIN: Duration = Duration::from_secs(1);
/// A lower wish takes effect at the next key picture of the lower layer: so long may it take.
const OVERSHOOT: Duration = Duration::from_secs(3);

/// The rules, one name each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Sequence numbers of a stream have no hole but those of packets lost on the way to the server.
    Contiguous,
    /// Timestamps are equal within a frame and never go backwards.
    Timestamps,
    /// VP8 picture ids count frames.
    PictureIds,
    /// TL0PICIDX counts the frames of the lowest temporal layer.
    BaseLayer,
    /// What is missing is sent later, or a key picture is asked for or sent within a second.
    Mended,
    /// By their sender reports, sound and picture of one publisher are less than 10 ms apart.
    Skew,
    /// Nothing goes to a connection that is not ready, or closed.
    Ready,
    /// A retransmission holds the bytes it repeats.
    Retransmission,
    /// Payloads leave as they came, codec descriptors excepted.
    Payload,
    /// Receiver reports tell the loss there was.
    Loss,
    /// A publisher is asked for a key picture once in a window, and once more for an urgent wish.
    KeyRequests,
    /// No layer above the wish is sent for long.
    Wish,
    /// When all have left nothing of them stays.
    Memory,
    /// No SRTP index of a stream seals two different packets.
    Nonce,
    /// What is sent can be opened with the keys that were agreed.
    Authentic,
    /// Whatever carries a datagram, it arrives with the bytes it was sent with, at whom it was sent to.
    AsSent,
    /// A TCP connection brings whole frames in the order they were sent.
    InTurn,
    /// Of a TCP connection nothing is left out but what its server counts as dropped.
    Counted,
    /// Nothing passes for an allocation that has ended.
    Relayed,
    /// The server tells by which transport each of its clients comes.
    Transport,
}

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant:?}: {what}")]
pub struct Broken {
    /// The rule.
    pub invariant: Invariant,
    /// What broke it.
    pub what: String,
}

pub(super) const fn broken(invariant: Invariant, what: String) -> Result<(), Broken> {
    Err(Broken { invariant, what })
}

/// A packet sent to the subscriber, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The stream; of a retransmission, the one it repeats.
    pub ssrc: u32,
    /// Extended sequence number, by which it was sealed; of a retransmission, that of the packet
    /// it repeats.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// The payload as it left; of a retransmission without the number in front.
    pub payload: Vec<u8>,
    /// It repeats another one in a stream of its own.
    pub repeats: bool,
    /// The payload begins with a VP8 descriptor.
    pub vp8: bool,
    /// Simulcast layer, where known.
    pub layer: Option<u8>,
}

/// What a subscriber wants of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The highest layer; `None` for nothing at all.
    pub highest: Option<u8>,
    /// When the server heard of it.
    pub since: Instant,
}

/// One stream.
#[derive(Debug, Default)]
struct Stream {
    /// Fingerprints by index.
    sent: BTreeMap<u64, u64>,
    /// What is missing, and since when unless it is being mended.
    holes: BTreeMap<u64, Option<Instant>>,
    /// Holes a key picture made harmless.
    passed: BTreeSet<u64>,
    last: Option<(u64, u32)>,
    pictures: Pictures,
    wish: Option<Wish>,
}

/// All rules for one subscriber.
#[derive(Debug, Default)]
pub struct Invariants {
    ready: bool,
    streams: BTreeMap<u32, Stream>,
    published: BTreeSet<u64>,
    clocks: Clocks,
    /// When each stream was last asked for a key picture, and the time before.
    asked: BTreeMap<u32, (Instant, Option<Instant>)>,
}

impl Invariants {
    /// Nothing seen, and a connection that is not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The connection is ready to receive, or no more.
    pub const fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// A publisher sent this payload (`vp8`: behind a VP8 descriptor).
    pub fn published(&mut self, payload: &[u8], vp8: bool) {
        self.published.insert(print(pictures::body(payload, vp8)));
    }

    /// What the subscriber wants of a stream.
    pub fn wish(&mut self, ssrc: u32, wish: Wish) {
        self.streams.entry(ssrc).or_default().wish = Some(wish);
    }

    /// The server sent this.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn sent(&mut self, sent: &Sent, now: Instant) -> Result<(), Broken> {
        if !self.ready {
            return broken(Invariant::Ready, format!("stream {:08x}", sent.ssrc));
        }
        // Padding only fills a number.
        if !sent.payload.is_empty()
            && !self
                .published
                .contains(&print(pictures::body(&sent.payload, sent.vp8)))
        {
            return broken(
                Invariant::Payload,
                format!("{}: nobody published this", sent.index),
            );
        }
        let stream = self.streams.entry(sent.ssrc).or_default();
        if sent.repeats {
            return stream.repeated(sent);
        }
        stream.is_wanted(sent, now)?;
        stream.numbered(sent, now)?;
        stream.timed(sent)
    }

    /// A sender report was sent with a stream of the publisher `group`, or a packet of it was
    /// captured: see [`Report`].
    ///
    /// # Errors
    /// [`Invariant::Skew`].
    pub fn reported(&mut self, ssrc: u32, report: &Report) -> Result<(), Broken> {
        self.clocks.reported(ssrc, report)
    }

    /// A publisher was asked for a key picture of a stream: once a `window`, and once more for an
    /// urgent wish, which passes the throttle by.
    ///
    /// # Errors
    /// [`Invariant::KeyRequests`].
    pub fn key_asked(&mut self, ssrc: u32, window: Duration, now: Instant) -> Result<(), Broken> {
        self.mended();
        let last = self.asked.get(&ssrc).copied();
        self.asked.insert(ssrc, (now, last.map(|(at, _)| at)));
        let before = last.and_then(|(_, before)| before);
        match before.map(|at| now.saturating_duration_since(at)) {
            Some(since) if since < window => broken(
                Invariant::KeyRequests,
                format!("stream {ssrc:08x} asked three times within {since:?}"),
            ),
            _ => Ok(()),
        }
    }

    /// A key picture was asked for, of whomever: what is missing is being mended.
    pub fn mended(&mut self) {
        for hole in self.streams.values_mut().flat_map(|s| s.holes.values_mut()) {
            *hole = None;
        }
    }

    /// Time passes.
    ///
    /// # Errors
    /// [`Invariant::Mended`].
    pub fn poll(&mut self, now: Instant) -> Result<(), Broken> {
        let overdue = |at: Instant| now.saturating_duration_since(at) > MENDED_WITHIN;
        let mut holes = self.streams.values().flat_map(|stream| &stream.holes);
        match holes.find(|(_, since)| since.is_some_and(overdue)) {
            Some((hole, _)) => broken(
                Invariant::Mended,
                format!("{hole} missing and no key picture"),
            ),
            None => Ok(()),
        }
    }

    /// The end of a stream, of whose packets so many were lost on the way to the server.
    ///
    /// # Errors
    /// [`Invariant::Contiguous`].
    pub fn close(&self, ssrc: u32, lost: u64) -> Result<(), Broken> {
        let holes = self
            .streams
            .get(&ssrc)
            .map_or(0, |s| (s.holes.len() + s.passed.len()) as u64);
        if holes > lost {
            return broken(
                Invariant::Contiguous,
                format!("{holes} holes after {lost} losses"),
            );
        }
        Ok(())
    }
}

/// A receiver report told of a stream that so many packets (or 256ths) were lost, when so many were.
///
/// # Errors
/// [`Invariant::Loss`].
pub fn loss(told: i64, simulated: i64) -> Result<(), Broken> {
    if told != simulated {
        let what = format!("{told} told, {simulated} simulated");
        return broken(Invariant::Loss, what);
    }
    Ok(())
}

/// All have left: what lives on the server, and what lived there before anybody came.
///
/// # Errors
/// [`Invariant::Memory`].
pub fn memory<T: PartialEq + std::fmt::Debug>(left: &T, before: &T) -> Result<(), Broken> {
    if left != before {
        return broken(Invariant::Memory, format!("{left:?}, before {before:?}"));
    }
    Ok(())
}

impl Stream {
    fn repeated(&self, sent: &Sent) -> Result<(), Broken> {
        match self.sent.get(&sent.index) {
            Some(print) if *print == content(sent) => Ok(()),
            found => broken(
                Invariant::Retransmission,
                format!("{} repeats {found:?}", sent.index),
            ),
        }
    }

    fn is_wanted(&self, sent: &Sent, now: Instant) -> Result<(), Broken> {
        let (Some(layer), Some(wish)) = (sent.layer, self.wish) else {
            return Ok(());
        };
        let settled = now.saturating_duration_since(wish.since) > OVERSHOOT;
        if wish.highest.is_none_or(|highest| layer > highest) && settled {
            let what = format!("layer {layer}, {:?} wanted", wish.highest);
            return broken(Invariant::Wish, what);
        }
        Ok(())
    }

    /// Notes number and holes, and that no index seals two packets.
    fn numbered(&mut self, sent: &Sent, now: Instant) -> Result<(), Broken> {
        let print = content(sent);
        if let Some(before) = self.sent.insert(sent.index, print)
            && before != print
        {
            let what = format!("index {} seals another packet", sent.index);
            return broken(Invariant::Nonce, what);
        }
        self.holes.remove(&sent.index);
        self.passed.remove(&sent.index);
        if let Some((last, _)) = self.last
            && sent.index > last + 1
        {
            let since = sent.vp8.then_some(now);
            let holes = (last + 1..sent.index).map(|hole| (hole, since));
            self.holes.extend(holes);
        }
        if sent.vp8 && pictures::is_key(&sent.payload) {
            self.passed
                .extend(std::mem::take(&mut self.holes).into_keys());
        }
        Ok(())
    }

    /// Timestamps and what counts frames.
    fn timed(&mut self, sent: &Sent) -> Result<(), Broken> {
        let contiguous = self.last.is_none_or(|(last, _)| sent.index == last + 1);
        if let Some((last, timestamp)) = self.last
            && sent.index > last
            && (sent.timestamp.wrapping_sub(timestamp) as i32) < 0
        {
            let what = format!("{timestamp} then {}", sent.timestamp);
            return broken(Invariant::Timestamps, what);
        }
        if sent.vp8 {
            self.pictures.sent(sent, contiguous)?;
        } else if self.last.is_some_and(|(last, _)| sent.index > last + 1) {
            self.pictures.interrupted();
        }
        if self.last.is_none_or(|(last, _)| sent.index > last) {
            self.last = Some((sent.index, sent.timestamp));
        }
        Ok(())
    }
}

/// A fingerprint.
pub(super) fn print(bytes: &[u8]) -> u64 {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let first = digest.as_ref().first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

fn content(sent: &Sent) -> u64 {
    let head = u64::from(sent.timestamp) << 1 | u64::from(sent.marker);
    print(&sent.payload) ^ head.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
