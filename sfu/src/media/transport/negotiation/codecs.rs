//! Which offered codecs a section is answered with, in which order and with which parameters.
//!
//! Owns codec choice and the rewriting of Opus' parameters (LK: signalling §6.2, §6.7). Payload types
//! are always the offer's. Called by `line.rs`.

use crate::config::codecs::Codec;
use crate::ids::MediaKind;
use crate::media::message::TrackSpec;
use crate::media::transport::sdp::RtpCodec;

/// Feedback accepted for audio. (LK: signalling §6.2, single)
const AUDIO_FEEDBACK: [&str; 1] = ["nack"];
/// Feedback accepted for video. (LK: signalling §6.2, single)
const VIDEO_FEEDBACK: [&str; 5] = ["transport-cc", "goog-remb", "ccm fir", "nack", "nack pli"];
/// Bit rate asked of a stereo publisher. (LK: signalling §6.7)
const STEREO_BITRATE: &str = "maxaveragebitrate=510000";

/// RTCP feedback both sides will use for a section's main codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Feedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub nack_pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Transport-wide congestion control.
    pub transport_cc: bool,
    /// Receiver-estimated maximum bit rate.
    pub remb: bool,
}

impl Feedback {
    /// What an answered codec has.
    pub(super) fn of(codec: &RtpCodec) -> Self {
        let has = |name: &str| codec.feedback.iter().any(|feedback| feedback == name);
        Self {
            nack: has("nack"),
            nack_pli: has("nack pli"),
            fir: has("ccm fir"),
            transport_cc: has("transport-cc"),
            remb: has("goog-remb"),
        }
    }
}

/// What a section's codecs are chosen by.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    /// The section's kind.
    pub(super) kind: MediaKind,
    /// Codecs the client may use in it.
    pub(super) enabled: &'a [Codec],
    /// To be put first.
    pub(super) first: Option<Codec>,
    /// RED before everything else.
    pub(super) red_first: bool,
    /// Only the first one: the client ignores our order.
    pub(super) one: bool,
}

impl Choice<'_> {
    /// The answered codecs: the chosen ones in our order, each followed by its RTX formats.
    pub(super) fn choose(&self, offered: &[RtpCodec]) -> Vec<RtpCodec> {
        let known = |rtp| Some((RtpCodec::codec(rtp, self.kind)?, rtp));
        let mut chosen: Vec<(Codec, &RtpCodec)> = offered.iter().filter_map(known).collect();
        chosen.retain(|(codec, _)| self.enabled.contains(codec));
        let opus = payload_type(&chosen, Codec::Opus);
        chosen.retain(|(codec, rtp)| *codec != Codec::Red || red_carries(rtp, opus));
        chosen.sort_by_key(|(codec, _)| self.rank(*codec));
        if self.one {
            self.keep_one(&mut chosen);
        }
        let mut answered = Vec::new();
        for (_, rtp) in chosen {
            answered.push(self.mirror(rtp));
            if self.kind == MediaKind::Video {
                let rtx = offered
                    .iter()
                    .filter(|rtx| rtx.apt() == Some(rtp.payload_type));
                answered.extend(rtx.map(|rtx| self.mirror(rtx)));
            }
        }
        answered
    }

    fn rank(&self, codec: Codec) -> u8 {
        match codec {
            Codec::Red if self.red_first => 0,
            _ if self.first == Some(codec) => 1,
            Codec::Red => 3,
            Codec::Opus | Codec::Vp8 => 2,
        }
    }

    /// RED refers to Opus' payload type: they count as one.
    fn keep_one(&self, chosen: &mut Vec<(Codec, &RtpCodec)>) {
        let keep = match chosen.first() {
            Some((Codec::Red, _)) => 2,
            _ => 1,
        };
        chosen.truncate(keep);
    }

    fn mirror(&self, offered: &RtpCodec) -> RtpCodec {
        let accepted: &[&str] = match self.kind {
            MediaKind::Audio => &AUDIO_FEEDBACK,
            MediaKind::Video => &VIDEO_FEEDBACK,
        };
        let mut codec = offered.clone();
        codec
            .feedback
            .retain(|feedback| accepted.contains(&feedback.as_str()));
        codec
    }
}

fn payload_type(chosen: &[(Codec, &RtpCodec)], codec: Codec) -> Option<u8> {
    let of = chosen.iter().find(|(known, _)| *known == codec);
    of.map(|(_, rtp)| rtp.payload_type)
}

/// Do RED's parameters (`111/111`) name Opus only?
fn red_carries(red: &RtpCodec, opus: Option<u8>) -> bool {
    let Some(opus) = opus else {
        return false;
    };
    let blocks = red.fmtp.as_deref().unwrap_or_default();
    blocks
        .split('/')
        .all(|block| block.trim().parse() == Ok(opus))
}

/// Drops the formats that no setup could choose.
pub(super) fn prune(offered: &mut Vec<RtpCodec>, kind: MediaKind) {
    let known: Vec<u8> = offered
        .iter()
        .filter(|rtp| rtp.codec(kind).is_some())
        .map(|rtp| rtp.payload_type)
        .collect();
    offered.retain(|rtp| {
        known.contains(&rtp.payload_type) || rtp.apt().is_some_and(|apt| known.contains(&apt))
    });
}

/// The first answered format of a codec.
pub(super) fn find(answered: &[RtpCodec], kind: MediaKind, codec: Codec) -> Option<&RtpCodec> {
    answered.iter().find(|rtp| rtp.codec(kind) == Some(codec))
}

/// The format that retransmits `payload_type`.
pub(super) fn rtx_of(answered: &[RtpCodec], payload_type: u8) -> Option<u8> {
    let rtx = answered.iter().find(|rtp| rtp.apt() == Some(payload_type));
    rtx.map(|rtp| rtp.payload_type)
}

/// Opus' parameters for a section a track is published in. (LK: signalling §6.7)
pub(super) fn publisher_fmtp(offered: Option<&str>, spec: &TrackSpec) -> Option<String> {
    let mut params = split(offered);
    params.retain(|param| {
        let name = param.split('=').next().unwrap_or_default();
        !(name == "usedtx" || name == "stereo" || (spec.stereo && name == "maxaveragebitrate"))
    });
    if spec.dtx {
        params.push("usedtx=1");
    }
    if spec.stereo {
        params.extend(["stereo=1", STEREO_BITRATE]);
    }
    join(&params)
}

/// Opus' parameters for a section a stereo track is sent in. (LK: signalling §6.7)
pub(super) fn stereo_sender_fmtp(offered: Option<&str>) -> Option<String> {
    let mut params = split(offered);
    params.retain(|param| !param.starts_with("sprop-stereo="));
    params.push("sprop-stereo=1");
    join(&params)
}

fn split(fmtp: Option<&str>) -> Vec<&str> {
    let params = fmtp.unwrap_or_default().split(';').map(str::trim);
    params.filter(|param| !param.is_empty()).collect()
}

fn join(params: &[&str]) -> Option<String> {
    (!params.is_empty()).then(|| params.join(";"))
}
