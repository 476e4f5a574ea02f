//! How good each participant's connection is. (LK: signalling §5.15, sfu-media §5)
//!
//! Owns the scores of streams and the ratings last told. Who hears of them, and when, is the matter
//! of `pulse`.

use crate::ids::{PeerId, TrackKey};
use crate::media::message::ScoredStream;
use proto::livekit::ConnectionQuality;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Changes are told at most this often.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// A participant without streams is fine.
const PERFECT: u8 = 100;
/// The lowest score that is not LOST.
const POOR_FLOOR: u8 = 21;

/// Scores and ratings of all participants. Bounded by tracks and subscriptions.
#[derive(Debug, Default)]
pub(super) struct Quality {
    published: BTreeMap<TrackKey, u8>,
    subscribed: BTreeMap<(PeerId, TrackKey), u8>,
    told: BTreeMap<PeerId, ConnectionQuality>,
    fresh: BTreeSet<PeerId>,
}

impl Quality {
    /// A stream's score changed.
    pub(super) fn set(&mut self, stream: ScoredStream, score: u8) {
        match stream {
            ScoredStream::Published(track) => self.published.insert(track, score),
            ScoredStream::Subscribed { peer, track } => {
                self.subscribed.insert((peer, track), score)
            }
        };
    }

    /// The receiver is to hear of everybody it may, not only of changes.
    pub(super) fn refresh(&mut self, receiver: PeerId) {
        self.fresh.insert(receiver);
    }

    /// Those to whom [`Self::refresh`] applied since the last call.
    pub(super) fn take_fresh(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.fresh)
    }

    /// A track is gone.
    pub(super) fn forget_track(&mut self, track: TrackKey) {
        self.published.remove(&track);
    }

    /// A subscription is gone.
    pub(super) fn forget_subscription(&mut self, peer: PeerId, track: TrackKey) {
        self.subscribed.remove(&(peer, track));
    }

    /// Somebody left.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.published.retain(|track, _| track.peer != peer);
        self.subscribed
            .retain(|(of, track), _| *of != peer && track.peer != peer);
        self.told.remove(&peer);
        self.fresh.remove(&peer);
    }

    /// The worst score of a participant's streams; `flows` tells which published tracks ought to
    /// send. Only those can be LOST: a client that believes itself lost starts over, and must not
    /// do so because it is muted or because a subscription hangs.
    pub(super) fn score(&self, peer: PeerId, flows: impl Fn(TrackKey) -> bool) -> u8 {
        let first = TrackKey { peer, index: 0 };
        let last = TrackKey {
            peer,
            index: u32::MAX,
        };
        let published = self.published.range(first..=last);
        let published = published
            .filter(|(track, _)| flows(**track))
            .map(|(_, score)| *score);
        let lowest = TrackKey {
            peer: PeerId {
                worker: 0,
                slot: 0,
                generation: 0,
            },
            index: 0,
        };
        let subscribed = self.subscribed.range((peer, lowest)..);
        let subscribed = subscribed.take_while(|((of, _), _)| *of == peer);
        let subscribed = subscribed.map(|(_, score)| (*score).max(POOR_FLOOR));
        published
            .chain(subscribed)
            .min()
            .unwrap_or(PERFECT)
            .min(PERFECT)
    }

    /// Remembers a rating; returns whether it is new.
    pub(super) fn note(&mut self, peer: PeerId, rating: ConnectionQuality) -> bool {
        self.told.insert(peer, rating) != Some(rating)
    }
}

/// LiveKit's rating of a score.
pub(super) const fn rating(score: u8) -> ConnectionQuality {
    match score {
        81.. => ConnectionQuality::Excellent,
        41..=80 => ConnectionQuality::Good,
        21..=40 => ConnectionQuality::Poor,
        0..=20 => ConnectionQuality::Lost,
    }
}

/// Mean opinion score of a score, 1 to 4.5.
pub(super) fn mos(score: u8) -> f32 {
    let s = f32::from(score);
    1.0 + 0.035 * s + 7e-6 * s * (s - 60.0) * (100.0 - s)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId {
        worker: 0,
        slot: 1,
        generation: 0,
    };
    const TRACK: TrackKey = TrackKey {
        peer: PEER,
        index: 0,
    };

    #[test]
    fn ratings_change_above_eighty_forty_and_twenty() {
        let ratings = [100, 81, 80, 41, 40, 21, 20, 0].map(|score| rating(score) as i32);
        assert_eq!(ratings, [2, 2, 1, 1, 0, 0, 3, 3]);
    }

    #[test]
    fn the_opinion_score_runs_from_one_to_four_and_a_half() {
        assert!((mos(0) - 1.0).abs() < 1e-5);
        assert!((mos(100) - 4.5).abs() < 1e-5);
        assert!((mos(60) - 3.1).abs() < 1e-5);
    }

    #[test]
    fn the_worst_stream_counts_and_none_is_perfect() {
        let mut quality = Quality::default();
        assert_eq!(quality.score(PEER, |_| true), 100);
        let other = TrackKey {
            peer: PeerId { slot: 2, ..PEER },
            index: 0,
        };
        quality.set(ScoredStream::Published(TRACK), 90);
        quality.set(
            ScoredStream::Subscribed {
                peer: PEER,
                track: other,
            },
            50,
        );
        assert_eq!(quality.score(PEER, |_| true), 50);
        quality.forget_subscription(PEER, other);
        assert_eq!(quality.score(PEER, |_| true), 90);
    }

    #[test]
    fn neither_a_muted_track_nor_a_subscription_makes_somebody_lost() {
        let mut quality = Quality::default();
        quality.set(ScoredStream::Published(TRACK), 0);
        assert_eq!(
            rating(quality.score(PEER, |_| true)),
            ConnectionQuality::Lost
        );
        assert_eq!(
            rating(quality.score(PEER, |_| false)),
            ConnectionQuality::Excellent
        );
        quality.forget_track(TRACK);
        quality.set(
            ScoredStream::Subscribed {
                peer: PEER,
                track: TRACK,
            },
            0,
        );
        assert_eq!(
            rating(quality.score(PEER, |_| true)),
            ConnectionQuality::Poor
        );
    }
}
