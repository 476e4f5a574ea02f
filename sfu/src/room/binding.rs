//! How a subscription ends its way through media: bound, refused, or never heard of again.
//! (LK: signalling §5.3)
//!
//! Owns the time a subscription has to be bound, and what client and publisher hear of the outcome.

use super::deadlines::Deadline;
use super::effect::Count;
use super::pulse;
use super::reply;
use super::state::State;
use super::subscribing;
use super::subscription::{BIND_WITHIN, Stage};
use crate::ids::{PeerId, TrackKey};
use proto::livekit;
use proto::livekit::SubscriptionError;
use proto::livekit::signal_response::Message;
use std::time::Instant;

/// The participant can answer from now on: what is not bound yet gets its time.
pub(super) fn await_binding(state: &mut State, peer: PeerId, now: Instant) {
    let Some(subscriber) = state.participants.get(&peer) else {
        return;
    };
    let asked = subscriber
        .subscriptions
        .iter()
        .filter(|(_, entry)| entry.stage == Stage::Asked);
    let keys: Vec<_> = asked.filter_map(|(_, entry)| entry.key).collect();
    for key in keys {
        state
            .deadlines
            .set(Deadline::Bind(peer, key), now + BIND_WITHIN);
    }
}

/// Media told the client of the track. A client that adapts and had switched the track off gets it
/// on, so that it looks again. (LK: signalling §5.4)
pub(super) fn handle_bound(state: &mut State, peer: PeerId, key: TrackKey, now: Instant) {
    let Some(track) = state.publication(key) else {
        return;
    };
    let (sid, kind) = (track.sid.clone(), track.kind);
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return;
    };
    let hidden = subscriber.is_hidden();
    let adaptive = subscriber.subscriptions.adaptive;
    let Some(entry) = subscriber.subscriptions.find_mut(sid.as_str()) else {
        return;
    };
    if entry.key != Some(key) || entry.stage == Stage::Bound {
        return;
    }
    entry.stage = Stage::Bound;
    if adaptive && let Some(settings) = entry.settings.as_mut() {
        settings.disabled = false;
    }
    state.deadlines.clear(Deadline::Bind(peer, key));
    state.count(Count::SubscribeSuccess(kind));
    subscribing::apply_settings(state, peer, key, now);
    state.quality.refresh(peer);
    pulse::quality_changed(state, now);
    pulse::speakers_changed(state, now);
    if !hidden {
        tell_subscribed(state, key);
    }
}

fn tell_subscribed(state: &mut State, key: TrackKey) {
    let Some(publisher) = state.participants.get_mut(&key.peer) else {
        return;
    };
    let quiet = reply::is_old_rust(&publisher.profile.client);
    let Some(track) = publisher.publications.find_mut(key) else {
        return;
    };
    let track_sid = track.sid.as_str().to_owned();
    let Some(live) = track.live.as_mut() else {
        return;
    };
    if quiet || std::mem::replace(&mut live.told_subscribed, true) {
        return;
    }
    state.signal(
        key.peer,
        Message::TrackSubscribed(livekit::TrackSubscribed { track_sid }),
    );
}

/// Media found no common codec.
pub(super) fn handle_refused(state: &mut State, peer: PeerId, key: TrackKey, now: Instant) {
    fail(state, peer, key, SubscriptionError::SeCodecUnsupported, now);
}

/// A subscription was not bound in time. While the client is away it cannot answer; its resume
/// starts the time anew.
pub(super) fn handle_bind_deadline(state: &mut State, peer: PeerId, key: TrackKey, now: Instant) {
    let reachable = state
        .participants
        .get(&peer)
        .is_some_and(|p| p.link.session.is_some());
    if reachable {
        fail(state, peer, key, SubscriptionError::SeUnknown, now);
    }
}

fn fail(state: &mut State, peer: PeerId, key: TrackKey, err: SubscriptionError, now: Instant) {
    let Some(track) = state.publication(key) else {
        return;
    };
    let (sid, kind) = (track.sid.clone(), track.kind);
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return;
    };
    let Some(entry) = subscriber.subscriptions.find_mut(sid.as_str()) else {
        return;
    };
    if entry.key != Some(key) {
        return;
    }
    entry.desired = Some(false);
    state.count(Count::SubscribeFailure(kind));
    subscribing::tell_failure(state, peer, sid.as_str(), err);
    subscribing::unsubscribe(state, peer, sid.as_str(), now);
}
