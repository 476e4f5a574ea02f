//! From a batch of received packets to sealed packets in the arena: the inner loop.
//!
//! Subscriber by subscriber, so that keys and rewriting state of one stay hot for the whole batch
//! and its packets lie side by side for one send. No lock, no allocation.

use super::{Plane, Progress};
use crate::media::counters::Counters;
use crate::media::demux::Path;
use crate::media::forward::rewrite::Source;
use crate::media::ingest::track::SPATIAL_LAYERS;
use crate::media::ingest::upstream::Upstream;
use crate::media::pacer::Arena;
use crate::media::packet::{Outgoing, Packet};
use crate::media::peer::Peer;
use crate::media::transport::srtp::{self, Sealer};
use crate::rtp::header::{FIXED_LEN, FixedHeader};
use std::cmp::Ordering;
use std::time::Instant;

/// Room one outgoing packet may take: what comes in fits a datagram of 1,500 bytes; a new
/// descriptor and the tag come on top.
pub(super) const PACKET_ROOM: usize = 1600;

/// Where an interrupted fan-out goes on.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Index into the list of touched tracks.
    track: usize,
    /// Index into its subscribers.
    subscriber: usize,
    /// The batch of a touched track is full.
    pub(super) full: bool,
}

impl Cursor {
    /// A track left the list of touched ones.
    pub(super) fn handle_track_removed(&mut self, at: usize) {
        match at.cmp(&self.track) {
            Ordering::Less => self.track -= 1,
            Ordering::Equal => self.subscriber = 0,
            Ordering::Greater => {}
        }
    }

    /// A subscriber left the list of the touched track at `track`.
    pub(super) fn handle_subscriber_removed(&mut self, track: usize, at: usize) {
        if track == self.track && at < self.subscriber {
            self.subscriber -= 1;
        }
    }
}

impl Plane {
    /// Forwards the batches received since the last call into the arena. After [`Progress::More`]
    /// the arena is to be sent and the call repeated.
    pub fn fan_out(&mut self, now: Instant) -> Progress {
        while let Some(&track) = self.touched.get(self.cursor.track) {
            if self.fan_out_track(track, now) == Progress::More {
                return Progress::More;
            }
            self.cursor.track += 1;
            self.cursor.subscriber = 0;
        }
        self.touched.clear();
        self.cursor = Cursor::default();
        while let Some(index) = self.stirred.pop() {
            self.reschedule(index, now);
        }
        self.flush_data(now)
    }

    fn fan_out_track(&mut self, track: u32, now: Instant) -> Progress {
        let Some(fanout) = self.tracks.at_mut(track) else {
            return Progress::Done;
        };
        let needed = fanout.track.batch().len();
        let source = fanout.source();
        while let Some(subscriber) = fanout.subscribers.get(self.cursor.subscriber) {
            if !self.arena.has_room(needed, PACKET_ROOM) {
                return Progress::More;
            }
            self.cursor.subscriber += 1;
            if let Some(peer) = self.peers.at_mut(subscriber.peer) {
                let out = Out {
                    arena: &mut self.arena,
                    counters: &mut self.counters,
                };
                let batch = fanout.track.batch_and_layers();
                forward(peer, subscriber.stream, (batch, &source), out, now);
            }
        }
        fanout.track.clear_batch();
        self.counters.dropped.media += fanout.track.take_useless();
        fanout.touched = false;
        if fanout.track.poll_layers_changed() {
            // Selections may change, and with them the key frames to ask for.
            let peers = fanout.subscribers.iter().map(|subscriber| subscriber.peer);
            self.stirred.extend(peers);
        }
        Progress::Done
    }
}

/// Where packets go.
pub(super) struct Out<'a> {
    pub(super) arena: &'a mut Arena<Path>,
    pub(super) counters: &'a mut Counters,
}

/// Packets, and the layers that hold their payloads.
type Batch<'a> = (&'a [Packet], &'a mut [Option<Upstream>; SPATIAL_LAYERS]);

/// One batch to one subscriber.
fn forward(
    peer: &mut Peer,
    stream: u32,
    ((packets, layers), source): (Batch<'_>, &Source),
    out: Out<'_>,
    now: Instant,
) {
    let Some(stream) = peer.downlink.at_mut(stream) else {
        return;
    };
    let Some((path, sealer)) = peer.connections.down().transport.sending() else {
        out.counters.dropped.no_path += stream.downstream.flowing(packets, source);
        return;
    };
    for packet in packets {
        // By reference: a copy would wait for the bytes just written to leave the store buffer.
        let Some(outgoing) = &stream.downstream.forward(packet, source, now) else {
            continue;
        };
        let layer = layers.get_mut(usize::from(packet.spatial));
        let payload = layer
            .and_then(Option::as_mut)
            .and_then(|layer| layer.framed(packet, &outgoing.head, (outgoing.skip, outgoing.cut)));
        let Some(payload) = payload else {
            out.counters.dropped.limit += 1;
            continue;
        };
        let len = write(out.arena, &path, sealer, outgoing, payload);
        if len == 0 {
            out.counters.dropped.limit += 1;
            continue;
        }
        out.counters.traffic.packets_out += 1;
        out.counters.traffic.bytes_out += len as u64;
    }
}

/// Seals one packet from the history into the arena; its length, or zero if it could not be.
/// `payload` begins with the packet's head.
#[inline]
pub(super) fn write(
    arena: &mut Arena<Path>,
    path: &Path,
    sealer: &Sealer,
    outgoing: &Outgoing,
    payload: &[u8],
) -> usize {
    let header = FixedHeader {
        marker: outgoing.marker,
        payload_type: outgoing.payload_type,
        sequence: outgoing.seq.wire(),
        timestamp: outgoing.time,
        ssrc: outgoing.ssrc,
    };
    let header = header.to_bytes();
    let room = FIXED_LEN + payload.len() + srtp::OVERHEAD_MAX;
    arena.put(path, room, |slot| {
        sealer
            .seal_rtp_from(&header, payload, outgoing.seq, outgoing.ssrc, slot)
            .unwrap_or(0)
    })
}
