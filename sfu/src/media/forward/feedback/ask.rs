//! When to ask the publisher for a key frame, on behalf of one subscriber.
//!
//! Owns the pace. The source throttles what all subscribers ask together. (LK: sfu-media §1.8)

use std::time::{Duration, Instant};

/// Bounds of the interval, which is otherwise two round trips. (LK: sfu-media §1.8)
const INTERVAL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// How long an unproven stream is asked for, so that a client that never reports does not cost
/// the publisher a key frame a second for ever. The same as ingest's seeding.
const UNPROVEN_FOR: Duration = Duration::from_secs(30);

/// The state of asking.
#[derive(Debug, Clone, Default)]
pub struct KeyFrameAsk {
    /// The subscriber asked, and no key frame was sent since.
    pending: bool,
    /// Not before this.
    next: Option<Instant>,
    /// The subscriber's RTCP named the stream: it knows the SSRC.
    proven: bool,
    /// When the stream began.
    began: Option<Instant>,
    /// The one request outside the throttle was made.
    urgent_used: bool,
}

impl KeyFrameAsk {
    /// The subscriber asked for a key frame (PLI or FIR).
    pub fn handle_request(&mut self) {
        self.pending = true;
    }

    /// The subscriber's RTCP named the stream.
    pub fn handle_proof(&mut self) {
        self.proven = true;
    }

    /// A key frame was sent. The first also starts the wait for a proof.
    pub fn handle_key_frame_sent(&mut self, rtt: Duration, now: Instant) {
        self.pending = false;
        if self.began.is_none() {
            self.began = Some(now);
            self.next = now.checked_add(interval(rtt));
        }
    }

    /// The key frame to ask for now: its layer, and whether to pass the source's throttle.
    /// `missing` is the layer a switch waits for, `current` the one that flows.
    pub fn poll(
        &mut self,
        missing: Option<u8>,
        current: Option<u8>,
        rtt: Duration,
        now: Instant,
    ) -> Option<(u8, bool)> {
        let layer = self.wanted(missing, current, now)?;
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = now.checked_add(interval(rtt));
        let urgent = self.is_unproven(now) && !self.urgent_used;
        self.urgent_used |= urgent;
        Some((layer, urgent))
    }

    /// When [`KeyFrameAsk::poll`] has something to say.
    #[must_use]
    pub fn poll_timeout(
        &self,
        missing: Option<u8>,
        current: Option<u8>,
        now: Instant,
    ) -> Option<Instant> {
        self.wanted(missing, current, now)?;
        Some(self.next.unwrap_or(now))
    }

    fn wanted(&self, missing: Option<u8>, current: Option<u8>, now: Instant) -> Option<u8> {
        missing.or_else(|| current.filter(|_| self.pending || self.is_unproven(now)))
    }

    /// Sent, but nothing shows that the client knew the SSRC: with a single peer connection nobody
    /// tells when it applied our answer. (LK: sfu-media §2.8)
    fn is_unproven(&self, now: Instant) -> bool {
        let began = self.began.filter(|_| !self.proven);
        began.is_some_and(|began| now.saturating_duration_since(began) < UNPROVEN_FOR)
    }
}

fn interval(rtt: Duration) -> Duration {
    rtt.saturating_mul(2).clamp(INTERVAL.0, INTERVAL.1)
}
