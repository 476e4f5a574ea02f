//! Header extensions by negotiated id: audio level, transport-wide sequence, mid, rid, send time.
//!
//! Owns the walk over one-byte and two-byte elements (RFC 8285 §4.2, §4.3). Never decides which
//! extension is used: the ids come from negotiation. Called for every packet.

use crate::rtp::header::Header;

/// Profile of one-byte elements (RFC 8285 §4.2).
const ONE_BYTE: u16 = 0xBEDE;
/// Profile of two-byte elements, without the four free bits (RFC 8285 §4.3).
const TWO_BYTE: u16 = 0x100;
/// One-byte id that ends the walk (RFC 8285 §4.2).
const RESERVED_ID: u8 = 15;

/// The ids negotiated for a media section or a transport; `None` where not negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    pub repaired_rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    pub audio_level: Option<u8>,
    /// `draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    pub transport_cc: Option<u8>,
    /// `abs-send-time`.
    pub abs_send_time: Option<u8>,
    /// `abs-capture-time`.
    pub abs_capture_time: Option<u8>,
    /// `playout-delay`.
    pub playout_delay: Option<u8>,
    /// `framemarking`.
    pub frame_marking: Option<u8>,
    /// AV1's dependency descriptor, also used with VP8 and VP9.
    pub dependency_descriptor: Option<u8>,
}

impl ExtensionIds {
    /// Takes over the ids `other` has and we have not: the sections of one bundle share a table
    /// (RFC 8843 §9.2).
    pub fn merge(&mut self, other: &Self) {
        let take = |own: &mut Option<u8>, theirs: Option<u8>| *own = own.or(theirs);
        take(&mut self.mid, other.mid);
        take(&mut self.rid, other.rid);
        take(&mut self.repaired_rid, other.repaired_rid);
        take(&mut self.audio_level, other.audio_level);
        take(&mut self.transport_cc, other.transport_cc);
        take(&mut self.abs_send_time, other.abs_send_time);
        take(&mut self.abs_capture_time, other.abs_capture_time);
        take(&mut self.playout_delay, other.playout_delay);
        take(&mut self.frame_marking, other.frame_marking);
        take(&mut self.dependency_descriptor, other.dependency_descriptor);
    }
}

/// Loudness of one packet (RFC 6464).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// V: the sender's own guess that this is speech.
    pub voice: bool,
    /// -dBov: 0 loudest, 127 silence.
    pub level: u8,
}

/// The values of a packet's known extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions<'a> {
    /// The media section's mid.
    pub mid: Option<&'a str>,
    /// The simulcast stream's rid.
    pub rid: Option<&'a str>,
    /// The rid that an RTX stream repairs.
    pub repaired_rid: Option<&'a str>,
    /// Loudness.
    pub audio_level: Option<AudioLevel>,
    /// Transport-wide sequence number.
    pub transport_sequence: Option<u16>,
    /// Seconds of the sender's clock in 6.18 fixed point, 24 bits.
    pub abs_send_time: Option<u32>,
}

impl<'a> Extensions<'a> {
    /// Reads the extensions `ids` names from `packet`, whose header is `header`. What is cut short
    /// or not text where text is due counts as absent.
    #[must_use]
    pub fn parse(header: &Header, packet: &'a [u8], ids: &ExtensionIds) -> Self {
        let mut found = Self::default();
        for (id, data) in elements(header, packet) {
            found.note(id, data, ids);
        }
        found
    }

    fn note(&mut self, id: u8, data: &'a [u8], ids: &ExtensionIds) {
        let id = Some(id);
        if id == ids.transport_cc {
            self.transport_sequence = data.first_chunk().map(|b| u16::from_be_bytes(*b));
        } else if id == ids.audio_level {
            self.audio_level = data.first().map(|byte| AudioLevel {
                voice: byte & 0x80 != 0,
                level: byte & 0x7F,
            });
        } else if id == ids.abs_send_time {
            self.abs_send_time = data
                .first_chunk()
                .map(|&[a, b, c]| u32::from_be_bytes([0, a, b, c]));
        } else if id == ids.mid {
            self.mid = text(data);
        } else if id == ids.rid {
            self.rid = text(data);
        } else if id == ids.repaired_rid {
            self.repaired_rid = text(data);
        }
    }
}

/// Names are short ASCII tokens (RFC 8852 §3.1, RFC 8843 §15); an empty one names nothing.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data)
        .ok()
        .filter(|text| !text.is_empty() && text.is_ascii())
}

/// Every element of a packet's extension block as (id, data); ends silently where it is cut short.
#[must_use]
pub fn elements<'a>(header: &Header, packet: &'a [u8]) -> Elements<'a> {
    let block = header.extension.as_ref();
    let (profile, rest) = block
        .and_then(|block| Some((block.profile, packet.get(block.range())?)))
        .unwrap_or((ONE_BYTE, &[]));
    Elements {
        rest,
        form: match profile {
            ONE_BYTE => Form::OneByte,
            _ if profile >> 4 == TWO_BYTE => Form::TwoByte,
            _ => Form::Foreign,
        },
    }
}

