//! Participants join. (LK: signalling §4.2, §4.4)
//!
//! Owns who may come in, the join response, and the order of what follows it.

use super::announce::{self, Change};
use super::command::Join;
use super::deadlines::Deadline;
use super::effect::{Count, Effect, JoinRefusal};
use super::exit::{self, Farewell};
use super::kept::Flow;
use super::leading;
use super::negotiation;
use super::participant::{Link, MediaLink, Participant, Presence, Profile, check_texts};
use super::permission::TrackPermissions;
use super::publication::Publications;
use super::publishing;
use super::roster::Seen;
use super::setup::publish_list;
use super::state::State;
use super::subscribing;
use super::subscription::Subscriptions;
use crate::config::codecs::h264;
use crate::ids::{ParticipantSid, PeerId};
use crate::media::message::{Command, PeerSetup, Side, SubscriberSetup};
use proto::livekit;
use proto::livekit::DisconnectReason;
use proto::livekit::client_info::Capability;
use proto::livekit::leave_request::Action;
use proto::livekit::signal_response::Message;
use proto::token::Claims;
use std::time::{Duration, Instant};

/// A participant must be connected this long after its join. (LK: signalling §4.6)
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// Tokens are renewed this often. (LK: signalling §2.4)
pub(super) const TOKEN_INTERVAL: Duration = Duration::from_secs(300);
/// Seconds between a client's pings, and after which it gives up. (LK: signalling §3)
const PING_INTERVAL: i32 = 5;
const PING_TIMEOUT: i32 = 15;
/// Protocol after which a client may wait for our offer instead of making its own. (LK: signalling
/// §9.3)
const SUBSCRIBER_PRIMARY_AFTER: i32 = 2;
/// Protocol after which our first offer may have tracks in it. (LK: signalling §9.3)
const TRACKS_IN_FIRST_OFFER_AFTER: i32 = 7;
/// Participants in a room whatever the settings say, dependents included: snapshots of everybody
/// go to everybody, so a room grows with the square of it.
const PARTICIPANT_CEILING: usize = 5_000;

/// Somebody wants to come in.
pub(super) fn handle_join(state: &mut State, mut join: Join, now: Instant) {
    let claims = entitled(std::mem::take(&mut join.claims), &join);
    if let Err(reason) = admit(state, &claims, &join) {
        state.effects.push(Effect::RefuseJoin {
            session: join.session,
            reason,
        });
        return;
    }
    let replaced = state.index.identities.get(&claims.identity).copied();
    if let Some(old) = replaced {
        let farewell = Farewell::told(DisconnectReason::DuplicateIdentity, Action::Disconnect);
        exit::remove(state, old, farewell, now);
    }
    let peer = join.peer;
    let primary = primary(&claims, &join);
    register(state, claims, &join, primary, now);
    respond(state, &mut join, primary, now);
    state.count(Count::ParticipantJoined);
    let setup = peer_setup(&join, primary, &state.facts.settings.h264);
    state.media(Command::AddPeer { peer, setup });
    leading::set_out(state, peer, now);
    first_offer(state, peer, &join, primary, now);
    for request in join.add_tracks {
        publishing::handle_add_track(state, peer, request);
    }
    if let Some(offer) = join.offer {
        negotiation::handle_offer(state, peer, offer);
    }
    state.refresh_token(peer);
    let change = replaced.map_or(Change::Progress, |_| Change::Replacement);
    announce::changed(state, peer, change, now);
    let recorder = state
        .participants
        .get(&peer)
        .is_some_and(|p| p.profile.claims.grant().recorder);
    announce::counts_changed(state, recorder, now);
}

/// The connection whose coming up makes the participant active. (LK: signalling §4.2)
fn primary(claims: &Claims, join: &Join) -> Side {
    let known = join.client.protocol > SUBSCRIBER_PRIMARY_AFTER;
    if join.dual && known && claims.grant().can_subscribe() {
        Side::Subscriber
    } else {
        Side::Publisher
    }
}

fn peer_setup(join: &Join, primary: Side, h264: &[h264::Parameters]) -> PeerSetup {
    let subscriber = SubscriberSetup {
        data_channels: primary == Side::Subscriber,
        reuse_sections: join.reuse_sections,
        passive: join.passive_offers,
    };
    PeerSetup {
        publish: join.publish_codecs.clone(),
        subscribe: join.subscribe_codecs.clone(),
        h264: h264.to_vec(),
        reads_trailers: join
            .client
            .capabilities
            .contains(&(Capability::CapPacketTrailer as i32)),
        one_codec_per_section: join.one_codec_per_section,
        outside_only: join.outside_only,
        subscriber: join.dual.then_some(subscriber),
    }
}

/// Subscribes to what there is. Where the client waits for our offer, it comes at once; old clients
/// want the tracks in a second one. (LK: signalling §4.5, §9.3)
fn first_offer(state: &mut State, peer: PeerId, join: &Join, primary: Side, now: Instant) {
    let offer = Command::Negotiate {
        peer,
        restart: false,
    };
    let awaited = primary == Side::Subscriber;
    let with_tracks = join.client.protocol > TRACKS_IN_FIRST_OFFER_AFTER;
    if awaited && !with_tracks {
        state.media(offer.clone());
    }
    subscribing::reconcile_all(state, peer, now);
    if awaited && with_tracks {
        state.media(offer);
    }
}

