//! What a subscriber's RTCP asks of its copy: resends, key frames; and what it reports.
//!
//! Owns the memory of what was sent and the throttles. Never reads a packet's payload: it names
//! the source packet, the plane fetches it from the upstream's history. Used by the downstream.

mod ask;
mod sequencer;

pub use self::ask::KeyFrameAsk;
pub use self::sequencer::{Sent, Sequencer};

use super::rewrite::Source;
use crate::media::packet::{Head, Outgoing, TypeMap};
use crate::units::ExtSeq;
use std::time::{Duration, Instant};

/// Round trip assumed before a report tells it. (LK: sfu-media §1.4, §3.1)
pub const DEFAULT_RTT: Duration = Duration::from_millis(70);

/// A packet is not resent sooner than this after it was last sent, or two round trips if less.
const RESEND_PAUSE: Duration = Duration::from_millis(100);

/// Numbers of one NACK that are looked at: as many as are remembered. The rest is counted only.
const MAX_NACKED: usize = 512;

/// A packet to send once more: where its payload lies, and its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resend {
    /// Spatial layer of the source packet.
    pub spatial: u8,
    /// Sequence number of the source packet in that layer.
    pub source: ExtSeq,
    /// The packet: fresh numbers of the RTX stream, or exactly those of the first time.
    pub outgoing: Outgoing,
}

/// The RTX stream of a copy (RFC 4588).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtx {
    /// Its SSRC.
    pub ssrc: u32,
    /// Its payload type for each of the copy's.
    pub payload_types: TypeMap,
    /// Its next sequence number.
    pub next: ExtSeq,
}

/// What became of NACKed packets, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NackCounters {
    /// Numbers asked for.
    pub asked: u64,
    /// Resent.
    pub resent: u64,
    /// Unknown: never sent, too old, of a stream that is gone, or of a codec without RTX.
    pub missed: u64,
    /// Asked for too soon or too often, or while a key frame is awaited.
    pub throttled: u64,
    /// More than fit one NACK.
    pub excess: u64,
}

/// The numbers of a key frame.
#[derive(Debug)]
struct KeyFrame {
    first: ExtSeq,
    last: ExtSeq,
    time: u32,
}

/// NACK handling of one copy.
#[derive(Debug)]
pub struct Feedback {
    ssrc: u32,
    rtx: Option<Rtx>,
    sequencer: Sequencer,
    /// The subscriber asked for a key frame: old deltas are useless until it is sent.
    stopped: bool,
    /// The newest key frame sent.
    key_frame: Option<KeyFrame>,
    rtt: Option<Duration>,
    counters: NackCounters,
}

impl Feedback {
    /// For the copy with `ssrc`, remembering `capacity` packets.
    #[must_use]
    pub fn new(ssrc: u32, rtx: Option<Rtx>, capacity: usize, now: Instant) -> Self {
        Self {
            ssrc,
            rtx,
            sequencer: Sequencer::new(capacity, now),
            stopped: false,
            key_frame: None,
            rtt: None,
            counters: NackCounters::default(),
        }
    }

    /// A packet of the copy was sent.
    pub fn handle_sent(&mut self, sent: &Sent, key_frame: bool, now: Instant) {
        self.sequencer.push(sent, now);
        let (seq, time) = (sent.outgoing.seq, sent.outgoing.time);
        if key_frame {
            self.stopped = false;
            self.key_frame = Some(KeyFrame {
                first: seq,
                last: seq,
                time,
            });
        } else if let Some(newest) = &mut self.key_frame
            && newest.time == time
        {
            newest.last = newest.last.max(seq);
        }
    }

    /// The subscriber asked for a key frame.
    pub fn handle_key_frame_request(&mut self) {
        self.stopped = true;
    }

    /// A round trip was measured.
    pub fn handle_round_trip(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
    }

    /// The numbering of a layer jumped: its old packets cannot be told from new ones any more.
    pub fn handle_jump(&mut self, spatial: u8) {
        self.sequencer.forget(spatial);
    }

    /// The subscriber misses packets, counted back from `last`, the newest sent: appends those worth
    /// resending to `out`, at most [`MAX_NACKED`] of them.
    pub fn handle_nack(
        &mut self,
        seqs: impl Iterator<Item = u16>,
        last: Option<ExtSeq>,
        source: &Source,
        out: &mut Vec<Resend>,
        now: Instant,
    ) {
        for (index, wire) in seqs.enumerate() {
            self.counters.asked += 1;
            if index >= MAX_NACKED {
                self.counters.excess += 1;
            } else if let Some(seq) = last.map(|last| last.nearest(wire)) {
                if self.is_of_use(seq) {
                    out.extend(self.resend(seq, source, now));
                } else {
                    self.counters.throttled += 1;
                }
            } else {
                self.counters.missed += 1;
            }
        }
    }

    /// While a key frame is awaited only the one before it is: who asks may be missing a piece of that
    /// very frame, and would ask for one after the other if none could be completed.
    fn is_of_use(&self, seq: ExtSeq) -> bool {
        let within = |key: &KeyFrame| (key.first..=key.last).contains(&seq);
        !self.stopped || self.key_frame.as_ref().is_some_and(within)
    }

    fn resend(&mut self, seq: ExtSeq, source: &Source, now: Instant) -> Option<Resend> {
        let pause = RESEND_PAUSE.min(self.rtt().saturating_mul(2));
        let sent = match self.sequencer.take(seq, source, pause, now) {
            Ok(sent) => sent,
            Err(sequencer::Miss::Unknown) => {
                self.counters.missed += 1;
                return None;
            }
            Err(sequencer::Miss::Throttled) => {
                self.counters.throttled += 1;
                return None;
            }
        };
        let mut outgoing = Outgoing {
            ssrc: self.ssrc,
            ..sent.outgoing
        };
        if let Some(rtx) = &mut self.rtx {
            let Some(payload_type) = rtx.payload_types.get(outgoing.payload_type) else {
                self.counters.missed += 1;
                return None;
            };
            // RFC 4588 §4: the original sequence number stands before the original payload.
            let mut head = Head::EMPTY;
            head.push(&seq.wire().to_be_bytes());
            head.push(sent.outgoing.head.as_slice());
            outgoing.ssrc = rtx.ssrc;
            outgoing.payload_type = payload_type;
            outgoing.seq = rtx.next;
            outgoing.head = head;
            rtx.next = ExtSeq(rtx.next.0 + 1);
        }
        self.counters.resent += 1;
        Some(Resend {
            spatial: sent.spatial,
            source: sent.source,
            outgoing,
        })
    }

    /// The round trip as far as known.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(DEFAULT_RTT)
    }

    /// The round trip, if it was measured.
    #[must_use]
    pub const fn measured_rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// What became of NACKed packets.
    #[must_use]
    pub const fn counters(&self) -> NackCounters {
        self.counters
    }

    /// Do resends travel on the copy's own SSRC?
    #[must_use]
    pub const fn resends_in_place(&self) -> bool {
        self.rtx.is_none()
    }
}

#[cfg(test)]
mod tests;
