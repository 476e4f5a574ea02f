//! What a client makes of the streams it gets, and what it tells the server of them.

use super::{Client, Leg, Output};
use crate::world::description::{self, Sending};
use crate::world::judge::{Codec, Judge};
use proto::livekit;
use sfu::rtp::header::Header;
use sfu::rtp::rtcp::{ReportBlock, SenderInfo, Writer};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Jitter buffers are looked at so often.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(10);
/// Reports are sent so often.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Of the receiver's own SSRC in feedback.
const OWN_SSRC: u32 = 0x7777_7777;
/// Lost packets in one NACK.
const NACK_MAX: usize = 200;

/// A stream the server sends.
pub struct Stream {
    /// The track's sid.
    pub track: String,
    /// Its section.
    pub mid: String,
    /// What is made of it.
    pub judge: Judge,
    /// When the first packet came.
    pub since: Option<Instant>,
    codecs: BTreeMap<u8, String>,
    ready: bool,
    reception: Reception,
}

impl Stream {
    /// Is VP8 in a packet of it? Of a retransmission only what came before can tell.
    pub(super) fn is_vp8(&self, payload_type: u8, repeats: bool) -> bool {
        if repeats {
            return self.judge.codec() == Codec::Vp8;
        }
        self.codecs
            .get(&payload_type)
            .is_some_and(|name| name == "vp8")
    }

    /// Ticks of its RTP clock in a second.
    pub(super) fn clock_rate(&self) -> u32 {
        let sound = self.codecs.values().any(|name| name == "opus");
        if sound { 48_000 } else { 90_000 }
    }
}

/// The counts of RFC 3550 §A.3.
#[derive(Debug, Clone, Copy, Default)]
struct Reception {
    base: Option<u32>,
    highest: u32,
    received: u32,
    expected_before: u32,
    received_before: u32,
    last_report: Option<(u32, Instant)>,
}

impl Reception {
    fn count(&mut self, seq: u16) {
        match self.base {
            None => {
                self.base = Some(u32::from(seq));
                self.highest = u32::from(seq);
            }
            Some(_) => {
                let ahead = seq.wrapping_sub(self.highest as u16) as i16;
                if ahead > 0 {
                    self.highest = self.highest.wrapping_add(ahead.unsigned_abs().into());
                }
            }
        }
        self.received += 1;
    }

    fn block(&mut self, ssrc: u32, now: Instant) -> Option<ReportBlock> {
        let expected = self.highest.wrapping_sub(self.base?) + 1;
        let lately = expected - self.expected_before;
        let got = self.received - self.received_before;
        (self.expected_before, self.received_before) = (expected, self.received);
        let lost = lately.saturating_sub(got);
        let fraction = (lost * 256).checked_div(lately).unwrap_or(0).min(255);
        let (last_report, delay) = self.last_report.map_or((0, 0), |(ntp, at)| {
            let since = now.saturating_duration_since(at);
            (ntp, (since.as_secs_f64() * 65_536.0) as u32)
        });
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: expected.saturating_sub(self.received) as i32,
            highest: self.highest,
            jitter: 0,
            last_report,
            delay,
        })
    }
}

impl Client {
    /// What the server's description says it sends.
    pub(super) fn learn_streams(&mut self, told: &livekit::SessionDescription, now: Instant) {
        let sendings = description::sendings(&told.sdp);
        let sends = |ssrc: &u32| sendings.iter().any(|sending| sending.ssrc == *ssrc);
        self.streams.retain(|ssrc, _| sends(ssrc));
        for sending in sendings {
            let Some(track) = told.mid_to_track_id.get(&sending.mid) else {
                continue;
            };
            self.learn_stream(sending, track, now);
        }
    }

    fn learn_stream(&mut self, sending: Sending, track: &str, _now: Instant) {
        if let Some(rtx) = sending.rtx {
            self.repairs.insert(rtx, sending.ssrc);
        }
        let known = self.streams.get(&sending.ssrc);
        if known.is_some_and(|stream| stream.track == track) {
            return;
        }
        let stream = Stream {
            track: track.to_owned(),
            mid: sending.mid,
            judge: Judge::new(Codec::Opus),
            since: None,
            codecs: sending.codecs,
            ready: false,
            reception: Reception::default(),
        };
        self.streams.insert(sending.ssrc, stream);
    }

    pub(super) fn handle_media(&mut self, header: &Header, payload: &[u8], now: Instant) {
        if let Some(repaired) = self.repairs.get(&header.ssrc) {
            let (Some(stream), Some((seq, rest))) = (
                self.streams.get_mut(repaired),
                payload.split_first_chunk::<2>(),
            ) else {
                return;
            };
            let name = (u16::from_be_bytes(*seq), header.timestamp);
            stream.judge.handle(name, header.marker, rest, now);
            return;
        }
        let Some(stream) = self.streams.get_mut(&header.ssrc) else {
            return;
        };
        if !stream.ready {
            let codec = match stream.codecs.get(&header.payload_type).map(String::as_str) {
                Some("vp8") => Codec::Vp8,
                Some("h264") => Codec::H264,
                _ => Codec::Opus,
            };
            stream.judge = Judge::new(codec);
            stream.ready = true;
            stream.since = Some(now);
        }
        stream.reception.count(header.sequence);
        let name = (header.sequence, header.timestamp);
        stream.judge.handle(name, header.marker, payload, now);
    }

    pub(super) fn heard_report(&mut self, ssrc: u32, info: &SenderInfo, now: Instant) {
        if let Some(stream) = self.streams.get_mut(&ssrc) {
            let ntp = sfu::rtp::rtcp::compact_ntp(info.ntp);
            stream.reception.last_report = Some((ntp, now));
        }
    }

    /// NACKs and PLIs that are due.
    pub(super) fn poll_streams(&mut self, now: Instant) {
        let mut compound = Vec::new();
        for (ssrc, stream) in &mut self.streams {
            let mut lost = stream.judge.poll(now);
            lost.truncate(NACK_MAX);
            let mut plain = [0; 1200];
            let mut writer = Writer::new(&mut plain);
            if !lost.is_empty() {
                writer.nack(OWN_SSRC, *ssrc, &lost);
            }
            if stream.judge.wants_key_frame(now) {
                writer.picture_loss(OWN_SSRC, *ssrc).expect("room");
            }
            let len = writer.len();
            if len > 0 {
                compound.push(plain[..len].to_vec());
            }
        }
        for plain in compound {
            self.send_control(&plain);
        }
    }

    pub(super) fn report(&mut self, now: Instant) {
        self.report_sent(now);
        let mut blocks = Vec::new();
        for (ssrc, stream) in &mut self.streams {
            blocks.extend(stream.reception.block(*ssrc, now));
        }
        for some in blocks.chunks(20) {
            let mut plain = [0; 1200];
            let mut writer = Writer::new(&mut plain);
            writer.receiver_report(OWN_SSRC, some).expect("room");
            let len = writer.len();
            self.send_control(&plain[..len]);
        }
    }

    fn send_control(&mut self, plain: &[u8]) {
        let leg = if self.second.is_some() {
            Leg::Second
        } else {
            Leg::First
        };
        let connection = self.receiving();
        if connection.is_up() {
            let sealed = connection.seal_rtcp(plain);
            self.out.push(Output::Datagram(leg, sealed));
        }
    }

    /// The time as NTP has it.
    pub(super) fn ntp(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        let us = self.unix_ms * 1000 + since.as_micros() as u64;
        let seconds = us / 1_000_000 + 2_208_988_800;
        (seconds << 32) | (((us % 1_000_000) << 32) / 1_000_000)
    }
}
