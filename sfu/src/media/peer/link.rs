//! What a peer's streams share: round trip, report times, SSRCs drawn, announced tracks.

use crate::ids::TrackKey;
use crate::media::message::TrackSpec;
use rand::Rng;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Round trip assumed until one is measured. (LK: sfu-media §1.4)
const DEFAULT_RTT: Duration = Duration::from_millis(70);
/// Weight of a new round trip: three quarters. (LK: sfu-media §1.4)
const RTT_NEW_WEIGHT: f64 = 0.75;
/// Receiver reports to a publisher. (LK: sfu-media §8.8)
const RECEIVER_REPORT_EVERY: Duration = Duration::from_secs(1);
/// Quality windows. (LK: sfu-media §5)
const SCORE_EVERY: Duration = Duration::from_secs(5);

/// What an announced track starts with once its media comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Slow pictures with long pauses.
    pub screen_share: bool,
    /// Two channels.
    pub stereo: bool,
    /// Encrypted end to end.
    pub encrypted: bool,
    /// Its frames may end in a trailer.
    pub trailers: bool,
    /// Muted now.
    pub muted: bool,
}

/// The shared part of a peer.
#[derive(Debug)]
pub struct Link {
    /// Our SSRC in reports and requests, the same for the life of the peer.
    pub ssrc: u32,
    rtt: Option<Duration>,
    /// SSRCs handed out: a counter through a bijection never repeats one.
    drawn: u32,
    offset: u32,
    announced: BTreeMap<TrackKey, Announced>,
    next_report: Instant,
    next_score: Instant,
}

impl Link {
    /// A fresh link; reports begin at a random phase so that peers do not report all at once.
    #[must_use]
    pub fn new(rng: &mut impl Rng, now: Instant) -> Self {
        let phase = |rng: &mut dyn rand::RngCore, every: Duration| {
            now + every.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX))
        };
        let mut link = Self {
            ssrc: 0,
            rtt: None,
            drawn: 0,
            offset: rng.random(),
            announced: BTreeMap::new(),
            next_report: phase(rng, RECEIVER_REPORT_EVERY),
            next_score: phase(rng, SCORE_EVERY),
        };
        link.ssrc = link.draw_ssrc();
        link
    }

    /// An SSRC never drawn before for this peer, and not zero: no packet ever shares key, SSRC and
    /// index with another. Multiplying by an odd number permutes the 2^32 numbers.
    pub fn draw_ssrc(&mut self) -> u32 {
        loop {
            self.drawn = self.drawn.wrapping_add(1);
            let ssrc = self.drawn.wrapping_mul(0x9E37_79B1) ^ self.offset;
            if ssrc != 0 {
                return ssrc;
            }
        }
    }

    /// A track was announced. Negotiation bounds how many are.
    pub fn announce(&mut self, key: TrackKey, spec: &TrackSpec) {
        let announced = Announced {
            screen_share: spec.screen_share,
            stereo: spec.stereo,
            encrypted: spec.encrypted,
            trailers: spec.trailers,
            muted: spec.muted,
        };
        self.announced.insert(key, announced);
    }

    /// A track is over.
    pub fn forget(&mut self, key: TrackKey) {
        self.announced.remove(&key);
    }

    /// A track was muted or unmuted.
    pub fn mute(&mut self, key: TrackKey, muted: bool) {
        if let Some(announced) = self.announced.get_mut(&key) {
            announced.muted = muted;
        }
    }

    /// What was announced of a track.
    #[must_use]
    pub fn announced(&self, key: TrackKey) -> Option<Announced> {
        self.announced.get(&key).copied()
    }

    /// A round trip was measured.
    pub fn handle_round_trip(&mut self, rtt: Duration) {
        self.rtt = Some(self.rtt.map_or(rtt, |old| {
            rtt.mul_f64(RTT_NEW_WEIGHT) + old.mul_f64(1.0 - RTT_NEW_WEIGHT)
        }));
    }

    /// The round trip, measured or assumed.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(DEFAULT_RTT)
    }

    /// The round trip if one was measured.
    #[must_use]
    pub const fn measured_rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Is a receiver report due? Then the next one is set.
    pub fn poll_report(&mut self, now: Instant) -> bool {
        poll(&mut self.next_report, RECEIVER_REPORT_EVERY, now)
    }

    /// Is a quality window over? Then the next one is set.
    pub fn poll_score(&mut self, now: Instant) -> bool {
        poll(&mut self.next_score, SCORE_EVERY, now)
    }

    /// When one of the two is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.next_report.min(self.next_score)
    }
}

/// Moves a periodic deadline on; after a long sleep the missed ones are left out.
fn poll(next: &mut Instant, every: Duration, now: Instant) -> bool {
    if now < *next {
        return false;
    }
    let after = *next + every;
    *next = if after > now { after } else { now + every };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use std::collections::BTreeSet;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    #[test]
    fn no_ssrc_is_drawn_twice_and_none_is_zero() {
        let mut link = Link::new(&mut StdRng::seed_from_u64(3), instant());
        let mut seen = BTreeSet::from([link.ssrc]);
        for _ in 0..100_000 {
            let ssrc = link.draw_ssrc();
            assert_ne!(ssrc, 0);
            assert!(seen.insert(ssrc));
        }
    }

    #[test]
    fn a_late_poll_does_not_make_up_for_missed_reports() {
        let now = instant();
        let mut link = Link::new(&mut StdRng::seed_from_u64(3), now);
        let late = now + Duration::from_secs(60);
        assert!(link.poll_report(late));
        assert!(link.poll_report(late + RECEIVER_REPORT_EVERY));
        assert!(!link.poll_report(late + RECEIVER_REPORT_EVERY));
    }
}
