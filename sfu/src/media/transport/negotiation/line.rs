//! One m-line of a peer through all its offers.
//!
//! Owns what the client last offered in it, the track received in it, the track sent in it, and the
//! rule that turns those into a section of the answer (LK: signalling §4.4, §6.4). It never chooses
//! which track goes where: `negotiation.rs` does.

use super::codecs::{self, Choice, Feedback, Format};
use super::extensions;
use super::layers::layers;
use crate::config::codecs::{Codec, h264};
use crate::ids::{MediaKind, TrackKey};
use crate::media::message::{NegotiatedLayer, PeerSetup, StreamLabel, TrackSpec};
use crate::media::transport::sdp::{
    Body, Direction, LocalMedia, LocalSection, RtpCodec, Section, SectionKind, SentStream,
};
use crate::rtp::extension::ExtensionIds;

/// A section the client sends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiving {
    /// The section.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// The track; `None` until one is announced that fits.
    pub track: Option<TrackKey>,
    /// Accepted payload types, preferred first.
    pub codecs: Vec<(u8, Codec)>,
    /// Of those of H264, what else must agree.
    pub h264: Vec<(u8, h264::Parameters)>,
    /// Retransmission payload types, each with the one it retransmits.
    pub rtx: Vec<(u8, u8)>,
    /// Header extensions.
    pub extensions: ExtensionIds,
    /// Streams by SSRC, as far as announced.
    pub ssrcs: AnnouncedSsrcs,
    /// Layers, lowest first; one without a rid if there is no simulcast.
    pub layers: Vec<NegotiatedLayer>,
    /// Feedback of the preferred codec.
    pub feedback: Feedback,
}

/// SSRCs an offer announced. Clients that use rids need not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnouncedSsrcs {
    /// All of them, RTX too, in the offer's order.
    pub all: Vec<u32>,
    /// Pairs of a stream and its retransmissions (`ssrc-group:FID`).
    pub fid: Vec<(u32, u32)>,
    /// Simulcast layers, lowest first (`ssrc-group:SIM`).
    pub sim: Vec<u32>,
}

/// A section we send a track in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// The section.
    pub mid: String,
    /// The track.
    pub track: TrackKey,
    /// SSRC as given with the subscription.
    pub ssrc: u32,
    /// SSRC of retransmissions; `None` also when the client takes no RTX.
    pub rtx_ssrc: Option<u32>,
    /// Payload type of the codec; of Opus for a track that may also be RED.
    pub payload_type: u8,
    /// Payload type of its retransmissions.
    pub rtx_payload_type: Option<u8>,
    /// Payload type of RED if the client takes it.
    pub red_payload_type: Option<u8>,
    /// Every format the client takes in it: the publisher may change its own.
    pub formats: Vec<SentFormat>,
    /// Header extensions.
    pub extensions: ExtensionIds,
    /// Feedback the client will give.
    pub feedback: Feedback,
}

/// A format of a section we send in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentFormat {
    /// Its payload type.
    pub payload_type: u8,
    /// That of its retransmissions.
    pub rtx: Option<u8>,
    format: Format,
}

impl Sending {
    /// The payload type to send a publisher's stream as.
    #[must_use]
    pub fn payload_type_of(&self, codec: Codec, h264: Option<h264::Parameters>) -> Option<u8> {
        let formats = self.formats.iter();
        let formats = formats.map(|sent| (sent.payload_type, sent.format));
        codecs::nearest(formats, &Format { codec, h264 })
    }

    /// Each payload type with that of its retransmissions.
    pub fn rtx_types(&self) -> impl Iterator<Item = (u8, u8)> {
        let formats = self.formats.iter();
        formats.filter_map(|sent| Some((sent.payload_type, sent.rtx?)))
    }
}

/// A track to be sent to this peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// The track.
    pub track: TrackKey,
    /// What its publisher sends; RED stands for Opus with or without RED.
    pub codec: Codec,
    /// What else must agree if that is H264.
    pub h264: Option<h264::Parameters>,
    /// Two channels (`sprop-stereo=1`).
    pub stereo: bool,
    /// Its name in the SDP.
    pub label: StreamLabel,
    /// A new SSRC for each subscription: none is ever used twice under one key.
    pub ssrc: u32,
    /// The same for its retransmissions; `None` for audio.
    pub rtx_ssrc: Option<u32>,
}

