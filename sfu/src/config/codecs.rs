//! The codecs Foci knows by name, and which of them an operator switched on.

pub mod h264;

use crate::ids::MediaKind;
use serde::{Deserialize, Serialize};

/// A codec of a published track. Retransmission (`rtx`) is not one: it follows its video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// `audio/opus`, 48 kHz, two channels.
    Opus,
    /// `audio/red`: redundant Opus (RFC 2198), passed to those who negotiated it.
    Red,
    /// `audio/PCMU`: G.711 μ-law, 8 kHz (RFC 3551 §4.5.14).
    Pcmu,
    /// `audio/PCMA`: G.711 A-law, 8 kHz.
    Pcma,
    /// `video/VP8`.
    Vp8,
    /// `video/H264`; what else two sides must agree on is told by [`h264::Parameters`].
    H264,
}

impl Codec {
    /// Every codec, in the order `enabled_publish_codecs` lists them: video first, then audio.
    pub const ALL: [Self; 6] = [
        Self::Vp8,
        Self::H264,
        Self::Opus,
        Self::Red,
        Self::Pcmu,
        Self::Pcma,
    ];

    /// The mime type as LiveKit spells it.
    #[must_use]
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Opus => "audio/opus",
            Self::Red => "audio/red",
            Self::Pcmu => "audio/PCMU",
            Self::Pcma => "audio/PCMA",
            Self::Vp8 => "video/VP8",
            Self::H264 => "video/H264",
        }
    }

    /// Looks a mime type up, ignoring case.
    #[must_use]
    pub fn from_mime(mime: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.mime().eq_ignore_ascii_case(mime))
    }

    /// Audio or video.
    #[must_use]
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::Opus | Self::Red | Self::Pcmu | Self::Pcma => MediaKind::Audio,
            Self::Vp8 | Self::H264 => MediaKind::Video,
        }
    }

    /// RTP clock in Hz.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus | Self::Red => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
            Self::Vp8 | Self::H264 => 90_000,
        }
    }

    /// Channels as an `rtpmap` line tells them; one is not told (RFC 8866 §6.6).
    #[must_use]
    pub const fn channels(self) -> Option<&'static str> {
        match self {
            Self::Opus | Self::Red => Some("2"),
            Self::Pcmu | Self::Pcma | Self::Vp8 | Self::H264 => None,
        }
    }

    /// The payload type that means this codec without being told so (RFC 3551 §6).
    #[must_use]
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
            Self::Opus | Self::Red | Self::Vp8 | Self::H264 => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mime_type_is_found_whatever_its_case() {
        assert_eq!(Codec::from_mime("VIDEO/vp8"), Some(Codec::Vp8));
        assert_eq!(Codec::from_mime("video/rtx"), None);
    }
}
