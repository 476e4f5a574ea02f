//! Participants leave, and rooms end. (LK: signalling §5.9, §7.6)
//!
//! Owns the one way out: whatever the reason, everything a participant had is taken back here.

use super::announce;
use super::deadlines::{Deadline, Deadlines};
use super::dynacast;
use super::effect::{Count, Effect};
use super::leading;
use super::participant::Participant;
use super::publishing;
use super::pulse;
use super::state::{Index, State};
use super::subscription::Stage;
use crate::ids::{PeerId, SessionId, TrackKey};
use crate::media::message::{Command, PeerFailure, Side};
use proto::livekit;
use proto::livekit::DisconnectReason;
use proto::livekit::leave_request::Action;
use proto::livekit::signal_response::Message;
use std::time::{Duration, Instant};

/// Protocol from which a leave says what to do.
const KNOWS_ACTION: i32 = 13;
/// How long a participant whose media was lost may take to come back. (LK: signalling §7.1)
const GRACE: Duration = Duration::from_secs(5);

/// How a participant goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Farewell {
    pub(super) reason: DisconnectReason,
    /// What its client is told to do; `None` to tell it nothing.
    pub(super) action: Option<Action>,
}

impl Farewell {
    /// The client is told, and what to do.
    pub(super) const fn told(reason: DisconnectReason, action: Action) -> Self {
        Self {
            reason,
            action: Some(action),
        }
    }

    /// The connection just ends.
    pub(super) const fn silent(reason: DisconnectReason) -> Self {
        Self {
            reason,
            action: None,
        }
    }

    /// The client's idea of its state is not ours: it must start over.
    pub(super) const MISMATCH: Self =
        Self::told(DisconnectReason::StateMismatch, Action::Reconnect);

    /// Somebody with the right to took him out.
    pub(super) const REMOVED: Self =
        Self::told(DisconnectReason::ParticipantRemoved, Action::Disconnect);
}

/// The message of a leave.
pub(super) fn leave_message(farewell: Farewell, protocol: i32) -> Option<Message> {
    let action = farewell.action?;
    let leave = livekit::LeaveRequest {
        can_reconnect: protocol < KNOWS_ACTION && action != Action::Disconnect,
        reason: farewell.reason as i32,
        action: action as i32,
        regions: None,
    };
    Some(Message::Leave(leave))
}

/// Ends a participant.
pub(super) fn remove(state: &mut State, peer: PeerId, farewell: Farewell, now: Instant) {
    let Some(participant) = state.participants.get(&peer) else {
        return;
    };
    let tracks: Vec<_> = participant
        .publications
        .iter()
        .map(|track| track.key)
        .collect();
    let recorder = participant.profile.claims.grant().recorder;
    dismiss(state, peer, farewell);
    for key in tracks {
        publishing::withdraw(state, key, now);
    }
    count_unsubscribed(state, peer);
    let Some(participant) = state.participants.remove(&peer) else {
        return;
    };
    forget(state, peer, &participant, now);
    state.media(Command::RemovePeer { peer });
    let after = now.saturating_duration_since(participant.presence.joined);
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    let sid = participant.profile.sid.clone();
    tracing::debug!(participantID = %sid, reason = ?farewell.reason, "participant left");
    state.count(Count::ParticipantLeft {
        sid,
        reason: farewell.reason,
        after_ms,
    });
    if !participant.is_hidden() {
        let replaced = farewell.reason == DisconnectReason::DuplicateIdentity;
        announce::departed(state, participant.farewell(farewell.reason), replaced, now);
    }
    announce::counts_changed(state, recorder && !state.is_recorded(), now);
    if !participant.is_dependent() && state.independent() == 0 {
        state.deadlines.set(
            Deadline::Departure,
            now + state.facts.settings.departure_timeout,
        );
    }
}

/// Takes a removed participant out of everything that remembers it.
fn forget(state: &mut State, peer: PeerId, participant: &Participant, now: Instant) {
    state
        .index
        .identities
        .remove(&participant.profile.claims.identity);
    state.deadlines.clear_peer(peer);
    state.quality.forget(peer);
    state.speakers.forget(peer);
    pulse::speakers_changed(state, now);
    for key in participant.subscriptions.keys() {
        if let Some(live) = state
            .publication_mut(key)
            .and_then(|track| track.live.as_mut())
        {
            live.subscribers.remove(&peer);
        }
        dynacast::wishes_changed(state, key, now);
    }
}

/// Tells the counters that a participant's bound subscriptions end with it.
fn count_unsubscribed(state: &mut State, peer: PeerId) {
    let Some(participant) = state.participants.get(&peer) else {
        return;
    };
    let bound = participant
        .subscriptions
        .iter()
        .filter(|(_, entry)| entry.stage == Stage::Bound);
    let kind = |key: TrackKey| Some(state.publication(key)?.kind);
    let kinds: Vec<_> = bound.filter_map(|(_, entry)| kind(entry.key?)).collect();
    for kind in kinds {
        state.count(Count::Unsubscribed(kind));
    }
}

