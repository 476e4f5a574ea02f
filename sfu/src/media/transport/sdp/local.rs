//! Our descriptions as typed data, and the attribute lines they become.
//!
//! Owns the shape of each section (LK: signalling §6.4) and their order of lines; decides nothing.
//! Called by `sdp.rs`, filled by `negotiation.rs`.

use super::section::{Direction, Extension, Flags, MediaLine, RtpCodec};
use crate::media::message::StreamLabel;

/// The largest data-channel message we read; announcing more would abort the channel when it comes.
/// (LK: signalling §6.9)
const MAX_MESSAGE_SIZE: &str = "65535";
/// The only port WebRTC uses inside SCTP (RFC 8841 §4).
const SCTP_PORT: &str = "5000";

/// One attribute line: name and value; an empty value is a flag.
pub(super) type Line = (String, String);

/// Our side of the transport, the same in every section.
#[derive(Clone, PartialEq, Eq)]
pub struct Local {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// `sha-256 AA:BB:…` of our certificate.
    pub fingerprint: String,
    /// `candidate:…` lines, all there are.
    pub candidates: Vec<String>,
    /// Session id of the `o=` line, the same for the life of the peer.
    pub session_id: u64,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("ufrag", &self.ufrag)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

/// Which half of offer and answer a description is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We offer, and leave the DTLS role to the client.
    Offer,
    /// We offer to be the DTLS server.
    PassiveOffer,
    /// We answer. A lite agent is no DTLS client: a full one reaches us first.
    Answer,
}

impl Role {
    /// The value of `a=setup` (RFC 8842 §5).
    const fn setup(self) -> &'static str {
        match self {
            Self::Offer => "actpass",
            Self::PassiveOffer | Self::Answer => "passive",
        }
    }
}

/// A whole description of ours: the answer to a client's offer, or an offer.
#[derive(Debug, Clone)]
pub struct LocalDescription {
    /// Offer or answer.
    pub role: Role,
    /// Version of the `o=` line: counts the descriptions of a connection.
    pub version: u64,
    /// `extmap-allow-mixed` at session level; in an answer if the offer has it there.
    pub extmap_allow_mixed: bool,
    /// One for each m-line, in their order.
    pub sections: Vec<LocalSection>,
}

/// One section of a description.
#[derive(Debug, Clone)]
pub struct LocalSection {
    /// Its mid.
    pub mid: String,
    /// Its `m=` line; in an answer the offer's.
    pub line: MediaLine,
    /// What we make of it.
    pub body: Body,
}

/// What a section is for.
#[derive(Debug, Clone)]
pub enum Body {
    /// Port 0.
    Rejected,
    /// Data channels.
    Application,
    /// Audio or video.
    Media(Box<LocalMedia>),
}

/// An audio or video section.
#[derive(Debug, Clone)]
pub struct LocalMedia {
    /// Our direction.
    pub direction: Direction,
    /// Its flags; in an answer the offer's.
    pub flags: Flags,
    /// Codecs in our order.
    pub codecs: Vec<RtpCodec>,
    /// Extensions; in an answer with the offer's ids.
    pub extensions: Vec<Extension>,
    /// Rids we receive; mirrored.
    pub rids: Vec<String>,
    /// Mirror `a=simulcast` too.
    pub simulcast: bool,
    /// The stream we send.
    pub stream: Option<SentStream>,
}

/// A stream we send in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentStream {
    /// Its msid and CNAME.
    pub label: StreamLabel,
    /// Its SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
}

impl LocalSection {
    /// Is it part of the bundle?
    #[must_use]
    pub const fn accepted(&self) -> bool {
        !matches!(self.body, Body::Rejected)
    }

    /// The formats of its `m=` line.
    pub(super) fn formats(&self) -> Vec<String> {
        match &self.body {
            Body::Media(media) => media
                .codecs
                .iter()
                .map(|c| c.payload_type.to_string())
                .collect(),
            Body::Rejected if self.line.proto.contains("RTP/") => vec!["0".to_owned()],
            Body::Rejected | Body::Application => self.line.formats.clone(),
        }
    }

    /// Its attribute lines; `first` adds the candidates.
    pub(super) fn lines(&self, local: &Local, role: Role, first: bool) -> Vec<Line> {
        let mut lines = Lines(Vec::new());
        if !self.mid.is_empty() {
            lines.value("mid", &self.mid);
        }
        if !self.accepted() {
            lines.flag(Direction::Inactive.name());
            return lines.0;
        }
        lines.value("setup", role.setup());
        lines.value("ice-ufrag", &local.ufrag);
        lines.value("ice-pwd", &local.pwd);
        match &self.body {
            Body::Media(media) => media.lines(&mut lines),
            Body::Application => {
                lines.flag(Direction::SendRecv.name());
                lines.value("sctp-port", SCTP_PORT);
                lines.value("max-message-size", MAX_MESSAGE_SIZE);
            }
            Body::Rejected => {}
        }
        if first && !local.candidates.is_empty() {
            for candidate in &local.candidates {
                let value = candidate.strip_prefix("candidate:").unwrap_or(candidate);
                lines.value("candidate", value);
            }
            lines.flag("end-of-candidates");
        }
        lines.0
    }
}

impl LocalMedia {
    fn lines(&self, lines: &mut Lines) {
        lines.flag("rtcp-mux");
        if self.flags.rtcp_rsize {
            lines.flag("rtcp-rsize");
        }
        if self.flags.extmap_allow_mixed {
            lines.flag("extmap-allow-mixed");
        }
        for codec in &self.codecs {
            let pt = codec.payload_type;
            lines.value("rtpmap", &format!("{pt} {}", codec.rtpmap));
            if let Some(fmtp) = &codec.fmtp {
                lines.value("fmtp", &format!("{pt} {fmtp}"));
            }
            for feedback in &codec.feedback {
                lines.value("rtcp-fb", &format!("{pt} {feedback}"));
            }
        }
        for Extension { id, uri } in &self.extensions {
            lines.value("extmap", &format!("{id} {uri}"));
        }
        if let Some(stream) = &self.stream {
            stream.lines(lines);
        }
        for rid in &self.rids {
            lines.value("rid", &format!("{rid} recv"));
        }
        if self.simulcast {
            lines.value("simulcast", &format!("recv {}", self.rids.join(";")));
        }
        lines.flag(self.direction.name());
    }
}

impl SentStream {
    fn lines(&self, lines: &mut Lines) {
        let StreamLabel {
            stream_id,
            track_id,
        } = &self.label;
        if let Some(rtx) = self.rtx_ssrc {
            lines.value("ssrc-group", &format!("FID {} {rtx}", self.ssrc));
        }
        for ssrc in [Some(self.ssrc), self.rtx_ssrc].into_iter().flatten() {
            lines.value("ssrc", &format!("{ssrc} cname:{stream_id}"));
            lines.value("ssrc", &format!("{ssrc} msid:{stream_id} {track_id}"));
        }
        lines.value("msid", &format!("{stream_id} {track_id}"));
    }
}

struct Lines(Vec<Line>);

impl Lines {
    fn flag(&mut self, name: &str) {
        self.0.push((name.to_owned(), String::new()));
    }

    fn value(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }
}
