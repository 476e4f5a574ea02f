//! STUN messages as ICE needs them: binding requests and their answers, read and written.
//!
//! Owns the wire format, MESSAGE-INTEGRITY and FINGERPRINT. It decides nothing: who may ask, what is
//! answered and what is asked is `ice.rs`'s. It never allocates.

pub mod response;

use crate::media::demux::{
    STUN_BINDING_REQUEST, STUN_COOKIE, STUN_HEADER, STUN_USERNAME, StunAttributes,
};
use aws_lc_rs::{constant_time, hmac};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

#[cfg(test)]
pub(super) mod client;
#[cfg(test)]
mod tests;

/// A transaction's id.
pub type Transaction = [u8; 12];

/// Attribute types. (RFC 8489 §18.3, RFC 8445 §20.1)
mod attribute {
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    pub(super) const ICE_CONTROLLING: u16 = 0x802A;
    /// Types from here on may be skipped by who does not know them. (RFC 8489 §14)
    pub(super) const OPTIONAL: u16 = 0x8000;
}

/// Types of answers to a binding request. (RFC 8489 §5)
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// PRIORITY of our checks: that of a peer-reflexive candidate, component 1. (RFC 8445 §5.1.2.1)
const CHECK_PRIORITY: u32 = 110 << 24 | 0xFFFF << 8 | 255;

/// Bytes of an HMAC-SHA1.
const DIGEST: usize = 20;
/// What the CRC of FINGERPRINT is XORed with. (RFC 8489 §14.7)
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// Unknown attributes reported in one answer. (our limit; a check has none)
const UNKNOWN_MAX: usize = 8;

/// Why a datagram is not a binding request to be answered. It is dropped without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not STUN, or not whole.
    #[error("not a STUN message")]
    Message,
    /// Another kind of message than the one expected; an indication wants no answer.
    #[error("another kind of message")]
    Kind,
    /// An attribute overruns the message or has the wrong size.
    #[error("a malformed attribute")]
    Attribute,
    /// FINGERPRINT is missing, wrong or not last; ICE requires it. (RFC 8445 §7.1)
    #[error("no right fingerprint")]
    Fingerprint,
}

/// The role the sender claims. (RFC 8445 §7.1.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// ICE-CONTROLLING.
    Controlling,
    /// ICE-CONTROLLED.
    Controlled,
}

/// A well-formed binding request with a right fingerprint; nobody has been authenticated.
#[derive(Clone)]
pub struct Request<'a> {
    /// Echoed in the answer.
    pub transaction: Transaction,
    /// USERNAME, `ours:theirs`.
    pub username: Option<&'a [u8]>,
    /// PRIORITY of the pair's remote candidate.
    pub priority: Option<u32>,
    /// USE-CANDIDATE: the client nominates the pair.
    pub use_candidate: bool,
    /// Who the client thinks it is.
    pub role: Option<Role>,
    /// Attributes we do not know and may not ignore.
    pub unknown: Unknown,
    message: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins, and its value.
    integrity: Option<(usize, [u8; DIGEST])>,
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

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("username", &self.username.map(String::from_utf8_lossy))
            .field("priority", &self.priority)
            .field("use_candidate", &self.use_candidate)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl<'a> Request<'a> {
    /// Reads a datagram. (RFC 8489 §6.3, §14)
    ///
    /// # Errors
    /// [`Malformed`] for what must be dropped unanswered.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, transaction) = header(datagram)?;
        if kind != STUN_BINDING_REQUEST {
            return Err(Malformed::Kind);
        }
        let mut request = Self {
            transaction,
            username: None,
            priority: None,
            use_candidate: false,
            role: None,
            unknown: Unknown::default(),
            message: datagram,
            integrity: None,
        };
        let mut fingerprint = None;
        let mut attributes = StunAttributes::of(datagram);
        for (kind, offset, value) in attributes.by_ref() {
            if fingerprint.is_some() {
                return Err(Malformed::Fingerprint);
            }
            if kind == attribute::FINGERPRINT {
                fingerprint = Some((offset, word(value)?));
            } else if request.integrity.is_none() {
                // What follows MESSAGE-INTEGRITY is not covered by it and ignored. (RFC 8489 §14.5)
                request.take(kind, offset, value)?;
            }
        }
        if attributes.offset() != datagram.len() {
            return Err(Malformed::Attribute);
        }
        let (offset, claimed) = fingerprint.ok_or(Malformed::Fingerprint)?;
        let covered = datagram.get(..offset).ok_or(Malformed::Fingerprint)?;
        if crc32(covered) ^ FINGERPRINT_XOR != claimed {
            return Err(Malformed::Fingerprint);
        }
        Ok(request)
    }

    /// Takes in one attribute; of several of a type only the first counts. (RFC 8489 §14)
    fn take(&mut self, kind: u16, offset: usize, value: &'a [u8]) -> Result<(), Malformed> {
        match kind {
            STUN_USERNAME => {
                self.username.get_or_insert(value);
            }
            attribute::MESSAGE_INTEGRITY => {
                let digest = value.try_into().map_err(|_| Malformed::Attribute)?;
                self.integrity = Some((offset, digest));
            }
            attribute::PRIORITY => {
                self.priority.get_or_insert(word(value)?);
            }
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLING => {
                self.role.get_or_insert(Role::Controlling);
            }
            attribute::ICE_CONTROLLED => {
                self.role.get_or_insert(Role::Controlled);
            }
            0..attribute::OPTIONAL => self.unknown.push(kind),
            _ => {}
        }
        Ok(())
    }

    /// Does the request carry MESSAGE-INTEGRITY at all?
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.integrity.is_some()
    }

    /// Was the request signed with this key?
    #[must_use]
    pub fn verify(&self, key: &Key) -> bool {
        verified(self.message, self.integrity, key)
    }
}

