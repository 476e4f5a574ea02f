//! A track: three upstreams of a publisher that sends anything, and two copies of them, one with a
//! stream for retransmissions and one without.
//!
//! What goes out must keep its numbers: no number twice but for the same packet again, none out of
//! reach, and payloads that are there.

use crate::input::Input;
use sfu::config::codecs::Codec;
use sfu::ids::{PeerId, TrackKey};
use sfu::media::forward::downstream::{Downstream, DownstreamSetup, PayloadTypes, RtxSetup};
use sfu::media::forward::feedback::Resend;
use sfu::media::forward::report::Reception;
use sfu::media::forward::rewrite::{SenderClock, Source};
use sfu::media::ingest::formats::Formats;
use sfu::media::ingest::key_frames::THROTTLE;
use sfu::media::ingest::loss::MISSING_LIMIT;
use sfu::media::ingest::upstream::{Upstream, UpstreamSetup};
use sfu::media::message::Wish;
use sfu::media::packet::{Outgoing, Packet};
use sfu::rtp::header::{FixedHeader, Header};
use sfu::rtp::rtcp::SenderInfo;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Steps of one input.
const STEPS_MAX: usize = 400;
/// Memory of one stream's history, its slots included.
const FOOTPRINT: usize = 2 << 20;
/// A NACK is answered by no more packets.
const RESENT_MAX: usize = 512;
const VIDEO: [(u8, Codec); 2] = [(96, Codec::Vp8), (102, Codec::H264)];
const AUDIO: [(u8, Codec); 2] = [(111, Codec::Opus), (63, Codec::Red)];

fn upstream(codec: Codec, spatial: u8, bits: u8) -> Upstream {
    let formats = if codec == Codec::Opus {
        Formats::new(codec, &AUDIO, &[])
    } else {
        Formats::new(codec, &VIDEO, &[(97, 96), (103, 102)])
    };
    Upstream::new(UpstreamSetup {
        ssrc: u32::from(spatial),
        codec,
        formats,
        encrypted: bits & 1 != 0,
        trailers: bits & 2 != 0,
        spatial,
        only_layer: false,
        screen_share: bits & 4 != 0,
        nack: bits & 8 == 0,
        key_frame_throttle: THROTTLE[0],
    })
}

fn downstream(codec: Codec, rtx: bool, now: Instant) -> Downstream {
    let peer = PeerId {
        worker: 0,
        slot: 0,
        generation: 0,
    };
    let setup = DownstreamSetup {
        track: TrackKey { peer, index: 0 },
        codec,
        layers: if codec == Codec::Opus { 1 } else { 7 },
        ssrc: 77,
        first_seq: 0x7FFF,
        first_time: u32::MAX - 90_000,
        payload_types: PayloadTypes {
            source_red: Some(63),
            media: [(96, 100), (111, 109)].into_iter().collect(),
            red: rtx.then_some(110),
        },
        rtx: rtx.then(|| RtxSetup {
            ssrc: 78,
            payload_types: [(100, 101)].into_iter().collect(),
            first_seq: 5,
        }),
        cuts_trailers: !rtx,
        wish: Wish::ALL,
    };
    Downstream::new(setup, now)
}

/// A copy, and what it has sent.
struct Copy {
    downstream: Downstream,
    sent: BTreeMap<u64, Outgoing>,
    resent: u64,
}

struct Track {
    now: Instant,
    layers: Vec<Upstream>,
    /// The number each layer is at, and its time.
    at: [(u16, u32); 3],
    source: Source,
    copies: [Copy; 2],
}

/// Packets, reports, wishes and time.
pub(crate) fn track(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let bits = input.byte();
    let codec = [Codec::Vp8, Codec::Opus, Codec::H264][usize::from(bits >> 4) % 3];
    let now = crate::origin();
    let count = if codec == Codec::Opus { 1 } else { 3 };
    let copy = |rtx: bool| Copy {
        downstream: downstream(codec, rtx, now),
        sent: BTreeMap::new(),
        resent: 0,
    };
    let mut track = Track {
        now,
        layers: (0..count)
            .map(|spatial| upstream(codec, spatial, bits))
            .collect(),
        at: [(65_000, u32::MAX - 1000); 3],
        source: Source {
            alive: if count == 1 { 1 } else { 7 },
            ..Source::default()
        },
        copies: [copy(true), copy(false)],
    };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        track.step(&mut input);
    }
}

