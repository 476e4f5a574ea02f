//! Data packets from one participant to others. (LK: signalling §8)
//!
//! Owns who may send, what the server writes into a packet, to whom it goes, and what is kept for
//! those still joining. The bytes stay as they came but for the stamp; media owns the channels and
//! what waits in them.

use super::effect::{Count, DataFate};
use super::exit::{self, Farewell};
use super::kept::{Destinations, Entry, NONCE_BYTES};
use super::participant::Participant;
use super::state::State;
use crate::ids::PeerId;
use crate::media::message::{Channel, Command};
use bytes::Bytes;
use proto::data::{self, Stamp};
use proto::livekit::DataPacket;
use proto::livekit::data_packet::{Kind, Value};
use proto::livekit::data_stream::header::ContentHeader;
use proto::livekit::participant_info;
use std::time::Instant;

/// Largest packet as sent on: what a receiver's channel is sure to take. (LK: signalling §8.3)
const PACKET_MAX: usize = 65_535;

/// To whom a packet is to go.
fn destinations(packet: &DataPacket) -> Destinations {
    let (mut identities, mut sids) = (&packet.destination_identities, &Vec::new());
    if let Some(Value::User(user)) = &packet.value {
        if identities.is_empty() {
            identities = &user.destination_identities;
        }
        sids = &user.destination_sids;
    }
    let mut named = Destinations::new(identities.clone(), sids.clone());
    named.metrics = matches!(packet.value, Some(Value::Metrics(_)));
    named
}

/// Is a packet for this participant?
fn is_for(destinations: &Destinations, participant: &Participant) -> bool {
    let claims = &participant.profile.claims;
    let sid = participant.profile.sid.as_str();
    destinations.name(&claims.identity, sid)
        && (!destinations.metrics || claims.grant().can_subscribe_metrics())
}

/// A packet ready to go.
struct Outbound {
    bytes: Bytes,
    destinations: Destinations,
    /// Reliable packets of clients that count them have one from 1 on.
    sequence: u32,
}

/// A message came from a participant.
pub(super) fn handle_message(
    state: &mut State,
    peer: PeerId,
    channel: Channel,
    message: &Bytes,
    now: Instant,
) {
    let fate = match check(state, peer, channel, message, now) {
        Ok((channel, outbound)) => {
            forward(state, peer, channel, outbound, now);
            DataFate::Forwarded
        }
        Err(fate) => fate,
    };
    if fate != DataFate::Forwarded {
        tracing::trace!(?peer, ?channel, ?fate, "data packet dropped");
    }
    state.count(Count::Data(fate));
}

/// Both channels of a participant are open: it gets what was kept for it.
pub(super) fn handle_open(state: &mut State, peer: PeerId, now: Instant) {
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    if participant.data.is_open() {
        return;
    }
    let waited = participant.data.open();
    let participant = &*participant;
    let joined = participant.presence.joined;
    let kept = state.kept.since(joined, now);
    let kept: Vec<Bytes> = kept
        .filter(|entry| entry.sender != peer && is_for(&entry.destinations, participant))
        .map(|entry| entry.bytes.clone())
        .collect();
    for bytes in waited.into_iter().chain(kept) {
        state.media(Command::SendData {
            channel: Channel::Reliable,
            bytes,
            peers: vec![peer],
        });
    }
}

/// Media gave up a participant that did not take its reliable data: whatever it missed, only
/// starting over brings it back in step. (LK: signalling §5.9)
pub(super) fn handle_too_slow(state: &mut State, peer: PeerId, now: Instant) {
    tracing::info!(?peer, "participant too slow for its data");
    exit::remove(state, peer, Farewell::MISMATCH, now);
}

/// What a message becomes, or why it goes nowhere.
fn check(
    state: &mut State,
    peer: PeerId,
    channel: Channel,
    message: &Bytes,
    now: Instant,
) -> Result<(Channel, Outbound), DataFate> {
    let unix_ms = state.facts.unix_ms(now);
    let sender = state
        .participants
        .get_mut(&peer)
        .ok_or(DataFate::NotAllowed)?;
    if !sender.presence.active || !sender.profile.claims.grant().can_publish_data() {
        return Err(DataFate::NotAllowed);
    }
    let kind = match channel {
        Channel::Reliable => Kind::Reliable,
        Channel::Lossy => Kind::Lossy,
        Channel::Other => return Ok((Channel::Reliable, wrapped(sender, message)?)),
        Channel::DataTrack => return Err(DataFate::NotAllowed),
    };
    let mut packet = data::read(message).map_err(|_| DataFate::Unreadable)?;
    if kind == Kind::Reliable && !sender.data.admit(packet.sequence) {
        return Err(DataFate::Repeated);
    }
    if let Some(Value::User(user)) = &packet.value
        && let Ok(nonce) = <[u8; NONCE_BYTES]>::try_from(user.nonce.as_slice())
        && !state.kept.admit(nonce)
    {
        return Err(DataFate::Repeated);
    }
    let spoken_for = speaks_for_another(sender, &packet);
    let rewritten = rewrite(&mut packet, is_agent(sender), spoken_for, unix_ms)?;
    let identity = if sender.is_hidden() {
        ""
    } else {
        &sender.profile.claims.identity
    };
    let sid = sender.profile.sid.as_str();
    let stamp = Stamp {
        kind,
        sid,
        identity: (!spoken_for).then_some(identity),
        user_sid: if sender.is_hidden() { "" } else { sid },
    };
    let destinations = destinations(&packet);
    let source = rewritten.as_deref().unwrap_or(message);
    let bytes =
        data::stamp(source, &stamp, destinations.identities()).map_err(|_| DataFate::Unreadable)?;
    let outbound = Outbound {
        bytes: sized(bytes)?,
        destinations,
        sequence: if kind == Kind::Reliable {
            packet.sequence
        } else {
            0
        },
    };
    Ok((channel, outbound))
}

