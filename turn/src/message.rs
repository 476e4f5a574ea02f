//! STUN messages on the wire: read in place, written into a caller's buffer. (RFC 8489 §5, §14)
//!
//! Owns the format, MESSAGE-INTEGRITY and FINGERPRINT. It decides nothing: who may ask and what is
//! answered is the server's, its caller. Reading never allocates.

pub mod algorithm;
pub mod attribute;
pub mod integrity;
pub mod writer;

use attribute::{Attributes, FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256};
use integrity::{Key, Signature};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(test)]
mod tests;

/// Bytes of a header.
pub const HEADER: usize = 20;
/// The fixed second word. (RFC 8489 §5)
pub const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// What the CRC of FINGERPRINT is XORed with. (RFC 8489 §14.7)
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// Unknown attributes reported in one answer. (our limit; a request of a good client has none)
const UNKNOWN_MAX: usize = 8;

/// A transaction's id.
pub type Transaction = [u8; 12];

/// Methods. (RFC 8489 §18.2, RFC 8656 §17)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Which address do you see?
    Binding,
    /// Make an allocation.
    Allocate,
    /// Keep or end it.
    Refresh,
    /// Data to a peer.
    Send,
    /// Data from a peer.
    Data,
    /// Let peers in.
    CreatePermission,
    /// A short form for a peer.
    ChannelBind,
}

impl Method {
    const ALL: [(Self, u16); 7] = [
        (Self::Binding, 1),
        (Self::Allocate, 3),
        (Self::Refresh, 4),
        (Self::Send, 6),
        (Self::Data, 7),
        (Self::CreatePermission, 8),
        (Self::ChannelBind, 9),
    ];

    fn from_number(number: u16) -> Option<Self> {
        let known = Self::ALL.iter().find(|(_, known)| *known == number);
        known.map(|(method, _)| *method)
    }

    fn number(self) -> u16 {
        let known = Self::ALL.iter().find(|(method, _)| *method == self);
        known.map_or(0, |(_, number)| *number)
    }
}

/// Classes. (RFC 8489 §5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// It was done.
    Success,
    /// It was not.
    Error,
}

/// A type word from its parts: the class sits between the bits of the method.
#[must_use]
pub fn kind(method: Method, class: Class) -> u16 {
    let number = method.number();
    let class = match class {
        Class::Request => 0,
        Class::Indication => 0x10,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    (number & 0x0F80) << 2 | (number & 0x70) << 1 | number & 0xF | class
}

fn parts(kind: u16) -> (u16, Class) {
    let method = (kind & 0x3E00) >> 2 | (kind & 0xE0) >> 1 | kind & 0xF;
    let class = match kind & 0x110 {
        0 => Class::Request,
        0x10 => Class::Indication,
        0x100 => Class::Success,
        _ => Class::Error,
    };
    (method, class)
}

/// Why bytes are not a message of STUN. They are dropped without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not STUN, or not whole.
    #[error("not a STUN message")]
    Header,
    /// An attribute overruns the message or has the wrong size.
    #[error("a malformed attribute")]
    Attribute,
    /// FINGERPRINT is wrong or not last.
    #[error("a wrong fingerprint")]
    Fingerprint,
}

/// Types of attributes that must be understood and are not: the first few of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unknown {
    types: [u16; UNKNOWN_MAX],
    len: usize,
}

impl Unknown {
    /// The types.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        self.types.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, kind: u16) {
        if let Some(place) = self.types.get_mut(self.len) {
            *place = kind;
            self.len += 1;
        }
    }
}

/// A well-formed message. Nobody has been authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The method, if it is one of ours.
    pub method: Option<Method>,
    /// The class.
    pub class: Class,
    /// Echoed in the answer.
    pub transaction: Transaction,
    /// A right FINGERPRINT was there; the answer then has one as well.
    pub has_fingerprint: bool,
    bytes: &'a [u8],
    /// Attributes from here on are not covered by an integrity and do not count.
    end: usize,
    signature: Option<(usize, Signature)>,
}