impl Track {
    fn step(&mut self, input: &mut Input<'_>) {
        let act = input.byte();
        let spatial = usize::from(act >> 4) % self.layers.len();
        match act % 16 {
            0..=7 => self.packet(act, spatial, input),
            8 => self.now += Duration::from_millis(u64::from(input.byte()) * 4),
            9 => self.report(spatial, input),
            10 => self.nack(act, input),
            11 => self.wish(act, input),
            12 => self.copies[spatial % 2]
                .downstream
                .handle_key_frame_request(),
            13 => self.mute(act),
            14 => self.reception(act, input),
            _ => self.alive(act, input),
        }
        self.poll();
    }

    fn packet(&mut self, act: u8, spatial: usize, input: &mut Input<'_>) {
        let bits = input.byte();
        let (seq, time) = &mut self.at[spatial];
        let ahead = match bits & 7 {
            0..=4 => 1,
            5 => u16::from(input.byte()),
            6 => u16::from(input.byte()).wrapping_neg(),
            _ => input.short(),
        };
        *seq = seq.wrapping_add(ahead);
        if bits & 8 != 0 {
            *time = time.wrapping_add(3000);
        } else if bits & 16 != 0 {
            *time = time.wrapping_add(input.word());
        }
        let types = [96, 111, 63, 102];
        let main = if self.layers.len() == 1 { 111 } else { 96 };
        let repaired = act % 8 == 7;
        let payload_type = match (repaired, bits >> 5) {
            (true, _) => 97,
            (false, 0..=5) => main,
            (false, other) => types[usize::from(other) % 4],
        };
        let fixed = FixedHeader {
            marker: bits & 0x40 != 0,
            payload_type,
            sequence: *seq,
            timestamp: *time,
            ssrc: 1,
        };
        let header = Header::parse(&fixed.to_bytes()).expect("own header");
        let payload = input.slice();
        let layer = &mut self.layers[spatial];
        let packet = if repaired {
            layer.handle_rtx(&header, payload, self.now)
        } else {
            layer.handle_packet(&header, payload, self.now)
        };
        assert!(layer.footprint() <= FOOTPRINT);
        if let Some(packet) = packet {
            self.forward(spatial, &packet);
        }
    }

    fn forward(&mut self, spatial: usize, packet: &Packet) {
        for copy in &mut self.copies {
            let Some(outgoing) = copy.downstream.forward(packet, &self.source, self.now) else {
                continue;
            };
            assert_eq!(outgoing.ssrc, 77);
            if let Some((newest, _)) = copy.sent.last_key_value() {
                assert!(outgoing.seq.0.abs_diff(*newest) < 1 << 15, "out of reach");
            }
            let twin = copy.sent.insert(outgoing.seq.0, outgoing);
            assert!(
                twin.is_none(),
                "one number for two packets: {twin:?} {outgoing:?}"
            );
            payload(&mut self.layers[spatial], packet, &outgoing, true);
        }
    }

    fn report(&mut self, spatial: usize, input: &mut Input<'_>) {
        let info = SenderInfo {
            ntp: u64::from(input.word()) << 32 | u64::from(input.short()),
            rtp: self.at[spatial].1.wrapping_add(input.word() >> 16),
            packets: 1,
            bytes: 1,
        };
        let layer = &mut self.layers[spatial];
        if layer.handle_sender_report(&info, self.now)
            && let Some(clock) = layer.clock()
        {
            self.source.clocks[spatial] = Some(SenderClock {
                ntp: clock.ntp,
                rtp: clock.rtp,
                arrival: clock.arrival,
            });
        }
        let _ = layer.report_block(self.now);
    }

