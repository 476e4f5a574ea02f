//! What the tests share: recorded and hand-made offers, and a check every answer must pass.
//!
//! The recorded ones are of Chromium 156, Firefox 153 and PyPI `livekit` (the Rust SDK's libwebrtc);
//! Chromium and Firefox accepted our answers to them. Their candidates are cut out.

mod codecs;
mod demand;
mod flow;
mod fuzz;
mod refusal;
mod table;

use super::*;
use crate::config::codecs::{Codec, h264};
use crate::ids::{MediaKind, PeerId};
use crate::media::message::StreamLabel;
use crate::media::transport::sdp::Direction;
use std::time::Duration;

const CHROMIUM_JOIN: &str = include_str!("fixtures/chromium-join.sdp");
const CHROMIUM_MICROPHONE: &str = include_str!("fixtures/chromium-microphone.sdp");
const CHROMIUM_FOURTH_VIDEO: &str = include_str!("fixtures/chromium-fourth-video.sdp");
const CHROMIUM_STOPPED: &str = include_str!("fixtures/chromium-stopped.sdp");
const CHROMIUM_RESTART: &str = include_str!("fixtures/chromium-restart-recycled.sdp");
const FIREFOX_JOIN: &str = include_str!("fixtures/firefox-join.sdp");
const FIREFOX_CAMERA: &str = include_str!("fixtures/firefox-camera.sdp");
const RUST_JOIN: &str = include_str!("fixtures/rust-join.sdp");

/// The track ids of Chromium's microphone and camera.
const MICROPHONE: &str = "c36974a0-cb09-4832-8461-291cf49bb116";
const CAMERA: &str = "39cef0b6-47b1-427c-8050-52a57806ac3b";

/// A negotiation with a clock.
struct World {
    negotiation: Negotiation,
    now: Instant,
    next_ssrc: u32,
}

fn world() -> World {
    world_with(&[Codec::Vp8, Codec::Opus, Codec::Red], false)
}

fn world_with(codecs: &[Codec], one_codec_per_section: bool) -> World {
    let setup = PeerSetup {
        publish: codecs.to_vec(),
        subscribe: codecs.to_vec(),
        h264: h264::Parameters::DEFAULT.to_vec(),
        reads_trailers: false,
        one_codec_per_section,
        outside_only: false,
        subscriber: None,
    };
    World {
        negotiation: Negotiation::new(&setup),
        #[allow(
            clippy::disallowed_methods,
            reason = "a test needs some instant to count from"
        )]
        now: Instant::now(),
        next_ssrc: 1000,
    }
}

impl World {
    fn offer(&mut self, sdp: &str) -> Answered {
        let answered = self.try_offer(sdp);
        let answered = answered
            .map_err(|error| error.to_string())
            .expect("answered");
        check_answer(sdp, &answered);
        answered
    }

    fn try_offer(&mut self, sdp: &str) -> Result<Answered, OfferError> {
        self.wait(1000);
        self.negotiation.handle_offer(sdp, &local(), self.now)
    }

    fn subscribe(&mut self, index: u32, codec: Codec) -> Result<(), TrackError> {
        self.next_ssrc += 2;
        let forwarding = Forwarding {
            track: remote_track(index),
            codec,
            h264: None,
            stereo: false,
            label: StreamLabel {
                stream_id: format!("PA_other|TR_{index}"),
                track_id: format!("TR_{index}"),
            },
            ssrc: self.next_ssrc,
            rtx_ssrc: (codec == Codec::Vp8).then_some(self.next_ssrc + 1),
        };
        self.negotiation.subscribe(forwarding, self.now)
    }

    fn unsubscribe(&mut self, index: u32) {
        self.negotiation.unsubscribe(remote_track(index), self.now);
    }

