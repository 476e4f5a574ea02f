//! A room decides: commands and time in, effects out.
//!
//! Owns who is in the room, what they publish, want and may, and all deadlines; this file only
//! orders the parts. Never sees a packet and never reads an SDP. Called by the shell, one task a
//! room, with one command at a time.
#![allow(
    deprecated,
    reason = "clients still read and send fields the protocol calls deprecated"
)]

pub mod preference;
pub mod command;
pub mod effect;

mod setup;
mod deadlines;
mod permission;
mod demand;
mod publication;
mod subscription;
mod roster;
mod kept;
mod fallback;
mod participant;
mod speakers;
mod quality;
mod state;
mod announce;
mod reply;
mod pulse;
mod leading;
mod dynacast;
mod subscribing;
mod binding;
mod publishing;
mod exit;
mod readdress;
mod negotiation;
mod entry;
mod resume;
mod profile;
mod scenario;
mod data;

#[cfg(test)]
mod tests;

pub use setup::{Fallback, Limits, Settings, Setup};

use crate::ids::{PeerId, SessionId};
use crate::media::message::Event;
use command::{Admin, Command};
use deadlines::Deadline;
use effect::{Effect, JoinRefusal};
use exit::Farewell;
use proto::livekit;
use proto::livekit::DisconnectReason;
use proto::livekit::leave_request::Action;
use proto::livekit::request_response::{Reason, Request as Repeated};
use proto::livekit::signal_request::Message as Request;
use state::State;
use std::time::Instant;

/// One room.
#[derive(Debug)]
pub struct Room {
    state: State,
    /// The wake-up last asked for and not yet come.
    wake_at: Option<Instant>,
}

impl Room {
    /// An empty room. All chance in it comes from `seed`. Its first deadline is told by the first
    /// call of [`Self::handle`]; a room made before anybody joins is given [`Command::Wake`] at
    /// once.
    #[must_use]
    pub fn new(setup: Setup, seed: [u8; 32], now: Instant) -> Self {
        let mut state = State::new(setup, seed, now);
        state
            .deadlines
            .set(Deadline::Empty, now + state.facts.settings.empty_timeout);
        Self {
            state,
            wake_at: None,
        }
    }

    /// The room as clients see it now.
    #[must_use]
    pub fn info(&self) -> livekit::Room {
        self.state.room_info()
    }

    /// Takes one command in and returns what is to be done, in order. After [`Effect::Closed`] it
    /// only refuses.
    #[must_use]
    pub fn handle(&mut self, command: Command, now: Instant) -> Vec<Effect> {
        if matches!(command, Command::Wake) {
            self.wake_at = None;
        }
        if self.state.closed {
            self.refuse(command);
        } else {
            self.dispatch(command, now);
            while let Some(deadline) = self.state.deadlines.pop_due(now) {
                self.handle_deadline(deadline, now);
            }
        }
        let next = self.state.deadlines.next();
        if next != self.wake_at {
            self.wake_at = next;
            self.state.effects.extend(next.map(Effect::WakeAt));
        }
        std::mem::take(&mut self.state.effects)
    }

    fn dispatch(&mut self, command: Command, now: Instant) {
        let state = &mut self.state;
        match command {
            Command::Join(join) => entry::handle_join(state, *join, now),
            Command::Resume(resume) => resume::handle_resume(state, *resume, now),
            Command::Request { session, request } => self.handle_request(session, request, now),
            Command::SessionLost { session } => exit::handle_session_lost(state, session, now),
            Command::Media(event) => self.handle_event(event, now),
            Command::Wake => {}
            Command::Admin(admin) => self.handle_admin(admin, now),
        }
    }

    /// The room is over: whoever still comes is told so.
    fn refuse(&mut self, command: Command) {
        match command {
            Command::Join(join) => {
                let reason = JoinRefusal::Closing;
                self.state.effects.push(Effect::RefuseJoin {
                    session: join.session,
                    reason,
                });
            }
            Command::Resume(resume) => resume::refuse(&mut self.state, &resume),
            _ => {}
        }
    }

