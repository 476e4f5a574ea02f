//! Tracks come and go: announced, started, changed, ended. (LK: signalling §5.1, §5.2)
//!
//! Owns the checks of a new track and the order in which everybody hears of it: the publisher at
//! once, the others when its media came, and only then may they receive it.

use super::announce::{self, Change};
use super::deadlines::Deadline;
use super::demand::Demand;
use super::dynacast;
use super::effect::{Count, Limit};
use super::publication::{MAX_PENDING, MAX_TRACKS, Publication, announcement};
use super::pulse;
use super::reply;
use super::setup::signed;
use super::state::State;
use super::subscribing;
use crate::config::codecs::Codec;
use crate::ids::{MediaKind, PeerId, TrackKey};
use crate::media::message::{Command, NegotiatedLayer};
use proto::livekit;
use proto::livekit::request_response::{Reason, Request};
use proto::livekit::signal_response::Message;
use proto::livekit::{AddTrackRequest, AudioTrackFeature};
use std::time::Instant;

/// Why a track was not accepted.
struct Refusal {
    reason: Reason,
    message: String,
}

impl Refusal {
    fn new(reason: Reason, message: &str) -> Self {
        Self {
            reason,
            message: message.to_owned(),
        }
    }

    /// A limit was reached; the message is the count.
    fn limit(count: usize) -> Self {
        Self {
            reason: Reason::LimitExceeded,
            message: count.to_string(),
        }
    }
}

/// A client announces a track.
pub(super) fn handle_add_track(state: &mut State, peer: PeerId, request: AddTrackRequest) {
    match accept(state, peer, &request) {
        Ok(kind) => announce_track(state, peer, &request, kind),
        Err(refusal) => {
            if refusal.reason == Reason::LimitExceeded {
                state.count(Count::LimitReached(Limit::Tracks));
            }
            let repeated = Request::AddTrack(request);
            reply::answer(state, peer, refusal.reason, &refusal.message, repeated);
        }
    }
}

fn accept(
    state: &mut State,
    peer: PeerId,
    request: &AddTrackRequest,
) -> Result<MediaKind, Refusal> {
    let gone = || Refusal::new(Reason::NotFound, "");
    let publisher = state.participants.get_mut(&peer).ok_or_else(gone)?;
    if !publisher
        .profile
        .claims
        .grant()
        .can_publish_source(announcement::source(request))
    {
        return Err(Refusal::new(Reason::NotAllowed, ""));
    }
    let kind = announcement::kind(request);
    let kind = kind.ok_or_else(|| Refusal::new(Reason::UnsupportedType, ""))?;
    let tracks = &mut publisher.publications;
    if !request.sid.is_empty() {
        let live = tracks
            .live()
            .any(|(track, _)| track.sid.as_str() == request.sid);
        let further = || {
            Refusal::new(
                Reason::UnsupportedType,
                "a track has one codec on this server",
            )
        };
        return Err(if live { further() } else { gone() });
    }
    if announcement::is_oversized(request) {
        return Err(Refusal::new(Reason::LimitExceeded, "request too large"));
    }
    if tracks.pending() >= MAX_PENDING {
        return Err(Refusal::limit(tracks.pending()));
    }
    if tracks.uses(&request.cid) {
        tracks.queue(request.clone()).map_err(Refusal::limit)?;
        return Err(Refusal::new(Reason::Queued, ""));
    }
    if tracks.len() >= MAX_TRACKS {
        return Err(Refusal::limit(tracks.len()));
    }
    Ok(kind)
}

fn announce_track(state: &mut State, peer: PeerId, request: &AddTrackRequest, kind: MediaKind) {
    let sid = announcement::sid(request, kind, &mut state.rng);
    let Some(publisher) = state.participants.get_mut(&peer) else {
        return;
    };
    let read = announcement::read(request, kind, &sid, &publisher.profile.codecs);
    let key = TrackKey {
        peer,
        index: publisher.publications.draw_index(),
    };
    let publication = Publication::new(key, sid, kind, request.cid.clone(), read.info.clone());
    publisher.publications.insert(publication);
    let response = livekit::TrackPublishedResponse {
        cid: request.cid.clone(),
        track: Some(read.info),
    };
    state.count(Count::PublishAttempt(kind));
    state.signal(peer, Message::TrackPublished(response));
    state.media(Command::Publish {
        track: key,
        spec: read.spec,
    });
}

/// The client resumed: it may have missed that a track was accepted, and would wait for the answer
/// to an id that is now taken. Clients ignore an answer they already had.
pub(super) fn repeat_pending(state: &mut State, peer: PeerId) {
    let Some(publisher) = state.participants.get(&peer) else {
        return;
    };
    let pending = publisher
        .publications
        .iter()
        .filter(|track| track.live.is_none());
    let responses: Vec<_> = pending
        .map(|track| livekit::TrackPublishedResponse {
            cid: track.cid.clone(),
            track: Some(track.info.clone()),
        })
        .collect();
    for response in responses {
        state.signal(peer, Message::TrackPublished(response));
    }
}