    fn publish(&mut self, index: u32, spec: TrackSpec) -> Option<Receiving> {
        let receiving = self.negotiation.publish(own_track(index), spec, self.now);
        receiving.expect("room for it")
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn needed(&mut self) -> Option<(u32, u32)> {
        self.wait(200);
        self.negotiation.poll_sections_needed(self.now)
    }
}

fn local() -> Local {
    Local {
        ufrag: "ourufrag".to_owned(),
        pwd: "ourpasswordourpassword".to_owned(),
        fingerprint: "sha-256 0A:0B".to_owned(),
        candidates: vec!["candidate:1 1 udp 2130706431 192.0.2.1 7882 typ host".to_owned()],
        session_id: 42,
    }
}

fn peer(slot: u32) -> PeerId {
    PeerId {
        worker: 0,
        slot,
        generation: 0,
    }
}

fn own_track(index: u32) -> TrackKey {
    TrackKey {
        peer: peer(0),
        index,
    }
}

fn remote_track(index: u32) -> TrackKey {
    TrackKey {
        peer: peer(1),
        index,
    }
}

fn spec(kind: MediaKind, cid: &str) -> TrackSpec {
    TrackSpec {
        kind,
        cids: vec![cid.to_owned()],
        codec: Some(match kind {
            MediaKind::Audio => Codec::Opus,
            MediaKind::Video => Codec::Vp8,
        }),
        red: false,
        dtx: false,
        stereo: false,
        screen_share: false,
        encrypted: false,
        trailers: false,
        muted: false,
        layers: Vec::new(),
    }
}

/// A hand-made offer: `(mid, kind, rest)`, `rest` being attribute lines without `a=`; `0` first
/// stops the section.
fn offer(sections: &[(&str, &str, &str)]) -> String {
    let mids: Vec<&str> = sections.iter().map(|(mid, ..)| *mid).collect();
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
         a=fingerprint:sha-256 01:02\r\na=setup:actpass\r\n\
         a=ice-ufrag:theirufrag\r\na=ice-pwd:theirpasswordtheirpassword\r\n",
        mids.join(" "),
    );
    for (mid, kind, rest) in sections {
        let mut lines: Vec<&str> = rest.split_whitespace().collect();
        let stopped = lines.first() == Some(&"0");
        lines.retain(|line| *line != "0");
        let port = if stopped { 0 } else { 9 };
        let (formats, codecs) = match *kind {
            "audio" => (
                "111",
                "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n",
            ),
            "h264" => ("102", "a=rtpmap:102 H264/90000\r\n"),
            _ => (
                "96 97",
                "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n",
            ),
        };
        let media = if *kind == "h264" { "video" } else { kind };
        sdp += &format!("m={media} {port} UDP/TLS/RTP/SAVPF {formats}\r\na=mid:{mid}\r\n");
        sdp += "a=rtcp-mux\r\n";
        sdp += codecs;
        for line in lines {
            // A blank inside a value is written as `_`.
            sdp += &format!("a={}\r\n", line.replace('_', " "));
        }
    }
    sdp
}

fn sections(sdp: &str) -> Vec<Section> {
    RemoteDescription::parse(sdp).expect("readable").sections
}

fn directions(answered: &Answered) -> Vec<Direction> {
    sections(&answered.sdp)
        .iter()
        .map(|s| s.direction)
        .collect()
}

/// What holds of every answer, whatever the offer.
fn check_answer(offered: &str, answered: &Answered) {
    let offer = RemoteDescription::parse(offered).expect("the offer was answered");
    let answer = RemoteDescription::parse(&answered.sdp).expect("our own answer is readable");
    assert_eq!(offer.sections.len(), answer.sections.len());
    let accepted: Vec<&Section> = answer.sections.iter().filter(|s| !s.rejected).collect();
    let mids: Vec<&str> = accepted.iter().map(|s| s.mid.as_str()).collect();
    assert!(
        mids.iter().all(|mid| answer.bundle.contains(*mid)),
        "bundled"
    );
    assert_eq!(answer.bundle.len(), mids.len(), "nothing else is bundled");
    for (theirs, ours) in offer.sections.iter().zip(&answer.sections) {
        assert!(theirs.mid == ours.mid || theirs.mid.is_empty(), "mid");
        assert_eq!(theirs.line.media, ours.line.media);
        if ours.rejected {
            continue;
        }
        assert!(!theirs.rejected, "a stopped section stays stopped");
        assert!(theirs.direction.receives() || !ours.direction.sends());
        assert!(theirs.direction.sends() || !ours.direction.receives());
        for codec in &ours.codecs {
            let known = |c: &&sdp::RtpCodec| {
                c.payload_type == codec.payload_type && c.rtpmap == codec.rtpmap
            };
            let offered = theirs.codecs.iter().find(known).expect("an offered codec");
            assert!(codec.feedback.iter().all(|f| offered.feedback.contains(f)));
        }
        assert!(
            ours.extensions
                .iter()
                .all(|e| theirs.extensions.contains(e))
        );
        assert_eq!(ours.transport.ufrag.as_deref(), Some("ourufrag"));
    }
    let mut ssrcs: Vec<u32> = accepted
        .iter()
        .flat_map(|s| s.streams.ssrcs.clone())
        .collect();
    let all = ssrcs.len();
    ssrcs.sort_unstable();
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), all, "no SSRC is in two sections");
    assert_eq!(answered.mids.len(), answered.sending.len());
    assert_eq!(answered.sdp.matches("a=end-of-candidates").count(), 1);
    assert_eq!(answered.sdp.matches("a=ice-lite").count(), 1);
}