    fn handle_request(&mut self, session: SessionId, request: Request, now: Instant) {
        let state = &mut self.state;
        let Some(peer) = state.index.sessions.get(&session).copied() else {
            return;
        };
        if let Some(participant) = state.participants.get_mut(&peer) {
            participant.seen.heard();
            participant.link.fallback.handle_heard(now);
        }
        match request {
            Request::Offer(offer) => negotiation::handle_offer(state, peer, offer),
            Request::Answer(answer) => negotiation::handle_client_answer(state, peer, answer),
            Request::Trickle(trickle) => negotiation::handle_trickle(state, peer, trickle),
            Request::AddTrack(request) => publishing::handle_add_track(state, peer, request),
            Request::Mute(request) => publishing::handle_mute(state, peer, request, now),
            Request::Subscription(update) => subscribing::handle_update(state, peer, update, now),
            Request::TrackSetting(settings) => {
                subscribing::handle_settings(state, peer, &settings, now)
            }
            Request::Leave(leave) => exit::handle_leave(state, peer, &leave, now),
            Request::SubscriptionPermission(rule) => {
                subscribing::handle_permission(state, peer, rule, now)
            }
            Request::SyncState(sync) => resume::handle_sync_state(state, peer, sync, now),
            Request::Simulate(scenario) => scenario::handle(state, peer, scenario, now),
            Request::UpdateMetadata(update) => profile::handle_update(state, peer, update, now),
            Request::UpdateAudioTrack(update) => {
                publishing::handle_audio_update(state, peer, update, now)
            }
            Request::UpdateVideoTrack(update) => {
                publishing::handle_video_update(state, peer, update, now)
            }
            Request::PingReq(ping) => profile::handle_rtt(state, peer, ping.rtt),
            // Layers are dynacast's, and pings are answered by the session.
            Request::UpdateLayers(_) | Request::Ping(_) => {}
            data => self.refuse_data(peer, data),
        }
    }

