//! A publisher of three VP8 layers with three temporal layers each.

use crate::media::forward::rewrite::SenderClock;
use crate::media::packet::{CodecInfo, Packet, Span};
use crate::rtp::vp8::{Descriptor, PictureId, Temporal};
use crate::units::{ExtSeq, RtpTime};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::time::Instant;

/// Temporal layers of four frames, and which of them depend on the base layer only.
const PATTERN: [(u8, bool); 8] = [
    (0, false),
    (2, true),
    (1, true),
    (2, false),
    (0, false),
    (2, false),
    (1, false),
    (2, false),
];

/// A packet on its way, with what a test wants to know of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub(super) packet: Packet,
    pub(super) generation: u32,
    pub(super) frame: u64,
    pub(super) temporal: u8,
    /// When its frame was taken, NTP.
    pub(super) ntp: u64,
}

impl Delivery {
    pub(super) fn stream(&self) -> (u8, u32) {
        (self.packet.spatial, self.generation)
    }
}

struct Layer {
    generation: u32,
    seq: u64,
    time_base: u64,
    picture: u16,
    wide: bool,
    tl0: u8,
    key_index: u8,
    phase: usize,
    key_frame: bool,
    arrived: BTreeSet<u64>,
}

impl Layer {
    fn new(generation: u32, rng: &mut StdRng) -> Self {
        Self {
            generation,
            seq: rng.random_range(0..65_536),
            time_base: rng.random_range(0..1 << 32),
            picture: rng.random_range(0..0x8000),
            wide: rng.random(),
            tl0: rng.random(),
            key_index: rng.random_range(0..32),
            phase: 0,
            key_frame: true,
            arrived: BTreeSet::new(),
        }
    }

    /// The descriptor of the next frame.
    fn next_frame(&mut self) -> Descriptor {
        if self.key_frame {
            self.phase = 0;
            self.key_index = (self.key_index + 1) % 32;
        }
        let (layer, sync) = PATTERN[self.phase];
        self.phase = (self.phase + 1) % PATTERN.len();
        self.picture = self.picture.wrapping_add(1);
        self.tl0 = self.tl0.wrapping_add(u8::from(layer == 0));
        let bits = if self.wide { 0x7fff } else { 0x7f };
        Descriptor {
            len: if self.wide { 6 } else { 5 },
            picture_id: Some(PictureId {
                value: self.picture & bits,
                wide: self.wide,
            }),
            tl0_index: Some(self.tl0),
            temporal: Some(Temporal { layer, sync }),
            key_index: Some(self.key_index),
            ..Descriptor::default()
        }
    }
}

pub(super) struct Publisher {
    layers: [Layer; 3],
    start: Option<Instant>,
    frame: u64,
    resends: Vec<Delivery>,
}

impl Publisher {
    pub(super) fn new(rng: &mut StdRng) -> Self {
        Self {
            layers: std::array::from_fn(|_| Layer::new(0, rng)),
            start: None,
            frame: 0,
            resends: Vec::new(),
        }
    }

    pub(super) fn ask_key_frame(&mut self, layer: u8) {
        self.layers[usize::from(layer)].key_frame = true;
    }

    /// A new SSRC: nothing goes on from before.
    pub(super) fn restart(&mut self, layer: usize, rng: &mut StdRng) {
        self.layers[layer] = Layer::new(self.layers[layer].generation + 1, rng);
    }

    fn micros(&mut self, now: Instant) -> u64 {
        let start = *self.start.get_or_insert(now);
        (now - start).as_micros() as u64
    }

    fn ntp(micros: u64) -> u64 {
        0x1234_0000_0000 + ((u128::from(micros) << 32) / 1_000_000) as u64
    }

    pub(super) fn report(&mut self, layer: usize, now: Instant) -> SenderClock {
        let micros = self.micros(now);
        SenderClock {
            ntp: Self::ntp(micros),
            rtp: RtpTime(self.layers[layer].time_base + micros * 9 / 100),
            arrival: now,
        }
    }

    /// The packets of one frame of each layer.
    pub(super) fn frames(&mut self, now: Instant, rng: &mut StdRng) -> Vec<Delivery> {
        let micros = self.micros(now);
        let mut out = Vec::new();
        for (spatial, layer) in self.layers.iter_mut().enumerate() {
            self.frame += 1;
            let descriptor = layer.next_frame();
            let packets = rng.random_range(1..5);
            for index in 0..packets {
                let first = index == 0;
                out.push(Delivery {
                    packet: Packet {
                        seq: ExtSeq(layer.seq),
                        time: RtpTime(layer.time_base + micros * 9 / 100),
                        arrival: now,
                        payload_type: 96,
                        marker: index + 1 == packets,
                        spatial: spatial as u8,
                        key_frame: first && layer.key_frame,
                        late: false,
                        codec: CodecInfo::Vp8(Descriptor {
                            frame_start: first,
                            start_and_partition: if first { 0x10 } else { 0 },
                            key_frame: first && layer.key_frame,
                            ..descriptor
                        }),
                        trailer: 0,
                        span: Span {
                            start: 0,
                            len: 1000,
                        },
                    },
                    generation: layer.generation,
                    frame: self.frame,
                    temporal: descriptor.temporal.map_or(0, |t| t.layer),
                    ntp: Self::ntp(micros),
                });
                layer.seq += 1;
            }
            layer.key_frame = false;
        }
        out
    }

    /// A lost packet will be sent again.
    pub(super) fn resend(&mut self, delivery: Delivery) {
        if self.resends.len() < 20 {
            self.resends.push(delivery);
        }
    }

    pub(super) fn take_resends(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.resends)
    }

    /// Marks a packet as ingest does when it comes.
    pub(super) fn arrive(&mut self, delivery: &mut Delivery, now: Instant) {
        let layer = &mut self.layers[usize::from(delivery.packet.spatial)];
        if layer.generation == delivery.generation {
            let seq = delivery.packet.seq.0;
            delivery.packet.late = layer.arrived.last().is_some_and(|last| seq <= *last);
            delivery.packet.arrival = now;
            layer.arrived.insert(seq);
        }
    }

    /// Packets between two of one stream that have not arrived.
    pub(super) fn missing(&self, a: &Delivery, b: &Delivery) -> u64 {
        let layer = &self.layers[usize::from(a.packet.spatial)];
        let (first, last) = (a.packet.seq.0 + 1, b.packet.seq.0);
        let between = layer.arrived.range(first..last).count() as u64;
        last - first - between
    }
}
