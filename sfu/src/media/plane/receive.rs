//! Datagrams taken in: checks, handshakes, media, feedback.

use super::opened::Media;
use super::tracks::Fanout;
use super::{Plane, fanout};
use crate::media::demux::{Path, Sender, username};
use crate::media::message::{Event, PathReport, PathTransport, Side};
use crate::media::packet::Crossing;
use crate::media::peer::uplink::{Recognised, Stream};
use crate::media::transport::Change;
use crate::media::transport::candidates::Candidate;
use crate::media::transport::ice::stun;
use crate::media::transport::ice::stun::response::Response;
use crate::rtp::extension::Extensions;
use crate::rtp::header::Header;
use crate::rtp::rtcp::{self, Packet, ReportBlock};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Who was silent for less is sent what he missed, when he asks for it.
const GAP: Duration = Duration::from_millis(400);

impl Plane {
    pub(super) fn handle_stun(&mut self, path: Path, datagram: &[u8], now: Instant) {
        if Response::is_one(datagram) {
            return self.handle_response(path, datagram, now);
        }
        let sender = username(datagram).and_then(|ufrag| self.demux.by_ufrag(ufrag));
        let (Some(sender), Ok(request)) = (sender, stun::Request::parse(datagram)) else {
            self.counters.dropped.stun += 1;
            return;
        };
        let Some(index) = self.index_of(sender.peer) else {
            return;
        };
        let Some(connection) = self.peers.connection_mut(index, sender.side) else {
            return;
        };
        let transport = &mut connection.transport;
        if !transport.handle_check(&request, path, &mut self.arena, now) {
            self.counters.dropped.stun += 1;
            return;
        }
        self.demux.learn(&path, sender);
        self.tell_changes(index, now);
        self.stir(index);
    }

    pub(super) fn handle_dtls(&mut self, path: Path, datagram: &[u8], now: Instant) {
        let Some((index, Sender { side, .. })) = self.sender_of(&path) else {
            self.counters.dropped.unknown_address += 1;
            return;
        };
        let Some(connection) = self.peers.connection_mut(index, side) else {
            return;
        };
        let transport = &mut connection.transport;
        if !transport.handle_dtls(datagram, path, &mut self.arena, now) {
            self.counters.dropped.dtls += 1;
        }
        self.touch_data(index);
        self.tell_changes(index, now);
        self.reschedule(index, now);
    }

    /// Turns changes of a peer's transports into events.
    pub(super) fn tell_changes(&mut self, index: u32, now: Instant) {
        while let Some(peer) = self.peers.at_mut(index)
            && let Some((side, change)) = peer.connections.poll_change()
        {
            let down = peer.connections.data_side();
            let keys = peer
                .connections
                .at(side)
                .and_then(|connection| connection.transport.take_keys());
            let peer = peer.id;
            if let (Some(kept), Some(keys)) = (&mut self.witness.keys, keys) {
                kept.push((Sender { peer, side }, keys));
            }
            let event = match change {
                Change::Connected(path) => {
                    self.bridge(index, side, Duration::MAX);
                    let path = self.report(path);
                    Event::Connected { peer, side, path }
                }
                Change::Moved(path, silence) => {
                    self.bridge(index, side, silence);
                    let path = self.report(path);
                    Event::PathChanged { peer, side, path }
                }
                Change::Disconnected => Event::Disconnected { peer, side },
                Change::Failed(reason) => Event::Failed { peer, side, reason },
                Change::DataOpen if side != down => continue,
                Change::DataOpen => Event::DataOpen { peer },
                Change::Retired(ufrag) => {
                    self.demux.retire(&ufrag);
                    continue;
                }
            };
            // A path may come after a time without any, in which nobody could be told what is bound.
            let can_send = matches!(event, Event::Connected { .. } | Event::PathChanged { .. });
            self.events.push_back(event);
            if can_send {
                self.tell_bound(index);
                self.schedule.wake_by(index, now);
            }
        }
    }

    /// A client was away from where we sent to: after a while that is too much to send again, and a
    /// key frame has it see sooner than it would find that out and ask.
    fn bridge(&mut self, index: u32, side: Side, silence: Duration) {
        if let Some(peer) = self.peers.at_mut(index)
            && peer.connections.down_side() == side
            && silence >= GAP
        {
            for stream in peer.downlink.iter_mut() {
                stream.downstream.handle_gap();
            }
        }
    }

