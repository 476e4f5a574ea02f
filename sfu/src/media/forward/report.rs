//! Sender reports to a subscriber, and what its receiver reports tell.
//!
//! Owns the cadence, the counts and the round trip. Never builds RTCP bytes: the peer does, many
//! streams to a compound. Used by the downstream.

use super::rewrite::SenderClock;
use crate::media::packet::Crossing;
use std::time::{Duration, Instant};

/// Between reports of a young stream, so that the client can synchronise early.
const YOUNG_INTERVAL: Duration = Duration::from_secs(1);
/// How long a stream is young.
const YOUNG: Duration = Duration::from_secs(5);
/// Between reports after that. (LK: sfu-media §2.9)
const INTERVAL: Duration = Duration::from_secs(3);
/// Between attempts while the publisher's own report is missing.
const RETRY: Duration = Duration::from_millis(250);

/// Reports remembered to recognise the subscriber's answer: twelve seconds' worth.
const REMEMBERED: usize = 4;

/// A longer round trip than this is a broken report, not a slow network.
const MAX_RTT: Duration = Duration::from_secs(10);

/// Numbers between two reports; more are an old report, or a stream that began anew.
const BETWEEN_REPORTS: u32 = 1 << 16;

/// The contents of a sender report (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The stream.
    pub ssrc: u32,
    /// NTP time in 32.32 bits, on the *publisher's* clock: audio and video of one publisher stay
    /// together without ours.
    pub ntp: u64,
    /// The same moment as timestamp of the copy.
    pub rtp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// A reception report block about one of our streams (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reception {
    /// Fraction lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the start; duplicates count negative.
    pub lost: i32,
    /// Extended highest sequence number received.
    pub highest: u32,
    /// Interarrival jitter in ticks of the media clock.
    pub jitter: u32,
    /// Middle bits of the NTP time of the last sender report; 0 if none came.
    pub last_report: u32,
    /// Delay since then, in 65,536ths of a second.
    pub delay: u32,
}

/// What happened to a stream in one window of the quality score. (LK: sfu-media §5)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScoreWindow {
    /// How long the window was.
    pub span: Duration,
    /// How much of it the stream was paused or muted.
    pub idle: Duration,
    /// Packets sent.
    pub packets: u64,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Packets the subscriber reported lost, by the reports of this window.
    pub lost: u64,
    /// Those of them that never reached us: holes in what we sent.
    pub missing_upstream: u64,
    /// Receiver reports that came.
    pub reports: u32,
    /// Newest jitter.
    pub jitter: Duration,
    /// Round trip if known.
    pub rtt: Option<Duration>,
    /// Spatial layers missing now between the wish and what flows.
    pub missing_layers: u8,
}

/// Totals of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Packets sent on its SSRC.
    pub packets: u64,
    /// Payload bytes of them.
    pub octets: u64,
}

/// What the last window ended with.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    totals: Totals,
    lost: i32,
    holes: u64,
}

/// Reports of one copy.
#[derive(Debug)]
pub struct Reports {
    clock_rate: u32,
    totals: Totals,
    /// When the first report was sent.
    first_report: Option<Instant>,
    due: Option<Instant>,
    /// Middle NTP bits and moment of the newest reports.
    sent: [Option<(u32, Instant)>; REMEMBERED],
    next_sent: usize,
    newest: Option<Reception>,
    /// Holes in the copy when it came.
    holes: u64,
    received: u32,
    mark: Mark,
    idle: Duration,
    idle_since: Option<Instant>,
}

impl Reports {
    /// Before the first packet.
    #[must_use]
    pub fn new(clock_rate: u32, now: Instant) -> Self {
        Self {
            clock_rate,
            totals: Totals::default(),
            first_report: None,
            due: None,
            sent: [None; REMEMBERED],
            next_sent: 0,
            newest: None,
            holes: 0,
            received: 0,
            mark: Mark {
                at: now,
                totals: Totals::default(),
                lost: 0,
                holes: 0,
            },
            idle: Duration::ZERO,
            idle_since: Some(now),
        }
    }

    /// A packet with `octets` of payload was sent: the first one, or the first after a pause, makes
    /// a report due.
    pub fn handle_sent(&mut self, octets: usize, now: Instant) {
        self.handle_resent(octets);
        if let Some(since) = self.idle_since.take() {
            self.idle += now.saturating_duration_since(since.max(self.mark.at));
            self.due = Some(now);
        }
    }

    /// A packet was sent once more on the same SSRC.
    pub fn handle_resent(&mut self, octets: usize) {
        self.totals.packets += 1;
        self.totals.octets += octets as u64;
    }

    /// The stream was paused or muted: nothing to report until it flows again.
    pub fn handle_idle(&mut self, now: Instant) {
        self.idle_since.get_or_insert(now);
        self.due = None;
    }

