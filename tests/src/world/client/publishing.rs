//! What a client sends: its tracks, and packets sent again.

use super::{Client, Leg, Manner, Output};
use crate::world::description::{self, Section};
use crate::world::source::{Kind, Packet, Source};
use crate::world::wire::Rtp;
use proto::livekit;
use sfu::rtp::rtcp::{self, Packet as Control, SenderInfo, Writer};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Packets kept to be sent again.
const HISTORY: usize = 1024;
/// Packets of padding after a frame, of who pads.
const PADDING: usize = 2;

/// A published track.
pub struct Track {
    /// Its sid, once it is published.
    pub sid: String,
    /// What makes it.
    pub source: Source,
    /// Key pictures asked for, by layer, and when.
    pub asked: Vec<(u8, Instant)>,
    /// Packets sent again.
    pub resent: u64,
    /// Packets sent for the first time.
    pub sent: u64,
    /// Its sender reports are so far off: for tests that break what is judged.
    pub reports_off: Duration,
    kind: Kind,
    n: u32,
    encrypted: bool,
    pads: bool,
    /// The last packets of each layer, by number; of sound as sealed.
    history: BTreeMap<(u8, u16), (Packet, Vec<u8>)>,
    order: std::collections::VecDeque<(u8, u16)>,
    /// Packets and bytes of each layer.
    totals: BTreeMap<u8, (u32, u32)>,
}

impl Track {
    pub(super) fn new(kind: Kind, n: u32, manner: &Manner, seed: u64, now: Instant) -> Self {
        let seed = seed.wrapping_mul(31).wrapping_add(u64::from(n));
        Self {
            sid: String::new(),
            source: Source::new(kind, seed, now).encrypted(manner.encrypted),
            asked: Vec::new(),
            resent: 0,
            sent: 0,
            reports_off: Duration::ZERO,
            kind,
            n,
            encrypted: manner.encrypted,
            pads: manner.pads && !kind.is_sound(),
            history: BTreeMap::new(),
            order: std::collections::VecDeque::new(),
            totals: BTreeMap::new(),
        }
    }

    pub(super) const fn poll_timeout(&self) -> Instant {
        self.source.poll_timeout()
    }

    /// The SSRC of a layer.
    #[must_use]
    pub const fn ssrc(&self, layer: u8) -> u32 {
        0x1000_0000 + (self.n << 8) + layer as u32
    }

    const fn rtx(&self, layer: u8) -> u32 {
        0x2000_0000 + (self.n << 8) + layer as u32
    }

    fn cid(&self) -> String {
        format!("track{}", self.n)
    }

    const fn payload_type(&self) -> u8 {
        match self.kind {
            Kind::Opus { .. } => description::OPUS,
            Kind::Vp8 { .. } => description::VP8,
            Kind::H264 => description::H264,
        }
    }

    pub(super) fn section(&self) -> Section {
        let rtx = (!self.pads).then(|| self.rtx(0));
        Section::Sends(self.cid(), self.kind, self.ssrc(0), rtx)
    }

    pub(super) fn announcement(&self) -> livekit::AddTrackRequest {
        let encryption = if self.encrypted {
            livekit::encryption::Type::Gcm
        } else {
            livekit::encryption::Type::None
        };
        let mut request = livekit::AddTrackRequest {
            cid: self.cid(),
            name: self.cid(),
            encryption: encryption.into(),
            ..Default::default()
        };
        if self.kind.is_sound() {
            request.set_type(livekit::TrackType::Audio);
            request.set_source(livekit::TrackSource::Microphone);
            return request;
        }
        request.set_type(livekit::TrackType::Video);
        request.set_source(livekit::TrackSource::Camera);
        let codec = if self.kind == Kind::H264 {
            "h264"
        } else {
            "vp8"
        };
        request.simulcast_codecs = vec![livekit::SimulcastCodec {
            codec: codec.into(),
            cid: self.cid(),
            ..Default::default()
        }];
        request.layers = (0..self.kind.layers())
            .map(|layer| livekit::VideoLayer {
                quality: i32::from(layer),
                width: 320 << layer,
                height: 180 << layer,
                ..Default::default()
            })
            .collect();
        let top = self.kind.layers() - 1;
        (request.width, request.height) = (320 << top, 180 << top);
        request
    }

    fn remember(&mut self, layer: u8, seq: u16, packet: Packet, sealed: Vec<u8>) {
        self.history.insert((layer, seq), (packet, sealed));
        self.order.push_back((layer, seq));
        if self.order.len() > HISTORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.history.remove(&oldest);
        }
    }
}

impl Client {
    pub(super) fn send_media(&mut self, now: Instant) {
        for n in 0..self.tracks.len() {
            let packets = self.tracks[n].source.poll(now);
            if self.tracks[n].sid.is_empty() {
                continue;
            }
            for packet in packets {
                self.send_packet(n, packet);
            }
        }
    }

