//! One m-line of ours through all our offers.
//!
//! Owns the track sent in it, what the client said of it last, and when another track may take its
//! place. It never chooses which track goes where: `offering.rs` does. (LK: signalling §6.4)

use super::formats;
use crate::config::codecs::Codec;
use crate::ids::{MediaKind, TrackKey};
use crate::media::transport::negotiation::codecs::{self, Feedback};
use crate::media::transport::negotiation::extensions;
use crate::media::transport::negotiation::line::{Forwarding, Sending, red_among, sent_formats};
use crate::media::transport::sdp::{
    Body, Direction, Extension, Flags, LocalMedia, LocalSection, MediaLine, RtpCodec, Section,
    SectionKind, SentStream,
};

/// The protocol of audio and video sections.
const RTP: &str = "UDP/TLS/RTP/SAVPF";
/// The format of data channels.
const CHANNELS: &str = "webrtc-datachannel";

/// What a section is for.
#[derive(Debug)]
enum Purpose {
    /// Data channels.
    Application,
    /// Tracks of one kind, one after another.
    Media(MediaKind),
}

/// One m-line.
#[derive(Debug)]
pub(super) struct OwnSection {
    mid: String,
    purpose: Purpose,
    outgoing: Option<Forwarding>,
    /// The outgoing track stands in an offer.
    offered: bool,
    /// A track the client was told of is on its way out.
    leaving: Leaving,
    /// The section stands in an offer.
    known: bool,
    /// The client took it out of the association.
    stopped: bool,
    /// What the client answered last; codecs and extensions it takes.
    answered: Option<Answered>,
}

/// How far the client has heard of a track's end. Until it has answered an offer in which the section
/// is inactive, it would take the next track for the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// No track is on its way out.
    No,
    /// The next offer will say so.
    Untold,
    /// The last offer says so.
    Told,
}

/// What a client said of a section.
#[derive(Debug)]
struct Answered {
    receives: bool,
    codecs: Vec<RtpCodec>,
    extensions: Vec<Extension>,
}

impl OwnSection {
    /// The section of data channels.
    pub(super) fn application(mid: String) -> Self {
        Self::new(mid, Purpose::Application)
    }

    /// A section for tracks.
    pub(super) fn media(mid: String, kind: MediaKind) -> Self {
        Self::new(mid, Purpose::Media(kind))
    }

    const fn new(mid: String, purpose: Purpose) -> Self {
        Self {
            mid,
            purpose,
            outgoing: None,
            offered: false,
            leaving: Leaving::No,
            known: false,
            stopped: false,
            answered: None,
        }
    }

    /// Its name.
    pub(super) fn mid(&self) -> &str {
        &self.mid
    }

    /// Has it stood in an offer?
    pub(super) const fn is_known(&self) -> bool {
        self.known
    }

    /// The track sent in it, or about to be.
    pub(super) const fn outgoing(&self) -> Option<&Forwarding> {
        self.outgoing.as_ref()
    }

    /// Could a track of this kind be put into it now?
    pub(super) fn is_free(&self, kind: MediaKind) -> bool {
        let fits = matches!(self.purpose, Purpose::Media(own) if own == kind);
        fits && self.outgoing.is_none() && self.leaving == Leaving::No && !self.stopped
    }

    /// Nothing is in it and no client has heard of it.
    pub(super) const fn is_needless(&self) -> bool {
        self.outgoing.is_none() && !self.known && matches!(self.purpose, Purpose::Media(_))
    }

    /// Puts a track into a free section.
    pub(super) fn assign(&mut self, forwarding: Forwarding) {
        self.outgoing = Some(forwarding);
        self.offered = false;
    }

    /// Takes the track out.
    pub(super) fn release(&mut self) {
        self.outgoing = None;
        if std::mem::take(&mut self.offered) {
            self.leaving = Leaving::Untold;
        }
    }

    /// Its section of the next offer.
    pub(super) fn offer(&mut self, enabled: &[Codec]) -> LocalSection {
        self.known = true;
        self.offered = self.outgoing.is_some();
        if self.leaving == Leaving::Untold {
            self.leaving = Leaving::Told;
        }
        let body = match self.purpose {
            _ if self.stopped => Body::Rejected,
            Purpose::Application => Body::Application,
            Purpose::Media(kind) => Body::Media(Box::new(self.offer_media(kind, enabled))),
        };
        let line = match self.purpose {
            Purpose::Application => MediaLine::new("application", "UDP/DTLS/SCTP", CHANNELS),
            Purpose::Media(MediaKind::Audio) => MediaLine::new("audio", RTP, ""),
            Purpose::Media(MediaKind::Video) => MediaLine::new("video", RTP, ""),
        };
        LocalSection {
            mid: self.mid.clone(),
            line,
            body,
        }
    }

