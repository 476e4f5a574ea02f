//! Brings what participants want to receive together with what there is. (LK: signalling §5.3-5.5)
//!
//! Owns the one comparison of wish and state, made anew whenever either changed. A track is named
//! to media for a subscriber only while that subscriber can be told, and after it was told of the
//! track: a client drops media of unknown participants.

use super::deadlines::Deadline;
use super::dynacast;
use super::effect::{Count, Limit};
use super::permission::TrackPermissions;
use super::pulse;
use super::state::State;
use super::subscription::{
    BIND_WITHIN, MAX_NAMED, MISSING_AFTER, SETTLE_AFTER, Settings, Stage, wish,
};
use crate::ids::{PeerId, TrackKey};
use crate::media::message::{Command, StreamLabel};
use proto::livekit;
use proto::livekit::SubscriptionError;
use proto::livekit::signal_response::Message;
use std::time::Instant;

/// Protocol after which a stream's id names the track as well. (LK: signalling §6.5, §9.3)
const PACKED_STREAM_ID_AFTER: i32 = 0;

/// What the comparison found.
struct Situation {
    key: TrackKey,
    allowed: bool,
    wanted: bool,
    reachable: bool,
    stage: Stage,
    /// The permission is to be told.
    tell: bool,
}

/// Compares one participant's wish for a track with the state, and acts.
pub(super) fn reconcile(state: &mut State, peer: PeerId, sid: &str, now: Instant) {
    let Some(found) = situation(state, peer, sid) else {
        return;
    };
    if found.tell {
        tell_permission(state, peer, sid, &found);
    }
    let target = found.wanted && found.allowed;
    match found.stage {
        Stage::Idle if target && found.reachable => subscribe(state, peer, sid, found.key, now),
        Stage::Asked | Stage::Bound if !target => unsubscribe(state, peer, sid, now),
        _ => {}
    }
}

fn situation(state: &State, peer: PeerId, sid: &str) -> Option<Situation> {
    let key = *state.index.tracks.get(sid)?;
    let subscriber = state.participants.get(&peer)?;
    let publisher = state.participants.get(&key.peer)?;
    if key.peer == peer || publisher.is_hidden() {
        return None;
    }
    let entry = subscriber.subscriptions.find(sid)?;
    let claims = &subscriber.profile.claims;
    let allowed = claims.grant().recorder || publisher.permissions.allows(&claims.identity, sid);
    let reachable = subscriber.link.session.is_some();
    let wanted = entry.desired == Some(true);
    Some(Situation {
        key,
        allowed,
        wanted: wanted && claims.grant().can_subscribe(),
        reachable,
        stage: entry.stage,
        tell: wanted && reachable && entry.told_allowed != Some(allowed),
    })
}

fn tell_permission(state: &mut State, peer: PeerId, sid: &str, found: &Situation) {
    let Some(publisher) = state.participants.get(&found.key.peer) else {
        return;
    };
    let update = livekit::SubscriptionPermissionUpdate {
        participant_sid: publisher.profile.sid.as_str().to_owned(),
        track_sid: sid.to_owned(),
        allowed: found.allowed,
    };
    if let Some(entry) = state
        .participants
        .get_mut(&peer)
        .and_then(|p| p.subscriptions.find_mut(sid))
    {
        entry.told_allowed = Some(found.allowed);
    }
    state.signal(peer, Message::SubscriptionPermissionUpdate(update));
}

fn subscribe(state: &mut State, peer: PeerId, sid: &str, key: TrackKey, now: Instant) {
    let Some(publisher) = state.participants.get(&key.peer) else {
        return;
    };
    let Some(track) = publisher.publications.find(key) else {
        return;
    };
    let (kind, layers) = (track.kind, track.layers());
    let publisher_sid = publisher.profile.sid.clone();
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return;
    };
    let label = StreamLabel {
        stream_id: if subscriber.protocol() > PACKED_STREAM_ID_AFTER {
            format!("{publisher_sid}|{sid}")
        } else {
            publisher_sid.to_string()
        },
        track_id: sid.to_owned(),
    };
    let active = subscriber.presence.active;
    let adaptive = subscriber.subscriptions.adaptive;
    let Some(entry) = subscriber.subscriptions.find_mut(sid) else {
        return;
    };
    let first = wish(entry.settings.as_ref(), kind, &layers, adaptive);
    entry.stage = Stage::Asked;
    entry.key = Some(key);
    entry.wish = first;
    if let Some(live) = state
        .publication_mut(key)
        .and_then(|track| track.live.as_mut())
    {
        live.subscribers.insert(peer);
    }
    if active {
        state
            .deadlines
            .set(Deadline::Bind(peer, key), now + BIND_WITHIN);
    }
    state.count(Count::SubscribeAttempt(kind));
    state.media(Command::Subscribe {
        peer,
        track: key,
        label,
        wish: first,
    });
    dynacast::wishes_changed(state, key, now);
}