    /// Data tracks and blobs do not exist here. (LK: signalling §5.8)
    fn refuse_data(&mut self, peer: PeerId, request: Request) {
        let state = &mut self.state;
        match request {
            Request::PublishDataTrackRequest(request) => {
                let text = "does not have permission to publish data";
                reply::answer(
                    state,
                    peer,
                    Reason::NotAllowed,
                    text,
                    Repeated::PublishDataTrack(request),
                );
            }
            Request::UnpublishDataTrackRequest(request) => {
                reply::answer(
                    state,
                    peer,
                    Reason::NotFound,
                    "",
                    Repeated::UnpublishDataTrack(request),
                );
            }
            Request::StoreDataBlobRequest(request) => {
                reply::answer_id(
                    state,
                    peer,
                    Reason::NotAllowed,
                    "data blob not enabled",
                    request.request_id,
                );
            }
            Request::GetDataBlobRequest(request) => {
                reply::answer_id(
                    state,
                    peer,
                    Reason::NotFound,
                    "data blob not found",
                    request.request_id,
                );
            }
            _ => {}
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        let state = &mut self.state;
        match event {
            Event::Connected { peer, side, path } => {
                negotiation::handle_connected(state, peer, (side, path), now)
            }
            Event::PathChanged { peer, side, path } => {
                leading::handle_way(state, peer, (side, path, false), now)
            }
            Event::Failed { peer, side, reason } => {
                exit::handle_media_failed(state, peer, (side, reason), now)
            }
            Event::TrackStarted {
                track,
                mid,
                codec,
                layers,
            } => {
                publishing::handle_started(state, track, (&mid, codec), &layers, now);
            }
            Event::TrackEnded { track } => publishing::handle_ended(state, track, now),
            Event::SubscriptionBound { peer, track } => {
                binding::handle_bound(state, peer, track, now)
            }
            Event::SubscriptionRefused { peer, track } => {
                binding::handle_refused(state, peer, track, now)
            }
            Event::Level {
                track,
                eighths,
                active,
            } => pulse::handle_level(state, track, eighths, active, now),
            Event::Score { stream, score } => pulse::handle_score(state, stream, score, now),
            Event::HeavyLoss { peer, side, rtt } => {
                resume::handle_heavy_loss(state, peer, (side, rtt), now)
            }
            Event::DataTooSlow { peer } => data::handle_too_slow(state, peer, now),
            Event::DataOpen { peer } => data::handle_open(state, peer, now),
            Event::Data {
                peer,
                channel,
                bytes,
            } => data::handle_message(state, peer, channel, &bytes, now),
            Event::Disconnected { .. } => {}
            Event::Answer(answer) => negotiation::handle_answer(state, &answer),
            Event::Offer(offer) => negotiation::handle_own_offer(state, &offer),
            Event::Candidates {
                peer,
                side,
                candidates,
            } => negotiation::handle_candidates(state, peer, side, &candidates),
            Event::AnswerRefused { peer, reason } => {
                negotiation::handle_answer_refused(state, peer, &reason, now)
            }
            Event::OfferRefused { peer, reason, .. } => {
                negotiation::handle_offer_refused(state, peer, &reason, now)
            }
            Event::SectionsNeeded { peer, audio, video } => {
                negotiation::handle_sections_needed(state, peer, audio, video)
            }
        }
    }

    fn handle_admin(&mut self, admin: Admin, now: Instant) {
        let state = &mut self.state;
        match admin {
            Admin::Remove { identity } => {
                if let Some(peer) = state.index.identities.get(&identity).copied() {
                    exit::remove(state, peer, Farewell::REMOVED, now);
                }
            }
            Admin::Readdress {
                gone,
                still,
                reachable,
            } => {
                state.facts.settings.fallback.follow(reachable);
                readdress::handle(state, (&gone, &still), now);
            }
            Admin::Expel { identity } => exit::expel(state, &identity, now),
            Admin::Close => {
                let farewell = Farewell::told(DisconnectReason::RoomDeleted, Action::Disconnect);
                exit::close_room(state, farewell, now);
            }
            Admin::Shutdown => {
                // DISCONNECT would end the call; RECONNECT makes clients join again by themselves.
                let farewell = Farewell::told(DisconnectReason::ServerShutdown, Action::Reconnect);
                exit::close_room(state, farewell, now);
            }
        }
    }

    fn handle_deadline(&mut self, deadline: Deadline, now: Instant) {
        let state = &mut self.state;
        match deadline {
            Deadline::Empty | Deadline::Departure => {
                let farewell = Farewell::told(DisconnectReason::RoomClosed, Action::Disconnect);
                exit::close_room(state, farewell, now);
            }
            Deadline::Roster => announce::flush(state),
            Deadline::Speakers => pulse::tell_speakers(state, now),
            Deadline::Quality => pulse::tell_quality(state),
            Deadline::Counts => announce::tell_counts(state, now),
            Deadline::Join(peer) => entry::handle_join_deadline(state, peer, now),
            Deadline::Grace(peer) => exit::handle_grace_deadline(state, peer, now),
            Deadline::Trial(peer) => resume::handle_trial_deadline(state, peer, now),
            Deadline::Token(peer) => entry::handle_token_deadline(state, peer, now),
            Deadline::Missing(peer) => subscribing::handle_missing_deadline(state, peer, now),
            Deadline::Speech(peer) => pulse::end_speech(state, peer, now),
            Deadline::Settle(peer, track) => subscribing::apply_settings(state, peer, track, now),
            Deadline::Bind(peer, track) => binding::handle_bind_deadline(state, peer, track, now),
            Deadline::Demand(track) => dynacast::handle_deadline(state, track, now),
        }
    }
}
