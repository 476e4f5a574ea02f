//! One m-section of an offer as typed data, read from its attribute lines.
//!
//! Owns what each attribute means and how much of it is kept. Unknown attributes are skipped, unusable
//! ones too: an offer is refused only for what breaks the association (see `negotiation.rs`).
//! Called by `sdp.rs`.

use crate::config::codecs::Codec;
use crate::ids::MediaKind;

/// SSRCs kept of one section: three layers with RTX and FEC are nine; the rest is ignored.
const MAX_SSRCS: usize = 32;
/// Rids kept of one section: LiveKit clients send at most three.
const MAX_RIDS: usize = 8;
/// Header extensions kept of one section: two-byte headers could name 255, browsers offer 16.
const MAX_EXTENSIONS: usize = 64;
/// Feedback lines kept for one codec: browsers offer five.
const MAX_FEEDBACK: usize = 16;
/// Certificates may have one fingerprint for each hash; more than these is no browser.
const MAX_FINGERPRINTS: usize = 8;
/// Longest mid or rid, in bytes: what a one-byte header extension carries (RFC 8285 §4.2).
const MAX_TOKEN: usize = 16;

/// The `m=` line without its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaLine {
    /// `audio`, `video`, `application`, …
    pub media: String,
    /// `UDP/TLS/RTP/SAVPF`, …
    pub proto: String,
    /// Payload types, or `webrtc-datachannel`.
    pub formats: Vec<String>,
}

impl MediaLine {
    /// A line with one format, or none yet.
    #[must_use]
    pub fn new(media: &str, proto: &str, format: &str) -> Self {
        let format = (!format.is_empty()).then(|| format.to_owned());
        Self {
            media: media.to_owned(),
            proto: proto.to_owned(),
            formats: format.into_iter().collect(),
        }
    }
}

/// What a section carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// RTP over DTLS-SRTP.
    Media(MediaKind),
    /// Data channels.
    Application,
    /// Anything we never accept.
    Unknown,
}

/// Who sends, as the author of the description sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both; also what a section without a direction means (RFC 8866 §6.7).
    #[default]
    SendRecv,
    /// The author only sends.
    SendOnly,
    /// The author only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From its two halves.
    #[must_use]
    pub const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// May the author send?
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Is the author ready to receive?
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The attribute's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [
            Self::SendRecv,
            Self::SendOnly,
            Self::RecvOnly,
            Self::Inactive,
        ]
        .into_iter()
        .find(|direction| direction.name() == name)
    }
}

/// The DTLS role the offerer leaves us (RFC 8842 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// The offerer can be the client: we may answer `passive`.
    CanBeClient,
    /// The offerer insists on being the server, or on no association.
    Other,
}

/// The transport attributes of a section, or of the session where a section has none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TransportLines {
    /// `ice-ufrag`.
    pub ufrag: Option<String>,
    /// `ice-pwd`.
    pub pwd: Option<String>,
    /// `sha-256 AA:BB:…`: hash in lower case, hex in upper case.
    pub fingerprints: Vec<String>,
    /// `setup`.
    pub setup: Option<Setup>,
}

impl std::fmt::Debug for TransportLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportLines")
            .field("ufrag", &self.ufrag)
            .field("fingerprints", &self.fingerprints)
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}

impl TransportLines {
    /// Takes one attribute; true if it was a transport attribute.
    pub(super) fn handle(&mut self, key: &str, value: &str) -> bool {
        match key {
            "ice-ufrag" => self.ufrag = Some(value.to_owned()),
            "ice-pwd" => self.pwd = Some(value.to_owned()),
            "fingerprint" if self.fingerprints.len() < MAX_FINGERPRINTS => {
                if let Some((hash, hex)) = value.split_once(' ') {
                    let (hash, hex) = (hash.to_ascii_lowercase(), hex.trim().to_ascii_uppercase());
                    self.fingerprints.push(format!("{hash} {hex}"));
                }
            }
            "setup" => {
                self.setup = Some(match value {
                    "actpass" | "active" => Setup::CanBeClient,
                    _ => Setup::Other,
                });
            }
            _ => return false,
        }
        true
    }

