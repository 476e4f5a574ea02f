//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! Owns the wire form of arrivals: status chunks and deltas. Never keeps arrivals nor decides when
//! to report them. Written for publishers by media's feedback recorder; the reader serves those who
//! estimate what a subscriber's path carries.

mod read;
mod write;

pub use read::{Feedback, Statuses};
pub use write::{Encoded, encode};

/// A delta counts quarters of a millisecond (§3.1.5).
pub const TICK_MICROS: u64 = 250;
/// The reference time counts 64 ms, that is 256 ticks (§3.1).
const TICKS_PER_REFERENCE: i64 = 256;
/// RTCP header, two SSRCs, base, count, reference time and packet count.
const HEAD_LEN: usize = 20;
/// Longest run a chunk can say: 13 bits.
const MAX_RUN: u16 = 0x1FFF;

/// Not received.
const LOST: u8 = 0;
/// Received, delta of one byte.
const SMALL: u8 = 1;
/// Received, delta of two bytes.
const LARGE: u8 = 2;

/// One received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Extended transport-wide sequence number.
    pub seq: u64,
    /// Arrival in ticks of 250 us since some fixed instant.
    pub ticks: i64,
}

/// The fields of a feedback packet that are not arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Our SSRC.
    pub sender: u32,
    /// The SSRC of any stream of the publisher.
    pub media: u32,
    /// Counts feedback packets.
    pub count: u8,
    /// First sequence number reported: the one after the last report's last.
    pub base: u64,
}

#[cfg(test)]
mod tests;
