//! How well one upstream arrives: the counts of receiver reports and of the quality score.
//!
//! Owns expected, received and jitter (RFC 3550 §6.4.1, A.3, A.8). Never sends anything. A packet
//! repaired through RTX stays lost here, as the publisher must hear of the loss, but not in the
//! window for the score. Called by `upstream`.

use crate::media::ingest::order::Place;
use crate::media::packet::Crossing;
use crate::units::{ExtSeq, RtpTime};
use std::time::{Duration, Instant};

/// What arrived since the last [`Reception::take_window`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Packets the publisher's numbering says were sent.
    pub expected: u64,
    /// Of these, neither received nor repaired.
    pub lost: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Interarrival jitter at the end of the window.
    pub jitter: Duration,
}

/// Totals at some moment, to take differences from.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    expected: u64,
    received: u64,
    repaired: u64,
    bytes: u64,
}

impl Totals {
    const fn arrived(&self) -> u64 {
        self.received + self.repaired
    }
}

/// Interarrival jitter in the stream's clock, times 16 (RFC 3550 A.8).
#[derive(Debug)]
struct Jitter {
    rate: u32,
    scaled: u64,
    last: Option<(Instant, RtpTime)>,
}

impl Jitter {
    /// Frames count, not packets: only the first packet of each new timestamp.
    fn note(&mut self, time: RtpTime, now: Instant) {
        let Some((arrival, earlier)) = self.last else {
            self.last = Some((now, time));
            return;
        };
        if time <= earlier {
            return;
        }
        self.last = Some((now, time));
        let elapsed = now.saturating_duration_since(arrival).as_micros();
        let elapsed = (elapsed * u128::from(self.rate) / 1_000_000).min(u128::from(u32::MAX));
        let difference = (elapsed as u64).abs_diff((time.0 - earlier.0).min(u64::from(u32::MAX)));
        self.scaled = self.scaled + difference - (self.scaled + 8) / 16;
    }

    fn units(&self) -> u32 {
        u32::try_from(self.scaled / 16).unwrap_or(u32::MAX)
    }
}

/// The counts of one upstream.
#[derive(Debug)]
pub struct Reception {
    first: Option<ExtSeq>,
    highest: ExtSeq,
    received: u64,
    repaired: u64,
    bytes: u64,
    jitter: Jitter,
    reported: Totals,
    window: Totals,
}

/// The fields of a report block that are counts (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the start.
    pub cumulative_lost: i32,
    /// Cycles and highest number received.
    pub highest: u32,
    /// Jitter in timestamp units.
    pub jitter: u32,
    /// What was sent and lost since the last report.
    pub crossing: Crossing,
}

