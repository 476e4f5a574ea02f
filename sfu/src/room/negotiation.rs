//! Passes session descriptions and candidates between client and media, and follows the transport.
//! (LK: signalling §4.4, §4.7)
//!
//! Owns the wire form of answers and candidates. Reads no SDP.

use super::announce::{self, Change};
use super::binding;
use super::deadlines::Deadline;
use super::effect::Count;
use super::exit::{self, Farewell};
use super::leading;
use super::pulse;
use super::reply;
use super::state::State;
use super::subscribing;
use crate::ids::{PeerId, TrackKey};
use crate::media::message::{Command, Description, PathReport, Side};
use proto::livekit;
use proto::livekit::request_response::{Reason, Request};
use proto::livekit::signal_response::Message;
use proto::livekit::{SignalTarget, TrickleRequest};
use std::collections::HashMap;
use std::time::Instant;

/// The client offers, on the connection it sends by. With a single one it is always the client who
/// does.
pub(super) fn handle_offer(state: &mut State, peer: PeerId, offer: livekit::SessionDescription) {
    if offer.r#type == "offer" {
        state.media(Command::Offer {
            peer,
            id: offer.id,
            sdp: offer.sdp,
        });
    }
}

/// The client answers our offer.
pub(super) fn handle_client_answer(
    state: &mut State,
    peer: PeerId,
    answer: livekit::SessionDescription,
) {
    let offered = state
        .participants
        .get(&peer)
        .is_some_and(|participant| participant.link.media.is_dual());
    if offered && answer.r#type == "answer" {
        state.media(Command::Answer {
            peer,
            id: answer.id,
            sdp: answer.sdp,
        });
    }
}

/// The client's candidate. We are lite and learn its address from its checks, so a candidate is
/// only read. (RFC 8445 §2.5)
pub(super) fn handle_trickle(state: &mut State, peer: PeerId, trickle: TrickleRequest) {
    let init =
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&trickle.candidate_init);
    if init.is_err() {
        reply::answer(
            state,
            peer,
            Reason::UnclassifiedError,
            "cannot parse candidate",
            Request::Trickle(trickle),
        );
    }
}

/// Media answers an offer.
pub(super) fn handle_answer(state: &mut State, answer: &Description) {
    let described = describe(state, "answer", answer);
    state.signal(answer.peer, Message::Answer(described));
    let target = SignalTarget::Publisher;
    tell_candidates(state, answer.peer, target, &answer.candidates);
}

/// Media offers.
pub(super) fn handle_own_offer(state: &mut State, offer: &Description) {
    let described = describe(state, "offer", offer);
    state.signal(offer.peer, Message::Offer(described));
    let target = SignalTarget::Subscriber;
    tell_candidates(state, offer.peer, target, &offer.candidates);
}

/// A description in the form of the wire, `answer` or `offer`.
fn describe(state: &State, kind: &str, ours: &Description) -> livekit::SessionDescription {
    livekit::SessionDescription {
        r#type: kind.to_owned(),
        sdp: ours.sdp.clone(),
        id: ours.id,
        mid_to_track_id: track_ids(state, &ours.mids),
    }
}

fn track_ids(state: &State, mids: &[(String, TrackKey)]) -> HashMap<String, String> {
    let sid = |key: &TrackKey| Some(state.publication(*key)?.sid.as_str().to_owned());
    mids.iter()
        .filter_map(|(mid, key)| Some((mid.clone(), sid(key)?)))
        .collect()
}

/// Candidates beside those that were told with a description.
pub(super) fn handle_candidates(
    state: &mut State,
    peer: PeerId,
    side: Side,
    candidates: &[String],
) {
    let target = match side {
        Side::Publisher => SignalTarget::Publisher,
        Side::Subscriber => SignalTarget::Subscriber,
    };
    tell_candidates(state, peer, target, candidates);
}

/// After the description they belong to: clients keep earlier ones, but not all for long.
fn tell_candidates(state: &mut State, peer: PeerId, target: SignalTarget, candidates: &[String]) {
    for (index, candidate) in candidates.iter().enumerate() {
        let last = index + 1 == candidates.len();
        state.signal(peer, Message::Trickle(trickle(candidate, target, last)));
    }
}

/// A candidate in the four keys every client understands; `sdpMid` must not be null.
fn trickle(candidate: &str, target: SignalTarget, last: bool) -> TrickleRequest {
    let text = serde_json::Value::from(candidate);
    TrickleRequest {
        candidate_init: format!(
            r#"{{"candidate":{text},"sdpMid":"","sdpMLineIndex":0,"usernameFragment":null}}"#
        ),
        target: target as i32,
        r#final: last,
    }
}

/// Media needs another offer.
pub(super) fn handle_sections_needed(
    state: &mut State,
    peer: PeerId,
    num_audios: u32,
    num_videos: u32,
) {
    let requirement = livekit::MediaSectionsRequirement {
        num_audios,
        num_videos,
    };
    state.signal(peer, Message::MediaSectionsRequirement(requirement));
}

/// Media cannot use an offer.
pub(super) fn handle_offer_refused(state: &mut State, peer: PeerId, reason: &str, now: Instant) {
    tracing::info!(?peer, reason, "offer refused");
    exit::remove(state, peer, Farewell::MISMATCH, now);
}

/// Media cannot use the answer to our offer, or has waited for one in vain. A client that is away
/// gets another offer when it resumes.
pub(super) fn handle_answer_refused(state: &mut State, peer: PeerId, reason: &str, now: Instant) {
    let here = state
        .participants
        .get(&peer)
        .is_some_and(|participant| participant.link.session.is_some());
    if here {
        tracing::info!(?peer, reason, "answer refused");
        exit::remove(state, peer, Farewell::MISMATCH, now);
    }
}

/// A transport is up: for the first time, or again after a restart.
pub(super) fn handle_connected(
    state: &mut State,
    peer: PeerId,
    (side, path): (Side, PathReport),
    now: Instant,
) {
    leading::handle_way(state, peer, (side, path, true), now);
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    // Failed media that recovers by itself is of no use to a client that was told to resume.
    if participant.link.session.is_some() && !participant.link.media.is_lost() {
        state.deadlines.clear(Deadline::Grace(peer));
    }
    if side != participant.link.media.primary {
        return;
    }
    let first = !std::mem::replace(&mut participant.presence.active, true);
    let joined = participant.presence.joined;
    state.deadlines.clear(Deadline::Join(peer));
    if !first {
        return;
    }
    let after_ms =
        u64::try_from(now.saturating_duration_since(joined).as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(?peer, after_ms, "participant active");
    state.count(Count::ParticipantActive { after_ms });
    announce::changed(state, peer, Change::Progress, now);
    subscribing::reconcile_all(state, peer, now);
    binding::await_binding(state, peer, now);
    state.quality.refresh(peer);
    pulse::quality_changed(state, now);
}