/// First media of a track.
pub(super) fn handle_started(
    state: &mut State,
    key: TrackKey,
    (mid, codec): (&str, Codec),
    layers: &[NegotiatedLayer],
    now: Instant,
) {
    let pause_delay = state.facts.settings.dynacast_pause_delay;
    let unix_ms = state.facts.unix_ms(now);
    let Some(publisher) = state.participants.get_mut(&key.peer) else {
        return;
    };
    let Some(track) = publisher.publications.find_mut(key) else {
        return;
    };
    if track.live.is_some() {
        return;
    }
    let video = track.kind == MediaKind::Video;
    let demand = video.then(|| Demand::new(pause_delay, track.info.muted, now));
    let due = demand.as_ref().and_then(Demand::deadline);
    track.start(mid, codec, layers, demand);
    track.info.version = Some(livekit::TimedVersion {
        unix_micro: signed(unix_ms.saturating_mul(1000)),
        ticks: 0,
    });
    let (sid, kind) = (track.sid.as_str().to_owned(), track.kind);
    let first = !std::mem::replace(&mut publisher.presence.is_publisher, true);
    tracing::debug!(track = %sid, codec = codec.mime(), "track published");
    state.index.tracks.insert(sid, key);
    state.deadlines.put(Deadline::Demand(key), due);
    state.count(Count::PublishSuccess(kind));
    announce::changed(state, key.peer, Change::Progress, now);
    if first {
        announce::counts_changed(state, false, now);
    }
    subscribing::track_published(state, key, now);
}

/// The client stopped sending a track, or never will.
pub(super) fn handle_ended(state: &mut State, key: TrackKey, now: Instant) {
    let Some(track) = state.publication(key) else {
        return;
    };
    let freed: Vec<String> = track.cids().map(str::to_owned).collect();
    let live = withdraw(state, key, now);
    state.media(Command::Unpublish { track: key });
    if live {
        announce::changed(state, key.peer, Change::Progress, now);
    }
    for cid in freed {
        let publisher = state.participants.get_mut(&key.peer);
        let next = publisher.and_then(|publisher| publisher.publications.next_queued(&cid));
        if let Some(request) = next {
            handle_add_track(state, key.peer, request);
        }
    }
}

/// Takes a track away from its subscribers and out of all tables; returns whether it had media.
/// Neither media nor anybody else is told that it ended.
pub(super) fn withdraw(state: &mut State, key: TrackKey, now: Instant) -> bool {
    subscribing::track_ended(state, key, now);
    state.deadlines.clear(Deadline::Demand(key));
    state.quality.forget_track(key);
    pulse::silence(state, key, now);
    let publisher = state.participants.get_mut(&key.peer);
    let Some(track) = publisher.and_then(|publisher| publisher.publications.remove(key)) else {
        return false;
    };
    if track.live.is_some() {
        state.count(Count::Unpublished(track.kind));
    }
    track.live.is_some()
}

/// A client mutes or unmutes one of its tracks.
pub(super) fn handle_mute(
    state: &mut State,
    peer: PeerId,
    request: livekit::MuteTrackRequest,
    now: Instant,
) {
    let muted = request.muted;
    let Some(publisher) = state.participants.get_mut(&peer) else {
        return;
    };
    let Some(track) = publisher.publications.by_sid_mut(&request.sid) else {
        return reply::answer(state, peer, Reason::NotFound, "", Request::Mute(request));
    };
    if std::mem::replace(&mut track.info.muted, muted) == muted {
        return;
    }
    let (key, live) = (track.key, track.live.is_some());
    state.media(Command::MuteTrack { track: key, muted });
    dynacast::mute_changed(state, key, muted, now);
    if muted {
        pulse::silence(state, key, now);
    }
    if live {
        announce::changed(state, peer, Change::Track, now);
    }
}

/// A client changed what it does to the sound of one of its tracks.
pub(super) fn handle_audio_update(
    state: &mut State,
    peer: PeerId,
    request: livekit::UpdateLocalAudioTrack,
    now: Instant,
) {
    let Some(publisher) = state.participants.get_mut(&peer) else {
        return;
    };
    let Some(track) = publisher.publications.by_sid_mut(&request.track_sid) else {
        return reply::answer(
            state,
            peer,
            Reason::NotFound,
            "",
            Request::UpdateAudioTrack(request),
        );
    };
    let features = announcement::distinct(&request.features);
    let has = |feature: AudioTrackFeature| features.contains(&(feature as i32));
    track.info.stereo = has(AudioTrackFeature::TfStereo);
    track.info.disable_dtx = has(AudioTrackFeature::TfNoDtx);
    track.info.audio_features = features;
    if track.live.is_some() {
        announce::changed(state, peer, Change::Track, now);
    }
}

/// A client changed the size of one of its tracks.
pub(super) fn handle_video_update(
    state: &mut State,
    peer: PeerId,
    request: livekit::UpdateLocalVideoTrack,
    now: Instant,
) {
    let Some(publisher) = state.participants.get_mut(&peer) else {
        return;
    };
    let Some(track) = publisher.publications.by_sid_mut(&request.track_sid) else {
        return reply::answer(
            state,
            peer,
            Reason::NotFound,
            "",
            Request::UpdateVideoTrack(request),
        );
    };
    track.info.width = request.width;
    track.info.height = request.height;
    if track.live.is_some() {
        announce::changed(state, peer, Change::Track, now);
    }
}