impl Forwarding {
    /// Audio or video.
    pub(super) const fn kind(&self) -> MediaKind {
        self.codec.kind()
    }

    /// The codec a section must have for it.
    pub(super) const fn needs(&self) -> Codec {
        match self.codec {
            Codec::Red => Codec::Opus,
            codec => codec,
        }
    }

    /// The format it is sent in.
    pub(super) const fn format(&self) -> Format {
        Format {
            codec: self.needs(),
            h264: self.h264,
        }
    }
}

/// A track the client announced.
#[derive(Debug, Clone)]
pub(super) struct Announced {
    pub(super) track: TrackKey,
    pub(super) spec: TrackSpec,
}

/// What the client sends in a line.
#[derive(Debug, Clone)]
pub(super) enum Incoming {
    /// Nothing.
    Nothing,
    /// Something no announced track fits yet.
    Waiting,
    /// This track.
    Bound(Announced),
    /// A track that is over for us, whatever the client still sends.
    Ended,
}

/// One m-line.
#[derive(Debug)]
pub(super) struct Line {
    /// As last offered, without the codecs and extensions we know nothing of: browsers offer forty
    /// video formats, and a large call has hundreds of lines.
    pub(super) section: Section,
    /// Part of the bundle since the last offer.
    pub(super) accepted: bool,
    /// Formats a track sent in it may have.
    carried: Vec<Format>,
    /// What comes in.
    pub(super) incoming: Incoming,
    /// What goes out.
    pub(super) outgoing: Option<Forwarding>,
    /// Its track was taken out since the last answer: it must be inactive once, else the client
    /// would take the next track for the old one.
    pub(super) released: bool,
    /// What we last said of it.
    answered: Option<LocalMedia>,
}

impl Line {
    /// A line as first offered; nothing is bound to it. `second` data channels are refused.
    pub(super) fn new(mut section: Section, second: bool, setup: &PeerSetup) -> Self {
        let mut carried = Vec::new();
        let mut usable = !second;
        match media_kind(&section) {
            Some(kind) => {
                codecs::prune(&mut section.codecs, kind);
                section.extensions = extensions::accept(&section.extensions, kind);
                section.line.formats = Vec::new();
                let choice = choice(&section, None, kind, setup);
                let chosen = choice.choose(&section.codecs);
                usable = !chosen.is_empty();
                carried.extend(chosen.iter().filter_map(|rtp| Format::of(rtp, kind)));
                carried.retain(|format| setup.subscribe.contains(&format.codec));
            }
            None => usable &= section.kind == SectionKind::Application,
        }
        let accepted = usable && !section.rejected;
        let waits = accepted && media_kind(&section).is_some() && section.direction.sends();
        Self {
            section,
            accepted,
            carried,
            incoming: if waits {
                Incoming::Waiting
            } else {
                Incoming::Nothing
            },
            outgoing: None,
            released: false,
            answered: None,
        }
    }

    /// Takes the line's next offer. Returns the published track that ended with it.
    pub(super) fn handle_offer(&mut self, next: Self) -> Option<TrackKey> {
        let (old, new) = (self.track_id(), next.track_id());
        let same = old.is_none() || new.is_none() || old == new;
        let goes_on = same && matches!(next.incoming, Incoming::Waiting);
        let before = std::mem::replace(self, next);
        self.outgoing = before.outgoing;
        self.released = before.released;
        match before.incoming {
            Incoming::Bound(_) | Incoming::Ended if goes_on => {
                self.incoming = before.incoming;
                None
            }
            Incoming::Bound(announced) => Some(announced.track),
            Incoming::Nothing | Incoming::Waiting | Incoming::Ended => None,
        }
    }

    /// Audio or video.
    pub(super) fn kind(&self) -> Option<MediaKind> {
        media_kind(&self.section)
    }

