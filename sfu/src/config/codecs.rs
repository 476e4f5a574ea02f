//! The codecs Foci knows by name, and which of them an operator switched on.

use crate::ids::MediaKind;

/// A codec of a published track. Retransmission (`rtx`) is not one: it follows its video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// `audio/opus`, 48 kHz, two channels.
    Opus,
    /// `audio/red`: redundant Opus (RFC 2198), passed to those who negotiated it.
    Red,
    /// `video/VP8`.
    Vp8,
}

impl Codec {
    /// Every codec, in the order `enabled_publish_codecs` lists them: video first, then audio.
    pub const ALL: [Self; 3] = [Self::Vp8, Self::Opus, Self::Red];

    /// The mime type as LiveKit spells it.
    #[must_use]
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Opus => "audio/opus",
            Self::Red => "audio/red",
            Self::Vp8 => "video/VP8",
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
            Self::Opus | Self::Red => MediaKind::Audio,
            Self::Vp8 => MediaKind::Video,
        }
    }

    /// RTP clock in Hz.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus | Self::Red => 48_000,
            Self::Vp8 => 90_000,
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