/// Iterator of [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
    Foreign,
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            let (id, len, data) = match self.form {
                _ if first == 0 => {
                    self.rest = rest;
                    continue;
                }
                Form::OneByte => (first >> 4, usize::from(first & 0x0F) + 1, rest),
                Form::TwoByte => {
                    let (&len, data) = rest.split_first()?;
                    (first, usize::from(len), data)
                }
                Form::Foreign => return None,
            };
            // Id 15 ends the block, and so does id 0 with a length (RFC 8285 §4.2).
            let ends = self.form == Form::OneByte && (id == RESERVED_ID || id == 0);
            let element = data.split_at_checked(len).filter(|_| !ends);
            let Some((value, rest)) = element else {
                self.rest = &[];
                return None;
            };
            self.rest = rest;
            return Some((id, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::header::FixedHeader;
    use proptest::prelude::*;

    fn packet(profile: u16, elements: &[u8]) -> Vec<u8> {
        let fixed = FixedHeader {
            marker: false,
            payload_type: 96,
            sequence: 1,
            timestamp: 1,
            ssrc: 1,
        };
        let mut packet = fixed.to_bytes().to_vec();
        packet[0] |= 0x10;
        packet.extend(profile.to_be_bytes());
        let words = elements.len().div_ceil(4);
        packet.extend((words as u16).to_be_bytes());
        packet.extend(elements);
        packet.resize(16 + 4 * words, 0);
        packet
    }

    fn read(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let header = Header::parse(packet).expect("header");
        elements(&header, packet)
            .map(|(id, data)| (id, data.to_vec()))
            .collect()
    }

    /// The example of RFC 8285 §4.2: three one-byte elements with padding before the third.
    #[test]
    fn the_one_byte_example_of_the_rfc_is_read() {
        let bytes = packet(
            0xBEDE,
            &[0x10, 0xA1, 0x21, 0xB1, 0xB2, 0, 0, 0x33, 1, 2, 3, 4],
        );
        let expected = [
            (1, vec![0xA1]),
            (2, vec![0xB1, 0xB2]),
            (3, vec![1, 2, 3, 4]),
        ];
        assert_eq!(read(&bytes), expected);
    }

    /// The example of RFC 8285 §4.3: lengths 0, 1 and 4 with a pad byte between.
    #[test]
    fn the_two_byte_example_of_the_rfc_is_read() {
        let bytes = packet(0x1000, &[1, 0, 2, 1, 0xB1, 0, 3, 4, 1, 2, 3, 4]);
        let expected = [(1, vec![]), (2, vec![0xB1]), (3, vec![1, 2, 3, 4])];
        assert_eq!(read(&bytes), expected);
        let with_appbits = packet(0x100F, &[9, 1, 5, 0]);
        assert_eq!(read(&with_appbits), [(9, vec![5])]);
    }

    #[test]
    fn the_reserved_id_ends_the_walk_and_foreign_profiles_have_no_elements() {
        assert_eq!(read(&packet(0xBEDE, &[0xF0, 1, 0x10, 2])), []);
        assert_eq!(read(&packet(0xBEDE, &[0x01, 1, 1, 0x10, 2])), []);
        assert_eq!(read(&packet(0x2000, &[0x10, 1, 0, 0])), []);
    }

    #[test]
    fn an_element_longer_than_the_block_is_left_out() {
        assert_eq!(read(&packet(0xBEDE, &[0x10, 7, 0x2F, 1])), [(1, vec![7])]);
        assert_eq!(read(&packet(0x1000, &[1, 1, 7, 9])), [(1, vec![7])]);
    }

    #[test]
    fn values_are_taken_by_negotiated_id_only() {
        let ids = ExtensionIds {
            mid: Some(1),
            rid: Some(2),
            audio_level: Some(3),
            transport_cc: Some(4),
            abs_send_time: Some(5),
            ..ExtensionIds::default()
        };
        let bytes = packet(
            0xBEDE,
            &[
                0x10,
                b'0',
                0x20,
                b'q',
                0x30,
                0x80 | 35,
                0x41,
                0x12,
                0x34,
                0x52,
                1,
                2,
                3,
                0x60,
                b'h',
            ],
        );
        let header = Header::parse(&bytes).expect("header");
        let found = Extensions::parse(&header, &bytes, &ids);
        assert_eq!((found.mid, found.rid), (Some("0"), Some("q")));
        assert_eq!(found.repaired_rid, None);
        let level = AudioLevel {
            voice: true,
            level: 35,
        };
        assert_eq!(found.audio_level, Some(level));
        assert_eq!(found.transport_sequence, Some(0x1234));
        assert_eq!(found.abs_send_time, Some(0x01_0203));
        let nothing = Extensions::parse(&header, &bytes, &ExtensionIds::default());
        assert_eq!(nothing, Extensions::default());
    }

    proptest! {
        #[test]
        fn any_block_is_walked_without_panic(
            profile in prop_oneof![Just(0xBEDEu16), Just(0x1000), any::<u16>()],
            block in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let bytes = packet(profile, &block);
            let header = Header::parse(&bytes).expect("header");
            prop_assert!(elements(&header, &bytes).count() <= block.len());
            let all = ExtensionIds {
                mid: Some(1), rid: Some(2), repaired_rid: Some(3), audio_level: Some(4),
                transport_cc: Some(5), abs_send_time: Some(6), abs_capture_time: Some(7),
                playout_delay: Some(8), dependency_descriptor: Some(9), frame_marking: Some(10),
            };
            let _ = Extensions::parse(&header, &bytes, &all);
        }

        #[test]
        fn two_byte_elements_come_back_as_written(
            written in proptest::collection::vec((1u8..=255, proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
        ) {
            let mut block = Vec::new();
            for (id, data) in &written {
                block.extend([*id, data.len() as u8]);
                block.extend(data);
            }
            prop_assert_eq!(read(&packet(0x1000, &block)), written);
        }
    }
}
