//! Session descriptions: a client's text becomes typed sections, our typed sections become text.
//!
//! Owns the grammar and its limits, by way of `rtc-sdp`, which only this file names. It never judges
//! a description nor chooses anything for one: `negotiation.rs`, its only caller, does.

mod section;
mod local;

pub use local::{Body, Local, LocalDescription, LocalMedia, LocalSection, Role, SentStream};
pub use section::{
    Direction, Extension, Flags, MediaLine, RtpCodec, Section, SectionKind, Setup, Streams,
    TransportLines,
};

use rtc_sdp::description::common::{Address, Attribute, ConnectionInformation};
use rtc_sdp::description::media::{MediaDescription, MediaName, RangedPort};
use rtc_sdp::description::session::{Origin, SessionDescription, TimeDescription};
use std::collections::BTreeSet;
use std::io::Cursor;

/// Longest description we read, in bytes. A receiving video section of Chromium is 5 KB: this is room for
/// 170 of them with their audio.
pub const MAX_BYTES: usize = 1 << 20;
/// Most sections of a description: 250 remote participants with camera and microphone.
pub const MAX_SECTIONS: usize = 512;
/// The port of a section that is not stopped; the real one stands in the candidates (RFC 8840 §4.1.1).
const DISCARD_PORT: isize = 9;

/// Why a text is no description we can read. Names no content: a description holds a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than [`MAX_BYTES`].
    #[error("the description is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// More than [`MAX_SECTIONS`].
    #[error("the description has more than {MAX_SECTIONS} sections")]
    TooManySections,
    /// Not a session description.
    #[error("the description is not a session description")]
    Syntax,
    /// A section has no mid, or one that cannot be a header extension.
    #[error("section {0} of the description has no usable mid")]
    BadMid(usize),
    /// Two sections have the same mid.
    #[error("section {0} of the description repeats a mid")]
    RepeatedMid(usize),
    /// More than one BUNDLE group.
    #[error("the description has several BUNDLE groups")]
    SeveralBundles,
}

/// What a client said of a connection: an offer, or the answer to ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDescription {
    /// Its sections in order.
    pub sections: Vec<Section>,
    /// The mids of its BUNDLE group.
    pub bundle: BTreeSet<String>,
    /// `extmap-allow-mixed` at session level.
    pub extmap_allow_mixed: bool,
}

impl RemoteDescription {
    /// Reads a description.
    ///
    /// # Errors
    /// [`ParseError`] when the text is too long, no SDP, or its sections cannot be told apart.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            return Err(ParseError::TooLong);
        }
        // A bare CR inside a line would be a line end to somebody else who reads our answer.
        let stray = |line: &str| line.strip_suffix('\r').unwrap_or(line).contains('\r');
        if text.split('\n').any(stray) {
            return Err(ParseError::Syntax);
        }
        let description = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|_| ParseError::Syntax)?;
        if description.media_descriptions.len() > MAX_SECTIONS {
            return Err(ParseError::TooManySections);
        }
        let session = read_session(&description.attributes)?;
        let mut sections = Vec::with_capacity(description.media_descriptions.len());
        let mut mids = BTreeSet::new();
        for (index, media) in description.media_descriptions.into_iter().enumerate() {
            let section = read_section(media, &session).ok_or(ParseError::BadMid(index))?;
            if !section.mid.is_empty() && !mids.insert(section.mid.clone()) {
                return Err(ParseError::RepeatedMid(index));
            }
            sections.push(section);
        }
        Ok(Self {
            sections,
            bundle: session.bundle.unwrap_or_default(),
            extmap_allow_mixed: session.extmap_allow_mixed,
        })
    }
}

/// What the session level says.
#[derive(Default)]
struct SessionLevel {
    bundle: Option<BTreeSet<String>>,
    transport: TransportLines,
    direction: Option<Attribute>,
    extmap_allow_mixed: bool,
}

fn pairs(attributes: &[Attribute]) -> impl Iterator<Item = (&str, &str)> + Clone {
    attributes
        .iter()
        .map(|a| (a.key.as_str(), a.value.as_deref().unwrap_or_default()))
}