fn sized(bytes: Vec<u8>) -> Result<Bytes, DataFate> {
    if bytes.len() > PACKET_MAX {
        return Err(DataFate::TooLarge);
    }
    Ok(bytes.into())
}

/// What came on a channel of the application's own. (LK: signalling §6.9)
fn wrapped(sender: &Participant, message: &[u8]) -> Result<Outbound, DataFate> {
    let identity = if sender.is_hidden() {
        ""
    } else {
        &sender.profile.claims.identity
    };
    Ok(Outbound {
        bytes: sized(data::wrap(message, identity))?,
        destinations: Destinations::default(),
        sequence: 0,
    })
}

fn is_agent(participant: &Participant) -> bool {
    let claims = &participant.profile.claims;
    claims.kind == participant_info::Kind::Agent || claims.grant().agent
}

/// An agent passes on what somebody else said. (LK: signalling §8.2)
fn speaks_for_another(sender: &Participant, packet: &DataPacket) -> bool {
    let named = &packet.participant_identity;
    let foreign = !named.is_empty() && *named != sender.profile.claims.identity;
    let text = match &packet.value {
        Some(Value::ChatMessage(_)) => true,
        Some(Value::StreamHeader(header)) => {
            matches!(header.content_header, Some(ContentHeader::TextHeader(_)))
        }
        _ => false,
    };
    is_agent(sender) && foreign && text
}

/// The packets whose content the server has a say in, written anew; `None` for all others.
fn rewrite(
    packet: &mut DataPacket,
    agent: bool,
    spoken_for: bool,
    unix_ms: u64,
) -> Result<Option<Vec<u8>>, DataFate> {
    match &mut packet.value {
        Some(Value::Transcription(_)) if !agent => return Err(DataFate::NotAllowed),
        Some(Value::Metrics(batch)) => data::normalize(batch, unix_ms),
        Some(Value::ChatMessage(chat)) if spoken_for => chat.generated = true,
        Some(Value::StreamHeader(header)) if spoken_for => match &mut header.content_header {
            Some(ContentHeader::TextHeader(text)) => text.generated = true,
            _ => return Ok(None),
        },
        _ => return Ok(None),
    }
    Ok(Some(data::write(packet)))
}

/// Sends a packet to all it is for: at once to those who can take it; to those still joining, later.
fn forward(state: &mut State, from: PeerId, channel: Channel, outbound: Outbound, now: Instant) {
    let Outbound {
        bytes,
        destinations,
        sequence,
    } = outbound;
    let mut joining = false;
    let mut to: Vec<PeerId> = Vec::new();
    for (&peer, participant) in &mut state.participants {
        if peer == from || !is_for(&destinations, participant) {
            continue;
        }
        let ready = match channel {
            Channel::Lossy => participant.presence.active,
            _ => participant.data.is_open(),
        };
        if ready {
            to.push(peer);
        } else if channel == Channel::Reliable && sequence == 0 {
            participant.data.wait(&bytes);
        } else {
            joining = true;
        }
    }
    if joining && channel == Channel::Reliable {
        let (sender, bytes) = (from, bytes.clone());
        state.kept.keep(Entry {
            sender,
            bytes,
            destinations,
            at: now,
        });
    }
    send(state, channel, &bytes, to);
}

/// One command for each worker that has receivers.
fn send(state: &mut State, channel: Channel, bytes: &Bytes, mut to: Vec<PeerId>) {
    to.sort_by_key(|peer| peer.worker);
    for peers in to.chunk_by(|a, b| a.worker == b.worker) {
        state.media(Command::SendData {
            channel,
            bytes: bytes.clone(),
            peers: peers.to_vec(),
        });
    }
}
