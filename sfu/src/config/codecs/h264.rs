//! What must agree for a stream of H264 to be decoded: profile and packetization mode.
//!
//! Owns the reading of its format parameters (RFC 6184 §8.1) and which decoder takes which stream.
//! Levels are read by nobody: browsers announce 3.1 and decode what comes, as LiveKit's server
//! assumes too. Used by the configuration and by negotiation.

use serde::{Deserialize, Serialize};

/// A profile (RFC 6184 §8.1, table 5), as far as real-time encoders have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Profile {
    /// What every decoder has.
    ConstrainedBaseline,
    /// With tools for lossy networks that encoders leave out: its streams count as the constrained
    /// ones.
    Baseline,
    /// Main.
    Main,
    /// High without interlace and B frames.
    ConstrainedHigh,
    /// High.
    High,
}

/// One row of the table: `profile_idc`, the bits of `profile-iop` that count, and their values.
struct Pattern {
    idc: u8,
    mask: u8,
    bits: u8,
    profile: Profile,
}

const fn pattern(idc: u8, mask: u8, bits: u8, profile: Profile) -> Pattern {
    Pattern {
        idc,
        mask,
        bits,
        profile,
    }
}

/// RFC 6184 §8.1, table 5; constrained high is of H.264 A.2.4.2.
const PATTERNS: [Pattern; 8] = [
    pattern(0x42, 0x4F, 0x40, Profile::ConstrainedBaseline),
    pattern(0x4D, 0x8F, 0x80, Profile::ConstrainedBaseline),
    pattern(0x58, 0xCF, 0xC0, Profile::ConstrainedBaseline),
    pattern(0x42, 0x4F, 0x00, Profile::Baseline),
    pattern(0x58, 0xCF, 0x80, Profile::Baseline),
    pattern(0x4D, 0xAF, 0x00, Profile::Main),
    pattern(0x64, 0xFF, 0x0C, Profile::ConstrainedHigh),
    pattern(0x64, 0xFF, 0x00, Profile::High),
];

/// What is meant where a description does not say (RFC 6184 §8.1).
const DEFAULT_PROFILE_LEVEL_ID: &str = "420010";

/// The parameters of a payload type that two sides must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Parameters {
    /// The profile.
    pub profile: Profile,
    /// Packetization mode 1: a picture's units may be split and put together. Without it, each
    /// packet is one unit.
    pub non_interleaved: bool,
}

impl Parameters {
    /// Accepted unless the operator lists others. (LK: signalling §6.1)
    pub const DEFAULT: [Self; 3] = [
        Self::new(Profile::ConstrainedBaseline, true),
        Self::new(Profile::ConstrainedBaseline, false),
        Self::new(Profile::High, true),
    ];

    const fn new(profile: Profile, non_interleaved: bool) -> Self {
        Self {
            profile,
            non_interleaved,
        }
    }

