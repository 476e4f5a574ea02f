//! Writes messages: answers at the end of a growing buffer, and the heads of relayed data.
//!
//! The caller bounds what it writes: every attribute of ours has a small fixed size, and texts come
//! from the configuration or were bounded when read.

use super::attribute::{
    ADDRESS_ERROR_CODE, DATA, ERROR_CODE, FINGERPRINT, HEAD, MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256, UNKNOWN_ATTRIBUTES, XOR_PEER_ADDRESS,
};
use super::integrity::{Key, crc32};
use super::{COOKIE, Class, FINGERPRINT_XOR, HEADER, Method, Transaction, Unknown, kind, mask};
use crate::address::Family;
use std::net::{IpAddr, SocketAddr};

/// Writes one message at the end of a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    transaction: Transaction,
}

impl<'a> Writer<'a> {
    /// Begins a message.
    #[must_use]
    pub fn new(
        out: &'a mut Vec<u8>,
        method: Method,
        class: Class,
        transaction: &Transaction,
    ) -> Self {
        let start = out.len();
        out.extend_from_slice(&kind(method, class).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&COOKIE);
        out.extend_from_slice(transaction);
        Self {
            out,
            start,
            transaction: *transaction,
        }
    }

    /// An attribute of bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        // Nothing of ours is longer; what would be is cut rather than told wrong.
        let value = value.get(..value.len().min(0x4000)).unwrap_or_default();
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out
            .extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.out.extend_from_slice(value);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.out.extend_from_slice(&[0; 3][..padding]);
        self
    }

    /// An attribute of four bytes.
    pub fn word(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An XORed address. (RFC 8489 §14.2)
    pub fn address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        let mut value = [0; 20];
        let len = masked(address, &self.transaction, &mut value);
        self.bytes(kind, &value[..len])
    }

    /// ERROR-CODE. (RFC 8489 §14.8)
    pub fn error(&mut self, code: u16, reason: &str) -> &mut Self {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend_from_slice(reason.as_bytes());
        self.bytes(ERROR_CODE, &value)
    }

    /// ADDRESS-ERROR-CODE: a family that was asked for besides could not be had. (RFC 8656 §18.12)
    pub fn address_error(&mut self, family: Family, code: u16, reason: &str) -> &mut Self {
        let mut value = vec![family.number(), 0, (code / 100) as u8, (code % 100) as u8];
        value.extend_from_slice(reason.as_bytes());
        self.bytes(ADDRESS_ERROR_CODE, &value)
    }

    /// UNKNOWN-ATTRIBUTES. (RFC 8489 §14.9)
    pub fn unknown(&mut self, unknown: &Unknown) -> &mut Self {
        let value: Vec<u8> = unknown
            .as_slice()
            .iter()
            .flat_map(|kind| kind.to_be_bytes())
            .collect();
        self.bytes(UNKNOWN_ATTRIBUTES, &value)
    }

    /// MESSAGE-INTEGRITY, or the one with SHA-256.
    pub fn sign(&mut self, key: &Key, sha256: bool) -> &mut Self {
        let message = self.out.get(self.start..).unwrap_or_default();
        if sha256 {
            let tag = key.sign_sha256(message);
            self.bytes(MESSAGE_INTEGRITY_SHA256, &tag)
        } else {
            let tag = key.sign(message);
            self.bytes(MESSAGE_INTEGRITY, &tag)
        }
    }

    /// Ends the message, with FINGERPRINT if wanted.
    pub fn finish(&mut self, fingerprint: bool) {
        if fingerprint {
            self.set_length(HEAD + 4);
            let message = self.out.get(self.start..).unwrap_or_default();
            let crc = crc32(message) ^ FINGERPRINT_XOR;
            self.word(FINGERPRINT, crc);
        }
        self.set_length(0);
    }

    /// The length in the header: what is there and what is yet to come.
    fn set_length(&mut self, coming: usize) {
        let len = (self.out.len() + coming - self.start - HEADER) as u16;
        if let Some(place) = self.out.get_mut(self.start + 2..self.start + 4) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// Writes an XORed address; tells its length.
fn masked(address: SocketAddr, transaction: &Transaction, out: &mut [u8; 20]) -> usize {
    let mask = mask(transaction);
    let port = address.port().to_be_bytes();
    out[1] = Family::of(address.ip()).number();
    out[2] = port[0] ^ mask[0];
    out[3] = port[1] ^ mask[1];
    let mut put = |ip: &[u8]| {
        for ((out, byte), mask) in out[4..].iter_mut().zip(ip).zip(mask) {
            *out = byte ^ mask;
        }
        4 + ip.len()
    };
    match address.ip() {
        IpAddr::V4(ip) => put(&ip.octets()),
        IpAddr::V6(ip) => put(&ip.octets()),
    }
}

/// What stands before relayed data on its way to a client. Written without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; Self::MAX],
    len: u8,
    padding: u8,
}

impl Head {
    /// The longest: a Data indication from an IPv6 peer.
    pub const MAX: usize = HEADER + HEAD + 20 + HEAD;

    /// Of ChannelData with so many bytes; only streams pad. (RFC 8656 §12.4, §12.5)
    #[must_use]
    pub fn channel(number: u16, len: usize, pad: bool) -> Self {
        let mut bytes = [0; Self::MAX];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        Self {
            bytes,
            len: 4,
            padding: if pad { padding(len) } else { 0 },
        }
    }

    /// Of a Data indication with so many bytes from a peer. (RFC 8656 §11.3)
    #[must_use]
    pub fn indication(peer: SocketAddr, len: usize, transaction: &Transaction) -> Self {
        let mut bytes = [0; Self::MAX];
        let mut value = [0; 20];
        let size = masked(peer, transaction, &mut value);
        let total = HEAD + size + HEAD + len.next_multiple_of(4);
        bytes[..2].copy_from_slice(&kind(Method::Data, Class::Indication).to_be_bytes());
        bytes[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        bytes[4..8].copy_from_slice(&COOKIE);
        bytes[8..HEADER].copy_from_slice(transaction);
        bytes[HEADER..HEADER + 2].copy_from_slice(&XOR_PEER_ADDRESS.to_be_bytes());
        bytes[HEADER + 2..HEADER + HEAD].copy_from_slice(&(size as u16).to_be_bytes());
        let at = HEADER + HEAD + size;
        bytes[HEADER + HEAD..at].copy_from_slice(&value[..size]);
        bytes[at..at + 2].copy_from_slice(&DATA.to_be_bytes());
        bytes[at + 2..at + HEAD].copy_from_slice(&(len as u16).to_be_bytes());
        Self {
            bytes,
            len: (at + HEAD) as u8,
            padding: padding(len),
        }
    }

    /// The bytes before the payload.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Zero bytes after the payload.
    #[must_use]
    pub fn padding(&self) -> &'static [u8] {
        const ZEROS: &[u8] = &[0; 3];
        ZEROS.get(..usize::from(self.padding)).unwrap_or_default()
    }
}

const fn padding(len: usize) -> u8 {
    (len.next_multiple_of(4) - len) as u8
}