impl Reception {
    /// Nothing received yet of a stream with this clock rate in Hz.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self {
            first: None,
            highest: ExtSeq(0),
            received: 0,
            repaired: 0,
            bytes: 0,
            jitter: Jitter {
                rate,
                scaled: 0,
                last: None,
            },
            reported: Totals::default(),
            window: Totals::default(),
        }
    }

    /// A packet came on the media stream itself, with this many payload bytes.
    pub fn handle_packet(&mut self, place: &Place, bytes: usize, now: Instant) {
        self.first.get_or_insert(place.raw);
        self.highest = self.highest.max(place.raw);
        self.received += 1;
        self.bytes += bytes as u64;
        if !place.late {
            self.jitter.note(place.time, now);
        }
    }

    /// A packet came on the media stream itself of a number that was taken out of the forwarded ones:
    /// it is not lost, though nothing is made of it. (RFC 3550 §A.3)
    pub const fn handle_settled(&mut self) {
        self.received += 1;
    }

    /// A packet came on the media stream itself after it was repaired: it was slow, not lost.
    pub const fn handle_repaired(&mut self) {
        self.received += 1;
        self.repaired = self.repaired.saturating_sub(1);
    }

    /// The highest number received, `None` before the first packet.
    #[must_use]
    pub fn highest(&self) -> Option<ExtSeq> {
        self.first.map(|_| self.highest)
    }

    /// A packet came through RTX.
    pub const fn handle_repair(&mut self, bytes: usize) {
        self.repaired += 1;
        self.bytes += bytes as u64;
    }

    /// The counts for the next report; `None` before the first packet.
    pub fn report(&mut self) -> Option<Counts> {
        let first = self.first?;
        let totals = self.totals();
        let expected = totals.expected - self.reported.expected;
        let received = totals.received - self.reported.received;
        self.reported = totals;
        let lost = expected.saturating_sub(received);
        let crossing = Crossing {
            sent: expected as i64,
            // More than were sent: some of them are late.
            lost: expected as i64 - received as i64,
        };
        let fraction = (lost * 256).checked_div(expected).unwrap_or(0);
        let cumulative = totals.expected as i64 - totals.received as i64;
        // Cycles count from the first packet's round, not from ours.
        let rounds_before = first.0 & !0xFFFF;
        Some(Counts {
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: cumulative.clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest: (self.highest.0 - rounds_before) as u32,
            jitter: self.jitter.units(),
            crossing,
        })
    }

    /// What arrived since the last call.
    pub fn take_window(&mut self) -> Window {
        let totals = self.totals();
        let before = std::mem::replace(&mut self.window, totals);
        let expected = totals.expected - before.expected;
        let arrived = totals.arrived() - before.arrived();
        let jitter =
            u64::from(self.jitter.units()) * 1_000_000 / u64::from(self.jitter.rate.max(1));
        Window {
            expected,
            lost: expected.saturating_sub(arrived),
            bytes: totals.bytes - before.bytes,
            jitter: Duration::from_micros(jitter),
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            expected: self.first.map_or(0, |first| self.highest.0 - first.0 + 1),
            received: self.received,
            repaired: self.repaired,
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    fn place(raw: u64, time: u64, late: bool) -> Place {
        Place {
            raw: ExtSeq(raw),
            seq: Some(ExtSeq(raw)),
            time: RtpTime(time),
            late,
            gap: 0,
            settled: None,
        }
    }

    #[test]
    fn a_report_counts_losses_since_the_last_one_and_from_the_start() {
        let now = instant();
        let mut reception = Reception::new(90_000);
        assert_eq!(reception.report(), None);
        for raw in 0x1_FFFE..0x2_0002 {
            reception.handle_packet(&place(raw, 0, false), 10, now);
        }
        let all = reception.report().expect("report");
        assert_eq!((all.fraction_lost, all.cumulative_lost), (0, 0));
        assert_eq!(all.highest, 0x1_0001);
        // Six more are sent, three come.
        for raw in [0x2_0003, 0x2_0005, 0x2_0007] {
            reception.handle_packet(&place(raw, 0, false), 10, now);
        }
        let some = reception.report().expect("report");
        assert_eq!((some.fraction_lost, some.cumulative_lost), (128, 3));
        assert_eq!((some.crossing.sent, some.crossing.lost), (6, 3));
        // A late one makes up for an earlier interval.
        reception.handle_packet(&place(0x2_0002, 0, true), 10, now);
        let late = reception.report().expect("report");
        assert_eq!((late.fraction_lost, late.cumulative_lost), (0, 2));
        assert_eq!((late.crossing.sent, late.crossing.lost), (0, -1));
    }

    #[test]
    fn a_repaired_packet_is_lost_in_the_report_but_not_in_the_window() {
        let now = instant();
        let mut reception = Reception::new(90_000);
        reception.handle_packet(&place(0x1_0000, 0, false), 10, now);
        reception.handle_packet(&place(0x1_0003, 0, false), 10, now);
        reception.handle_repair(10);
        assert_eq!(reception.report().expect("report").cumulative_lost, 2);
        let window = reception.take_window();
        assert_eq!((window.expected, window.lost, window.bytes), (4, 1, 30));
        assert_eq!(reception.take_window().expected, 0);
    }

    #[test]
    fn jitter_follows_frames_not_packets() {
        let start = instant();
        let mut reception = Reception::new(90_000);
        reception.handle_packet(&place(0x1_0000, 0, false), 1, start);
        // 10 ms late: 900 units, a sixteenth of which counts. The frame's second packet does not.
        let late = start + Duration::from_micros(43_333);
        reception.handle_packet(&place(0x1_0001, 3000, false), 1, late);
        reception.handle_packet(
            &place(0x1_0002, 3000, false),
            1,
            late + Duration::from_secs(1),
        );
        assert_eq!(reception.report().expect("report").jitter, 899 / 16);
    }
}