/// The token's claims with what the join request changes of them.
fn entitled(mut claims: Claims, join: &Join) -> Claims {
    if !join.metadata.is_empty() {
        claims.metadata.clone_from(&join.metadata);
    }
    let given = join
        .attributes
        .iter()
        .filter(|(_, value)| !value.is_empty());
    claims.attributes.extend(given.cloned());
    claims
}

fn admit(state: &State, claims: &Claims, join: &Join) -> Result<(), JoinRefusal> {
    // A peer or connection used twice is a fault of the caller, and must not disturb its owner.
    if state.closed
        || state.participants.contains_key(&join.peer)
        || state.index.sessions.contains_key(&join.session)
    {
        return Err(JoinRefusal::Closing);
    }
    let limits = &state.facts.settings.limits;
    check_texts(limits, &claims.name, &claims.metadata, &claims.attributes)
        .map_err(|_| JoinRefusal::LimitExceeded)?;
    let replaced = state.index.identities.get(&claims.identity);
    let replaced = replaced.and_then(|peer| state.participants.get(peer));
    let replaced_counts = replaced.is_some_and(|participant| !participant.is_dependent());
    let present = state.independent() - usize::from(replaced_counts);
    let max = usize::try_from(state.facts.settings.max_participants).unwrap_or(usize::MAX);
    let full = max > 0 && present >= max && !claims.is_dependent();
    let overfull =
        state.participants.len() - usize::from(replaced.is_some()) >= PARTICIPANT_CEILING;
    if full || overfull {
        Err(JoinRefusal::RoomFull)
    } else {
        Ok(())
    }
}

fn register(state: &mut State, claims: Claims, join: &Join, primary: Side, now: Instant) {
    let peer = join.peer;
    let dependent = claims.is_dependent();
    let sid = ParticipantSid::random(&mut state.rng);
    tracing::debug!(participantID = %sid, ?peer, "participant joined");
    state.index.sessions.insert(join.session, peer);
    state.index.identities.insert(claims.identity.clone(), peer);
    let settings = &state.facts.settings.fallback;
    let fallback = leading::begin(settings, join, now);
    let participant = Participant {
        profile: Profile {
            sid,
            claims,
            client: join.client.clone(),
            codecs: join.publish_codecs.clone(),
            joined_at_ms: state.facts.unix_ms(now),
        },
        presence: Presence {
            active: false,
            version: 1,
            is_publisher: false,
            joined: now,
        },
        link: Link {
            session: Some(join.session),
            media: MediaLink::new(join.dual, primary),
            fallback,
        },
        publications: Publications::default(),
        subscriptions: Subscriptions::new(join.auto_subscribe, join.adaptive_stream),
        permissions: TrackPermissions::default(),
        seen: Seen::default(),
        data: Flow::default(),
    };
    state.participants.insert(peer, participant);
    state.deadlines.set(Deadline::Join(peer), now + JOIN_WITHIN);
    state
        .deadlines
        .set(Deadline::Token(peer), now + TOKEN_INTERVAL);
    if !dependent {
        state.deadlines.clear(Deadline::Empty);
        state.deadlines.clear(Deadline::Departure);
    }
}

fn respond(state: &mut State, join: &mut Join, primary: Side, now: Instant) {
    let peer = join.peer;
    let other_participants = announce::others(state, peer);
    let participant = announce::joining(state, peer);
    let can_publish = state
        .participants
        .get(&peer)
        .is_some_and(|p| p.profile.claims.grant().can_publish());
    let server = state.facts.server_info.clone();
    let response = livekit::JoinResponse {
        room: Some(state.room_info()),
        participant,
        other_participants,
        server_version: server.version.clone(),
        server_region: server.region.clone(),
        server_info: Some(server),
        ice_servers: state.ice_servers(peer, &join.ways.ice_servers, now),
        subscriber_primary: primary == Side::Subscriber,
        client_configuration: leading::configuration(state, peer, join.client_configuration.take()),
        ping_timeout: PING_TIMEOUT,
        ping_interval: PING_INTERVAL,
        sif_trailer: state.facts.sif_trailer.clone(),
        enabled_publish_codecs: publish_list(&join.publish_codecs),
        fast_publish: can_publish && leading::is_open(state, peer),
        ..Default::default()
    };
    state.signal(peer, Message::Join(response));
}

/// The client did not connect in time.
pub(super) fn handle_join_deadline(state: &mut State, peer: PeerId, now: Instant) {
    exit::remove(
        state,
        peer,
        Farewell::told(DisconnectReason::JoinFailure, Action::Disconnect),
        now,
    );
}

/// A token is renewed.
pub(super) fn handle_token_deadline(state: &mut State, peer: PeerId, now: Instant) {
    state.refresh_token(peer);
    state
        .deadlines
        .set(Deadline::Token(peer), now + TOKEN_INTERVAL);
}