    fn offer_media(&self, kind: MediaKind, enabled: &[Codec]) -> LocalMedia {
        let out = self.outgoing.as_ref();
        let red = out.is_some_and(|out| out.codec == Codec::Red) && enabled.contains(&Codec::Red);
        let mut codecs = formats::codecs(kind, enabled, red);
        if out.is_some_and(|out| out.stereo) {
            let opus = |rtp: &&mut RtpCodec| rtp.codec(kind) == Some(Codec::Opus);
            for codec in codecs.iter_mut().filter(opus) {
                codec.fmtp = codecs::stereo_sender_fmtp(codec.fmtp.as_deref());
            }
        }
        LocalMedia {
            direction: Direction::new(out.is_some(), false),
            flags: Flags {
                rtcp_mux: true,
                rtcp_rsize: true,
                extmap_allow_mixed: false,
            },
            extensions: formats::extensions(kind),
            rids: Vec::new(),
            simulcast: false,
            stream: out.map(|out| SentStream {
                label: out.label.clone(),
                ssrc: out.ssrc,
                rtx_ssrc: out.rtx_ssrc,
            }),
            codecs,
        }
    }

    /// Is this the client's answer to the section?
    pub(super) fn is_answered_by(&self, section: &Section) -> bool {
        let kind = match self.purpose {
            Purpose::Application => SectionKind::Application,
            Purpose::Media(kind) => SectionKind::Media(kind),
        };
        section.kind == kind
            && (section.mid == self.mid || (section.rejected && section.mid.is_empty()))
    }

    /// Takes the client's answer. Returns the track it cannot receive, which is taken out.
    pub(super) fn handle_answer(&mut self, section: Section) -> Option<TrackKey> {
        let Purpose::Media(kind) = self.purpose else {
            self.stopped = section.rejected;
            return None;
        };
        self.stopped |= section.rejected;
        if self.leaving == Leaving::Told {
            self.leaving = Leaving::No;
        }
        let mut codecs = section.codecs;
        codecs::prune(&mut codecs, kind);
        self.answered = Some(Answered {
            receives: section.direction.receives() && !section.rejected,
            codecs,
            extensions: extensions::accept(&section.extensions, kind),
        });
        let out = self.outgoing.as_ref().filter(|_| self.offered)?;
        let usable = !self.stopped && self.takes(out);
        let refused = (!usable).then_some(out.track);
        if refused.is_some() {
            self.release();
        }
        refused
    }

    /// Has the client a codec for it, as far as it ever said?
    pub(super) fn takes(&self, forwarding: &Forwarding) -> bool {
        self.answered.as_ref().is_none_or(|answered| {
            codecs::find(&answered.codecs, forwarding.kind(), &forwarding.format()).is_some()
        })
    }

    /// Has the client answered it, and is it still used, for this kind?
    pub(super) fn speaks_for(&self, kind: MediaKind) -> bool {
        matches!(self.purpose, Purpose::Media(own) if own == kind)
            && self.answered.is_some()
            && !self.stopped
    }

    /// What we send in it by the last answer.
    pub(super) fn sending(&self, enabled: &[Codec]) -> Option<Sending> {
        let answered = self
            .answered
            .as_ref()
            .filter(|answered| answered.receives)?;
        let out = self.outgoing.as_ref().filter(|_| self.offered)?;
        let kind = out.kind();
        let codec = codecs::find(&answered.codecs, kind, &out.format())?;
        let rtx = codecs::rtx_of(&answered.codecs, codec.payload_type);
        let formats = sent_formats(&answered.codecs, kind, enabled);
        Some(Sending {
            mid: self.mid.clone(),
            track: out.track,
            ssrc: out.ssrc,
            rtx_ssrc: out.rtx_ssrc.filter(|_| rtx.is_some()),
            payload_type: codec.payload_type,
            rtx_payload_type: rtx,
            red_payload_type: red_among(&formats),
            formats,
            extensions: extensions::ids(&answered.extensions),
            feedback: Feedback::of(codec),
        })
    }
}
