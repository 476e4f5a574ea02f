//! Commands applied: peers, offers, publications, subscriptions.

use super::tracks::{SUBSCRIBERS_MAX, Subscriber};
use super::{Plane, candidates};
use crate::ids::{MediaKind, PeerId, TrackKey};
use crate::media::demux::{Place, Sender};
use crate::media::forward::downstream::{Downstream, DownstreamSetup, PayloadTypes, RtxSetup};
use crate::media::message::{
    Description, Event, PeerFailure, PeerSetup, ScoredStream, Side, StreamLabel, TrackSpec, Wish,
};
use crate::media::peer::Peer;
use crate::media::peer::connections::{Connection, Connections};
use crate::media::peer::downlink::{Stream, Waiting};
use crate::media::peer::link::Link;
use crate::media::transport::Transport;
use crate::media::transport::candidates::Candidate;
use crate::media::transport::ice::Credentials;
use crate::media::transport::negotiation::offering::Offering;
use crate::media::transport::negotiation::{Answered, Forwarding, Sending};
use rand::Rng;
use std::collections::VecDeque;
use std::time::Instant;

/// First sequence numbers and picture ids stay below this, so that the first wrap is far away and
/// no receiver guesses the roll-over count wrong.
const FIRST_SEQ_BELOW: u16 = 1 << 15;
/// Our offers are counted from a number in this range, so that those of two sessions of a client
/// are hardly taken for each other. (LK: signalling §4.5)
const OFFER_IDS_FROM: std::ops::RangeInclusive<u32> = 1..=256;

/// Those connections of a peer that have a description and still look for a path, or for another one, are
/// told our addresses.
pub(super) fn tell_searching(
    peer: &mut Peer,
    advertised: &[Candidate],
    events: &mut VecDeque<Event>,
) {
    let (id, told) = (peer.id, peer.told);
    for (side, connection) in peer.connections.iter_mut() {
        if connection.described && connection.transport.is_searching() {
            events.push_back(Event::Candidates {
                peer: id,
                side,
                candidates: candidates::host(advertised, told),
            });
        }
    }
}

impl Plane {
    pub(super) fn add_peer(&mut self, id: PeerId, setup: &PeerSetup, now: Instant) {
        if self.index_of(id).is_some() {
            return;
        }
        let Some(connections) = self.connections(id, setup, now) else {
            self.demux.remove(id);
            self.events.push_back(Event::Failed {
                peer: id,
                side: Side::Publisher,
                reason: PeerFailure::Overload,
            });
            return;
        };
        let link = Link::new(&mut self.rng, now);
        let mut peer = Peer::new(id, setup, connections, link);
        peer.offering = setup.subscriber.map(|subscriber| {
            let first_id = self.rng.random_range(OFFER_IDS_FROM);
            Offering::new(&setup.subscribe, subscriber, first_id)
        });
        self.peers.insert(peer);
    }

    /// What a peer is told more from now on, connections that wait for it are told at once.
    pub(super) fn tell_tcp(&mut self, id: PeerId, only: bool) {
        let index = self.index_of(id);
        let Some(peer) = index.and_then(|index| self.peers.at_mut(index)) else {
            return;
        };
        let widened = std::mem::replace(&mut peer.told.tcp_only, only) && !only;
        if widened {
            tell_searching(peer, &self.setup.advertised, &mut self.events);
        }
    }

    /// None of a peer's paths outlives its next restart, or all may again.
    pub(super) fn leave_path(&mut self, id: PeerId, leaves: bool) {
        let index = self.index_of(id);
        if let Some(peer) = index.and_then(|index| self.peers.at_mut(index)) {
            for (_, connection) in peer.connections.iter_mut() {
                connection.transport.leave(leaves);
            }
        }
    }

    /// As many connections as the peer is to have; `None` if there are too many.
    fn connections(&mut self, id: PeerId, setup: &PeerSetup, now: Instant) -> Option<Connections> {
        let publisher = self.connection(id, Side::Publisher, now)?;
        let subscriber = match setup.subscriber {
            Some(settings) => {
                let mut subscriber = self.connection(id, Side::Subscriber, now)?;
                if settings.data_channels {
                    subscriber.transport.open_channels();
                }
                Some(subscriber)
            }
            None => None,
        };
        Some(Connections::new(publisher, subscriber))
    }