/// Was a message signed with this key, whose MESSAGE-INTEGRITY begins there and has that value?
fn verified(message: &[u8], integrity: Option<(usize, [u8; DIGEST])>, key: &Key) -> bool {
    let Some((offset, claimed)) = integrity else {
        return false;
    };
    let Some(covered) = message.get(..offset) else {
        return false;
    };
    let digest = key.sign(covered);
    constant_time::verify_slices_are_equal(&digest, &claimed).is_ok()
}

/// Type and transaction of a STUN message whose length fits the datagram.
fn header(datagram: &[u8]) -> Result<(u16, Transaction), Malformed> {
    let (header, body) = datagram
        .split_first_chunk::<STUN_HEADER>()
        .ok_or(Malformed::Message)?;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] > 3 || header[4..8] != STUN_COOKIE || len != body.len() || len % 4 != 0 {
        return Err(Malformed::Message);
    }
    let mut transaction = [0; 12];
    transaction.copy_from_slice(&header[8..]);
    Ok((u16::from_be_bytes([header[0], header[1]]), transaction))
}

fn word(value: &[u8]) -> Result<u32, Malformed> {
    let bytes = value.try_into().map_err(|_| Malformed::Attribute)?;
    Ok(u32::from_be_bytes(bytes))
}

/// A short-term credential's key, scheduled once. (RFC 8489 §9.1.1)
pub struct Key(hmac::Key);

impl Key {
    /// From an ICE password.
    #[must_use]
    pub fn new(password: &str) -> Self {
        Self::of(password.as_bytes())
    }

    /// From any bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, bytes))
    }

    /// A transaction's id that nobody can tell who has not the key, however many others he has seen. (RFC
    /// 8489 §5)
    #[must_use]
    pub fn transaction(&self, number: u32) -> Transaction {
        let digest = hmac::sign(&self.0, &number.to_be_bytes());
        let mut transaction = Transaction::default();
        let len = transaction.len();
        transaction.copy_from_slice(&digest.as_ref()[..len]);
        transaction
    }

    /// The MESSAGE-INTEGRITY that follows `message`: the header counts as if it already told a
    /// length up to the end of the attribute. (RFC 8489 §14.5)
    fn sign(&self, message: &[u8]) -> [u8; DIGEST] {
        let mut context = hmac::Context::with_key(&self.0);
        if let Some((header, body)) = message.split_first_chunk::<4>() {
            let len = (message.len() + 4 + DIGEST - STUN_HEADER) as u16;
            context.update(&header[..2]);
            context.update(&len.to_be_bytes());
            context.update(body);
        }
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Writes a message into a caller's buffer. Once something did not fit, nothing comes of it.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    overflow: bool,
}

impl<'a> Writer<'a> {
    /// A success answer to `request`.
    #[must_use]
    pub fn success(out: &'a mut [u8], request: &Request<'_>) -> Self {
        Self::new(out, BINDING_SUCCESS, &request.transaction)
    }

    /// An error answer to `request`. (RFC 8489 §14.8)
    #[must_use]
    pub fn error(out: &'a mut [u8], request: &Request<'_>, code: u16, reason: &str) -> Self {
        let mut writer = Self::new(out, BINDING_ERROR, &request.transaction);
        let reason = reason.as_bytes();
        writer.head(attribute::ERROR_CODE, 4 + reason.len());
        writer.bytes(&[0, 0, (code / 100) as u8, (code % 100) as u8]);
        writer.bytes(reason);
        writer.pad();
        writer
    }

