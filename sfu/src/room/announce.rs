//! Tells participants of each other. (LK: signalling §5.12)
//!
//! Owns who hears of a change, and whether at once or with the next batch. Called whenever
//! something in a snapshot changed; each call is a new version of the snapshot.

use super::deadlines::Deadline;
use super::participant::Participant;
use super::roster::{self, BATCH_INTERVAL};
use super::state::State;
use crate::ids::PeerId;
use proto::livekit;
use proto::livekit::participant_info::State as Wire;
use proto::livekit::signal_response::Message;
use proto::livekit::{ParticipantInfo, ParticipantUpdate};
use std::time::{Duration, Instant};

/// Participant counts are told at most this often. (LK: signalling §5.14)
const COUNTS_INTERVAL: Duration = Duration::from_secs(5);

/// Protocol from which receivers identify participants by identity, so that a new sid needs no
/// farewell to the old one. (LK: signalling §9.3)
pub(super) const IDENTITY_BASED: i32 = 12;

/// What changed about a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Its state, or the list of its tracks.
    Progress,
    /// Something about one of its tracks: itself must hear of it as well.
    Track,
    /// Name, metadata, attributes or permission.
    Profile,
    /// It takes the place of another of its identity, whose tracks must go from sight now.
    Replacement,
}

/// Tells of a change of a participant.
pub(super) fn changed(state: &mut State, peer: PeerId, change: Change, now: Instant) {
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    participant.presence.version = participant.presence.version.wrapping_add(1);
    let info = participant.info();
    let immediate = participant.presence.is_publisher
        || matches!(change, Change::Profile | Change::Replacement);
    if participant.is_hidden() {
        send(state, peer, &info);
    } else if immediate {
        spread(state, &info);
    } else {
        if change == Change::Track {
            send(state, peer, &info);
        }
        state.roster.queue(info);
        state
            .deadlines
            .set_if_absent(Deadline::Roster, now + BATCH_INTERVAL);
    }
}

/// Tells that a participant is gone, which it already is. `replaced` by a new one of the same
/// identity, only old clients need to know.
pub(super) fn departed(state: &mut State, info: ParticipantInfo, replaced: bool, now: Instant) {
    for participant in state.participants.values_mut() {
        participant.seen.record_departure(&info);
    }
    if replaced {
        state.roster.supersede(&info);
        for peer in state.peers() {
            let old = state
                .participants
                .get(&peer)
                .is_some_and(|receiver| receiver.protocol() < IDENTITY_BASED);
            if old {
                send(state, peer, &info);
            }
        }
    } else if info.is_publisher {
        spread(state, &info);
    } else {
        state.roster.queue(info);
        state
            .deadlines
            .set_if_absent(Deadline::Roster, now + BATCH_INTERVAL);
    }
}

/// The batch is due.
pub(super) fn flush(state: &mut State) {
    state.deadlines.clear(Deadline::Roster);
    if state.roster.is_empty() {
        return;
    }
    let queued = state.roster.take();
    for peer in state.peers() {
        let Some(receiver) = state.participants.get_mut(&peer) else {
            continue;
        };
        if receiver.link.session.is_none() {
            continue;
        }
        let own = receiver.profile.sid.clone();
        let others = queued.iter().filter(|info| info.sid != own.as_str());
        let news: Vec<_> = others
            .filter(|info| receiver.seen.admit(info))
            .cloned()
            .collect();
        for update in roster::split(news, state.facts.settings.update_batch_target_size) {
            state.signal(peer, Message::Update(update));
        }
    }
}

/// The others as a joining or resuming participant is told of them, which is hereby recorded.
pub(super) fn others(state: &mut State, peer: PeerId) -> Vec<ParticipantInfo> {
    let visible =
        |(of, participant): &(&PeerId, &Participant)| **of != peer && !participant.is_hidden();
    let infos: Vec<_> = state
        .participants
        .iter()
        .filter(visible)
        .map(|(_, other)| other.info())
        .collect();
    if let Some(receiver) = state.participants.get_mut(&peer) {
        for info in &infos {
            receiver.seen.record(info);
        }
    }
    infos
}

/// Everybody a resuming participant must know of, itself included, in one message: some clients
/// drop whom the first list after a resume does not name. (LK: signalling §7.2)
pub(super) fn everybody(state: &mut State, peer: PeerId) -> ParticipantUpdate {
    let mut participants = others(state, peer);
    if let Some(participant) = state.participants.get_mut(&peer) {
        let info = participant.info();
        participant.seen.record(&info);
        participants.push(info);
    }
    ParticipantUpdate { participants }
}

/// How many there are has changed; whether somebody records is told at once.
pub(super) fn counts_changed(state: &mut State, recording_changed: bool, now: Instant) {
    if recording_changed {
        tell_counts(state, now);
        return;
    }
    let earliest = state
        .counts_told
        .map_or(now + COUNTS_INTERVAL, |told| told + COUNTS_INTERVAL);
    state
        .deadlines
        .set_if_absent(Deadline::Counts, earliest.max(now));
}

/// Tells everybody of the room as it is.
pub(super) fn tell_counts(state: &mut State, now: Instant) {
    state.deadlines.clear(Deadline::Counts);
    state.counts_told = Some(now);
    let room = state.room_info();
    for peer in state.peers() {
        let update = livekit::RoomUpdate {
            room: Some(room.clone()),
        };
        state.signal(peer, Message::RoomUpdate(update));
    }
}

fn spread(state: &mut State, info: &ParticipantInfo) {
    state.roster.supersede(info);
    for peer in state.peers() {
        send(state, peer, info);
    }
}

fn send(state: &mut State, peer: PeerId, info: &ParticipantInfo) {
    let Some(receiver) = state.participants.get_mut(&peer) else {
        return;
    };
    if receiver.link.session.is_none() || !receiver.seen.admit(info) {
        return;
    }
    let update = ParticipantUpdate {
        participants: vec![info.clone()],
    };
    state.signal(peer, Message::Update(update));
}

/// The participant as its own join response shows it.
pub(super) fn joining(state: &mut State, peer: PeerId) -> Option<ParticipantInfo> {
    let participant = state.participants.get_mut(&peer)?;
    let info = ParticipantInfo {
        state: Wire::Joining as i32,
        ..participant.info()
    };
    participant.seen.record(&info);
    Some(info)
}