impl<'a> Message<'a> {
    /// Reads a datagram or frame. (RFC 8489 §6.3, §14)
    ///
    /// # Errors
    /// [`Malformed`] for what must be dropped unanswered.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, body) = bytes
            .split_first_chunk::<HEADER>()
            .ok_or(Malformed::Header)?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] > 0x3F || header[4..8] != COOKIE || len != body.len() || !len.is_multiple_of(4)
        {
            return Err(Malformed::Header);
        }
        let (method, class) = parts(u16::from_be_bytes([header[0], header[1]]));
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        let mut message = Self {
            method: Method::from_number(method),
            class,
            transaction,
            has_fingerprint: false,
            bytes,
            end: bytes.len(),
            signature: None,
        };
        message.walk()?;
        Ok(message)
    }

    /// Finds what ends the message: integrity and fingerprint.
    fn walk(&mut self) -> Result<(), Malformed> {
        let mut attributes = Attributes::of(self.bytes);
        for (kind, offset, value) in attributes.by_ref() {
            if self.has_fingerprint {
                return Err(Malformed::Fingerprint);
            }
            match kind {
                // The stronger follows the weaker, and of two of a kind the first counts.
                // (RFC 8489 §14.5, §14.6)
                MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => {
                    let found = Signature::read(kind, value).ok_or(Malformed::Attribute)?;
                    let better = self
                        .signature
                        .is_none_or(|(_, had)| found.is_stronger(&had));
                    if better {
                        self.signature = Some((offset, found));
                    }
                    self.end = self.end.min(offset);
                }
                FINGERPRINT => {
                    let claimed = attribute::word(value).ok_or(Malformed::Attribute)?;
                    let covered = self.bytes.get(..offset).ok_or(Malformed::Attribute)?;
                    if integrity::crc32(covered) ^ FINGERPRINT_XOR != claimed {
                        return Err(Malformed::Fingerprint);
                    }
                    self.has_fingerprint = true;
                    self.end = self.end.min(offset);
                }
                _ => {}
            }
        }
        if attributes.offset() == self.bytes.len() {
            Ok(())
        } else {
            Err(Malformed::Attribute)
        }
    }

    /// The attributes that count: type and value.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let counted = self.bytes.get(..self.end).unwrap_or_default();
        Attributes::of(counted).map(|(kind, _, value)| (kind, value))
    }

    /// The first attribute of a type. (RFC 8489 §14: later ones of a type may be ignored)
    #[must_use]
    pub fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        self.attributes()
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    }

    /// An attribute's value, and where in the message it begins.
    #[must_use]
    pub fn place(&self, wanted: u16) -> Option<(usize, &'a [u8])> {
        let counted = self.bytes.get(..self.end).unwrap_or_default();
        let mut all = Attributes::of(counted);
        let found = all.find(|(kind, ..)| *kind == wanted);
        found.map(|(_, offset, value)| (offset + attribute::HEAD, value))
    }

    /// The first attribute of a type that is an XORed address; `None` also if it is none.
    #[must_use]
    pub fn address(&self, wanted: u16) -> Option<SocketAddr> {
        unmask(self.attribute(wanted)?, &self.transaction)
    }

    /// Types that must be understood and are not among `known`. (RFC 8489 §14)
    #[must_use]
    pub fn unknown(&self, known: &[u16]) -> Unknown {
        let mut unknown = Unknown::default();
        for (kind, _) in self.attributes() {
            if kind < attribute::OPTIONAL && !known.contains(&kind) {
                unknown.push(kind);
            }
        }
        unknown
    }

    /// Does it carry an integrity at all?
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// Is its integrity the one with SHA-256? The answer is then signed alike.
    #[must_use]
    pub const fn is_signed_sha256(&self) -> bool {
        matches!(self.signature, Some((_, Signature::Sha256(_))))
    }

    /// Was it signed with this key?
    #[must_use]
    pub fn verify(&self, key: &Key) -> bool {
        let Some((offset, signature)) = &self.signature else {
            return false;
        };
        self.bytes
            .get(..*offset)
            .is_some_and(|covered| signature.verify(key, covered))
    }
}

/// The address in an XORed attribute. (RFC 8489 §14.2)
#[must_use]
pub fn unmask(value: &[u8], transaction: &Transaction) -> Option<SocketAddr> {
    let (head, ip) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([head[2] ^ COOKIE[0], head[3] ^ COOKIE[1]]);
    let mask = mask(transaction);
    match (head[1], ip.len()) {
        (1, 4) => {
            let octets: [u8; 4] = std::array::from_fn(|n| ip[n] ^ mask[n]);
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), port))
        }
        (2, 16) => {
            let octets: [u8; 16] = std::array::from_fn(|n| ip[n] ^ mask[n]);
            Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)), port))
        }
        _ => None,
    }
}

/// The mask of addresses: the cookie and the transaction.
pub(crate) fn mask(transaction: &Transaction) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&COOKIE);
    mask[4..].copy_from_slice(transaction);
    mask
}
