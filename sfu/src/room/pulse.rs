//! What is told at intervals, and only if it changed: speakers and connection quality.
//! (LK: signalling §5.13, §5.15)
//!
//! Owns when such messages go out and who is in them.

use super::deadlines::Deadline;
use super::effect::Count;
use super::publication::Publication;
use super::quality::{INTERVAL, mos, rating};
use super::state::State;
use crate::ids::{ParticipantSid, PeerId, TrackKey};
use crate::media::message::ScoredStream;
use proto::livekit::signal_response::Message;
use proto::livekit::{
    ConnectionQuality, ConnectionQualityInfo, ConnectionQualityUpdate, SpeakersChanged,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Protocol up to which clients do not know LOST. (LK: signalling §9.3)
const KNOWS_LOST_AFTER: i32 = 10;
/// A simulated speaker speaks at most this long, whatever the client asked for.
const LONGEST_SPEECH: Duration = Duration::from_secs(60);

/// A microphone's loudness changed.
pub(super) fn handle_level(
    state: &mut State,
    track: TrackKey,
    eighths: u8,
    active: bool,
    now: Instant,
) {
    let speaks = |track: &Publication| track.is_microphone() && track.should_flow();
    let known = state.publication(track).is_some_and(speaks);
    if known && state.speakers.hear(track, eighths, active) {
        speakers_changed(state, now);
    }
}

/// A microphone is muted or gone.
pub(super) fn silence(state: &mut State, track: TrackKey, now: Instant) {
    if state.speakers.silence(track) {
        speakers_changed(state, now);
    }
}

/// A client wants to be taken for a speaker for some seconds.
pub(super) fn simulate_speech(state: &mut State, peer: PeerId, seconds: i32, now: Instant) {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let length = Duration::from_secs(seconds).min(LONGEST_SPEECH);
    state.speakers.simulate(peer);
    state.deadlines.set(Deadline::Speech(peer), now + length);
    speakers_changed(state, now);
}

/// The simulated speech is over.
pub(super) fn end_speech(state: &mut State, peer: PeerId, now: Instant) {
    state.speakers.end_simulation(peer);
    speakers_changed(state, now);
}

/// Somebody may have to hear of speakers: soon, but not more often than the interval allows.
pub(super) fn speakers_changed(state: &mut State, now: Instant) {
    let interval = state.facts.settings.audio_update_interval;
    let earliest = state
        .speakers
        .last_sent
        .map_or(now, |sent| (sent + interval).max(now));
    state.deadlines.set_if_absent(Deadline::Speakers, earliest);
}

/// Tells each receiver what changed of the speakers it receives, and of itself.
pub(super) fn tell_speakers(state: &mut State, now: Instant) {
    state.speakers.last_sent = Some(now);
    let active = state.speakers.active();
    for receiver in state.peers() {
        let reachable = state
            .participants
            .get(&receiver)
            .is_some_and(|p| p.link.session.is_some());
        if !reachable {
            continue;
        }
        let audible: BTreeMap<ParticipantSid, f32> = active
            .iter()
            .filter(|(speaker, _)| receives(state, receiver, **speaker))
            .filter_map(|(speaker, level)| {
                Some((state.participants.get(speaker)?.profile.sid.clone(), *level))
            })
            .collect();
        let speakers = state.speakers.tell(receiver, audible);
        if !speakers.is_empty() {
            state.signal(
                receiver,
                Message::SpeakersChanged(SpeakersChanged { speakers }),
            );
        }
    }
}

/// Does the receiver get a track of the speaker, or is it the speaker?
fn receives(state: &State, receiver: PeerId, speaker: PeerId) -> bool {
    if receiver == speaker {
        return true;
    }
    let Some(publisher) = state.participants.get(&speaker) else {
        return false;
    };
    publisher
        .publications
        .live()
        .any(|(_, live)| live.subscribers.contains(&receiver))
}

/// Media rated a stream anew. Scores of what is gone are ignored.
pub(super) fn handle_score(state: &mut State, stream: ScoredStream, score: u8, now: Instant) {
    let known = match stream {
        ScoredStream::Published(track) => state
            .publication(track)
            .is_some_and(|track| track.live.is_some()),
        ScoredStream::Subscribed { peer, track } => {
            let live = state
                .publication(track)
                .and_then(|track| track.live.as_ref());
            live.is_some_and(|live| live.subscribers.contains(&peer))
        }
    };
    if known {
        state.quality.set(stream, score);
        quality_changed(state, now);
    }
}

/// A score, or who ought to know of one, changed.
pub(super) fn quality_changed(state: &mut State, now: Instant) {
    state
        .deadlines
        .set_if_absent(Deadline::Quality, now + INTERVAL);
}

/// Tells each receiver its own quality and that of those it receives, as far as they changed.
pub(super) fn tell_quality(state: &mut State) {
    let ratings = ratings(state);
    let mut changed = BTreeSet::new();
    for (peer, (quality, _)) in &ratings {
        if state.quality.note(*peer, *quality) {
            changed.insert(*peer);
            state.count(Count::Quality {
                rating: *quality as i32,
            });
        }
    }
    let fresh = state.quality.take_fresh();
    for receiver in ratings.keys() {
        let Some(participant) = state.participants.get(receiver) else {
            continue;
        };
        let all = fresh.contains(receiver);
        let lost_known = participant.protocol() > KNOWS_LOST_AFTER;
        let mut about: BTreeSet<PeerId> = participant
            .subscriptions
            .keys()
            .map(|key| key.peer)
            .collect();
        about.insert(*receiver);
        let updates: Vec<_> = about
            .iter()
            .filter(|peer| all || changed.contains(peer))
            .filter_map(|peer| entry(state, *peer, *ratings.get(peer)?, lost_known))
            .collect();
        if !updates.is_empty() {
            state.signal(
                *receiver,
                Message::ConnectionQuality(ConnectionQualityUpdate { updates }),
            );
        }
    }
}

fn ratings(state: &State) -> BTreeMap<PeerId, (ConnectionQuality, u8)> {
    let active = state
        .participants
        .iter()
        .filter(|(_, participant)| participant.presence.active);
    active
        .map(|(peer, participant)| {
            let flows = |key| {
                participant
                    .publications
                    .find(key)
                    .is_some_and(Publication::should_flow)
            };
            let score = state.quality.score(*peer, flows);
            (*peer, (rating(score), score))
        })
        .collect()
}

fn entry(
    state: &State,
    peer: PeerId,
    (quality, score): (ConnectionQuality, u8),
    lost_known: bool,
) -> Option<ConnectionQualityInfo> {
    let hidden_loss = quality == ConnectionQuality::Lost && !lost_known;
    let quality = if hidden_loss {
        ConnectionQuality::Poor
    } else {
        quality
    };
    Some(ConnectionQualityInfo {
        participant_sid: state
            .participants
            .get(&peer)?
            .profile
            .sid
            .as_str()
            .to_owned(),
        quality: quality as i32,
        score: mos(score),
    })
}
