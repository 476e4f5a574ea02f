//! Session descriptions of the world's clients, and what they read of the server's.
//!
//! Owns the text only: which formats and extensions a client offers, and which streams a section of
//! the server's description sends. Called by a client.

use super::source::Kind;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Extension ids of every description here.
pub const MID: u8 = 1;
/// The layer's name.
pub const RID: u8 = 2;
/// The layer's name in a packet sent again.
pub const REPAIRED_RID: u8 = 3;
/// The transport-wide number.
pub const TRANSPORT_CC: u8 = 4;
/// How loud.
pub const LEVEL: u8 = 5;
/// Payload types of every offer here.
pub const OPUS: u8 = 111;
/// VP8.
pub const VP8: u8 = 96;
/// H264.
pub const H264: u8 = 108;
/// The layers of simulcast, lowest first.
pub const RIDS: [&str; 3] = ["q", "h", "f"];

/// RTX of a payload type.
#[must_use]
pub const fn rtx_of(payload_type: u8) -> u8 {
    payload_type + 1
}

/// A section of a client's offer, by its mid's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Section {
    /// It sends a track: cid, kind, first SSRC, first SSRC of RTX if it has that.
    Sends(String, Kind, u32, Option<u32>),
    /// It receives sound, or pictures.
    Receives {
        /// Sound?
        sound: bool,
    },
}

impl Section {
    /// Its lines without those of the transport.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Receives { sound: true } => audio("recvonly"),
            Self::Receives { sound: false } => video("recvonly", true),
            Self::Sends(cid, kind, ssrc, rtx) => {
                let mut text = if kind.is_sound() {
                    audio("sendonly")
                } else {
                    video("sendonly", rtx.is_some())
                };
                let _ = write!(text, "a=msid:- {cid}\r\n");
                if kind.layers() > 1 {
                    let rids = &RIDS[..usize::from(kind.layers())];
                    for rid in rids {
                        let _ = write!(text, "a=rid:{rid} send\r\n");
                    }
                    let _ = write!(text, "a=simulcast:send {}\r\n", rids.join(";"));
                } else {
                    if let Some(rtx) = rtx.filter(|_| !kind.is_sound()) {
                        let _ = write!(
                            text,
                            "a=ssrc-group:FID {ssrc} {rtx}\r\na=ssrc:{rtx} cname:c\r\n"
                        );
                    }
                    let _ = write!(text, "a=ssrc:{ssrc} cname:c\r\n");
                }
                text
            }
        }
    }
}

fn audio(direction: &str) -> String {
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\na=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\na=rtcp-fb:{OPUS} nack\r\na=rtcp-fb:{OPUS} transport-cc\r\n{EXTENSIONS}a={direction}\r\n"
    )
}

fn video(direction: &str, with_rtx: bool) -> String {
    let mut types = Vec::new();
    let mut text = String::new();
    for (media, name) in [(VP8, "VP8"), (H264, "H264")] {
        types.push(media.to_string());
        let _ = write!(text, "a=rtpmap:{media} {name}/90000\r\n");
        for feedback in ["nack", "nack pli", "ccm fir", "transport-cc"] {
            let _ = write!(text, "a=rtcp-fb:{media} {feedback}\r\n");
        }
        if media == H264 {
            let _ = write!(
                text,
                "a=fmtp:{media} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
            );
        }
        if with_rtx {
            let rtx = rtx_of(media);
            types.push(rtx.to_string());
            let _ = write!(
                text,
                "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={media}\r\n"
            );
        }
    }
    let types = types.join(" ");
    format!("m=video 9 UDP/TLS/RTP/SAVPF {types}\r\n{text}{EXTENSIONS}a={direction}\r\n")
}

const EXTENSIONS: &str = "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=extmap:3 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\na=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\na=extmap:5 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n";

/// A client's offer.
#[must_use]
pub fn offer(sections: &[Section], transport: &str) -> String {
    let mids: Vec<String> = (0..sections.len()).map(|mid| mid.to_string()).collect();
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
        mids.join(" ")
    );
    for (section, mid) in sections.iter().zip(&mids) {
        sdp += &section.text();
        let _ = write!(
            sdp,
            "c=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=rtcp-mux\r\n{transport}"
        );
    }
    sdp
}

/// The answer to the server's offer: everything is taken.
#[must_use]
pub fn answer(offer: &str, transport: &str) -> String {
    let mut sdp = String::new();
    for line in offer.lines() {
        let ours = [
            "a=ice-",
            "a=fingerprint:",
            "a=ssrc",
            "a=msid:",
            "a=candidate",
            "a=end-of-",
        ];
        match line {
            "a=sendonly" => sdp += "a=recvonly\r\n",
            _ if line.starts_with("a=setup:") => sdp += transport,
            _ if ours.iter().any(|start| line.starts_with(start)) => {}
            _ => {
                sdp += line;
                sdp += "\r\n";
            }
        }
    }
    sdp
}

/// What one section of the server's description sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sending {
    /// Its mid.
    pub mid: String,
    /// The stream.
    pub ssrc: u32,
    /// Its RTX.
    pub rtx: Option<u32>,
    /// Names of codecs by payload type, in small letters.
    pub codecs: BTreeMap<u8, String>,
}

/// Every section that sends.
#[must_use]
pub fn sendings(sdp: &str) -> Vec<Sending> {
    let mut found = Vec::new();
    for section in sdp.split("\r\nm=").skip(1) {
        let mut sending = Sending::default();
        let mut sends = false;
        for line in section.lines() {
            if let Some(mid) = line.strip_prefix("a=mid:") {
                mid.clone_into(&mut sending.mid);
            } else if let Some(group) = line.strip_prefix("a=ssrc-group:FID ") {
                sending.rtx = group.split(' ').nth(1).and_then(|rtx| rtx.parse().ok());
            } else if let Some(rest) = line.strip_prefix("a=ssrc:") {
                let ssrc = rest.split(' ').next().and_then(|ssrc| ssrc.parse().ok());
                if sending.ssrc == 0 {
                    sending.ssrc = ssrc.unwrap_or_default();
                }
            } else if let Some(map) = line.strip_prefix("a=rtpmap:") {
                let mut words = map.split([' ', '/']);
                let number = words.next().and_then(|number| number.parse().ok());
                if let (Some(number), Some(name)) = (number, words.next()) {
                    sending.codecs.insert(number, name.to_lowercase());
                }
            }
            sends |= line == "a=sendonly" || line == "a=sendrecv";
        }
        if sends && sending.ssrc != 0 {
            found.push(sending);
        }
    }
    found
}