fn read_session(attributes: &[Attribute]) -> Result<SessionLevel, ParseError> {
    let mut session = SessionLevel::default();
    for (key, value) in pairs(attributes) {
        match key {
            "group" => {
                let mut words = value.split_ascii_whitespace();
                if words.next() != Some("BUNDLE") {
                    continue;
                }
                let mids = words.map(str::to_owned).collect();
                if session.bundle.replace(mids).is_some() {
                    return Err(ParseError::SeveralBundles);
                }
            }
            "extmap-allow-mixed" => session.extmap_allow_mixed = true,
            "sendrecv" | "sendonly" | "recvonly" | "inactive" => {
                session.direction = Some(Attribute::new(key.to_owned(), None));
            }
            _ => {
                session.transport.handle(key, value);
            }
        }
    }
    Ok(session)
}

fn read_section(media: MediaDescription, session: &SessionLevel) -> Option<Section> {
    let line = MediaLine {
        media: media.media_name.media,
        proto: media.media_name.protos.join("/"),
        formats: media.media_name.formats,
    };
    // The session's direction is every section's default: read before the section's own.
    let mut attributes: Vec<Attribute> = session.direction.iter().cloned().collect();
    attributes.extend(media.attributes);
    let mut section = Section::read(line, media.media_name.port.value, pairs(&attributes))?;
    section.transport.or(&session.transport);
    Some(section)
}

impl LocalDescription {
    /// The description as text.
    #[must_use]
    pub fn write(&self, local: &Local) -> String {
        let accepted = self.sections.iter().filter(|section| section.accepted());
        let mut bundle = "BUNDLE".to_owned();
        for section in accepted {
            bundle.push(' ');
            bundle.push_str(&section.mid);
        }
        let mut attributes = vec![
            attribute("msid-semantic", "WMS *"),
            attribute("fingerprint", &local.fingerprint),
            attribute("ice-lite", ""),
        ];
        if self.extmap_allow_mixed {
            attributes.push(attribute("extmap-allow-mixed", ""));
        }
        attributes.push(attribute("group", &bundle));
        let first = self.sections.iter().position(LocalSection::accepted);
        let sections = self.sections.iter().enumerate();
        let description = SessionDescription {
            origin: self.origin(local),
            session_name: "-".to_owned(),
            time_descriptions: vec![TimeDescription::default()],
            attributes,
            media_descriptions: sections
                .map(|(index, section)| {
                    let lines = section.lines(local, self.role, Some(index) == first);
                    write_section(section, &lines)
                })
                .collect(),
            ..SessionDescription::default()
        };
        description.marshal()
    }

    fn origin(&self, local: &Local) -> Origin {
        Origin {
            username: "-".to_owned(),
            session_id: local.session_id,
            session_version: self.version,
            network_type: "IN".to_owned(),
            address_type: "IP4".to_owned(),
            unicast_address: "0.0.0.0".to_owned(),
        }
    }
}

fn write_section(section: &LocalSection, lines: &[(String, String)]) -> MediaDescription {
    MediaDescription {
        media_name: MediaName {
            media: section.line.media.clone(),
            port: RangedPort {
                value: if section.accepted() { DISCARD_PORT } else { 0 },
                range: None,
            },
            protos: section.line.proto.split('/').map(str::to_owned).collect(),
            formats: section.formats(),
        },
        connection_information: Some(ConnectionInformation {
            network_type: "IN".to_owned(),
            address_type: "IP4".to_owned(),
            address: Some(Address {
                address: "0.0.0.0".to_owned(),
                ttl: None,
                range: None,
            }),
        }),
        attributes: lines
            .iter()
            .map(|(key, value)| attribute(key, value))
            .collect(),
        ..MediaDescription::default()
    }
}

fn attribute(key: &str, value: &str) -> Attribute {
    let value = (!value.is_empty()).then(|| value.to_owned());
    Attribute::new(key.to_owned(), value)
}

#[cfg(test)]
mod tests;
