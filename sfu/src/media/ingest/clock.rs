//! Which instant of the publisher's wall clock an RTP timestamp means, by sender reports.
//!
//! Owns the last trustworthy sender report of an upstream. Never smooths nor guesses: two layers of
//! one publisher share its clock, so their reports map exactly. Fed by `upstream`, asked by a
//! layer switch and by receiver reports.

use crate::rtp::rtcp::{SenderInfo, compact_ntp};
use crate::units::RtpTime;
use std::time::{Duration, Instant};

/// Reports ignored in a row before the clock counts as set anew: a publisher whose wall clock was
/// put back would otherwise never be believed again.
const IGNORED_LIMIT: u8 = 3;

/// One sender report: the same instant on three clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceClock {
    /// The publisher's wall clock, 32.32 fixed point.
    pub ntp: u64,
    /// The upstream's RTP clock.
    pub rtp: RtpTime,
    /// Our clock, on arrival.
    pub arrival: Instant,
}

impl SourceClock {
    /// The timestamp in the clock of `other`, an upstream of the same publisher and rate, that
    /// means the same instant as `time` in this one. `None` if it falls before zero.
    /// (LK: sfu-media §2.3)
    #[must_use]
    pub fn translate(&self, time: RtpTime, other: &Self, rate: u32) -> Option<RtpTime> {
        let since_report = i128::from(time.0) - i128::from(self.rtp.0);
        let between = i128::from(self.ntp) - i128::from(other.ntp);
        // Rounded, so that a mapping there and back ends where it began.
        let between = (between * i128::from(rate) + (1 << 31)) >> 32;
        let mapped = i128::from(other.rtp.0) + between + since_report;
        u64::try_from(mapped).ok().map(RtpTime)
    }
}

/// The sender reports of one upstream.
#[derive(Debug, Default)]
pub struct SenderClock {
    latest: Option<SourceClock>,
    ignored_in_a_row: u8,
    ignored: u64,
}

impl SenderClock {
    /// Takes a sender report in; `newest` is the upstream's newest timestamp. False if it was
    /// ignored: without wall clock, repeated, out of order, or going backwards.
    pub fn handle_sender_report(
        &mut self,
        info: &SenderInfo,
        newest: RtpTime,
        now: Instant,
    ) -> bool {
        let report = SourceClock {
            ntp: info.ntp,
            rtp: newest.nearest(info.rtp),
            arrival: now,
        };
        let backwards = self
            .latest
            .is_some_and(|last| report.ntp <= last.ntp || report.rtp < last.rtp);
        if info.ntp == 0 || backwards && self.ignored_in_a_row < IGNORED_LIMIT {
            self.ignored_in_a_row = self.ignored_in_a_row.saturating_add(1);
            self.ignored += 1;
            return false;
        }
        self.ignored_in_a_row = 0;
        self.latest = Some(report);
        true
    }

    /// The last report believed.
    #[must_use]
    pub const fn latest(&self) -> Option<&SourceClock> {
        self.latest.as_ref()
    }

    /// Reports ignored so far.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// LSR and DLSR of a receiver report (RFC 3550 §6.4.1); zeros before the first sender report.
    #[must_use]
    pub fn last_report(&self, now: Instant) -> (u32, u32) {
        self.latest.map_or((0, 0), |last| {
            let delay = now.saturating_duration_since(last.arrival);
            (compact_ntp(last.ntp), compact_duration(delay))
        })
    }
}

/// A duration in 1/65,536 s, at most what 32 bits hold.
#[must_use]
pub fn compact_duration(span: Duration) -> u32 {
    let units = span.as_nanos() * 65_536 / 1_000_000_000;
    u32::try_from(units).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    fn info(ntp: u64, rtp: u32) -> SenderInfo {
        SenderInfo {
            ntp,
            rtp,
            packets: 0,
            bytes: 0,
        }
    }

    const SECOND: u64 = 1 << 32;

    #[test]
    fn reports_out_of_order_or_without_clock_are_ignored() {
        let now = instant();
        let mut clock = SenderClock::default();
        let newest = RtpTime(1 << 32);
        assert!(!clock.handle_sender_report(&info(0, 5), newest, now));
        assert!(clock.handle_sender_report(&info(10 * SECOND, 1000), newest, now));
        assert!(!clock.handle_sender_report(&info(9 * SECOND, 1100), newest, now));
        assert!(!clock.handle_sender_report(&info(11 * SECOND, 900), newest, now));
        let latest = clock.latest().expect("report");
        assert_eq!(
            (latest.ntp, latest.rtp),
            (10 * SECOND, RtpTime((1 << 32) + 1000))
        );
        assert_eq!(clock.ignored(), 3);
    }

    #[test]
    fn a_clock_put_back_is_believed_in_the_end() {
        let now = instant();
        let mut clock = SenderClock::default();
        assert!(clock.handle_sender_report(&info(100 * SECOND, 1000), RtpTime(1000), now));
        for round in 0..3 {
            let report = info((50 + round) * SECOND, 2000);
            assert!(!clock.handle_sender_report(&report, RtpTime(2000), now));
        }
        assert!(clock.handle_sender_report(&info(53 * SECOND, 2000), RtpTime(2000), now));
    }

    #[test]
    fn the_delay_since_the_last_report_counts_in_65536ths() {
        let now = instant();
        let mut clock = SenderClock::default();
        assert_eq!(clock.last_report(now), (0, 0));
        clock.handle_sender_report(&info(0x1122_3344_5566_7788, 0), RtpTime(0), now);
        let later = now + Duration::from_millis(1500);
        assert_eq!(clock.last_report(later), (0x3344_5566, 98_304));
    }

    #[test]
    fn a_timestamp_moves_between_layers_through_the_wall_clock() {
        let now = instant();
        let low = SourceClock {
            ntp: 100 * SECOND,
            rtp: RtpTime(1_000_000),
            arrival: now,
        };
        let high = SourceClock {
            ntp: 100 * SECOND + SECOND / 2,
            rtp: RtpTime(7_000_000),
            arrival: now,
        };
        // One second after the low layer's report is half a second after the high layer's.
        let mapped = low.translate(RtpTime(1_090_000), &high, 90_000);
        assert_eq!(mapped, Some(RtpTime(7_045_000)));
        let back = high.translate(RtpTime(7_045_000), &low, 90_000);
        assert_eq!(back, Some(RtpTime(1_090_000)));
        assert_eq!(
            low.translate(
                RtpTime(0),
                &SourceClock {
                    rtp: RtpTime(0),
                    ..high
                },
                90_000
            ),
            None
        );
    }

    proptest! {
        #[test]
        fn any_report_maps_without_panic_and_nearly_back(
            a in any::<[u64; 2]>(), b in any::<[u64; 2]>(), time: u64,
        ) {
            let now = instant();
            let one = SourceClock { ntp: a[0], rtp: RtpTime(a[1]), arrival: now };
            let two = SourceClock { ntp: b[0], rtp: RtpTime(b[1]), arrival: now };
            if let Some(there) = one.translate(RtpTime(time), &two, 90_000)
                && let Some(back) = two.translate(there, &one, 90_000)
            {
                prop_assert!(back.0.abs_diff(time) <= 1);
            }
        }
    }
}
