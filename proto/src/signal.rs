//! Signal frames: protobuf and JSON, and what the URL asks for.
//!
//! Owns the encodings and their limits; knows no session and no room. Any bytes are either a
//! message or an error. Called by the server's signalling edge and by clients made for tests. (LK: signalling §1.4, §3)

mod join_request;
mod known;
mod parameters;

pub use join_request::{
    JoinRequestError, MAX_JOIN_REQUEST_BYTES, decode_join_request, encode_join_request,
};

pub use parameters::{Parameters, read_parameters};

use livekit_protocol::{SignalRequest, SignalResponse};
use prost::Message;

/// The most one frame may hold, in bytes, in either direction. (LK: signalling §3)
pub const MAX_FRAME_BYTES: usize = 2 * 1024 * 1024;

/// How messages of one connection are written at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// A serialised message in a binary frame.
    #[default]
    Protobuf,
    /// Protojson in a text frame.
    Json,
}

/// A frame with a message in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<B, T> {
    /// Protobuf.
    Binary(B),
    /// Protojson.
    Text(T),
}

/// A frame as it came.
pub type FrameRef<'a> = Frame<&'a [u8], &'a str>;
/// A frame to be sent.
pub type FrameBuf = Frame<Vec<u8>, String>;

impl<B: AsRef<[u8]>, T: AsRef<str>> Frame<B, T> {
    /// Bytes in the frame.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Binary(bytes) => bytes.as_ref().len(),
            Self::Text(text) => text.as_ref().len(),
        }
    }

    /// Nothing in it? Such a binary frame is an empty message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The encoding it is in, which is also the one to answer in.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        match self {
            Self::Binary(_) => Encoding::Protobuf,
            Self::Text(_) => Encoding::Json,
        }
    }
}

/// Why a frame holds no request; the sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than [`MAX_FRAME_BYTES`].
    #[error("frame too large")]
    TooLarge,
    /// Not a message in the encoding of its frame.
    #[error("frame holds no signal message")]
    Malformed,
}

/// Reads a client's frame. Unknown fields are skipped; an unknown request leaves `message` empty.
///
/// # Errors
/// The frame is too large, or no request.
pub fn decode_request(frame: &FrameRef<'_>) -> Result<SignalRequest, FrameError> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge);
    }
    match frame {
        Frame::Binary(bytes) => SignalRequest::decode(*bytes).map_err(|_| FrameError::Malformed),
        Frame::Text(text) => serde_json::from_str(text).map_err(|_| FrameError::Malformed),
    }
}

/// Reads a server's frame, as a client does.
///
/// # Errors
/// The frame is too large, or no response.
pub fn decode_response(frame: &FrameRef<'_>) -> Result<SignalResponse, FrameError> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge);
    }
    match frame {
        Frame::Binary(bytes) => SignalResponse::decode(*bytes).map_err(|_| FrameError::Malformed),
        Frame::Text(text) => serde_json::from_str(text).map_err(|_| FrameError::Malformed),
    }
}

/// A response that JSON cannot carry: an enum number of the server's own has no name in it. The
/// server's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signal message cannot be written as JSON")]
pub struct Unwritable;

/// Writes a frame for a client. What clients may have put into a message of the server with a newer
/// protocol than ours passes in protobuf; JSON goes without the enum numbers it has no name for.
///
/// # Errors
/// JSON cannot carry the message even so.
pub fn encode_response(
    response: &SignalResponse,
    encoding: Encoding,
) -> Result<FrameBuf, Unwritable> {
    match encoding {
        Encoding::Protobuf => Ok(Frame::Binary(response.encode_to_vec())),
        Encoding::Json => match serde_json::to_string(response) {
            Ok(text) => Ok(Frame::Text(text)),
            Err(_) => known_json(response.clone()).map(Frame::Text),
        },
    }
}

/// The JSON of what is left of a message without unknown enum numbers.
fn known_json(mut response: SignalResponse) -> Result<String, Unwritable> {
    if let Some(message) = &mut response.message {
        known::keep_known(message);
    }
    serde_json::to_string(&response).map_err(|_| Unwritable)
}

#[cfg(test)]
mod tests;
