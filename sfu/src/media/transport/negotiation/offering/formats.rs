//! The codecs and header extensions of our offers, with the numbers we give them.
//!
//! Owns both tables (LK: signalling §6.1 to §6.3, columns "subscriber"). Called by `section.rs`.

use crate::config::codecs::Codec;
use crate::ids::MediaKind;
use crate::media::transport::sdp::{Extension, RtpCodec};

/// One format we offer.
struct Format {
    codec: Codec,
    payload_type: u8,
    rtpmap: &'static str,
    fmtp: Option<&'static str>,
    /// Payload type of its retransmissions.
    rtx: Option<u8>,
}

const FORMATS: [Format; 7] = [
    Format {
        codec: Codec::Opus,
        payload_type: 111,
        rtpmap: "opus/48000/2",
        fmtp: Some("minptime=10;useinbandfec=1"),
        rtx: None,
    },
    Format {
        codec: Codec::Red,
        payload_type: 63,
        rtpmap: "red/48000/2",
        fmtp: Some("111/111"),
        rtx: None,
    },
    Format {
        codec: Codec::Pcmu,
        payload_type: 0,
        rtpmap: "PCMU/8000",
        fmtp: None,
        rtx: None,
    },
    Format {
        codec: Codec::Pcma,
        payload_type: 8,
        rtpmap: "PCMA/8000",
        fmtp: None,
        rtx: None,
    },
    Format {
        codec: Codec::Vp8,
        payload_type: 96,
        rtpmap: "VP8/90000",
        fmtp: None,
        rtx: Some(97),
    },
    // High is not offered: what a client publishes so goes to those who offer it themselves.
    Format {
        codec: Codec::H264,
        payload_type: 125,
        rtpmap: "H264/90000",
        fmtp: Some("level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
        rtx: Some(126),
    },
    Format {
        codec: Codec::H264,
        payload_type: 108,
        rtpmap: "H264/90000",
        fmtp: Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        rtx: Some(109),
    },
];

const RTX: &str = "rtx/90000";
const AUDIO_FEEDBACK: [&str; 1] = ["nack"];
const VIDEO_FEEDBACK: [&str; 4] = ["goog-remb", "ccm fir", "nack", "nack pli"];

const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
const ABS_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

/// The formats of a section, of those `enabled`. Of a track sent as RED (`red`) nothing is asked
/// for again: it repeats itself.
pub(super) fn codecs(kind: MediaKind, enabled: &[Codec], red: bool) -> Vec<RtpCodec> {
    let mut codecs = Vec::new();
    let ours = |format: &&Format| format.codec.kind() == kind && enabled.contains(&format.codec);
    for format in FORMATS.iter().filter(ours) {
        let feedback: &[&str] = match kind {
            MediaKind::Audio if red || format.codec == Codec::Red => &[],
            MediaKind::Audio => &AUDIO_FEEDBACK,
            MediaKind::Video => &VIDEO_FEEDBACK,
        };
        codecs.push(RtpCodec {
            payload_type: format.payload_type,
            rtpmap: format.rtpmap.to_owned(),
            fmtp: format.fmtp.map(str::to_owned),
            feedback: feedback.iter().map(|&name| name.to_owned()).collect(),
        });
        codecs.extend(format.rtx.map(|rtx| RtpCodec {
            payload_type: rtx,
            rtpmap: RTX.to_owned(),
            fmtp: Some(format!("apt={}", format.payload_type)),
            feedback: Vec::new(),
        }));
    }
    codecs
}

/// The header extensions of a section. A number means the same in all of them (RFC 8843 §9.2).
pub(super) fn extensions(kind: MediaKind) -> Vec<Extension> {
    let video = kind == MediaKind::Video;
    let all = [
        (1, ABS_SEND_TIME, video),
        (2, DEPENDENCY_DESCRIPTOR, video),
        (3, ABS_CAPTURE_TIME, true),
    ];
    let offered = all.into_iter().filter(|(_, _, here)| *here);
    let extension = |(id, uri, _): (u8, &str, bool)| Extension {
        id,
        uri: uri.to_owned(),
    };
    offered.map(extension).collect()
}
