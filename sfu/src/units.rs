//! Quantities that must not be mixed up: bit rates, extended RTP sequence numbers and timestamps.
//!
//! Owns conversions and wrap-around arithmetic, no state.

use std::time::Duration;

/// A bit rate in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bitrate(u64);

impl Bitrate {
    /// No bits at all.
    pub const ZERO: Self = Self(0);

    /// From bits per second.
    #[must_use]
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// In bits per second.
    #[must_use]
    pub const fn bps(self) -> u64 {
        self.0
    }

    /// `bytes` sent during `span`; zero for an empty span.
    #[must_use]
    pub fn of(bytes: u64, span: Duration) -> Self {
        let micros = span.as_micros();
        if micros == 0 {
            return Self::ZERO;
        }
        let bps = u128::from(bytes) * 8_000_000 / micros;
        Self(u64::try_from(bps).unwrap_or(u64::MAX))
    }
}

/// An RTP sequence number extended to 64 bits, so that it never wraps (RFC 3550 A.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ExtSeq(pub u64);

impl ExtSeq {
    /// The low 16 bits, as sent.
    #[must_use]
    pub const fn wire(self) -> u16 {
        self.0 as u16
    }

    /// The roll-over counter of SRTP (RFC 3711 §3.3.1): the bits above the wire's 16.
    #[must_use]
    pub const fn rollover(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The extended number nearest to `self` whose low bits are `wire`. Numbers below zero do not
    /// exist: near the start a seemingly older packet is taken as zero rounds back.
    #[must_use]
    pub const fn nearest(self, wire: u16) -> Self {
        let delta = wire.wrapping_sub(self.0 as u16) as i16;
        match self.0.checked_add_signed(delta as i64) {
            Some(ext) => Self(ext),
            None => Self(wire as u64),
        }
    }
}

/// An RTP timestamp extended to 64 bits, in the clock of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RtpTime(pub u64);

impl RtpTime {
    /// The low 32 bits, as sent.
    #[must_use]
    pub const fn wire(self) -> u32 {
        self.0 as u32
    }

    /// The extended timestamp nearest to `self` whose low bits are `wire`.
    #[must_use]
    pub const fn nearest(self, wire: u32) -> Self {
        let delta = wire.wrapping_sub(self.0 as u32) as i32;
        match self.0.checked_add_signed(delta as i64) {
            Some(ext) => Self(ext),
            None => Self(wire as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_extends_over_the_wrap_in_both_directions() {
        assert_eq!(ExtSeq(0xFFFF).nearest(0), ExtSeq(0x1_0000));
        assert_eq!(ExtSeq(0x1_0000).nearest(0xFFFF), ExtSeq(0xFFFF));
        assert_eq!(ExtSeq(0x1_0000).rollover(), 1);
    }

    #[test]
    fn a_number_older_than_the_first_does_not_go_below_zero() {
        assert_eq!(ExtSeq(2).nearest(0xFFFF), ExtSeq(0xFFFF));
        assert_eq!(RtpTime(2).nearest(u32::MAX), RtpTime(u64::from(u32::MAX)));
    }

    #[test]
    fn a_rate_over_no_time_is_zero() {
        assert_eq!(Bitrate::of(100, Duration::ZERO), Bitrate::ZERO);
        assert_eq!(Bitrate::of(125, Duration::from_secs(1)).bps(), 1000);
    }
}