    fn report(&self, path: Path) -> PathReport {
        let transport = path.carrier.transport();
        // What TURN relays comes to the address of UDP.
        let told = match transport {
            PathTransport::Turn => PathTransport::Udp,
            direct => direct,
        };
        let like = |candidate: &&Candidate| {
            candidate.transport == told && candidate.at.is_ipv4() == path.remote.is_ipv4()
        };
        let advertised = self.setup.advertised.iter().find(like).map(|one| one.at);
        let local = match (path.local, advertised) {
            (Some(ip), Some(advertised)) => SocketAddr::new(ip, advertised.port()),
            (_, Some(advertised)) => advertised,
            (_, None) => path.remote,
        };
        PathReport {
            local,
            remote: path.remote,
            transport,
        }
    }

    /// A sealed packet was opened with the keys of a connection: it is where the packet comes from.
    fn handle_authenticated(&mut self, (index, from): (u32, Sender), path: &Path, now: Instant) {
        let connection = self.peers.connection_mut(index, from.side);
        if connection.is_some_and(|one| one.transport.handle_authenticated(*path, now)) {
            self.tell_changes(index, now);
        }
    }

    /// A packet of media was opened.
    pub(super) fn handle_rtp(&mut self, media: &Media, path: Path, packet: &[u8], now: Instant) {
        let Media {
            from,
            index,
            ref header,
            ..
        } = *media;
        self.handle_authenticated((index, from), &path, now);
        // Nothing is published by the connection we send by.
        if from.side == Side::Subscriber {
            self.counters.dropped.unknown_stream += 1;
            return;
        }
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let extensions = Extensions::parse(header, packet, peer.uplink.extensions());
        if let Some(seq) = extensions.transport_sequence {
            peer.feedback.record(seq, header.ssrc, now);
            self.stir(index);
        }
        // libwebrtc's bandwidth probe before media.
        if header.ssrc == 0 {
            return;
        }
        self.take_media(index, header, &extensions, packet, now);
    }

    /// Hands an opened packet to its track.
    fn take_media(
        &mut self,
        index: u32,
        header: &Header,
        extensions: &Extensions<'_>,
        packet: &[u8],
        now: Instant,
    ) {
        let Some(payload) = header.payload(packet) else {
            self.counters.dropped.rtp += 1;
            return;
        };
        let Some(stream) = self.stream_of(index, header, extensions) else {
            self.counters.dropped.unknown_stream += 1;
            return;
        };
        let Some(fanout) = self.tracks.at_mut(stream.track) else {
            return;
        };
        if !stream.rtx && fanout.ssrc(stream.spatial) != Some(header.ssrc) {
            self.counters.dropped.unknown_stream += 1;
            return;
        }
        let traffic = &mut self.counters.traffic;
        if stream.rtx {
            traffic.retransmitted_in += 1;
            fanout
                .track
                .handle_rtx(stream.spatial, header, payload, now);
        } else {
            traffic.packets_in += 1;
            traffic.bytes_in += packet.len() as u64;
            fanout
                .track
                .handle_packet(stream.spatial, header, extensions, payload, now);
        }
        if !fanout.touched {
            fanout.touched = true;
            self.touched.push(stream.track);
        }
        self.cursor.full |= fanout.track.is_full();
        self.stir(index);
    }

    /// The stream of an SSRC; an unknown one is recognised, and its track made if it is the first.
    fn stream_of(
        &mut self,
        index: u32,
        header: &Header,
        extensions: &Extensions<'_>,
    ) -> Option<Stream> {
        let peer = self.peers.at_mut(index)?;
        if let Some(stream) = peer.uplink.stream(header.ssrc) {
            return Some(stream);
        }
        let recognised = peer.uplink.recognise(header, extensions)?;
        let track = match self.tracks.index(recognised.key) {
            Some(track) => track,
            // Retransmissions never begin a track.
            None if recognised.rtx => return None,
            None => self.start_track(index, &recognised)?,
        };
        let stream = Stream {
            track,
            spatial: recognised.spatial,
            rtx: recognised.rtx,
        };
        let peer = self.peers.at_mut(index)?;
        if !peer.uplink.insert(header.ssrc, stream) {
            return None;
        }
        if !recognised.rtx {
            let fanout = self.tracks.at_mut(track)?;
            fanout.start_layer(recognised.spatial, header.ssrc);
        }
        Some(stream)
    }

    fn start_track(&mut self, index: u32, recognised: &Recognised) -> Option<u32> {
        let peer = self.peers.at_mut(index)?;
        let section = peer.uplink.sections().get(recognised.section)?;
        let announced = peer.link.announced(recognised.key)?;
        let settings = &self.setup.track;
        let section = (section, (recognised.payload_type, recognised.codec));
        let fanout = Fanout::new(recognised.key, index, section, announced, settings);
        self.events.push_back(Event::TrackStarted {
            track: recognised.key,
            mid: section.0.mid.clone(),
            codec: fanout.track.setup().codec,
            layers: section.0.layers.clone(),
        });
        Some(self.tracks.insert(fanout))
    }

