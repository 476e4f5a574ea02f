//! Participants change what they say of themselves. (LK: signalling §5.6)
//!
//! Owns the right to, the limits, and who hears of it.

use super::announce::{self, Change};
use super::participant::check_texts;
use super::reply;
use super::state::State;
use crate::ids::PeerId;
use proto::livekit::request_response::{Reason, Request};
use proto::livekit::{RequestResponse, UpdateParticipantMetadata};
use std::time::Instant;

/// A client tells of the round trip of signalling, in ms.
pub(super) fn handle_rtt(state: &mut State, peer: PeerId, rtt_ms: i64) {
    if let Some(participant) = state.participants.get_mut(&peer) {
        participant.link.fallback.handle_rtt(rtt_ms);
    }
}

/// A client changes its name, metadata or attributes. Empty texts change nothing; an attribute with
/// an empty value goes.
pub(super) fn handle_update(
    state: &mut State,
    peer: PeerId,
    request: UpdateParticipantMetadata,
    now: Instant,
) {
    let outcome = apply(state, peer, &request);
    let (reason, message) = match outcome {
        Ok(()) => (Reason::Ok, ""),
        Err((reason, message)) => (reason, message),
    };
    if outcome.is_ok() {
        announce::changed(state, peer, Change::Profile, now);
        state.refresh_token(peer);
    }
    let response = RequestResponse {
        request_id: request.request_id,
        reason: reason as i32,
        message: message.to_owned(),
        request: Some(Request::UpdateMetadata(request)),
    };
    reply::send(state, peer, response);
}

fn apply(
    state: &mut State,
    peer: PeerId,
    request: &UpdateParticipantMetadata,
) -> Result<(), (Reason, &'static str)> {
    let limits = state.facts.settings.limits;
    let participant = state
        .participants
        .get_mut(&peer)
        .ok_or((Reason::NotFound, ""))?;
    if !participant.profile.claims.grant().can_update_own_metadata() {
        return Err((
            Reason::NotAllowed,
            "does not have permission to update own metadata",
        ));
    }
    let attributes = participant
        .profile
        .merged_attributes(request.attributes.iter());
    check_texts(&limits, &request.name, &request.metadata, &attributes)
        .map_err(|too_long| (Reason::LimitExceeded, too_long.message()))?;
    let claims = &mut participant.profile.claims;
    if !request.name.is_empty() {
        claims.name.clone_from(&request.name);
    }
    if !request.metadata.is_empty() {
        claims.metadata.clone_from(&request.metadata);
    }
    claims.attributes = attributes;
    Ok(())
}
