//! Connectivity checks written without the code under test: attributes, signature, fingerprint.
//!
//! Owns the bytes of a STUN request (RFC 8489 §14.5, §14.7); decides nothing. Called by clients that
//! are played in memory.

use aws_lc_rs::hmac;

/// Bytes before the first attribute.
pub const HEADER: usize = 20;
/// Names both ends.
pub const USERNAME: u16 = 0x0006;
/// The signature.
pub const INTEGRITY: u16 = 0x0008;
/// The check sum.
pub const FINGERPRINT: u16 = 0x8028;
/// What an HMAC-SHA1 takes as an attribute.
const INTEGRITY_BYTES: usize = 24;
/// What a check sum takes as an attribute.
const FINGERPRINT_BYTES: usize = 8;

/// Appends an attribute.
pub fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let len = message.len();
    set_length(message, len);
}

/// Ends a message: signed with the password of the one it is for.
pub fn sign(message: &mut Vec<u8>, password: &str) {
    let len = message.len();
    set_length(message, len + INTEGRITY_BYTES);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, message);
    attribute(message, INTEGRITY, tag.as_ref());
    let len = message.len();
    set_length(message, len + FINGERPRINT_BYTES);
    let sum = crc32(message) ^ 0x5354_554E;
    attribute(message, FINGERPRINT, &sum.to_be_bytes());
}

fn set_length(message: &mut [u8], total: usize) {
    message[2..4].copy_from_slice(&((total - HEADER) as u16).to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |mut crc: u32, byte: &u8| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    };
    !bytes.iter().fold(u32::MAX, step)
}