    /// A compound of feedback and reports was opened.
    pub(super) fn handle_rtcp(
        &mut self,
        (index, from): (u32, Sender),
        path: Path,
        compound: &[u8],
        now: Instant,
    ) {
        self.handle_authenticated((index, from), &path, now);
        for packet in rtcp::packets(compound) {
            match packet {
                Ok(packet) => self.take_feedback(index, packet, now),
                Err(_) => self.counters.dropped.rtcp += 1,
            }
        }
        self.stir(index);
    }

    fn take_feedback(&mut self, index: u32, packet: Packet<'_>, now: Instant) {
        match packet {
            Packet::SenderReport { ssrc, info, blocks } => {
                let stream = self
                    .peers
                    .at(index)
                    .and_then(|peer| peer.uplink.stream(ssrc));
                if let Some(stream) = stream.filter(|stream| !stream.rtx)
                    && let Some(fanout) = self.tracks.at_mut(stream.track)
                    && fanout.ssrc(stream.spatial) == Some(ssrc)
                    && let Some(layer) = fanout.track.layer_mut(stream.spatial)
                {
                    layer.handle_sender_report(&info, now);
                }
                self.take_blocks(index, blocks, now);
            }
            Packet::ReceiverReport { blocks, .. } => self.take_blocks(index, blocks, now),
            Packet::Nack { media, lost, .. } => self.resend(index, media, lost, now),
            Packet::PictureLoss { media, .. } => {
                self.counters.feedback.plis_in += 1;
                self.take_key_frame_request(index, media, now);
            }
            Packet::FullIntraRequest { requests, .. } => {
                for (media, _) in requests {
                    self.counters.feedback.firs_in += 1;
                    self.take_key_frame_request(index, media, now);
                }
            }
            _ => {}
        }
    }

    fn take_blocks(&mut self, index: u32, blocks: impl Iterator<Item = ReportBlock>, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let mut crossed = Crossing::default();
        for block in blocks {
            let Some(stream) = peer.downlink.by_ssrc_mut(block.ssrc) else {
                continue;
            };
            if stream.ssrc != block.ssrc {
                continue; // A report on retransmissions says nothing of the stream.
            }
            let crossing = stream
                .downstream
                .handle_receiver_report(super::reports::reception(&block), now);
            crossed += crossing.unwrap_or_default();
            if let Some(rtt) = stream.downstream.rtt() {
                peer.link.handle_round_trip(rtt);
            }
        }
        let sent = peer.connections.down().transport.sending();
        if let Some((path, _)) = sent
            && peer.loss_down.handle_report(path, crossed, now)
        {
            let side = peer.connections.down_side();
            self.events
                .push_back(super::reports::heavy_loss(peer, side));
        }
    }

    fn take_key_frame_request(&mut self, index: u32, media: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        if let Some(stream) = peer.downlink.by_ssrc_mut(media) {
            stream.downstream.handle_key_frame_request();
            self.schedule.wake_by(index, now);
        }
    }

    /// Sends again what a subscriber misses, as far as the history still has it.
    fn resend(&mut self, index: u32, media: u32, lost: impl Iterator<Item = u16>, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let Some(stream) = peer.downlink.by_ssrc_mut(media) else {
            return;
        };
        let mut asked = 0;
        self.kept.resends.clear();
        let lost = lost.inspect(|_| asked += 1);
        let Some(fanout) = self.tracks.at_mut(stream.track) else {
            return;
        };
        let source = fanout.source();
        stream
            .downstream
            .handle_nack(lost, &source, &mut self.kept.resends, now);
        self.counters.feedback.nacks_in += asked;
        let Some((path, sealer)) = peer.connections.down().transport.sending() else {
            self.counters.dropped.no_path += self.kept.resends.len() as u64;
            return;
        };
        for resend in &self.kept.resends {
            let Some(payload) = fanout.framed(resend) else {
                continue;
            };
            let len = fanout::write(&mut self.arena, &path, sealer, &resend.outgoing, payload);
            if len == 0 {
                self.counters.dropped.limit += 1;
                continue;
            }
            stream.downstream.handle_resent(payload.len());
            self.counters.traffic.retransmitted_out += 1;
            self.counters.traffic.retransmitted_bytes_out += len as u64;
        }
    }
}