    /// Fills what is missing from the session level.
    pub(super) fn or(&mut self, session: &Self) {
        if self.ufrag.is_none() && self.pwd.is_none() {
            self.ufrag.clone_from(&session.ufrag);
            self.pwd.clone_from(&session.pwd);
        }
        if self.fingerprints.is_empty() {
            self.fingerprints.clone_from(&session.fingerprints);
        }
        self.setup = self.setup.or(session.setup);
    }
}

/// One payload type of a section with what belongs to it, texts verbatim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpCodec {
    /// The payload type.
    pub payload_type: u8,
    /// `opus/48000/2`, …
    pub rtpmap: String,
    /// Format parameters.
    pub fmtp: Option<String>,
    /// `nack pli`, …
    pub feedback: Vec<String>,
}

impl RtpCodec {
    /// The codec if we know it by name, clock and channels.
    #[must_use]
    pub fn codec(&self, kind: MediaKind) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| {
            let (_, name) = codec.mime().split_once('/').unwrap_or_default();
            let mut parts = self.rtpmap.split('/');
            codec.kind() == kind
                && parts
                    .next()
                    .is_some_and(|own| own.eq_ignore_ascii_case(name))
                && parts.next().and_then(|clock| clock.parse().ok()) == Some(codec.clock_rate())
                && parts.next().filter(|channels| *channels != "1") == codec.channels()
        })
    }

    /// For a retransmission format: the payload type it retransmits (RFC 4588 §8.6).
    #[must_use]
    pub fn apt(&self) -> Option<u8> {
        let (name, _) = self.rtpmap.split_once('/')?;
        if !name.eq_ignore_ascii_case("rtx") {
            return None;
        }
        let params = self.fmtp.as_deref()?.split(';');
        let apt = params
            .filter_map(|param| param.trim().strip_prefix("apt="))
            .next()?;
        apt.parse().ok()
    }
}

/// A header extension with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// 1 to 14, or up to 255 with two-byte headers; never 15 (RFC 8285).
    pub id: u8,
    /// Its URI.
    pub uri: String,
}

/// What the offerer says of the streams it sends in a section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Streams {
    /// The track id: second token of `a=msid`, else of an SSRC's `msid`.
    pub track_id: Option<String>,
    /// Every announced SSRC, in order.
    pub ssrcs: Vec<u32>,
    /// `ssrc-group:FID`: a stream and its retransmission.
    pub fid: Vec<(u32, u32)>,
    /// `ssrc-group:SIM`: the layers, lowest first.
    pub sim: Vec<u32>,
    /// Rids it sends, in the order of `a=simulcast`, else of the `a=rid` lines.
    pub rids: Vec<String>,
    /// Was there an `a=simulcast` line that sends?
    pub simulcast: bool,
}

/// One m-section of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name; empty only for a stopped one that lost it.
    pub mid: String,
    /// The `m=` line.
    pub line: MediaLine,
    /// What it carries.
    pub kind: SectionKind,
    /// Port 0 and not bundle-only (RFC 9143 §6): it is stopped.
    pub rejected: bool,
    /// The offerer's direction.
    pub direction: Direction,
    /// Transport, with the session's where it has none of its own.
    pub transport: TransportLines,
    /// Its flags.
    pub flags: Flags,
    /// Codecs in the order of the `m=` line.
    pub codecs: Vec<RtpCodec>,
    /// Header extensions, each id and each URI once.
    pub extensions: Vec<Extension>,
    /// What the offerer sends in it.
    pub streams: Streams,
}

/// Attributes that are there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// `rtcp-mux`.
    pub rtcp_mux: bool,
    /// `rtcp-rsize`.
    pub rtcp_rsize: bool,
    /// `extmap-allow-mixed` in the section itself.
    pub extmap_allow_mixed: bool,
}