/// Takes a subscription out of media, whatever the wish.
pub(super) fn unsubscribe(state: &mut State, peer: PeerId, sid: &str, now: Instant) {
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return;
    };
    let Some(entry) = subscriber.subscriptions.find_mut(sid) else {
        return;
    };
    let Some(key) = entry.key.take() else { return };
    let bound = entry.stage == Stage::Bound;
    entry.stage = Stage::Idle;
    state.deadlines.clear(Deadline::Bind(peer, key));
    state.deadlines.clear(Deadline::Settle(peer, key));
    state.quality.forget_subscription(peer, key);
    state.media(Command::Unsubscribe { peer, track: key });
    let Some(track) = state.publication_mut(key) else {
        return;
    };
    let kind = track.kind;
    if let Some(live) = track.live.as_mut() {
        live.subscribers.remove(&peer);
    }
    if bound {
        state.count(Count::Unsubscribed(kind));
    }
    dynacast::wishes_changed(state, key, now);
    pulse::speakers_changed(state, now);
}

/// A track has media and everybody was told: those who want everything get it.
pub(super) fn track_published(state: &mut State, key: TrackKey, now: Instant) {
    let Some(sid) = state
        .publication(key)
        .map(|track| track.sid.as_str().to_owned())
    else {
        return;
    };
    for peer in state.peers() {
        if peer == key.peer {
            continue;
        }
        let Some(subscriber) = state.participants.get_mut(&peer) else {
            continue;
        };
        if subscriber.subscriptions.auto
            && let Some(entry) = subscriber.subscriptions.entry(&sid, now)
        {
            entry.desired.get_or_insert(true);
        }
        reconcile(state, peer, &sid, now);
        if state.deadlines.is_set(Deadline::Missing(peer)) {
            watch_missing(state, peer, now);
        }
    }
}

/// A track is about to end: its subscriptions are withdrawn silently.
pub(super) fn track_ended(state: &mut State, key: TrackKey, now: Instant) {
    let Some(sid) = state
        .publication(key)
        .map(|track| track.sid.as_str().to_owned())
    else {
        return;
    };
    for peer in state.peers() {
        unsubscribe(state, peer, &sid, now);
        if let Some(subscriber) = state.participants.get_mut(&peer) {
            subscriber.subscriptions.remove(&sid);
        }
    }
    state.index.tracks.remove(&sid);
}

/// Everything a participant wants is compared again, after what auto-subscribe adds. Done at join,
/// when it becomes active, and when it resumes.
pub(super) fn reconcile_all(state: &mut State, peer: PeerId, now: Instant) {
    let published: Vec<String> = state
        .index
        .tracks
        .iter()
        .filter(|(_, key)| key.peer != peer)
        .map(|(sid, _)| sid.clone())
        .collect();
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return;
    };
    if subscriber.subscriptions.auto {
        for sid in &published {
            if let Some(entry) = subscriber.subscriptions.entry(sid, now) {
                entry.desired.get_or_insert(true);
            }
        }
    }
    for sid in subscriber.subscriptions.sids() {
        reconcile(state, peer, &sid, now);
    }
}

/// The client resumed: it may have missed what it was told of permissions.
pub(super) fn forget_told(state: &mut State, peer: PeerId) {
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return;
    };
    for (_, entry) in subscriber.subscriptions.iter_mut() {
        entry.told_allowed = None;
    }
}

/// The client asks to receive tracks, or not to. (LK: signalling §5.3)
pub(super) fn handle_update(
    state: &mut State,
    peer: PeerId,
    update: livekit::UpdateSubscription,
    now: Instant,
) {
    let nested = update
        .participant_tracks
        .into_iter()
        .flat_map(|tracks| tracks.track_sids);
    let mut overflow = false;
    for sid in update.track_sids.into_iter().chain(nested).take(MAX_NAMED) {
        let Some(subscriber) = state.participants.get_mut(&peer) else {
            return;
        };
        if subscriber.publications.has_sid(&sid) {
            continue;
        }
        let Some(entry) = subscriber.subscriptions.entry(&sid, now) else {
            overflow = true;
            continue;
        };
        if entry.desired != Some(update.subscribe) {
            entry.desired = Some(update.subscribe);
            entry.since = now;
        }
        reconcile(state, peer, &sid, now);
    }
    count_overflow(state, overflow);
    watch_missing(state, peer, now);
}

/// One count a request: a frame has place for a million names.
fn count_overflow(state: &mut State, overflow: bool) {
    if overflow {
        state.count(Count::LimitReached(Limit::Subscriptions));
    }
}

