//! Keys and signatures: long-term keys, hashes of names, MESSAGE-INTEGRITY in both forms, the CRC of FINGERPRINT.
//!
//! The only file that names `md5`. It never keeps a password, and shows no key.

use super::HEADER;
use super::algorithm::Algorithm;
use super::attribute::{HEAD, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256};
use aws_lc_rs::{constant_time, digest, hmac};
use md5::{Digest, Md5};
use std::fmt;

/// Bytes of an HMAC-SHA1.
pub(crate) const SHA1: usize = 20;
/// Bytes of an HMAC-SHA256.
pub(crate) const SHA256: usize = 32;

/// A long-term credential's key. (RFC 8489 §9.2.2)
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    bytes: [u8; SHA256],
    len: u8,
}

impl Key {
    /// MD5 of `username:realm:password`.
    #[must_use]
    pub fn long_term(username: &str, realm: &str, password: &str) -> Self {
        Self::made_with(Algorithm::Md5, username, realm, password)
    }

    /// The hash of `username:realm:password` by an algorithm. (RFC 8489 §18.5.1)
    #[must_use]
    pub fn made_with(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> Self {
        let parts = [username, ":", realm, ":", password];
        match algorithm {
            Algorithm::Md5 => {
                let mut hash = Md5::new();
                for part in parts {
                    hash.update(part.as_bytes());
                }
                Self::of(&hash.finalize())
            }
            Algorithm::Sha256 => Self::of(&sha256(&parts)),
        }
    }

    fn of(hash: &[u8]) -> Self {
        let mut bytes = [0; SHA256];
        for (place, byte) in bytes.iter_mut().zip(hash) {
            *place = *byte;
        }
        Self {
            bytes,
            len: hash.len().min(SHA256) as u8,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// HMAC-SHA1 over a message that ends where the attribute is to begin.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SHA1] {
        let mut out = [0; SHA1];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.bytes());
        out.copy_from_slice(tag(&key, message, SHA1).as_ref());
        out
    }

    /// HMAC-SHA256 over a message that ends where the attribute is to begin.
    #[must_use]
    pub fn sign_sha256(&self, message: &[u8]) -> [u8; SHA256] {
        let mut out = [0; SHA256];
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes());
        out.copy_from_slice(tag(&key, message, SHA256).as_ref());
        out
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What USERHASH has instead of a name. (RFC 8489 §14.4)
#[must_use]
pub fn userhash(username: &str, realm: &str) -> [u8; SHA256] {
    sha256(&[username, ":", realm])
}

fn sha256(parts: &[&str]) -> [u8; SHA256] {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(part.as_bytes());
    }
    let mut out = [0; SHA256];
    out.copy_from_slice(hash.finish().as_ref());
    out
}

/// The header counts as if it already told a length up to the end of the attribute. (RFC 8489 §14.5)
fn tag(key: &hmac::Key, message: &[u8], size: usize) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    if let Some((header, body)) = message.split_first_chunk::<4>() {
        let len = (message.len() + HEAD + size).saturating_sub(HEADER) as u16;
        context.update(&header[..2]);
        context.update(&len.to_be_bytes());
        context.update(body);
    }
    context.sign()
}

/// What a message claims to be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    /// MESSAGE-INTEGRITY.
    Sha1([u8; SHA1]),
    /// MESSAGE-INTEGRITY-SHA256. Whole: only a usage of STUN that says so may cut it, and TURN says
    /// nothing. (RFC 8489 §14.6)
    Sha256([u8; SHA256]),
}

impl Signature {
    pub(crate) fn read(kind: u16, value: &[u8]) -> Option<Self> {
        match kind {
            MESSAGE_INTEGRITY => value.try_into().ok().map(Self::Sha1),
            MESSAGE_INTEGRITY_SHA256 => value.try_into().ok().map(Self::Sha256),
            _ => None,
        }
    }

    pub(crate) const fn is_stronger(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Sha256(_), Self::Sha1(_)))
    }

    pub(crate) fn verify(&self, key: &Key, covered: &[u8]) -> bool {
        match self {
            Self::Sha1(claimed) => {
                let right = key.sign(covered);
                constant_time::verify_slices_are_equal(&right, claimed).is_ok()
            }
            Self::Sha256(claimed) => {
                let right = key.sign_sha256(covered);
                constant_time::verify_slices_are_equal(&right, claimed).is_ok()
            }
        }
    }
}

/// CRC-32 of ISO 3309, a byte at a time: control messages only.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
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