    fn nack(&mut self, act: u8, input: &mut Input<'_>) {
        let copy = &mut self.copies[usize::from(act >> 4) % 2];
        let first = input.short();
        let count = u16::from(input.byte()) * 8;
        let seqs = (0..count).map(|step| first.wrapping_add(step));
        let mut resends = Vec::new();
        let downstream = &mut copy.downstream;
        downstream.handle_nack(seqs, &self.source, &mut resends, self.now);
        assert!(resends.len() <= RESENT_MAX);
        for resend in resends {
            self.resend(usize::from(act >> 4) % 2, &resend);
        }
    }

    fn resend(&mut self, which: usize, resend: &Resend) {
        let copy = &mut self.copies[which];
        let outgoing = resend.outgoing;
        if outgoing.ssrc == 77 {
            assert_eq!(
                copy.sent.get(&outgoing.seq.0),
                Some(&outgoing),
                "not as it was"
            );
        } else {
            assert_eq!(outgoing.seq.0, 5 + copy.resent, "a number of RTX twice");
            copy.resent += 1;
        }
        let layer = &mut self.layers[usize::from(resend.spatial)];
        if let Some(packet) = layer.find(resend.source) {
            payload(layer, &packet, &outgoing, false);
        }
    }

    fn wish(&mut self, act: u8, input: &mut Input<'_>) {
        let bits = input.byte();
        let wish = Wish {
            enabled: bits & 1 == 0,
            spatial: bits >> 1 & 3,
            temporal: bits >> 3 & 3,
        };
        let copy = &mut self.copies[usize::from(act >> 4) % 2];
        copy.downstream.handle_wish(wish, self.now);
    }

    fn mute(&mut self, act: u8) {
        let muted = act & 0x10 != 0;
        self.source.muted = muted;
        for layer in &mut self.layers {
            layer.set_muted(muted);
        }
        for copy in &mut self.copies {
            copy.downstream.handle_publisher_muted(muted, self.now);
        }
    }

    fn reception(&mut self, act: u8, input: &mut Input<'_>) {
        let reception = Reception {
            fraction_lost: input.byte(),
            lost: input.word() as i32 >> 8,
            highest: input.word(),
            jitter: input.word(),
            last_report: input.word(),
            delay: input.word(),
        };
        let copy = &mut self.copies[usize::from(act >> 4) % 2];
        copy.downstream.handle_receiver_report(reception, self.now);
    }

    fn alive(&mut self, act: u8, input: &mut Input<'_>) {
        let alive = input.byte() & if self.layers.len() == 1 { 1 } else { 7 };
        self.source.alive = alive;
        if act & 0x80 != 0 {
            for copy in &mut self.copies {
                copy.downstream.handle_layers(alive);
            }
        }
    }

    fn poll(&mut self) {
        let mut lost = Vec::new();
        for layer in &mut self.layers {
            // In the plane's order: what is given up asks for a key frame.
            lost.clear();
            layer.poll_nacks(None, self.now, &mut lost);
            assert!(lost.len() <= MISSING_LIMIT);
            let _ = layer.poll_key_frame_request(self.now);
            assert!(
                layer.poll_timeout().is_none_or(|at| at > self.now),
                "due again at once"
            );
        }
        for copy in &mut self.copies {
            let _ = copy.downstream.poll_key_frame_wanted(self.now);
            let _ = copy.downstream.poll_sender_report(&self.source, self.now);
            let _ = copy.downstream.take_window(self.now);
        }
    }
}

/// What is put in front and left out must fit the payload, which must be there if it just came.
fn payload(layer: &mut Upstream, packet: &Packet, outgoing: &Outgoing, fresh: bool) {
    let len = usize::from(packet.span.len);
    let skip = usize::from(outgoing.skip);
    assert!(skip <= len && usize::from(packet.trailer) <= len);
    let head = outgoing.head.as_slice().len();
    let cut = if outgoing.cut {
        usize::from(packet.trailer)
    } else {
        0
    };
    let framed = layer.framed(packet, &outgoing.head, (outgoing.skip, outgoing.cut));
    match framed {
        Some(framed) => assert_eq!(framed.len() + skip + cut, len + head),
        None => assert!(!fresh || cut + skip > len, "the payload is gone"),
    }
}
