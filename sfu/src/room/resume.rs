//! Participants take up a lost connection. (LK: signalling §7.2, §7.3)
//!
//! Owns who may resume, the order of what a resumed client is told, and the comparison of its state
//! with ours.

use super::announce::{self, IDENTITY_BASED};
use super::binding;
use super::command::Resume;
use super::deadlines::Deadline;
use super::dynacast;
use super::effect::Effect;
use super::exit::{self, Farewell, leave_message};
use super::leading;
use super::publishing;
use super::pulse;
use super::state::State;
use super::subscribing;
use crate::ids::PeerId;
use crate::media::message::{Command, Side};
use proto::livekit;
use proto::livekit::DisconnectReason;
use proto::livekit::client_info::Sdk;
use proto::livekit::signal_response::Message;
use proto::livekit::{ClientInfo, ParticipantInfo, ParticipantUpdate, ReconnectReason};
use std::time::{Duration, Instant};

/// Lost media must be back this long after a resume; clients give up after fifteen seconds.
const MEDIA_WITHIN: Duration = Duration::from_secs(20);
/// JS clients before this version do not know the reconnect message.
const JS_KNOWS_RECONNECT: [u32; 3] = [1, 6, 3];

/// A client is back on a new connection.
pub(super) fn handle_resume(state: &mut State, resume: Resume, now: Instant) {
    let Some(peer) = resumable(state, &resume) else {
        return refuse(state, &resume);
    };
    adopt(state, peer, &resume, now);
    let failed = matches!(
        resume.reason,
        ReconnectReason::RrPublisherFailed | ReconnectReason::RrSubscriberFailed
    );
    leading::handle_resumed(state, peer, (&resume.ice_servers, failed), now);
    let last_message_seq = state
        .participants
        .get(&peer)
        .map_or(0, |participant| participant.data.last_sequence());
    if knows_reconnect(&resume.client) {
        let reconnect = livekit::ReconnectResponse {
            ice_servers: state.ice_servers(peer, &resume.ice_servers, now),
            client_configuration: leading::configuration(state, peer, resume.client_configuration),
            server_info: Some(state.facts.server_info.clone()),
            last_message_seq,
        };
        state.signal(peer, Message::Reconnect(reconnect));
    }
    let participants = gone(state, peer);
    if !participants.is_empty() {
        state.signal(peer, Message::Update(ParticipantUpdate { participants }));
    }
    let everybody = announce::everybody(state, peer);
    state.signal(peer, Message::Update(everybody));
    let room = Some(state.room_info());
    state.signal(peer, Message::RoomUpdate(livekit::RoomUpdate { room }));
    state.refresh_token(peer);
    publishing::repeat_pending(state, peer);
    dynacast::repeat(state, peer);
    subscribing::forget_told(state, peer);
    subscribing::reconcile_all(state, peer, now);
    binding::await_binding(state, peer, now);
    restart_offers(state, peer);
    state.speakers.forget_receiver(peer);
    state.quality.refresh(peer);
    pulse::speakers_changed(state, now);
    pulse::quality_changed(state, now);
}

/// Media has not come by what the client was told to use: it is sent back to try something else. One that
/// is only just joining finds it when it tries again.
pub(super) fn handle_trial_deadline(state: &mut State, peer: PeerId, now: Instant) {
    let led = leading::handle_trial_over(state, peer, now);
    let participant = state.participants.get(&peer);
    if led && participant.is_some_and(|one| one.presence.active) {
        exit::send_back(state, peer, DisconnectReason::ConnectionTimeout);
    }
}

/// Much of a participant's media is lost, and has been for long. If there is a better way for it, the client
/// is sent back to take it: its media goes on by the old one until then.
pub(super) fn handle_heavy_loss(
    state: &mut State,
    peer: PeerId,
    (side, rtt): (Side, Option<Duration>),
    now: Instant,
) {
    if leading::handle_heavy_loss(state, peer, (side, rtt), now) {
        exit::send_back(state, peer, DisconnectReason::ConnectionTimeout);
    }
}

/// Our connection starts ICE over, as the client does with its own. Last, so that its offer has all
/// that was subscribed anew.
pub(super) fn restart_offers(state: &mut State, peer: PeerId) {
    let Some(participant) = state.participants.get(&peer) else {
        return;
    };
    if participant.link.media.is_dual() {
        state.media(Command::Negotiate {
            peer,
            restart: true,
        });
    }
}