/// A publisher says who may receive its tracks. (LK: signalling §5.5)
pub(super) fn handle_permission(
    state: &mut State,
    peer: PeerId,
    message: livekit::SubscriptionPermission,
    now: Instant,
) {
    let participants = &state.participants;
    let identity_of = |sid: &str| {
        let mut all = participants.values();
        all.find(|other| other.profile.sid.as_str() == sid)
            .map(|other| other.profile.claims.identity.clone())
    };
    let permissions = TrackPermissions::from_message(message, identity_of);
    let Some(publisher) = state.participants.get_mut(&peer) else {
        return;
    };
    publisher.permissions = permissions;
    let sids: Vec<_> = publisher
        .publications
        .live()
        .map(|(track, _)| track.sid.clone())
        .collect();
    for other in state.peers() {
        for sid in &sids {
            reconcile(state, other, sid.as_str(), now);
        }
    }
}

/// The client says how it shows tracks; what it said before is replaced. (LK: signalling §5.4)
pub(super) fn handle_settings(
    state: &mut State,
    peer: PeerId,
    message: &livekit::UpdateTrackSettings,
    now: Instant,
) {
    set_all(
        state,
        peer,
        &message.track_sids,
        Settings::from_message(message),
        now,
    );
}

/// A resuming client lists the tracks it does not show. (LK: signalling §7.3)
pub(super) fn disable(state: &mut State, peer: PeerId, sids: &[String], now: Instant) {
    set_all(state, peer, sids, Settings::off(), now);
}

fn set_all(state: &mut State, peer: PeerId, sids: &[String], settings: Settings, now: Instant) {
    let mut overflow = false;
    for sid in sids.iter().take(MAX_NAMED) {
        overflow |= !set_settings(state, peer, sid, settings, now);
    }
    count_overflow(state, overflow);
    watch_missing(state, peer, now);
}

/// Stores the settings of one track; false if there is no place for them.
fn set_settings(
    state: &mut State,
    peer: PeerId,
    sid: &str,
    settings: Settings,
    now: Instant,
) -> bool {
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return true;
    };
    let Some(entry) = subscriber.subscriptions.entry(sid, now) else {
        return false;
    };
    let was_enabled = entry.settings.is_none_or(|old| old.enabled());
    entry.settings = Some(settings);
    let Some(key) = entry.key else { return true };
    let at_once = entry.stage != Stage::Bound || (settings.enabled() && !was_enabled);
    if at_once {
        apply_settings(state, peer, key, now);
    } else {
        state
            .deadlines
            .set_if_absent(Deadline::Settle(peer, key), now + SETTLE_AFTER);
    }
    true
}

/// Tells media what the stored settings mean, if that is news.
pub(super) fn apply_settings(state: &mut State, peer: PeerId, key: TrackKey, now: Instant) {
    state.deadlines.clear(Deadline::Settle(peer, key));
    let Some(track) = state.publication(key) else {
        return;
    };
    let (sid, kind, layers) = (track.sid.clone(), track.kind, track.layers());
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return;
    };
    let adaptive = subscriber.subscriptions.adaptive;
    let Some(entry) = subscriber.subscriptions.find_mut(sid.as_str()) else {
        return;
    };
    let wish = wish(entry.settings.as_ref(), kind, &layers, adaptive);
    if entry.key != Some(key) || entry.wish == wish {
        return;
    }
    entry.wish = wish;
    state.media(Command::SetWish {
        peer,
        track: key,
        wish,
    });
    dynacast::wishes_changed(state, key, now);
}

/// Tells a client that it will not get a track.
pub(super) fn tell_failure(state: &mut State, peer: PeerId, sid: &str, err: SubscriptionError) {
    let response = livekit::SubscriptionResponse {
        track_sid: sid.to_owned(),
        err: err as i32,
    };
    state.signal(peer, Message::SubscriptionResponse(response));
}

/// Sets the time at which the oldest wish for a track that does not exist runs out.
fn watch_missing(state: &mut State, peer: PeerId, now: Instant) {
    let Some(subscriber) = state.participants.get(&peer) else {
        return;
    };
    let missing = subscriber
        .subscriptions
        .iter()
        .filter(|(sid, _)| !state.index.tracks.contains_key(*sid));
    let oldest = missing.map(|(_, entry)| entry.since).min();
    let at = oldest.map(|since| (since + MISSING_AFTER).max(now));
    state.deadlines.put(Deadline::Missing(peer), at);
}

/// Gives up wishes for tracks that did not come to exist.
pub(super) fn handle_missing_deadline(state: &mut State, peer: PeerId, now: Instant) {
    let Some(subscriber) = state.participants.get_mut(&peer) else {
        return;
    };
    let tracks = &state.index.tracks;
    let all = subscriber.subscriptions.iter();
    let missing =
        all.filter(|(sid, entry)| !tracks.contains_key(*sid) && entry.since + MISSING_AFTER <= now);
    let missing: Vec<_> = missing
        .map(|(sid, entry)| (sid.clone(), entry.desired))
        .collect();
    for (sid, desired) in missing {
        if let Some(subscriber) = state.participants.get_mut(&peer) {
            subscriber.subscriptions.remove(&sid);
        }
        if desired == Some(true) {
            tell_failure(state, peer, &sid, SubscriptionError::SeTrackNotfound);
        }
    }
    watch_missing(state, peer, now);
}
