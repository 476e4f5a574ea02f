//! What is due at a peer: consent, retransmitted handshakes, NACKs, key-frame requests, reports,
//! transport-wide feedback, quality, sections to ask for.

use super::Plane;
use super::tracks::Tracks;
use crate::media::counters::Counters;
use crate::media::demux::Path;
use crate::media::forward::report::Reception;
use crate::media::ingest::track::SPATIAL_LAYERS;
use crate::media::message::{Event, ScoredStream, Side};
use crate::media::pacer::Arena;
use crate::media::packet::Crossing;
use crate::media::peer::Peer;
use crate::media::transport::negotiation::offering::Offering;
use crate::media::transport::{Transport, srtp};
use crate::rtp::rtcp::{MAX_BLOCKS, ReportBlock, SenderInfo, Writer};
use std::time::Instant;

/// Feedback packets stay below the path's MTU. (LK: sfu-media §2.9)
const RTCP_BYTES: usize = 1200;

impl Plane {
    /// Does everything due at a peer, and sets its next deadline.
    pub(super) fn attend(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        for (_, connection) in peer.connections.iter_mut() {
            connection.transport.handle_timeout(&mut self.arena, now);
        }
        self.ask_client(index, now);
        self.touch_data(index);
        self.tell_changes(index, now);
        self.ask_publishers(index, now);
        self.attend_tracks(index, now);
        self.report_to_subscriber(index, now);
        self.send_feedback(index, now);
        self.score(index, now);
        self.ask_for_sections(index, now);
        self.offer(index, now);
        self.reschedule(index, now);
    }

    /// The subscriber's side: key frames its downstreams wait for.
    fn ask_publishers(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        if !peer.connections.can_send() {
            return;
        }
        for stream in peer.downlink.iter_mut() {
            let Some((spatial, urgent)) = stream.downstream.poll_key_frame_wanted(now) else {
                continue;
            };
            let Some(fanout) = self.tracks.at_mut(stream.track) else {
                continue;
            };
            if let Some(layer) = fanout.track.layer_mut(spatial) {
                layer.request_key_frame(urgent, now);
            }
            self.schedule.wake_by(fanout.publisher, now);
        }
    }

    /// The publisher's side: NACKs, key-frame requests, levels of its tracks.
    fn attend_tracks(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let rtt = peer.link.measured_rtt();
        let sender = peer.link.ssrc;
        for at in 0..peer.uplink.tracks().len() {
            let at = peer.uplink.tracks()[at];
            let Some(fanout) = self.tracks.at_mut(at) else {
                continue;
            };
            let track = &mut fanout.track;
            track.handle_timeout(now);
            for spatial in 0..SPATIAL_LAYERS as u8 {
                self.kept.lost.clear();
                track.poll_nacks(spatial, rtt, now, &mut self.kept.lost);
                let Some(layer) = track.layer_mut(spatial) else {
                    continue;
                };
                let key_frame = layer.poll_key_frame_request(now);
                let media = layer.setup().ssrc;
                if !self.kept.lost.is_empty() {
                    self.counters.feedback.nacks_out += self.kept.lost.len() as u64;
                    let lost = &self.kept.lost;
                    seal(
                        &mut peer.connections.up().transport,
                        &mut self.arena,
                        &mut self.counters,
                        |writer| {
                            writer.nack(sender, media, lost);
                        },
                    );
                }
                if key_frame {
                    self.counters.feedback.plis_out += 1;
                    seal(
                        &mut peer.connections.up().transport,
                        &mut self.arena,
                        &mut self.counters,
                        |writer| {
                            let _ = writer.picture_loss(sender, media);
                        },
                    );
                }
            }
            if !track.batch().is_empty() && !fanout.touched {
                fanout.touched = true;
                self.touched.push(at);
            }
            if let Some(loudness) = track.poll_level() {
                self.events.push_back(Event::Level {
                    track: track.key(),
                    eighths: loudness.eighths,
                    active: loudness.active,
                });
            }
        }
    }

    /// Sender reports of what it receives, each with its SDES, as many as fit one datagram.
    fn report_to_subscriber(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        if !peer.connections.can_send() {
            return;
        }
        let tracks = &self.tracks;
        let mut compound = Compound::default();
        let transport = &mut peer.connections.down().transport;
        for stream in peer.downlink.iter_mut() {
            let Some(fanout) = tracks.at(stream.track) else {
                continue;
            };
            let source = fanout.source();
            let Some(report) = stream.downstream.poll_sender_report(&source, now) else {
                continue;
            };
            let info = SenderInfo {
                ntp: report.ntp,
                rtp: report.rtp,
                packets: report.packets,
                bytes: report.octets,
            };
            if !compound.add(stream.ssrc, &info, &stream.cname) {
                copy(transport, &mut self.arena, &mut self.counters, &compound);
                compound.len = 0;
                compound.add(stream.ssrc, &info, &stream.cname);
            }
        }
        if compound.len > 0 {
            copy(transport, &mut self.arena, &mut self.counters, &compound);
        }
    }