impl Section {
    /// Reads a section. `None` without a usable mid; only a stopped one may have none at all.
    pub(super) fn read<'a>(
        line: MediaLine,
        port: isize,
        attributes: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Option<Self> {
        let mid = attributes.clone().find(|(key, _)| *key == "mid");
        let mid = mid.map_or("", |(_, mid)| mid);
        let bundle_only = attributes.clone().any(|(key, _)| key == "bundle-only");
        let rejected = port == 0 && !bundle_only;
        if mid.len() > MAX_TOKEN
            || mid.contains(char::is_whitespace)
            || (mid.is_empty() && !rejected)
        {
            return None;
        }
        let mut section = Self {
            mid: mid.to_owned(),
            kind: kind(&line),
            rejected,
            direction: Direction::default(),
            transport: TransportLines::default(),
            flags: Flags::default(),
            codecs: codec_slots(&line),
            extensions: Vec::new(),
            streams: Streams::default(),
            line,
        };
        for (key, value) in attributes.clone() {
            section.handle(key, value);
        }
        section.codecs.retain(|codec| !codec.rtpmap.is_empty());
        section.streams.read_simulcast(attributes);
        Some(section)
    }

    fn handle(&mut self, key: &str, value: &str) {
        if self.transport.handle(key, value) {
            return;
        }
        if let Some(direction) = Direction::from_name(key) {
            self.direction = direction;
            return;
        }
        match key {
            "rtcp-mux" => self.flags.rtcp_mux = true,
            "rtcp-rsize" => self.flags.rtcp_rsize = true,
            "extmap-allow-mixed" => self.flags.extmap_allow_mixed = true,
            "rtpmap" | "fmtp" | "rtcp-fb" => self.handle_codec(key, value),
            "extmap" => self.handle_extension(value),
            "msid" => self.streams.handle_msid(value, true),
            "ssrc" => self.streams.handle_ssrc(value),
            "ssrc-group" => self.streams.handle_group(value),
            _ => {}
        }
    }

    fn handle_codec(&mut self, key: &str, value: &str) {
        let Some((format, text)) = value.split_once(' ') else {
            return;
        };
        let every = key == "rtcp-fb" && format == "*";
        let payload_type: Option<u8> = format.parse().ok();
        for codec in &mut self.codecs {
            if !every && Some(codec.payload_type) != payload_type {
                continue;
            }
            match key {
                "rtpmap" => codec.rtpmap = text.trim().to_owned(),
                "fmtp" => codec.fmtp = Some(text.trim().to_owned()),
                _ if codec.feedback.len() < MAX_FEEDBACK => {
                    codec.feedback.push(text.trim().to_owned());
                }
                _ => {}
            }
        }
    }

    fn handle_extension(&mut self, value: &str) {
        let mut parts = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (parts.next(), parts.next()) else {
            return;
        };
        // `3/sendonly` gives the extension a direction of its own.
        let id = id.split('/').next().and_then(|id| id.parse::<u8>().ok());
        let Some(id) = id.filter(|id| *id != 0 && *id != 15) else {
            return;
        };
        let known = self.extensions.iter().any(|e| e.id == id || e.uri == uri);
        if !known && self.extensions.len() < MAX_EXTENSIONS {
            let uri = uri.to_owned();
            self.extensions.push(Extension { id, uri });
        }
    }
}

impl Streams {
    fn handle_msid(&mut self, value: &str, section_level: bool) {
        let track_id = value.split_ascii_whitespace().nth(1);
        if let Some(track_id) = track_id
            && (section_level || self.track_id.is_none())
        {
            self.track_id = Some(track_id.to_owned());
        }
    }

    fn handle_ssrc(&mut self, value: &str) {
        let (ssrc, attribute) = value.split_once(' ').unwrap_or((value, ""));
        let Ok(ssrc) = ssrc.parse::<u32>() else {
            return;
        };
        if !self.ssrcs.contains(&ssrc) && self.ssrcs.len() < MAX_SSRCS {
            self.ssrcs.push(ssrc);
        }
        if let Some(msid) = attribute.strip_prefix("msid:") {
            self.handle_msid(msid, false);
        }
    }

