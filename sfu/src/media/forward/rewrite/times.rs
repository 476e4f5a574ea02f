//! Timestamps of a copy: one line that never goes back, through every change of source.
//!
//! Owns the offset to the source and the last moment sent. (LK: sfu-media §2.3)

use super::{Refusal, SenderClock};
use crate::media::packet::Packet;
use std::time::{Duration, Instant};

/// How long a switch waits for a sender report, or for a layer whose packets come later; then
/// the wall clock decides. (LK: sfu-media §2.3, fallback)
const SWITCH_PATIENCE: Duration = Duration::from_millis(500);

/// A layer this far behind what was sent would stop the picture: the switch waits.
const MAX_BEHIND: Duration = Duration::from_millis(50);

/// After a mute, a source clock this far behind the wall clock stood still meanwhile.
const STALLED_AFTER_MUTE: Duration = Duration::from_millis(200);

/// The same after any other pause.
const STALLED: Duration = Duration::from_secs(2);

/// Sender reports that put a packet further from the wall clock than this are wrong.
const MAX_DISAGREEMENT: Duration = Duration::from_secs(2);

/// A late packet further back than this is not placed among seven-bit picture ids, of which half
/// a turn is 64: one second of 60 frames.
const STALE: Duration = Duration::from_secs(1);

/// A moment on the publisher's wall clock and on the copy's media clock.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    ntp: u64,
    copy: u64,
}

/// The newest moment sent.
#[derive(Debug, Clone, Copy)]
struct Newest {
    copy: u64,
    arrival: Instant,
}

/// Timestamps of one copy. Extended values wrap at 2^64, so that a source may lie above its copy.
#[derive(Debug)]
pub(super) struct Times {
    clock_rate: u32,
    /// Copy minus source.
    offset: u64,
    first: u64,
    newest: Option<Newest>,
    anchor: Option<Anchor>,
    /// Reports that came before this do not fit the offset: the source's clock stood still.
    reports_from: Option<Instant>,
    /// Since when a switch is refused.
    refused_since: Option<Instant>,
    muted: bool,
}

impl Times {
    pub(super) fn new(clock_rate: u32, first: u32) -> Self {
        Self {
            clock_rate,
            offset: 0,
            first: u64::from(first),
            newest: None,
            anchor: None,
            reports_from: None,
            refused_since: None,
            muted: false,
        }
    }

    pub(super) fn handle_pause(&mut self) {
        self.refused_since = None;
    }

    pub(super) fn handle_mute(&mut self) {
        self.muted = true;
    }

    /// The very first packet.
    pub(super) fn begin(&mut self, packet: &Packet) {
        self.join(packet, self.first);
        self.muted = false;
    }

    /// Remembers where the copy stands on the publisher's wall clock.
    pub(super) fn anchor(&mut self, clock: Option<SenderClock>) {
        if let Some(clock) = clock.filter(|clock| self.trusts(clock)) {
            self.anchor = Some(Anchor {
                ntp: clock.ntp,
                copy: clock.rtp.0.wrapping_add(self.offset),
            });
        }
    }

    /// Where `packet` of another stream lies in the copy, by the sender reports of both.
    pub(super) fn mapped(&self, packet: &Packet, clock: Option<SenderClock>) -> Option<u64> {
        let (anchor, clock) = (self.anchor?, clock?);
        let apart = clock.ntp.wrapping_sub(anchor.ntp) as i64;
        let ticks = (i128::from(apart) * i128::from(self.clock_rate)) >> 32;
        let since_report = packet.time.0.wrapping_sub(clock.rtp.0);
        Some(
            anchor
                .copy
                .wrapping_add(ticks as u64)
                .wrapping_add(since_report),
        )
    }

