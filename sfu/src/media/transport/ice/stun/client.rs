//! The client's half, which only tests need: any check at all, and an answer with every rule kept.

use super::response::Response;
use super::*;

/// What a check says.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Check<'a> {
    pub(in super::super) username: Option<&'a str>,
    pub(in super::super) password: Option<&'a str>,
    pub(in super::super) priority: u32,
    pub(in super::super) nominate: bool,
    pub(in super::super) controlled: bool,
    pub(in super::super) extra: &'a [(u16, &'a [u8])],
}

impl Check<'_> {
    /// The check as sent.
    pub(in super::super) fn bytes(&self) -> Vec<u8> {
        let mut out = [0; 512];
        let mut writer = Writer::new(&mut out, STUN_BINDING_REQUEST, b"transaction!");
        let mut add = |kind: u16, value: &[u8]| {
            writer.head(kind, value.len());
            writer.bytes(value);
            writer.pad();
        };
        for (kind, value) in self.extra {
            add(*kind, value);
        }
        if let Some(username) = self.username {
            add(STUN_USERNAME, username.as_bytes());
        }
        add(attribute::PRIORITY, &self.priority.to_be_bytes());
        let role = if self.controlled {
            attribute::ICE_CONTROLLED
        } else {
            attribute::ICE_CONTROLLING
        };
        add(role, &[9; 8]);
        if self.nominate {
            add(attribute::USE_CANDIDATE, &[]);
        }
        let writer = match self.password {
            Some(password) => writer.sign(&Key::new(password)),
            None => writer,
        };
        let len = writer.finish().expect("room");
        out[..len].to_vec()
    }
}

/// Puts the right fingerprint at the end of a changed message.
pub(in super::super) fn mark(message: &mut [u8]) {
    let (head, fingerprint) = message.split_at_mut(message.len() - 8);
    fingerprint[4..].copy_from_slice(&(crc32(head) ^ FINGERPRINT_XOR).to_be_bytes());
}

impl Writer<'_> {
    /// The message, finished.
    pub(in super::super) fn into_bytes(self) -> Vec<u8> {
        let Self { out, len, overflow } = self;
        let again = Writer {
            out: &mut *out,
            len,
            overflow,
        };
        let len = again.finish().expect("room");
        out[..len].to_vec()
    }
}

/// An answer with all that is in it.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Answer {
    pub(in super::super) error: Option<u16>,
    pub(in super::super) mapped: Option<SocketAddr>,
    pub(in super::super) unknown: Vec<u16>,
    pub(in super::super) signed: bool,
}

/// Reads an answer, insisting on a right fingerprint at its end, and on a right signature if there is one.
pub(in super::super) fn read(datagram: &[u8], password: &str) -> Answer {
    let response = Response::parse(datagram).expect("an answer");
    let (head, fingerprint) = datagram.split_at(datagram.len() - 8);
    let expected = (crc32(head) ^ FINGERPRINT_XOR).to_be_bytes();
    assert_eq!(fingerprint[..4], [0x80, 0x28, 0, 4]);
    assert_eq!(fingerprint[4..], expected);
    assert!(!response.is_signed() || response.verify(&Key::new(password)));
    let unknown = StunAttributes::of(datagram)
        .filter(|(kind, _, _)| *kind == attribute::UNKNOWN_ATTRIBUTES)
        .flat_map(|(_, _, value)| value.chunks(2))
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    Answer {
        error: response.error,
        mapped: response.mapped,
        unknown: unknown.collect(),
        signed: response.is_signed(),
    }
}
