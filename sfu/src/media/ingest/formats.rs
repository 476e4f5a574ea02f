//! The payload types one stream may use: its sender changes between them as it likes.
//!
//! Owns the short list negotiated for a section, as far as its clock is the stream's: a browser that
//! falls back from one encoder to another goes on with the same SSRC. Used by `upstream`.

use crate::config::codecs::Codec;

/// Formats of one stream: VP8, three of H264 and some to spare; further ones are foreign.
const ROOM: usize = 8;

/// One payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// As the publisher sends it.
    pub payload_type: u8,
    /// What it carries.
    pub codec: Codec,
    /// The payload type of RTX whose `apt` it is.
    pub rtx: Option<u8>,
}

/// All of a stream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Formats {
    list: [Option<Format>; ROOM],
}

impl Formats {
    /// Those of `codecs` that share the clock of `main`, with their RTX types from `rtx`, which
    /// names the type of retransmissions before that of what they repeat.
    #[must_use]
    pub fn new(main: Codec, codecs: &[(u8, Codec)], rtx: &[(u8, u8)]) -> Self {
        let same = |codec: Codec| codec.clock_rate() == main.clock_rate();
        let mut formats = Self::default();
        let usable = codecs.iter().filter(|(_, codec)| same(*codec));
        for (slot, (payload_type, codec)) in formats.list.iter_mut().zip(usable) {
            let repeats = rtx.iter().find(|(_, apt)| apt == payload_type);
            *slot = Some(Format {
                payload_type: *payload_type,
                codec: *codec,
                rtx: repeats.map(|(rtx, _)| *rtx),
            });
        }
        formats
    }

    /// The format of a payload type.
    #[must_use]
    pub fn find(&self, payload_type: u8) -> Option<Format> {
        self.iter()
            .find(|format| format.payload_type == payload_type)
    }

    /// The format that a payload type of RTX repeats.
    #[must_use]
    pub fn repeated_by(&self, rtx: u8) -> Option<Format> {
        self.iter().find(|format| format.rtx == Some(rtx))
    }

    /// The payload type of a codec.
    #[must_use]
    pub fn of(&self, codec: Codec) -> Option<u8> {
        let found = self.iter().find(|format| format.codec == codec);
        found.map(|format| format.payload_type)
    }

    fn iter(&self) -> impl Iterator<Item = Format> {
        self.list.iter().copied().map_while(|format| format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_another_clock_are_left_out() {
        let audio = [
            (111, Codec::Opus),
            (63, Codec::Red),
            (0, Codec::Pcmu),
            (8, Codec::Pcma),
        ];
        let opus = Formats::new(Codec::Red, &audio, &[]);
        assert_eq!(
            (opus.of(Codec::Opus), opus.of(Codec::Pcmu)),
            (Some(111), None)
        );
        let law = Formats::new(Codec::Pcma, &audio, &[]);
        assert_eq!((law.of(Codec::Pcmu), law.find(111)), (Some(0), None));
    }

    #[test]
    fn each_rtx_type_leads_to_what_it_repeats() {
        let video = [(96, Codec::Vp8), (108, Codec::H264), (125, Codec::H264)];
        let formats = Formats::new(Codec::H264, &video, &[(97, 96), (109, 108)]);
        let repeated = |rtx| formats.repeated_by(rtx).map(|format| format.payload_type);
        assert_eq!(
            (repeated(97), repeated(109), repeated(126)),
            (Some(96), Some(108), None)
        );
        assert_eq!(formats.find(125).and_then(|format| format.rtx), None);
    }
}
