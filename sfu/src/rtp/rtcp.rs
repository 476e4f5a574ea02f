//! RTCP: reading and writing of what an SFU hears and says (RFC 3550 §6, RFC 4585, RFC 5104,
//! RFC 3611).
//!
//! Owns the wire forms. Never keeps state, never allocates, never decides when to report. Called by
//! ingest and forward; datagrams are already opened.

mod read;
mod write;

pub use read::{
    Blocks, DelayBlocks, FirRequests, LostSequences, Malformed, Packet, Packets, Ssrcs, XrBlock,
    XrBlocks, packets,
};
pub use write::{Full, Writer};

/// Sender report.
const SR: u8 = 200;
/// Receiver report.
const RR: u8 = 201;
/// Source description.
const SDES: u8 = 202;
/// Goodbye.
const BYE: u8 = 203;
/// Transport layer feedback (RFC 4585 §6.2).
pub(super) const RTPFB: u8 = 205;
/// Payload-specific feedback (RFC 4585 §6.3).
const PSFB: u8 = 206;
/// Extended report (RFC 3611).
const XR: u8 = 207;

/// RTPFB format: generic NACK.
const FMT_NACK: u8 = 1;
/// RTPFB format: transport-wide congestion control.
pub(super) const FMT_TWCC: u8 = 15;
/// PSFB format: picture loss.
const FMT_PLI: u8 = 1;
/// PSFB format: full intra request (RFC 5104 §4.3.1).
const FMT_FIR: u8 = 4;
/// PSFB format: application layer, where REMB lives.
const FMT_ALFB: u8 = 15;

/// XR block: receiver reference time (RFC 3611 §4.4).
const XR_REFERENCE_TIME: u8 = 4;
/// XR block: delay since the last receiver report (RFC 3611 §4.5).
const XR_DLRR: u8 = 5;

/// Bytes of a reception report block.
const BLOCK_LEN: usize = 24;
/// The count field has five bits.
pub const MAX_BLOCKS: usize = 31;

/// The sender's part of a sender report (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// Wall clock, 32.32 fixed point since 1900.
    pub ntp: u64,
    /// The same instant in the stream's RTP clock.
    pub rtp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub bytes: u32,
}

/// A reception report block (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the start; 24 bits signed, duplicates make it negative.
    pub cumulative_lost: i32,
    /// Cycles and highest sequence number.
    pub highest: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle bits of the last sender report's NTP time, 0 if none.
    pub last_report: u32,
    /// Since then, in 1/65,536 s.
    pub delay: u32,
}

/// A block of XR DLRR (RFC 3611 §4.5): the same two fields for a receiver's reference time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DelayBlock {
    /// The receiver answered.
    pub ssrc: u32,
    /// Middle bits of its reference time.
    pub last_reference: u32,
    /// Since then, in 1/65,536 s.
    pub delay: u32,
}

/// The middle 32 bits of an NTP time, as report blocks quote it.
#[must_use]
pub const fn compact_ntp(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
mod tests;
