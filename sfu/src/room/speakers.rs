//! Who speaks, and what each receiver knows of it. (LK: signalling §5.13)
//!
//! Owns the loudness of microphones and the last word said to each receiver. Which of them a
//! receiver may hear of, and when a message goes out, is the matter of `pulse`.

use crate::ids::{ParticipantSid, PeerId, TrackKey};
use proto::livekit::SpeakerInfo;
use std::collections::BTreeMap;
use std::time::Instant;

/// Loudness of a simulated speaker.
const SIMULATED_LEVEL: f32 = 0.9;

/// Active microphones and what was told of them. Bounded by tracks, and by receivers times those
/// who speak at once.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    /// Eighths of full loudness, of active microphones only.
    heard: BTreeMap<TrackKey, u8>,
    simulated: BTreeMap<PeerId, ()>,
    /// By receiver: active speakers it knows of.
    told: BTreeMap<PeerId, BTreeMap<ParticipantSid, f32>>,
    pub(super) last_sent: Option<Instant>,
}

impl Speakers {
    /// A microphone's loudness; returns whether something changed.
    pub(super) fn hear(&mut self, track: TrackKey, eighths: u8, active: bool) -> bool {
        if active {
            let eighths = eighths.min(8);
            self.heard.insert(track, eighths) != Some(eighths)
        } else {
            self.silence(track)
        }
    }

    /// A microphone is muted or gone; returns whether it was active.
    pub(super) fn silence(&mut self, track: TrackKey) -> bool {
        self.heard.remove(&track).is_some()
    }

    /// Pretends that somebody speaks.
    pub(super) fn simulate(&mut self, peer: PeerId) {
        self.simulated.insert(peer, ());
    }

    /// Ends the pretence.
    pub(super) fn end_simulation(&mut self, peer: PeerId) {
        self.simulated.remove(&peer);
    }

    /// A receiver starts anew: it knows of nobody.
    pub(super) fn forget_receiver(&mut self, peer: PeerId) {
        self.told.remove(&peer);
    }

    /// Somebody left.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.heard.retain(|track, _| track.peer != peer);
        self.simulated.remove(&peer);
        self.told.remove(&peer);
    }

    /// All who speak and how loud.
    pub(super) fn active(&self) -> BTreeMap<PeerId, f32> {
        let mut active: BTreeMap<PeerId, f32> = BTreeMap::new();
        for (track, eighths) in &self.heard {
            let level = f32::from(*eighths) / 8.0;
            let entry = active.entry(track.peer).or_insert(level);
            *entry = entry.max(level);
        }
        for peer in self.simulated.keys() {
            active.insert(*peer, SIMULATED_LEVEL);
        }
        active
    }

    /// What a receiver must hear, given all active speakers it may know of: changed entries only,
    /// the loudest first.
    pub(super) fn tell(
        &mut self,
        receiver: PeerId,
        audible: BTreeMap<ParticipantSid, f32>,
    ) -> Vec<SpeakerInfo> {
        let told = self.told.remove(&receiver).unwrap_or_default();
        let entry = |sid: &ParticipantSid, level, active| SpeakerInfo {
            sid: sid.as_str().to_owned(),
            level,
            active,
        };
        let changed = audible
            .iter()
            .filter(|(sid, level)| told.get(*sid) != Some(*level));
        let ended = told.keys().filter(|sid| !audible.contains_key(*sid));
        let mut entries: Vec<_> = changed
            .map(|(sid, level)| entry(sid, *level, true))
            .chain(ended.map(|sid| entry(sid, 0.0, false)))
            .collect();
        entries.sort_by(|a, b| b.level.total_cmp(&a.level));
        if !audible.is_empty() {
            self.told.insert(receiver, audible);
        }
        entries
    }
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

    fn audible(levels: &[(&str, f32)]) -> BTreeMap<ParticipantSid, f32> {
        levels
            .iter()
            .map(|(sid, level)| (ParticipantSid::from_wire(sid), *level))
            .collect()
    }

    #[test]
    fn a_level_that_did_not_change_is_no_news() {
        let mut speakers = Speakers::default();
        assert!(speakers.hear(TRACK, 4, true));
        assert!(!speakers.hear(TRACK, 4, true));
        assert!(speakers.hear(TRACK, 5, true));
        assert!(speakers.hear(TRACK, 0, false));
        assert!(!speakers.hear(TRACK, 0, false));
    }

    #[test]
    fn only_changed_entries_are_told_and_an_ended_one_once() {
        let mut speakers = Speakers::default();
        let first = speakers.tell(PEER, audible(&[("PA_a", 0.5), ("PA_b", 1.0)]));
        assert_eq!(
            first.iter().map(|s| s.sid.as_str()).collect::<Vec<_>>(),
            vec!["PA_b", "PA_a"]
        );
        let second = speakers.tell(PEER, audible(&[("PA_b", 1.0)]));
        assert_eq!(
            second,
            vec![SpeakerInfo {
                sid: "PA_a".into(),
                level: 0.0,
                active: false
            }]
        );
        assert_eq!(speakers.tell(PEER, audible(&[("PA_b", 1.0)])), vec![]);
    }

    #[test]
    fn the_louder_of_two_microphones_counts() {
        let mut speakers = Speakers::default();
        speakers.hear(TRACK, 2, true);
        speakers.hear(TrackKey { index: 1, ..TRACK }, 6, true);
        assert_eq!(speakers.active(), BTreeMap::from([(PEER, 0.75)]));
        speakers.forget(PEER);
        assert!(speakers.active().is_empty());
    }
}