    /// A binding request in the role of who is controlled, as a check to `username`. It is to be signed.
    /// (RFC 8445 §7.1)
    #[must_use]
    pub fn check(out: &'a mut [u8], transaction: &Transaction, username: [&str; 2]) -> Self {
        let [theirs, ours] = username.map(str::as_bytes);
        let mut writer = Self::new(out, STUN_BINDING_REQUEST, transaction);
        writer.head(STUN_USERNAME, theirs.len() + 1 + ours.len());
        writer.bytes(theirs);
        writer.bytes(b":");
        writer.bytes(ours);
        writer.pad();
        writer.head(attribute::PRIORITY, 4);
        writer.bytes(&CHECK_PRIORITY.to_be_bytes());
        writer.head(attribute::ICE_CONTROLLED, 8);
        // Nobody weighs it against another: we never claim to control.
        writer.bytes(&[0; 8]);
        writer
    }

    fn new(out: &'a mut [u8], kind: u16, transaction: &Transaction) -> Self {
        let mut writer = Self {
            out,
            len: 0,
            overflow: false,
        };
        writer.bytes(&kind.to_be_bytes());
        writer.bytes(&[0, 0]);
        writer.bytes(&STUN_COOKIE);
        writer.bytes(transaction);
        writer
    }

    /// Adds UNKNOWN-ATTRIBUTES. (RFC 8489 §14.13)
    #[must_use]
    pub fn unknown(mut self, unknown: &Unknown) -> Self {
        self.head(attribute::UNKNOWN_ATTRIBUTES, 2 * unknown.as_slice().len());
        for kind in unknown.as_slice() {
            self.bytes(&kind.to_be_bytes());
        }
        self.pad();
        self
    }

    /// Adds XOR-MAPPED-ADDRESS; a mapped address counts as the IPv4 one it is. (RFC 8489 §14.2)
    #[must_use]
    pub fn mapped(mut self, address: SocketAddr, transaction: &Transaction) -> Self {
        let [high, low] = address.port().to_be_bytes();
        let port = [high ^ STUN_COOKIE[0], low ^ STUN_COOKIE[1]];
        let mask = STUN_COOKIE.iter().chain(transaction);
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let mut bytes = ip.octets();
                bytes
                    .iter_mut()
                    .zip(mask)
                    .for_each(|(byte, mask)| *byte ^= mask);
                self.head(attribute::XOR_MAPPED_ADDRESS, 8);
                self.bytes(&[0, 1, port[0], port[1]]);
                self.bytes(&bytes);
            }
            IpAddr::V6(ip) => {
                let mut bytes = ip.octets();
                bytes
                    .iter_mut()
                    .zip(mask)
                    .for_each(|(byte, mask)| *byte ^= mask);
                self.head(attribute::XOR_MAPPED_ADDRESS, 20);
                self.bytes(&[0, 2, port[0], port[1]]);
                self.bytes(&bytes);
            }
        }
        self
    }

    /// Adds MESSAGE-INTEGRITY over all so far.
    #[must_use]
    pub fn sign(mut self, key: &Key) -> Self {
        let digest = key.sign(self.out.get(..self.len).unwrap_or_default());
        self.head(attribute::MESSAGE_INTEGRITY, DIGEST);
        self.bytes(&digest);
        self
    }

    /// Adds FINGERPRINT and tells the length of the message, unless it did not fit.
    #[must_use]
    pub fn finish(mut self) -> Option<usize> {
        if self.overflow {
            return None;
        }
        let len = u16::try_from(self.len + 8 - STUN_HEADER).ok()?;
        self.out.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
        let crc = crc32(self.out.get(..self.len)?) ^ FINGERPRINT_XOR;
        self.head(attribute::FINGERPRINT, 4);
        self.bytes(&crc.to_be_bytes());
        (!self.overflow).then_some(self.len)
    }

    fn head(&mut self, kind: u16, len: usize) {
        self.bytes(&kind.to_be_bytes());
        self.bytes(&(len as u16).to_be_bytes());
    }

    fn pad(&mut self) {
        let missing = self.len.next_multiple_of(4) - self.len;
        self.bytes(&[0; 3][..missing]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.len..self.len + bytes.len()) {
            Some(place) if !self.overflow => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.overflow = true,
        }
    }
}

/// CRC-32 of ISO 3309, a byte at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    !bytes.iter().fold(!0, |crc, &byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8
    })
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xEDB8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}