    fn send_packet(&mut self, n: usize, packet: Packet) {
        let track = &mut self.tracks[n];
        let mid = n.to_string();
        let rid = description::RIDS[usize::from(packet.layer)].as_bytes();
        let level = [packet.level.unwrap_or(127)];
        let mut extensions: Vec<(u8, &[u8])> = vec![(description::MID, mid.as_bytes())];
        if track.kind.layers() > 1 {
            extensions.push((description::RID, rid));
        }
        if packet.level.is_some() {
            extensions.push((description::LEVEL, &level));
        }
        let (seq, sealed) = self.first.seal(&Rtp {
            ssrc: track.ssrc(packet.layer),
            payload_type: track.payload_type(),
            timestamp: packet.timestamp,
            marker: packet.marker,
            extensions: &extensions,
            payload: &packet.payload,
        });
        let totals = track.totals.entry(packet.layer).or_default();
        *totals = (
            totals.0.wrapping_add(1),
            totals.1.wrapping_add(packet.payload.len() as u32),
        );
        track.sent += 1;
        let padding = if track.pads && packet.marker {
            PADDING
        } else {
            0
        };
        let empty = Rtp {
            ssrc: track.ssrc(packet.layer),
            payload_type: track.payload_type(),
            timestamp: packet.timestamp,
            marker: false,
            extensions: &extensions,
            payload: &[],
        };
        let padding: Vec<_> = (0..padding).map(|_| self.first.seal(&empty).1).collect();
        track.remember(packet.layer, seq, packet, sealed.clone());
        let sealed = std::iter::once(sealed).chain(padding);
        self.out
            .extend(sealed.map(|sealed| Output::Datagram(Leg::First, sealed)));
    }

    /// What the server asks of a sender.
    pub(super) fn handle_feedback(&mut self, compound: &[u8], now: Instant) {
        for packet in rtcp::packets(compound).flatten() {
            match packet {
                Control::PictureLoss { media, .. } => self.asked_key(media, now),
                Control::Nack { media, lost, .. } => {
                    for seq in lost {
                        self.send_again(media, seq);
                    }
                }
                Control::SenderReport { ssrc, info, .. } => self.heard_report(ssrc, &info, now),
                _ => {}
            }
        }
    }

    fn layer_of(&self, ssrc: u32) -> Option<(usize, u8)> {
        let mut tracks = self.tracks.iter().enumerate();
        tracks.find_map(|(n, track)| {
            let layer = (0..track.kind.layers()).find(|layer| track.ssrc(*layer) == ssrc)?;
            Some((n, layer))
        })
    }

    fn asked_key(&mut self, ssrc: u32, now: Instant) {
        if let Some((n, layer)) = self.layer_of(ssrc) {
            self.tracks[n].asked.push((layer, now));
            self.tracks[n].source.ask_key_frame(layer, now);
        }
    }

    fn send_again(&mut self, ssrc: u32, seq: u16) {
        let Some((n, layer)) = self.layer_of(ssrc) else {
            return;
        };
        let track = &mut self.tracks[n];
        let Some((packet, sealed)) = track.history.get(&(layer, seq)).cloned() else {
            return;
        };
        track.resent += 1;
        if track.kind.is_sound() || track.pads {
            self.out.push(Output::Datagram(Leg::First, sealed));
            return;
        }
        let mid = n.to_string();
        let rid = description::RIDS[usize::from(layer)].as_bytes();
        let mut extensions: Vec<(u8, &[u8])> = vec![(description::MID, mid.as_bytes())];
        if track.kind.layers() > 1 {
            extensions.push((description::REPAIRED_RID, rid));
        }
        let mut payload = seq.to_be_bytes().to_vec();
        payload.extend(&packet.payload);
        let (_, sealed) = self.first.seal(&Rtp {
            ssrc: track.rtx(layer),
            payload_type: description::rtx_of(track.payload_type()),
            timestamp: packet.timestamp,
            marker: packet.marker,
            extensions: &extensions,
            payload: &payload,
        });
        self.out.push(Output::Datagram(Leg::First, sealed));
    }

    /// Sender reports of everything it sends.
    pub(super) fn report_sent(&mut self, now: Instant) {
        if !self.first.is_up() {
            return;
        }
        let ntp = self.ntp(now);
        let mut reports = Vec::new();
        for track in &self.tracks {
            for (layer, (packets, bytes)) in &track.totals {
                let info = SenderInfo {
                    ntp,
                    rtp: track.source.rtp_time(*layer, now + track.reports_off),
                    packets: *packets,
                    bytes: *bytes,
                };
                reports.push((track.ssrc(*layer), info));
            }
        }
        for (ssrc, info) in reports {
            let mut plain = [0; 64];
            let mut writer = Writer::new(&mut plain);
            writer.sender_report(ssrc, &info, &[]).expect("room");
            let len = writer.len();
            let sealed = self.first.seal_rtcp(&plain[..len]);
            self.out.push(Output::Datagram(Leg::First, sealed));
        }
    }

    pub(super) fn published(&mut self, published: &livekit::TrackPublishedResponse) {
        let info = published.track.as_ref();
        let track = self
            .tracks
            .iter_mut()
            .find(|track| track.cid() == published.cid);
        if let (Some(track), Some(info)) = (track, info) {
            track.sid.clone_from(&info.sid);
        }
    }

    /// Dynacast: the layers anybody wants. (LK: signalling §5.17)
    pub(super) fn demanded(&mut self, update: &livekit::SubscribedQualityUpdate) {
        let track = self
            .tracks
            .iter_mut()
            .find(|track| track.sid == update.track_sid);
        let Some(track) = track else { return };
        let codec = update.subscribed_codecs.first();
        let qualities = codec.map_or(&[][..], |codec| &codec.qualities);
        let wanted = qualities.iter().filter(|quality| quality.enabled);
        let highest = wanted.map(|quality| quality.quality as u8).max();
        track.source.send_up_to(highest);
    }
}