    /// The sender report due now, if any. `clock` is the source's newest report with its moment
    /// in the copy's clock; without one the next attempt is soon.
    pub fn poll(
        &mut self,
        ssrc: u32,
        clock: Option<(SenderClock, u32)>,
        now: Instant,
    ) -> Option<SenderReport> {
        if now < self.due? {
            return None;
        }
        let Some((clock, rtp)) = clock else {
            self.due = now.checked_add(RETRY);
            return None;
        };
        let first = *self.first_report.get_or_insert(now);
        let young = now.saturating_duration_since(first) < YOUNG;
        self.due = now.checked_add(if young { YOUNG_INTERVAL } else { INTERVAL });
        let elapsed = now.saturating_duration_since(clock.arrival);
        let ticks = elapsed.as_micros() * u128::from(self.clock_rate) / 1_000_000;
        let report = SenderReport {
            ssrc,
            ntp: clock.ntp.wrapping_add(ntp_span(elapsed)),
            rtp: rtp.wrapping_add(ticks as u32),
            packets: self.totals.packets as u32,
            octets: self.totals.octets as u32,
        };
        self.sent[self.next_sent] = Some((middle(report.ntp), now));
        self.next_sent = (self.next_sent + 1) % REMEMBERED;
        Some(report)
    }

    /// What a receiver report that came says of this leg since the one before. `holes` counts packets
    /// missing in the copy so far: those were lost before us.
    pub fn crossing(&mut self, reception: &Reception, holes: u64) -> Option<Crossing> {
        let holes_before = std::mem::replace(&mut self.holes, holes);
        let before = self.newest?;
        let numbers = reception.highest.wrapping_sub(before.highest);
        if numbers > BETWEEN_REPORTS {
            return None;
        }
        // A hole that was filled late is one less.
        let missing = holes.cast_signed().wrapping_sub(holes_before.cast_signed());
        let lost = i64::from(reception.lost) - i64::from(before.lost);
        Some(Crossing {
            sent: i64::from(numbers).saturating_sub(missing),
            lost: lost.saturating_sub(missing),
        })
    }

    /// A receiver report came; tells the round trip if it answers a report of ours.
    pub fn handle_reception(&mut self, reception: Reception, now: Instant) -> Option<Duration> {
        self.received = self.received.saturating_add(1);
        self.newest = Some(reception);
        if reception.last_report == 0 {
            return None;
        }
        let remembered = self.sent.iter().flatten();
        let (_, at) = remembered
            .into_iter()
            .find(|(middle, _)| *middle == reception.last_report)?;
        let delay = Duration::from_micros((u64::from(reception.delay) * 1_000_000) >> 16);
        let rtt = now.saturating_duration_since(*at).checked_sub(delay)?;
        (rtt <= MAX_RTT).then_some(rtt)
    }

    /// Ends a window of the quality score. `holes` counts packets missing in the copy so far.
    pub fn take_window(&mut self, holes: u64, now: Instant) -> ScoreWindow {
        let since = self.idle_since.map(|s| s.max(self.mark.at));
        let open = since.map_or(Duration::ZERO, |s| now.saturating_duration_since(s));
        let lost = self.newest.map_or(self.mark.lost, |r| r.lost);
        let jitter = self.newest.map_or(0, |r| r.jitter);
        let rate = u64::from(self.clock_rate.max(1));
        let window = ScoreWindow {
            span: now.saturating_duration_since(self.mark.at),
            idle: self.idle.saturating_add(open),
            packets: self.totals.packets - self.mark.totals.packets,
            bytes: self.totals.octets - self.mark.totals.octets,
            lost: u64::try_from(i64::from(lost) - i64::from(self.mark.lost)).unwrap_or(0),
            missing_upstream: holes.saturating_sub(self.mark.holes),
            reports: self.received,
            jitter: Duration::from_micros(u64::from(jitter) * 1_000_000 / rate),
            rtt: None,
            missing_layers: 0,
        };
        self.mark = Mark {
            at: now,
            totals: self.totals,
            lost,
            holes,
        };
        self.received = 0;
        self.idle = Duration::ZERO;
        window
    }

    /// When [`Reports::poll`] has something to do.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Totals so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// The newest receiver report.
    #[must_use]
    pub const fn newest(&self) -> Option<Reception> {
        self.newest
    }
}

/// `span` as NTP, 32.32 bits.
fn ntp_span(span: Duration) -> u64 {
    let fraction = (u64::from(span.subsec_nanos()) << 32) / 1_000_000_000;
    (span.as_secs() << 32).wrapping_add(fraction)
}

/// The 32 bits of an NTP time that receiver reports echo.
const fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
mod tests;