    /// Receiver reports and transport-wide feedback for what it publishes.
    fn send_feedback(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let sender = peer.link.ssrc;
        if peer.link.poll_report(now) {
            let mut blocks = Vec::with_capacity(MAX_BLOCKS);
            let mut crossed = Crossing::default();
            for &track in peer.uplink.tracks() {
                if let Some(fanout) = self.tracks.at_mut(track) {
                    let layers = fanout.track.layers_mut();
                    for (block, crossing) in layers.filter_map(|layer| layer.report_block(now)) {
                        blocks.push(block);
                        crossed += crossing;
                    }
                }
            }
            let heard = peer.connections.up().transport.sending();
            if let Some((path, _)) = heard
                && peer.loss_up.handle_report(path, crossed, now)
            {
                self.events.push_back(heavy_loss(peer, Side::Publisher));
            }
            for some in blocks.chunks(MAX_BLOCKS) {
                seal(
                    &mut peer.connections.up().transport,
                    &mut self.arena,
                    &mut self.counters,
                    |writer| {
                        let _ = writer.receiver_report(sender, some);
                    },
                );
            }
        }
        let mut buffer = [0; RTCP_BYTES];
        while let Some(len) = peer.feedback.poll_feedback(&mut buffer, now) {
            self.counters.feedback.twcc_out += 1;
            let compound = Compound { buffer, len };
            copy(
                &mut peer.connections.up().transport,
                &mut self.arena,
                &mut self.counters,
                &compound,
            );
        }
    }

    fn score(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        if !peer.link.poll_score(now) {
            return;
        }
        for &track in peer.uplink.tracks() {
            let Some(fanout) = self.tracks.at_mut(track) else {
                continue;
            };
            if let Some(score) = fanout.poll_score(now) {
                let stream = ScoredStream::Published(fanout.track.key());
                self.events.push_back(Event::Score { stream, score });
            }
        }
        let id = peer.id;
        for stream in peer.downlink.iter_mut() {
            if let Some(score) = stream.poll_score(now) {
                let stream = ScoredStream::Subscribed {
                    peer: id,
                    track: stream.key,
                };
                self.events.push_back(Event::Score { stream, score });
            }
        }
    }

    fn ask_for_sections(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        if let Some((audio, video)) = peer.negotiation.poll_sections_needed(now) {
            self.events.push_back(Event::SectionsNeeded {
                peer: peer.id,
                audio,
                video,
            });
        }
    }
}

/// When a peer wants to be looked at next.
pub(super) fn next_deadline(peer: &Peer, tracks: &Tracks, now: Instant) -> Option<Instant> {
    let published = peer
        .uplink
        .tracks()
        .iter()
        .filter_map(|&track| tracks.at(track)?.poll_timeout());
    let received = peer
        .downlink
        .iter()
        .filter(|_| peer.connections.can_send())
        .filter_map(|stream| stream.downstream.poll_timeout(now));
    let reports = (!peer.uplink.tracks().is_empty() || !peer.downlink.is_empty())
        .then(|| peer.link.poll_timeout());
    let transports = peer.connections.iter();
    published
        .chain(received)
        .chain(reports)
        .chain(transports.filter_map(|connection| connection.transport.poll_timeout()))
        .chain(peer.feedback.poll_timeout())
        .chain(peer.negotiation.poll_timeout())
        .chain(peer.offering.as_ref().and_then(Offering::poll_timeout))
        .min()
}

/// Much is lost by this connection.
pub(super) const fn heavy_loss(peer: &Peer, side: Side) -> Event {
    Event::HeavyLoss {
        peer: peer.id,
        side,
        rtt: peer.link.measured_rtt(),
    }
}

/// A report block as the downstream wants it.
pub(super) const fn reception(block: &ReportBlock) -> Reception {
    Reception {
        fraction_lost: block.fraction_lost,
        lost: block.cumulative_lost,
        highest: block.highest,
        jitter: block.jitter,
        last_report: block.last_report,
        delay: block.delay,
    }
}

/// RTCP being put together.
struct Compound {
    buffer: [u8; RTCP_BYTES],
    len: usize,
}

impl Default for Compound {
    fn default() -> Self {
        Self {
            buffer: [0; RTCP_BYTES],
            len: 0,
        }
    }
}

impl Compound {
    /// Appends a sender report with its SDES; false if it does not fit.
    fn add(&mut self, ssrc: u32, info: &SenderInfo, cname: &str) -> bool {
        let mut writer = Writer::new(&mut self.buffer[self.len..]);
        let written = writer.sender_report(ssrc, info, &[]).is_ok()
            && writer.source_description(ssrc, cname, None).is_ok();
        if written {
            self.len += writer.len();
        }
        written
    }
}

/// Writes, seals and sends one RTCP datagram to a connected peer.
fn seal(
    transport: &mut Transport,
    arena: &mut Arena<Path>,
    counters: &mut Counters,
    write: impl FnOnce(&mut Writer<'_>),
) {
    let mut compound = Compound::default();
    let mut writer = Writer::new(&mut compound.buffer);
    write(&mut writer);
    compound.len = writer.len();
    copy(transport, arena, counters, &compound);
}

/// Seals a compound into the arena.
fn copy(
    transport: &mut Transport,
    arena: &mut Arena<Path>,
    counters: &mut Counters,
    compound: &Compound,
) {
    let Some((path, sealer)) = transport.sending_mut() else {
        counters.dropped.no_path += 1;
        return;
    };
    let Some(slot) = arena.slot(path, compound.len + srtp::OVERHEAD_MAX) else {
        counters.dropped.limit += 1;
        return;
    };
    slot[..compound.len].copy_from_slice(&compound.buffer[..compound.len]);
    let len = sealer.seal_rtcp(slot, compound.len).unwrap_or(0);
    arena.commit(len);
}