    fn handle_group(&mut self, value: &str) {
        let mut parts = value.split_ascii_whitespace();
        let semantics = parts.next();
        let ssrcs = parts.map(str::parse).take(MAX_SSRCS);
        let Ok(ssrcs) = ssrcs.collect::<Result<Vec<u32>, _>>() else {
            return;
        };
        match (semantics, ssrcs.as_slice()) {
            (Some("FID"), [media, rtx]) if self.fid.len() < MAX_SSRCS => {
                self.fid.push((*media, *rtx));
            }
            (Some("SIM"), _) if self.sim.is_empty() => self.sim = ssrcs,
            _ => {}
        }
    }

    /// Rids in sending order (RFC 8853): `a=simulcast:send q;h;~f recv …`. A pause mark is dropped,
    /// of alternatives the first is taken. (LK: signalling §6.6)
    fn read_simulcast<'a>(&mut self, attributes: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut named = Vec::new();
        let mut ordered = Vec::new();
        for (key, value) in attributes {
            let mut words = value.split_ascii_whitespace();
            match key {
                "rid" => {
                    if let (Some(rid), Some("send")) = (words.next(), words.next()) {
                        push_rid(&mut named, rid);
                    }
                }
                "simulcast" => {
                    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
                        if direction != "send" {
                            continue;
                        }
                        for alternatives in list.split(';') {
                            let first = alternatives.split(',').next().unwrap_or_default();
                            push_rid(&mut ordered, first.trim_start_matches('~'));
                        }
                    }
                }
                _ => {}
            }
        }
        ordered.retain(|rid| named.contains(rid));
        self.simulcast = !ordered.is_empty();
        self.rids = if self.simulcast { ordered } else { named };
    }
}

fn push_rid(rids: &mut Vec<String>, rid: &str) {
    let usable = !rid.is_empty()
        && rid.len() <= MAX_TOKEN
        && rid
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if usable && rids.len() < MAX_RIDS && !rids.iter().any(|known| known == rid) {
        rids.push(rid.to_owned());
    }
}

fn kind(line: &MediaLine) -> SectionKind {
    let rtp = line.proto.ends_with("RTP/SAVPF");
    match line.media.as_str() {
        "audio" if rtp => SectionKind::Media(MediaKind::Audio),
        "video" if rtp => SectionKind::Media(MediaKind::Video),
        "application"
            if line.proto.ends_with("/DTLS/SCTP")
                && line
                    .formats
                    .first()
                    .is_some_and(|f| f == "webrtc-datachannel") =>
        {
            SectionKind::Application
        }
        _ => SectionKind::Unknown,
    }
}

/// One empty slot for each payload type of the `m=` line; at most 128 exist.
fn codec_slots(line: &MediaLine) -> Vec<RtpCodec> {
    let mut slots: Vec<RtpCodec> = Vec::new();
    for format in &line.formats {
        let Some(payload_type) = format.parse::<u8>().ok().filter(|pt| *pt < 128) else {
            continue;
        };
        if slots.iter().all(|slot| slot.payload_type != payload_type) {
            let known = Codec::ALL.into_iter();
            let mut known = known.filter(|codec| {
                line.media == "audio" && codec.static_payload_type() == Some(payload_type)
            });
            slots.push(RtpCodec {
                payload_type,
                rtpmap: known.next().map(static_rtpmap).unwrap_or_default(),
                fmtp: None,
                feedback: Vec::new(),
            });
        }
    }
    slots
}

/// What a payload type means that needs no `rtpmap` (RFC 3551 §6).
fn static_rtpmap(codec: Codec) -> String {
    let (_, name) = codec.mime().split_once('/').unwrap_or_default();
    format!("{name}/{}", codec.clock_rate())
}