    /// Reads format parameters; `None` for a profile or mode nobody here can use, such as
    /// interleaved packets.
    #[must_use]
    pub fn parse(fmtp: Option<&str>) -> Option<Self> {
        let fmtp = fmtp.unwrap_or_default();
        let value = |name: &str| {
            let mut params = fmtp.split(';').filter_map(|param| param.split_once('='));
            params
                .find(|(known, _)| known.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let mode = value("packetization-mode").unwrap_or("0");
        let id = value("profile-level-id").unwrap_or(DEFAULT_PROFILE_LEVEL_ID);
        let whole = id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let [_, idc, iop, _] = u32::from_str_radix(id, 16)
            .ok()
            .filter(|_| whole)?
            .to_be_bytes();
        let fits = |pattern: &&Pattern| pattern.idc == idc && iop & pattern.mask == pattern.bits;
        let non_interleaved = match mode {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let found = PATTERNS.iter().find(fits)?;
        Some(Self::new(found.profile, non_interleaved))
    }

    /// Does a decoder of these parameters take a stream of those? A stream in single units fits both
    /// modes, and each profile includes the ones below it.
    #[must_use]
    pub fn decodes(self, stream: Self) -> bool {
        use Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        let profile = match stream.profile {
            ConstrainedBaseline | Baseline => true,
            Main => matches!(self.profile, Main | High),
            ConstrainedHigh => matches!(self.profile, ConstrainedHigh | High),
            High => self.profile == High,
        };
        profile && (self.non_interleaved || !stream.non_interleaved)
    }

    /// Of two decoders that take a stream, the nearer one has less: the same profile and mode if
    /// there are.
    #[must_use]
    pub fn distance(self, stream: Self) -> (bool, bool) {
        (
            self.profile != stream.profile,
            self.non_interleaved != stream.non_interleaved,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(fmtp: &str) -> Option<(Profile, bool)> {
        let found = Parameters::parse(Some(fmtp))?;
        Some((found.profile, found.non_interleaved))
    }

    #[test]
    fn profiles_are_told_by_their_constraint_bits() {
        use Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        for (id, profile) in [
            ("42e01f", Some(ConstrainedBaseline)),
            ("42C02A", Some(ConstrainedBaseline)),
            ("424015", Some(ConstrainedBaseline)),
            ("4d801f", Some(ConstrainedBaseline)),
            ("58c00b", Some(ConstrainedBaseline)),
            ("42001f", Some(Baseline)),
            ("42a01e", Some(Baseline)),
            ("58801f", Some(Baseline)),
            ("4d001f", Some(Main)),
            ("4d4029", Some(Main)),
            ("640c1f", Some(ConstrainedHigh)),
            ("640032", Some(High)),
            ("640040", Some(High)),
            ("f4001f", None),
            ("6e0032", None),
            ("42e01", None),
            ("42e01fg", None),
            ("+2e01f", None),
            ("zz", None),
        ] {
            let fmtp = format!("level-asymmetry-allowed=1;profile-level-id={id}");
            assert_eq!(parsed(&fmtp), profile.map(|found| (found, false)), "{id}");
        }
    }

    #[test]
    fn what_is_not_said_has_the_defaults_of_the_rfc() {
        let found = Parameters::parse(None).expect("usable");
        assert_eq!(found, Parameters::new(Profile::Baseline, false));
        assert_eq!(
            parsed("packetization-mode=1"),
            Some((Profile::Baseline, true))
        );
        assert_eq!(parsed("packetization-mode=2"), None, "interleaved");
        let spaced = "profile-level-id=640032; Packetization-Mode=1";
        assert_eq!(parsed(spaced), Some((Profile::High, true)));
    }

    #[test]
    fn a_decoder_takes_what_its_profile_and_mode_include() {
        use Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        let all = [ConstrainedBaseline, Baseline, Main, ConstrainedHigh, High];
        let takes = |decoder| {
            let takes = |stream: &&Profile| {
                Parameters::new(decoder, true).decodes(Parameters::new(**stream, true))
            };
            all.iter().filter(takes).copied().collect::<Vec<_>>()
        };
        assert_eq!(takes(ConstrainedBaseline), [ConstrainedBaseline, Baseline]);
        assert_eq!(takes(Main), [ConstrainedBaseline, Baseline, Main]);
        let high = [ConstrainedBaseline, Baseline, ConstrainedHigh];
        assert_eq!(takes(ConstrainedHigh), high);
        assert_eq!(takes(High), all);
        let (single, split) = (Parameters::new(Main, false), Parameters::new(Main, true));
        assert!(split.decodes(single) && !single.decodes(split));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(fmtp in "[ -~é]{0,60}") {
            let _ = Parameters::parse(Some(&fmtp));
        }

        #[test]
        fn every_decoder_takes_its_own_stream(idc: u8, iop: u8, level: u8, mode in 0..2) {
            let fmtp = format!(
                "packetization-mode={mode};profile-level-id={idc:02x}{iop:02x}{level:02x}"
            );
            if let Some(found) = Parameters::parse(Some(&fmtp)) {
                prop_assert!(found.decodes(found));
            }
        }
    }
}
