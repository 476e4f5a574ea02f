//! Asks publishers for what somebody wants, and no more. (LK: signalling §5.17)
//!
//! Owns the way from subscribers' wishes to the publisher: both the client and media hear of each
//! change. When is decided by [`super::demand`].

use super::deadlines::Deadline;
use super::demand::{self, Demand, Wanted};
use super::state::State;
use crate::ids::{PeerId, TrackKey};
use crate::media::message::Command;
use proto::livekit::signal_response::Message;
use std::time::Instant;

/// A subscriber of a track came, went or wants something else.
pub(super) fn wishes_changed(state: &mut State, key: TrackKey, now: Instant) {
    let wanted = wanted(state, key);
    with_demand(state, key, |demand| demand.set_wanted(wanted, now));
}

/// The publisher muted or unmuted the track.
pub(super) fn mute_changed(state: &mut State, key: TrackKey, muted: bool, now: Instant) {
    with_demand(state, key, |demand| demand.set_muted(muted, now));
}

/// The time of the track's demand has come.
pub(super) fn handle_deadline(state: &mut State, key: TrackKey, now: Instant) {
    with_demand(state, key, |demand| demand.handle_deadline(now));
}

/// The publisher resumed: what it was told may be lost.
pub(super) fn repeat(state: &mut State, peer: PeerId) {
    let Some(participant) = state.participants.get(&peer) else {
        return;
    };
    let keys: Vec<_> = participant
        .publications
        .live()
        .map(|(track, _)| track.key)
        .collect();
    for key in keys {
        with_demand(state, key, |demand| demand.committed());
    }
}

fn with_demand(state: &mut State, key: TrackKey, ask: impl FnOnce(&mut Demand) -> Option<Wanted>) {
    let live = state
        .publication_mut(key)
        .and_then(|track| track.live.as_mut());
    let Some(demand) = live.and_then(|live| live.demand.as_mut()) else {
        return;
    };
    let said = ask(demand);
    let due = demand.deadline();
    state.deadlines.put(Deadline::Demand(key), due);
    if let Some(wanted) = said {
        say(state, key, wanted);
    }
}

/// The highest quality any subscriber wants. A quality is what brings the layer wished for.
fn wanted(state: &State, key: TrackKey) -> Wanted {
    let track = state.publication(key)?;
    let layers = track.layers();
    let subscribers = track.live.as_ref()?.subscribers.iter();
    let wish = |peer: &PeerId| {
        let subscription = state
            .participants
            .get(peer)?
            .subscriptions
            .find(track.sid.as_str())?;
        subscription
            .wish
            .enabled
            .then(|| layers.quality_of(subscription.wish.spatial))
    };
    subscribers.filter_map(wish).max()
}

fn say(state: &mut State, key: TrackKey, wanted: Wanted) {
    let Some(track) = state.publication(key) else {
        return;
    };
    let update = demand::message(track.sid.as_str(), &track.info.mime_type, wanted);
    let max = wanted.map(|quality| track.layers().for_quality(quality));
    state.signal(key.peer, Message::SubscribedQualityUpdate(update));
    state.media(Command::ExpectLayers { track: key, max });
}