    /// A new connection that can be checked; `None` if there are too many.
    fn connection(&mut self, peer: PeerId, side: Side, now: Instant) -> Option<Connection> {
        let credentials = Credentials::random(self.place(), &mut self.rng, &mut self.secrets);
        let sender = Sender { peer, side };
        if self.demux.insert(&credentials.ufrag, sender).is_err() {
            self.counters.dropped.limit += 1;
            return None;
        }
        let named = (credentials, self.rng.random());
        let mut transport = Transport::new(named, &self.setup.dtls, now);
        transport.handle_inquiring(self.setup.inquiring.then_some(now));
        if self.witness.keys.is_some() {
            transport.keep_keys();
        }
        let session_id = u64::from(self.rng.random::<u32>());
        Some(Connection::new(transport, session_id))
    }

    pub(super) fn place(&self) -> Place {
        Place {
            node: self.setup.node,
            generation: self.setup.process,
            worker: self.setup.worker,
        }
    }

    pub(super) fn remove_peer(&mut self, id: PeerId, now: Instant) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let published = self
            .peers
            .at(index)
            .map(|peer| peer.uplink.tracks().to_vec());
        for track in published.unwrap_or_default() {
            self.end_track(track, now);
        }
        self.demux.remove(id);
        self.schedule.remove(index);
        let Some(peer) = self.peers.remove(index) else {
            return;
        };
        for key in peer.downlink.keys() {
            self.remove_subscriber(key, index);
        }
    }

    /// Takes a subscriber off a track, also in the middle of its fan-out.
    fn remove_subscriber(&mut self, key: TrackKey, index: u32) {
        let Some(track) = self.tracks.index(key) else {
            return;
        };
        let Some(fanout) = self.tracks.at_mut(track) else {
            return;
        };
        let removed = fanout.remove_subscriber(index);
        let touched = self.touched.iter().position(|&one| one == track);
        if let (Some(at), Some(touched)) = (removed, touched) {
            self.cursor.handle_subscriber_removed(touched, at);
        }
    }

    pub(super) fn handle_offer(&mut self, id: PeerId, offer_id: u32, sdp: &str, now: Instant) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let place = self.place();
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let candidates = candidates::host(&self.setup.advertised, peer.told);
        let restart = peer.negotiation.restarting(sdp);
        let connection = peer.connections.up();
        let fresh = restart || !connection.described;
        let credentials = match restart {
            true => Credentials::random(place, &mut self.rng, &mut self.secrets),
            false => connection.transport.credentials().clone(),
        };
        let local = connection.local(&credentials, candidates);
        match peer.negotiation.handle_offer(sdp, &local, now) {
            Ok(answered) => {
                connection.described = true;
                // Only now: a refused offer must leave the credentials in force.
                if restart {
                    let side = Side::Publisher;
                    let sender = Sender { peer: id, side };
                    if self.demux.insert(&credentials.ufrag, sender).is_err() {
                        self.counters.dropped.limit += 1;
                    }
                    connection.transport.restart(credentials, now);
                }
                connection.transport.set_remote(&answered.remote);
                self.apply_answer(index, &answered, now);
                self.events.push_back(Event::Answer(Description {
                    peer: id,
                    id: offer_id,
                    sdp: answered.sdp,
                    mids: answered.mids,
                    candidates: if fresh { local.candidates } else { Vec::new() },
                }));
                self.tell_bound(index);
                self.tell_changes(index, now);
                self.reschedule(index, now);
            }
            Err(error) => self.events.push_back(Event::OfferRefused {
                peer: id,
                id: offer_id,
                reason: error.to_string(),
            }),
        }
    }

    /// Brings tracks and streams in line with the sections just answered by us.
    fn apply_answer(&mut self, index: u32, answered: &Answered, now: Instant) {
        for key in &answered.ended {
            self.finish(*key, now);
            self.events.push_back(Event::TrackEnded { track: *key });
        }
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        peer.uplink.set_sections(answered.receiving.clone());
        self.apply_sending(index, &answered.refused, &answered.sending, now);
    }

    /// Brings streams in line with the sections that send, of whoever's offer.
    pub(super) fn apply_sending(
        &mut self,
        index: u32,
        refused: &[TrackKey],
        sending: &[Sending],
        now: Instant,
    ) {
        for key in refused {
            self.refuse(index, *key);
        }
        for sending in sending {
            self.bind(index, sending, now);
        }
    }

    /// The peer cannot receive the track, or not any more.
    fn refuse(&mut self, index: u32, key: TrackKey) {
        self.remove_subscriber(key, index);
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        peer.downlink.remove(key);
        self.events.push_back(Event::SubscriptionRefused {
            peer: peer.id,
            track: key,
        });
    }

    /// Starts the stream of a section that sends a track.
    fn bind(&mut self, index: u32, sending: &Sending, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let Some(waiting) = peer.downlink.take_waiting(sending.track) else {
            return;
        };
        let Some(track) = self.tracks.index(sending.track) else {
            return;
        };
        let Some(fanout) = self.tracks.at_mut(track) else {
            return;
        };
        if fanout.subscribers.len() >= SUBSCRIBERS_MAX {
            self.counters.dropped.limit += 1;
            peer.unsubscribe(sending.track, now);
            self.refuse(index, sending.track);
            return;
        }
        fanout.waiting.retain(|&one| one != index);
        let rng = &mut self.rng;
        let codec = fanout.track.setup().codec;
        let setup = DownstreamSetup {
            track: sending.track,
            codec,
            layers: fanout.section.layers,
            ssrc: sending.ssrc,
            first_seq: rng.random_range(0..FIRST_SEQ_BELOW),
            first_time: rng.random(),
            payload_types: PayloadTypes {
                source_red: fanout.section.red(),
                media: fanout.section.carried_by(codec, sending),
                red: sending.red_payload_type,
            },
            rtx: sending.rtx_ssrc.map(|ssrc| RtxSetup {
                ssrc,
                payload_types: sending.rtx_types().collect(),
                first_seq: rng.random_range(0..FIRST_SEQ_BELOW),
            }),
            cuts_trailers: !peer.reads_trailers,
            wish: waiting.wish,
        };
        let mut downstream = Downstream::new(setup, now);
        downstream.handle_publisher_muted(fanout.track.is_muted(), now);
        // Its key frame is asked for now, not when something else makes us look at the peer.
        downstream.handle_layers(fanout.source().alive);
        let stream = Stream::new(downstream, track, waiting.cname);
        let stream = peer.downlink.insert(stream, sending.rtx_ssrc);
        fanout.subscribers.push(Subscriber {
            peer: index,
            stream,
        });
        self.schedule.wake_by(index, now);
    }

    /// Tells of streams whose section has been answered, once the peer is connected.
    pub(super) fn tell_bound(&mut self, index: u32) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        if !peer.connections.can_send() {
            return;
        }
        let id = peer.id;
        for stream in peer.downlink.iter_mut().filter(|stream| !stream.bound) {
            stream.bound = true;
            self.events.push_back(Event::SubscriptionBound {
                peer: id,
                track: stream.key,
            });
        }
    }

    pub(super) fn publish(&mut self, key: TrackKey, spec: TrackSpec, now: Instant) {
        let Some(index) = self.index_of(key.peer) else {
            return;
        };
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        match peer.negotiation.publish(key, spec.clone(), now) {
            Ok(bound) => {
                peer.link.announce(key, &spec);
                // Its section was answered before it was announced.
                if bound.is_some() {
                    peer.uplink.set_sections(peer.negotiation.receiving());
                }
            }
            Err(error) => {
                self.counters.dropped.limit += 1;
                tracing::debug!(?key, %error, "announced track not taken");
            }
        }
        self.reschedule(index, now);
    }

    pub(super) fn unpublish(&mut self, key: TrackKey, now: Instant) {
        self.finish(key, now);
        let Some(index) = self.index_of(key.peer) else {
            return;
        };
        if let Some(peer) = self.peers.at_mut(index) {
            peer.negotiation.unpublish(key);
            peer.uplink.set_sections(peer.negotiation.receiving());
        }
    }

    /// A track is over, whether its media ever came or not.
    fn finish(&mut self, key: TrackKey, now: Instant) {
        if let Some(track) = self.tracks.index(key) {
            self.end_track(track, now);
        }
        if let Some(index) = self.index_of(key.peer)
            && let Some(peer) = self.peers.at_mut(index)
        {
            peer.link.forget(key);
        }
    }

    /// Takes a track away from its publisher and from everyone who receives it or waits to.
    fn end_track(&mut self, track: u32, now: Instant) {
        let Some(mut fanout) = self.tracks.remove(track) else {
            return;
        };
        self.counters.dropped.media += fanout.track.take_useless();
        if let Some(at) = self.touched.iter().position(|&one| one == track) {
            self.touched.remove(at);
            self.cursor.handle_track_removed(at);
        }
        let key = fanout.track.key();
        if let Some(peer) = self.peers.at_mut(fanout.publisher) {
            peer.uplink.remove(track);
            peer.link.forget(key);
        }
        let receivers = fanout.subscribers.iter().map(|one| one.peer);
        for index in receivers.chain(fanout.waiting) {
            if let Some(peer) = self.peers.at_mut(index) {
                peer.downlink.remove(key);
                peer.unsubscribe(key, now);
            }
            self.reschedule(index, now);
        }
    }

    pub(super) fn mute_track(&mut self, key: TrackKey, muted: bool, now: Instant) {
        let Some(index) = self.index_of(key.peer) else {
            return;
        };
        if let Some(peer) = self.peers.at_mut(index) {
            peer.link.mute(key, muted);
        }
        let Some(fanout) = self.tracks.by_key_mut(key) else {
            return;
        };
        let told = fanout.set_muted(muted);
        self.events.extend(told.map(|score| Event::Score {
            stream: ScoredStream::Published(key),
            score,
        }));
        for subscriber in &fanout.subscribers {
            let Some(peer) = self.peers.at_mut(subscriber.peer) else {
                continue;
            };
            if let Some(stream) = peer.downlink.at_mut(subscriber.stream) {
                stream.downstream.handle_publisher_muted(muted, now);
            }
            self.schedule.wake_by(subscriber.peer, now);
        }
        self.reschedule(index, now);
    }

    pub(super) fn expect_layers(&mut self, key: TrackKey, max: Option<u8>, now: Instant) {
        if let Some(fanout) = self.tracks.by_key_mut(key) {
            fanout.expect_layers(max, now);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        id: PeerId,
        key: TrackKey,
        label: StreamLabel,
        wish: Wish,
        now: Instant,
    ) {
        let (Some(index), Some(track)) = (self.index_of(id), self.tracks.index(key)) else {
            return;
        };
        let (Some(peer), Some(fanout)) = (self.peers.at_mut(index), self.tracks.at_mut(track))
        else {
            return;
        };
        if peer.downlink.knows(key) {
            return;
        }
        let codec = fanout.track.setup().codec;
        let video = codec.kind() == MediaKind::Video;
        // New for each subscription and never used again: two packets never share key and index.
        let ssrc = peer.link.draw_ssrc();
        let rtx_ssrc = video.then(|| peer.link.draw_ssrc());
        let cname = label.stream_id.clone();
        let forwarding = Forwarding {
            track: key,
            codec,
            h264: fanout.section.h264(fanout.section.first),
            stereo: fanout.section.stereo,
            label,
            ssrc,
            rtx_ssrc,
        };
        match peer.subscribe(forwarding, now) {
            Ok(()) => {
                peer.downlink.wait(key, Waiting { wish, cname });
                fanout.waiting.push(index);
            }
            Err(error) => {
                tracing::debug!(peer = ?id, track = ?key, %error, "subscription refused");
                self.events.push_back(Event::SubscriptionRefused {
                    peer: id,
                    track: key,
                });
            }
        }
        self.reschedule(index, now);
    }

    pub(super) fn unsubscribe(&mut self, id: PeerId, key: TrackKey, now: Instant) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        if !peer.downlink.knows(key) {
            return;
        }
        peer.downlink.remove(key);
        peer.unsubscribe(key, now);
        self.remove_subscriber(key, index);
        self.reschedule(index, now);
    }

    pub(super) fn set_wish(&mut self, id: PeerId, key: TrackKey, wish: Wish, now: Instant) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        if let Some(waiting) = peer.downlink.waiting_mut(key) {
            waiting.wish = wish;
        }
        if let Some(stream) = peer.downlink.by_track_mut(key) {
            stream.downstream.handle_wish(wish, now);
            self.schedule.wake_by(index, now);
        }
    }
}
