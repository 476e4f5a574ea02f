//! How far sound and picture of one publisher are apart, by what sender reports say.
//!
//! Owns the newest offset of each stream between the report's wall clock and the true capture.

use super::{Broken, Invariant, broken};
use std::collections::BTreeMap;

/// What nobody notices, with a wide margin.
const SKEW_MAX_S: f64 = 0.010;

/// A sender report, and the capture of some packet of the same stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Streams of one publisher are compared.
    pub group: u32,
    /// The report's NTP time.
    pub ntp: u64,
    /// The RTP time that goes with it.
    pub rtp: u32,
    /// Ticks in a second.
    pub clock_rate: u32,
    /// RTP time of a packet as it was sent.
    pub timestamp: u32,
    /// When it was truly captured, in seconds since the world began.
    pub captured_s: f64,
}

/// The offsets.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    offsets: BTreeMap<(u32, u32), f64>,
}

impl Clocks {
    pub(super) fn reported(&mut self, ssrc: u32, report: &Report) -> Result<(), Broken> {
        let wall = (report.ntp >> 32) as f64 + (report.ntp as u32) as f64 / 4_294_967_296.0;
        let ticks = f64::from(report.timestamp.wrapping_sub(report.rtp) as i32);
        let offset = wall + ticks / f64::from(report.clock_rate) - report.captured_s;
        self.offsets.insert((report.group, ssrc), offset);
        let group = self
            .offsets
            .range((report.group, 0)..=(report.group, u32::MAX));
        for ((_, other), theirs) in group {
            if (theirs - offset).abs() >= SKEW_MAX_S {
                let apart = (theirs - offset) * 1000.0;
                let what = format!("{ssrc:08x} and {other:08x} are {apart:.1} ms apart");
                return broken(Invariant::Skew, what);
            }
        }
        Ok(())
    }
}
