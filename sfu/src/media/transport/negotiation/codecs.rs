//! Which offered codecs a section is answered with, in which order and with which parameters.
//!
//! Owns codec choice, what of H264 must agree (RFC 6184 §8.2.2), and the rewriting of Opus'
//! parameters (LK: signalling §6.2, §6.7). Payload types are always the offer's. Called by `line.rs`.

use crate::config::codecs::{Codec, h264};
use crate::ids::MediaKind;
use crate::media::message::TrackSpec;
use crate::media::transport::sdp::RtpCodec;

/// Feedback accepted for audio. (LK: signalling §6.2, single)
const AUDIO_FEEDBACK: [&str; 1] = ["nack"];
/// Feedback accepted for video. (LK: signalling §6.2, single)
const VIDEO_FEEDBACK: [&str; 5] = ["transport-cc", "goog-remb", "ccm fir", "nack", "nack pli"];
/// Bit rate asked of a stereo publisher. (LK: signalling §6.7)
const STEREO_BITRATE: &str = "maxaveragebitrate=510000";

/// What an answer repeats of H264's parameters: the rest describes the offerer's own stream.
const H264_PARAMETERS: [&str; 3] = [
    "profile-level-id",
    "packetization-mode",
    "level-asymmetry-allowed",
];

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
    /// Formats of H264 that are switched on.
    pub(super) h264: &'a [h264::Parameters],
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
        self.keep_h264(&mut chosen);
        // What more receivers can decode comes first, then what the client prefers.
        chosen.sort_by_key(|(codec, rtp)| (self.rank(*codec), profile(*codec, rtp)));
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
            Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Vp8 | Codec::H264 => 2,
        }
    }

    /// Keeps the formats of H264 that are switched on. Baseline stands in for its constrained form
    /// where that is not offered: what encoders leave out of one they leave out of both.
    fn keep_h264(&self, chosen: &mut Vec<(Codec, &RtpCodec)>) {
        let parameters = |rtp: &RtpCodec| h264::Parameters::parse(rtp.fmtp.as_deref());
        let constrained = chosen
            .iter()
            .any(|(codec, rtp)| profile(*codec, rtp) == Some(h264::Profile::ConstrainedBaseline));
        chosen.retain(|(codec, rtp)| {
            *codec != Codec::H264
                || parameters(rtp).is_some_and(|own| {
                    let standing_in = h264::Parameters {
                        profile: h264::Profile::ConstrainedBaseline,
                        ..own
                    };
                    let stands_in = own.profile == h264::Profile::Baseline && !constrained;
                    self.h264.contains(&own) || (stands_in && self.h264.contains(&standing_in))
                })
        });
    }

    /// RED refers to Opus' payload type: they count as one.
    fn keep_one(&self, chosen: &mut Vec<(Codec, &RtpCodec)>) {
        if matches!(chosen.first(), Some((Codec::Red, _))) {
            chosen.retain(|(codec, _)| matches!(codec, Codec::Red | Codec::Opus));
        } else {
            chosen.truncate(1);
        }
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
        if codec.codec(self.kind) == Some(Codec::H264) {
            codec.fmtp = h264_fmtp(offered.fmtp.as_deref());
        }
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
        .filter(|rtp| match rtp.codec(kind) {
            Some(Codec::H264) => h264::Parameters::parse(rtp.fmtp.as_deref()).is_some(),
            known => known.is_some(),
        })
        .map(|rtp| rtp.payload_type)
        .collect();
    offered.retain(|rtp| {
        known.contains(&rtp.payload_type) || rtp.apt().is_some_and(|apt| known.contains(&apt))
    });
}

/// A format as far as a stream and its decoder must agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) codec: Codec,
    pub(super) h264: Option<h264::Parameters>,
}

impl Format {
    /// The format of a payload type, if it is none of RTX or the like.
    pub(super) fn of(rtp: &RtpCodec, kind: MediaKind) -> Option<Self> {
        let codec = rtp.codec(kind)?;
        let h264 = match codec {
            Codec::H264 => Some(h264::Parameters::parse(rtp.fmtp.as_deref())?),
            _ => None,
        };
        Some(Self { codec, h264 })
    }

    /// Can what is received in this format be of that one?
    pub(super) fn takes(&self, stream: &Self) -> bool {
        self.codec == stream.codec
            && match (self.h264, stream.h264) {
                (Some(own), Some(stream)) => own.decodes(stream),
                (own, stream) => own.is_none() && stream.is_none(),
            }
    }

    /// How much more than the stream needs it has.
    fn distance(&self, stream: &Self) -> (bool, bool) {
        let both = self.h264.zip(stream.h264);
        both.map_or((false, false), |(own, stream)| own.distance(stream))
    }
}

/// Of the formats that take a stream, the one nearest to it.
pub(super) fn nearest<T: Copy>(
    formats: impl Iterator<Item = (T, Format)>,
    stream: &Format,
) -> Option<T> {
    let takes = formats.filter(|(_, format)| format.takes(stream));
    let nearest = takes.min_by_key(|(_, format)| format.distance(stream));
    nearest.map(|(which, _)| which)
}

/// The answered format of a codec; of those of H264 the one nearest to a stream.
pub(super) fn find<'a>(
    answered: &'a [RtpCodec],
    kind: MediaKind,
    stream: &Format,
) -> Option<&'a RtpCodec> {
    let formats = answered
        .iter()
        .filter_map(|rtp| Some((rtp, Format::of(rtp, kind)?)));
    nearest(formats, stream)
}

fn profile(codec: Codec, rtp: &RtpCodec) -> Option<h264::Profile> {
    let parameters = h264::Parameters::parse(rtp.fmtp.as_deref());
    parameters
        .filter(|_| codec == Codec::H264)
        .map(|parameters| parameters.profile)
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

fn h264_fmtp(offered: Option<&str>) -> Option<String> {
    let mut params = split(offered);
    params.retain(|param| {
        let name = param.split('=').next().unwrap_or_default();
        H264_PARAMETERS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name.trim()))
    });
    join(&params)
}

fn split(fmtp: Option<&str>) -> Vec<&str> {
    let params = fmtp.unwrap_or_default().split(';').map(str::trim);
    params.filter(|param| !param.is_empty()).collect()
}

fn join(params: &[&str]) -> Option<String> {
    (!params.is_empty()).then(|| params.join(";"))
}