    /// Goes on after a pause; there is nothing to wait for. `returned`: it is the same stream.
    pub(super) fn resume(
        &mut self,
        packet: &Packet,
        returned: bool,
        mapped: Option<u64>,
        now: Instant,
    ) {
        let expected = self.expected(packet);
        let reference = if returned {
            Some(packet.time.0.wrapping_add(self.offset))
        } else {
            mapped
        };
        let patience = if self.muted {
            STALLED_AFTER_MUTE
        } else {
            STALLED
        };
        let chosen = reference.filter(|reference| {
            self.agree(*reference, expected)
                && distance(expected, *reference) <= self.ticks(patience)
        });
        match (chosen, returned) {
            // The offset stays, and so does what is known of it.
            (Some(_), true) => {}
            // The new stream's report was weighed against the wall clock just now.
            (Some(_), false) => self.reports_from = None,
            // The source's clock stood still, or nothing is known of it: reports of before lie.
            (None, _) => {
                self.reports_from = Some(now);
                self.anchor = None;
            }
        }
        self.join(packet, chosen.unwrap_or(expected));
        self.muted = false;
    }

    /// Changes to another layer while this one flows.
    pub(super) fn switch(
        &mut self,
        packet: &Packet,
        mapped: Option<u64>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let expected = self.expected(packet);
        let newest = self.newest.map_or(expected, |newest| newest.copy);
        let fits = mapped.filter(|m| {
            self.agree(*m, expected) && distance(*m, newest) >= -self.ticks(MAX_BEHIND)
        });
        if fits.is_none() {
            let since = *self.refused_since.get_or_insert(now);
            if now.saturating_duration_since(since) < SWITCH_PATIENCE {
                return Err(Refusal::NotYet);
            }
            self.anchor = None;
        }
        self.join(packet, fits.unwrap_or(expected));
        // Any report of the new layer's stream fits its one offset.
        self.reports_from = None;
        Ok(())
    }

    /// Puts `packet` at `copy`, or right after the newest if that would go back.
    fn join(&mut self, packet: &Packet, copy: u64) {
        let copy = match self.newest {
            Some(newest) if distance(copy, newest.copy) <= 0 => newest.copy.wrapping_add(1),
            _ => copy,
        };
        self.offset = copy.wrapping_sub(packet.time.0);
        self.newest = Some(Newest {
            copy,
            arrival: packet.arrival,
        });
        self.refused_since = None;
    }

    /// The timestamp of a packet of the stream, fresh or late.
    pub(super) fn stamp(&mut self, packet: &Packet) -> u32 {
        let copy = packet.time.0.wrapping_add(self.offset);
        if self
            .newest
            .is_none_or(|newest| distance(copy, newest.copy) > 0)
        {
            self.newest = Some(Newest {
                copy,
                arrival: packet.arrival,
            });
        }
        copy as u32
    }

    /// So late that sixty pictures may have passed since.
    pub(super) fn is_stale(&self, packet: &Packet) -> bool {
        let copy = packet.time.0.wrapping_add(self.offset);
        self.newest
            .is_some_and(|newest| distance(newest.copy, copy) > self.ticks(STALE))
    }

    /// A report the offset fits, with its moment in the copy's clock.
    pub(super) fn copied(&self, clock: SenderClock) -> Option<(SenderClock, u32)> {
        self.trusts(&clock)
            .then(|| (clock, clock.rtp.0.wrapping_add(self.offset) as u32))
    }

    fn trusts(&self, clock: &SenderClock) -> bool {
        self.reports_from.is_none_or(|from| clock.arrival >= from)
    }

    /// Where a packet arriving now lies by the wall clock.
    fn expected(&self, packet: &Packet) -> u64 {
        let Some(newest) = self.newest else {
            return self.first;
        };
        let elapsed = packet.arrival.saturating_duration_since(newest.arrival);
        newest.copy.wrapping_add(self.ticks(elapsed) as u64)
    }

    fn agree(&self, a: u64, b: u64) -> bool {
        distance(a, b).unsigned_abs() <= self.ticks(MAX_DISAGREEMENT).unsigned_abs()
    }

    /// `span` in ticks of the media clock.
    fn ticks(&self, span: Duration) -> i64 {
        let ticks = span.as_micros() * u128::from(self.clock_rate) / 1_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }
}

/// How far `a` lies after `b`.
const fn distance(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b) as i64
}