    /// The client's id of what it sends.
    pub(super) fn track_id(&self) -> Option<&str> {
        self.section.streams.track_id.as_deref()
    }

    /// Is the client ready to receive in it?
    pub(super) fn receives(&self) -> bool {
        self.accepted && self.section.direction.receives()
    }

    /// Was made for receiving and has nothing to receive, now or after the next answer.
    pub(super) fn spare(&self) -> bool {
        self.accepted && self.section.direction == Direction::RecvOnly && self.outgoing.is_none()
    }

    /// Can it carry the track?
    pub(super) fn carries(&self, forwarding: &Forwarding) -> bool {
        let stream = forwarding.format();
        self.kind() == Some(forwarding.kind()) && self.carried.iter().any(|own| own.takes(&stream))
    }

    /// Its section of the answer.
    pub(super) fn answer(&mut self, setup: &PeerSetup) -> LocalSection {
        self.answered = None;
        let body = match self.section.kind {
            _ if !self.accepted => Body::Rejected,
            SectionKind::Unknown => Body::Rejected,
            SectionKind::Application => Body::Application,
            SectionKind::Media(kind) => {
                let media = self.answer_media(kind, setup);
                self.answered = Some(media.clone());
                Body::Media(Box::new(media))
            }
        };
        self.released = false;
        LocalSection {
            mid: self.section.mid.clone(),
            line: self.section.line.clone(),
            body,
        }
    }

    fn answer_media(&self, kind: MediaKind, setup: &PeerSetup) -> LocalMedia {
        let receives = matches!(self.incoming, Incoming::Waiting | Incoming::Bound(_));
        let sends = self.section.direction.receives()
            && (self.outgoing.is_some() || (self.spare() && !self.released));
        let spec = match &self.incoming {
            Incoming::Bound(announced) => Some(&announced.spec),
            Incoming::Nothing | Incoming::Waiting | Incoming::Ended => None,
        };
        let choice = choice(&self.section, spec, kind, setup);
        let mut codecs = choice.choose(&self.section.codecs);
        self.rewrite_opus(&mut codecs);
        let streams = &self.section.streams;
        let rids = if receives {
            streams.rids.clone()
        } else {
            Vec::new()
        };
        LocalMedia {
            direction: Direction::new(sends, receives),
            flags: self.section.flags,
            extensions: self.section.extensions.clone(),
            simulcast: streams.simulcast && receives,
            rids,
            stream: self.outgoing.as_ref().map(|out| sent_stream(out, &codecs)),
            codecs,
        }
    }

    fn rewrite_opus(&self, codecs: &mut [RtpCodec]) {
        let opus = |codec: &&mut RtpCodec| codec.codec(MediaKind::Audio) == Some(Codec::Opus);
        for codec in codecs.iter_mut().filter(opus) {
            if let Incoming::Bound(announced) = &self.incoming {
                codec.fmtp = codecs::publisher_fmtp(codec.fmtp.as_deref(), &announced.spec);
            }
            if self.outgoing.as_ref().is_some_and(|out| out.stereo) {
                codec.fmtp = codecs::stereo_sender_fmtp(codec.fmtp.as_deref());
            }
        }
    }

    /// What the client sends in it by the last answer.
    pub(super) fn receiving(&self) -> Option<Receiving> {
        let (kind, answered) = (self.kind()?, self.answered.as_ref()?);
        let track = match &self.incoming {
            Incoming::Waiting => None,
            Incoming::Bound(announced) => Some(announced.track),
            Incoming::Nothing | Incoming::Ended => return None,
        };
        if !answered.direction.receives() {
            return None;
        }
        let codec = |rtp: &RtpCodec| Some((rtp.payload_type, rtp.codec(kind)?));
        let h264 = |rtp: &RtpCodec| Some((rtp.payload_type, Format::of(rtp, kind)?.h264?));
        let rtx = |rtp: &RtpCodec| Some((rtp.payload_type, rtp.apt()?));
        let streams = &self.section.streams;
        Some(Receiving {
            mid: self.section.mid.clone(),
            kind,
            track,
            codecs: answered.codecs.iter().filter_map(codec).collect(),
            h264: answered.codecs.iter().filter_map(h264).collect(),
            rtx: answered.codecs.iter().filter_map(rtx).collect(),
            extensions: extensions::ids(&answered.extensions),
            ssrcs: AnnouncedSsrcs {
                all: streams.ssrcs.clone(),
                fid: streams.fid.clone(),
                sim: streams.sim.clone(),
            },
            layers: layers(streams),
            feedback: main_feedback(&answered.codecs, kind),
        })
    }

