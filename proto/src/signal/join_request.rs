//! The join request in the URL: URL-safe base64 of a wrapper around a perhaps compressed message.
//!
//! Owns its decoding, its limits and LiveKit's words for each failure. (LK: signalling §1.4)

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{JoinRequest, WrappedJoinRequest};
use prost::Message;
use std::io::Read;

/// The most a join request may hold, in bytes, before and after decompression. It carries an offer
/// and track announcements: commonly 2 to 4 kB. (LK: signalling §1.4)
pub const MAX_JOIN_REQUEST_BYTES: usize = 1 << 20;

/// The longest base64 text worth decoding: the limit, a third more, and the wrapper's few bytes.
const MAX_TEXT_BYTES: usize = MAX_JOIN_REQUEST_BYTES / 3 * 4 + 64;

/// Padding is LiveKit's rule; proxies strip it.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why the parameter holds no join request; the text is LiveKit's answer body, status 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinRequestError {
    /// The parameter is missing or empty.
    #[error("join_request is required")]
    Missing,
    /// Not URL-safe base64.
    #[error("cannot base64 decode wrapped join request")]
    Base64,
    /// Not a wrapper.
    #[error("cannot unmarshal wrapped join request")]
    Wrapper,
    /// No gzip header.
    #[error("gzip: invalid header")]
    GzipHeader,
    /// Too short for a gzip header.
    #[error("unexpected EOF")]
    GzipTruncated,
    /// Broken gzip.
    #[error("cannot read decompressed join request")]
    Gzip,
    /// More than [`MAX_JOIN_REQUEST_BYTES`].
    #[error("join request too large")]
    TooLarge,
    /// Not a join request.
    #[error("cannot unmarshal join request")]
    Message,
}

/// Reads the parameter `join_request`, percent-decoded.
///
/// # Errors
/// What is wrong with it, the outermost fault first.
pub fn decode_join_request(text: &str) -> Result<JoinRequest, JoinRequestError> {
    if text.is_empty() {
        return Err(JoinRequestError::Missing);
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(JoinRequestError::TooLarge);
    }
    let bytes = BASE64.decode(text).map_err(|_| JoinRequestError::Base64)?;
    let wrapper =
        WrappedJoinRequest::decode(bytes.as_slice()).map_err(|_| JoinRequestError::Wrapper)?;
    let message = match wrapper.compression() {
        Compression::None => wrapper.join_request,
        Compression::Gzip => gunzip(&wrapper.join_request)?,
    };
    if message.len() > MAX_JOIN_REQUEST_BYTES {
        return Err(JoinRequestError::TooLarge);
    }
    JoinRequest::decode(message.as_slice()).map_err(|_| JoinRequestError::Message)
}

/// Writes the parameter `join_request` as a client does, uncompressed; it needs no percent-encoding
/// but for the padding.
#[must_use]
pub fn encode_join_request(request: &JoinRequest) -> String {
    let wrapper = WrappedJoinRequest {
        compression: Compression::None as i32,
        join_request: request.encode_to_vec(),
    };
    BASE64.encode(wrapper.encode_to_vec())
}

/// Decompresses at most one byte more than the limit, so that the caller sees the excess.
fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, JoinRequestError> {
    /// RFC 1952 §2.3: two magic bytes and the only method.
    const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
    const HEADER_BYTES: usize = 10;

    if bytes.len() < HEADER_BYTES {
        return Err(JoinRequestError::GzipTruncated);
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(JoinRequestError::GzipHeader);
    }
    let mut message = Vec::new();
    GzDecoder::new(bytes)
        .take(MAX_JOIN_REQUEST_BYTES as u64 + 1)
        .read_to_end(&mut message)
        .map_err(|_| JoinRequestError::Gzip)?;
    Ok(message)
}