/// Says farewell and closes the connection.
fn dismiss(state: &mut State, peer: PeerId, farewell: Farewell) {
    let Some(participant) = state.participants.get(&peer) else {
        return;
    };
    if let Some(message) = leave_message(farewell, participant.protocol()) {
        state.signal(peer, message);
    }
    close_session(state, peer);
}

fn close_session(state: &mut State, peer: PeerId) {
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    if let Some(session) = participant.link.session.take() {
        state.index.sessions.remove(&session);
        state.effects.push(Effect::CloseSession { session });
    }
}

/// A client says that it leaves.
pub(super) fn handle_leave(
    state: &mut State,
    peer: PeerId,
    request: &livekit::LeaveRequest,
    now: Instant,
) {
    let reason = match DisconnectReason::try_from(request.reason) {
        Ok(
            reason @ (DisconnectReason::UserUnavailable
            | DisconnectReason::UserRejected
            | DisconnectReason::AgentError),
        ) => reason,
        _ => DisconnectReason::ClientInitiated,
    };
    remove(state, peer, Farewell::told(reason, Action::Disconnect), now);
}

/// A connection ended. The participant stays as long as its media lives.
pub(super) fn handle_session_lost(state: &mut State, session: SessionId, now: Instant) {
    let Some(peer) = state.index.sessions.remove(&session) else {
        return;
    };
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    participant.link.session = None;
    if !participant.presence.active {
        remove(
            state,
            peer,
            Farewell::silent(DisconnectReason::SignalClose),
            now,
        );
    }
}

/// A connection was lost: the client is told to resume, and has some seconds to. What no resume can
/// bring back makes it start over.
pub(super) fn handle_media_failed(
    state: &mut State,
    peer: PeerId,
    (side, reason): (Side, PeerFailure),
    now: Instant,
) {
    match reason {
        PeerFailure::ConsentExpired => {}
        // A handshake that failed has ended for good. Where a queue was full, the endpoint was given up,
        // or has missed a command and is no more what the room takes it for. Whoever resumed would
        // have no media, or the wrong one, and learn it by silence only.
        PeerFailure::Handshake | PeerFailure::Overload => {
            tracing::info!(?peer, ?reason, "participant must start over");
            return remove(state, peer, Farewell::MISMATCH, now);
        }
    }
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    participant.link.media.handle_failed(side);
    if participant.link.session.is_some() {
        leading::handle_failed(state, peer, now);
    }
    send_back(state, peer, DisconnectReason::ConnectionTimeout);
    state.deadlines.set(Deadline::Grace(peer), now + GRACE);
}

/// The client is to resume: its connection is closed, and it is told so if it knows how. The
/// participant stays as long as its media lives.
pub(super) fn send_back(state: &mut State, peer: PeerId, reason: DisconnectReason) {
    let protocol = state.participants.get(&peer).map(Participant::protocol);
    if protocol.is_some_and(|protocol| protocol >= KNOWS_ACTION) {
        dismiss(state, peer, Farewell::told(reason, Action::Resume));
    } else {
        close_session(state, peer);
    }
}

/// The grace is over. A client that has resumed but got no media is told to start over, not to
/// give up.
pub(super) fn handle_grace_deadline(state: &mut State, peer: PeerId, now: Instant) {
    remove(
        state,
        peer,
        Farewell::told(DisconnectReason::ConnectionTimeout, Action::Reconnect),
        now,
    );
}

/// Ends a participant and whoever joined beside him: their identities are his with a suffix.
/// (LK: signalling §1.5)
pub(super) fn expel(state: &mut State, identity: &str, now: Instant) {
    let is_his = |other: &str| {
        let rest = other.strip_prefix(identity);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
    };
    let identities = state.index.identities.iter();
    let his: Vec<_> = identities
        .filter(|(other, _)| is_his(other))
        .map(|(_, peer)| *peer)
        .collect();
    for peer in his {
        remove(state, peer, Farewell::REMOVED, now);
    }
}

/// Ends the room for everybody in it.
pub(super) fn close_room(state: &mut State, farewell: Farewell, now: Instant) {
    for peer in state.peers() {
        count_unsubscribed(state, peer);
    }
    for peer in state.peers() {
        dismiss(state, peer, farewell);
        state.media(Command::RemovePeer { peer });
        let Some(participant) = state.participants.remove(&peer) else {
            continue;
        };
        let after = now.saturating_duration_since(participant.presence.joined);
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let kinds: Vec<_> = participant
            .publications
            .live()
            .map(|(track, _)| track.kind)
            .collect();
        for kind in kinds {
            state.count(Count::Unpublished(kind));
        }
        state.count(Count::ParticipantLeft {
            sid: participant.profile.sid,
            reason: farewell.reason,
            after_ms,
        });
    }
    state.index = Index::default();
    state.deadlines = Deadlines::default();
    state.closed = true;
    tracing::debug!(reason = ?farewell.reason, "room closed");
    state.effects.push(Effect::Closed);
}