    /// What we send in it by the last answer.
    pub(super) fn sending(&self, setup: &PeerSetup) -> Option<Sending> {
        let (kind, answered) = (self.kind()?, self.answered.as_ref()?);
        let (out, stream) = (self.outgoing.as_ref()?, answered.stream.as_ref()?);
        let codec = codecs::find(&answered.codecs, kind, &out.format())?;
        let formats = sent_formats(&answered.codecs, kind, &setup.subscribe);
        Some(Sending {
            mid: self.section.mid.clone(),
            track: out.track,
            ssrc: stream.ssrc,
            rtx_ssrc: stream.rtx_ssrc,
            payload_type: codec.payload_type,
            rtx_payload_type: codecs::rtx_of(&answered.codecs, codec.payload_type),
            red_payload_type: red_among(&formats),
            formats,
            extensions: extensions::ids(&answered.extensions),
            feedback: Feedback::of(codec),
        })
    }
}

/// What may be sent in a section whose codecs are agreed on, of those `enabled`.
pub(super) fn sent_formats(
    agreed: &[RtpCodec],
    kind: MediaKind,
    enabled: &[Codec],
) -> Vec<SentFormat> {
    let usable = |rtp: &RtpCodec| {
        let format = Format::of(rtp, kind)?;
        enabled.contains(&format.codec).then_some(SentFormat {
            payload_type: rtp.payload_type,
            rtx: codecs::rtx_of(agreed, rtp.payload_type),
            format,
        })
    };
    agreed.iter().filter_map(usable).collect()
}

/// The payload type of RED, if it may be sent.
pub(super) fn red_among(formats: &[SentFormat]) -> Option<u8> {
    let is_red = |sent: &&SentFormat| sent.format.codec == Codec::Red;
    Some(formats.iter().find(is_red)?.payload_type)
}

/// RTX is announced only if the client takes it.
fn sent_stream(out: &Forwarding, codecs: &[RtpCodec]) -> SentStream {
    let main = codecs::find(codecs, out.kind(), &out.format());
    let rtx = main.and_then(|codec| codecs::rtx_of(codecs, codec.payload_type));
    SentStream {
        label: out.label.clone(),
        ssrc: out.ssrc,
        rtx_ssrc: out.rtx_ssrc.filter(|_| rtx.is_some()),
    }
}

/// Opus' or the video codec's: RED has none of its own.
fn main_feedback(codecs: &[RtpCodec], kind: MediaKind) -> Feedback {
    let main = |rtp: &&RtpCodec| rtp.codec(kind).is_some_and(|codec| codec != Codec::Red);
    codecs
        .iter()
        .find(main)
        .map(Feedback::of)
        .unwrap_or_default()
}

fn media_kind(section: &Section) -> Option<MediaKind> {
    match section.kind {
        SectionKind::Media(kind) => Some(kind),
        SectionKind::Application | SectionKind::Unknown => None,
    }
}

/// How to choose the codecs of a section: among those the client may publish where it sends.
fn choice<'a>(
    section: &Section,
    spec: Option<&TrackSpec>,
    kind: MediaKind,
    setup: &'a PeerSetup,
) -> Choice<'a> {
    Choice {
        kind,
        enabled: if section.direction.sends() {
            &setup.publish
        } else {
            &setup.subscribe
        },
        h264: &setup.h264,
        first: spec.and_then(|spec| spec.codec),
        red_first: spec.is_some_and(|spec| spec.red || spec.codec == Some(Codec::Red)),
        one: setup.one_codec_per_section && section.direction.sends(),
    }
}