/// Who left while the client may not have listened. One who is here again under a new sid is not
/// named: clients go by identity, and would drop the new one with all media it has.
fn gone(state: &mut State, peer: PeerId) -> Vec<ParticipantInfo> {
    let Some(participant) = state.participants.get_mut(&peer) else {
        return Vec::new();
    };
    let by_sid = participant.protocol() < IDENTITY_BASED;
    let mut gone = participant.seen.take_missed();
    gone.retain(|info| by_sid || !state.index.identities.contains_key(&info.identity));
    gone
}

/// Who resumes: the identity must be here, under the sid the client remembers.
fn resumable(state: &State, resume: &Resume) -> Option<PeerId> {
    let peer = *state.index.identities.get(&resume.identity)?;
    let ours = &state.participants.get(&peer)?.profile.sid;
    let theirs = resume.sid.as_ref().filter(|sid| !sid.as_str().is_empty());
    let known = state.index.sessions.contains_key(&resume.session);
    (theirs.is_none_or(|sid| sid == ours) && !known).then_some(peer)
}

/// Tells a client that it must start over.
pub(super) fn refuse(state: &mut State, resume: &Resume) {
    let session = resume.session;
    if let Some(message) = leave_message(Farewell::MISMATCH, resume.client.protocol) {
        state.effects.push(Effect::Signal {
            session,
            message: Box::new(message),
        });
    }
    state.effects.push(Effect::CloseSession { session });
}

fn adopt(state: &mut State, peer: PeerId, resume: &Resume, now: Instant) {
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    let old = participant.link.session.replace(resume.session);
    // A resume that says nothing of its client leaves what the join said.
    if resume.client.protocol > 0 {
        participant.profile.client = resume.client.clone();
    }
    let lost = participant.link.media.is_lost();
    tracing::info!(?peer, reason = ?resume.reason, lost, "participant resumed");
    state.index.sessions.insert(resume.session, peer);
    if let Some(session) = old {
        state.index.sessions.remove(&session);
        state.effects.push(Effect::CloseSession { session });
    }
    state
        .deadlines
        .put(Deadline::Grace(peer), lost.then(|| now + MEDIA_WITHIN));
}

fn knows_reconnect(client: &ClientInfo) -> bool {
    if client.sdk != Sdk::Js as i32 {
        return true;
    }
    let mut parts = client
        .version
        .split(['.', '-', '+'])
        .map(|part| part.parse().unwrap_or(0));
    let version = [(); 3].map(|()| parts.next().unwrap_or(0));
    client.version.is_empty() || version >= JS_KNOWS_RECONNECT
}

/// The client says what it believes. What it publishes must be here; what it wants is taken over.
pub(super) fn handle_sync_state(
    state: &mut State,
    peer: PeerId,
    sync: livekit::SyncState,
    now: Instant,
) {
    let Some(participant) = state.participants.get(&peer) else {
        return;
    };
    let published = |track: &livekit::TrackPublishedResponse| {
        let sid = track.track.as_ref().map(|info| info.sid.as_str());
        sid.is_some_and(|sid| participant.publications.has_sid(sid))
    };
    let known = sync.publish_tracks.iter().all(published) && sync.publish_data_tracks.is_empty();
    if !known {
        return exit::remove(state, peer, Farewell::MISMATCH, now);
    }
    subscribing::disable(state, peer, &sync.track_sids_disabled, now);
    if let Some(subscription) = sync.subscription {
        subscribing::handle_update(state, peer, subscription, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_js_clients_do_not_know_the_reconnect_message() {
        let client = |sdk: Sdk, version: &str| ClientInfo {
            sdk: sdk as i32,
            version: version.into(),
            ..Default::default()
        };
        assert!(!knows_reconnect(&client(Sdk::Js, "1.6.2")));
        assert!(knows_reconnect(&client(Sdk::Js, "1.6.3")));
        assert!(knows_reconnect(&client(Sdk::Js, "2.0.0-beta")));
        assert!(knows_reconnect(&client(Sdk::Rust, "0.1.0")));
    }
}
