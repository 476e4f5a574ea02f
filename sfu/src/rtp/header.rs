//! The RTP fixed header and its extensions' place (RFC 3550 §5.1, RFC 8285).
//!
//! Owns the reading and writing of header bits. Never looks into extensions or payloads. Called for
//! every packet by whoever opens SRTP, and by everyone who writes an outgoing header.

use std::ops::Range;

/// Bytes of the fixed header.
pub const FIXED_LEN: usize = 12;

/// Version 2 in the first byte's two top bits.
const VERSION: u8 = 2;

/// A parsed header: positions and values, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// P: the packet ends in padding.
    pub padding: bool,
    /// M.
    pub marker: bool,
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in the payload's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Contributing sources, 0 to 15.
    pub csrc_count: u8,
    /// Bytes before the payload: fixed header, CSRCs and extension block.
    pub header_len: usize,
    /// Where the extension elements lie, if the X bit is set.
    pub extension: Option<ExtensionBlock>,
}

/// The header extension's profile word and the place of its elements in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionBlock {
    /// `0xBEDE` for one-byte elements, `0x1000..=0x100F` for two-byte ones (RFC 8285 §4).
    pub profile: u16,
    start: u32,
    end: u32,
}

impl ExtensionBlock {
    /// The elements' bytes in the packet, without the four bytes of profile and length.
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Header {
    /// Parses the header at the front of `packet`; `None` if it is cut short or not version 2.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let fixed = packet.first_chunk::<FIXED_LEN>()?;
        if fixed[0] >> 6 != VERSION {
            return None;
        }
        let csrc_count = fixed[0] & 0x0F;
        let mut header_len = FIXED_LEN + 4 * usize::from(csrc_count);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let block = Self::extension_at(packet, header_len)?;
            header_len = block.range().end;
            extension = Some(block);
        }
        if packet.len() < header_len {
            return None;
        }
        Some(Self {
            padding: fixed[0] & 0x20 != 0,
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7F,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            csrc_count,
            header_len,
            extension,
        })
    }

    fn extension_at(packet: &[u8], at: usize) -> Option<ExtensionBlock> {
        let word = packet.get(at..)?.first_chunk::<4>()?;
        let words = usize::from(u16::from_be_bytes([word[2], word[3]]));
        let start = at + 4;
        Some(ExtensionBlock {
            profile: u16::from_be_bytes([word[0], word[1]]),
            start: u32::try_from(start).ok()?,
            end: u32::try_from(start + 4 * words).ok()?,
        })
    }

    /// Bytes of padding at the end of the opened `packet`: zero without the P bit, `None` if the
    /// last byte claims more than there is, or nothing (RFC 3550 §5.1 counts itself).
    #[must_use]
    pub fn padding_len(&self, packet: &[u8]) -> Option<usize> {
        if !self.padding {
            return Some(0);
        }
        let body = packet.get(self.header_len..)?;
        let count = usize::from(*body.last()?);
        (count != 0 && count <= body.len()).then_some(count)
    }

    /// The payload of the opened `packet` without padding; empty for a padding-only packet, `None`
    /// if the padding is not plausible.
    #[must_use]
    pub fn payload<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let end = packet.len().checked_sub(self.padding_len(packet)?)?;
        packet.get(self.header_len..end)
    }
}

/// A header as we write it: no CSRC, no extension, no padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    /// M.
    pub marker: bool,
    /// Payload type; its top bit is ignored.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

impl FixedHeader {
    /// The twelve bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; FIXED_LEN] {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let type_byte = u8::from(self.marker) << 7 | self.payload_type & 0x7F;
        [
            VERSION << 6,
            type_byte,
            s0,
            s1,
            t0,
            t1,
            t2,
            t3,
            c0,
            c1,
            c2,
            c3,
        ]
    }

    /// Writes the twelve bytes to the front of `out`; `None` if they do not fit.
    pub fn write(self, out: &mut [u8]) -> Option<usize> {
        out.first_chunk_mut::<FIXED_LEN>()?
            .copy_from_slice(&self.to_bytes());
        Some(FIXED_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn csrcs_and_the_extension_are_part_of_the_header() {
        let mut packet = vec![0xB2, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend([0; 8]); // Two CSRCs.
        packet.extend([0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0, 0]);
        packet.extend([7, 7, 0, 2]); // Two bytes of payload, two of padding.
        let header = Header::parse(&packet).expect("header");
        assert_eq!(header.csrc_count, 2);
        assert_eq!(header.header_len, 28);
        let block = header.extension.expect("extension");
        assert_eq!((block.profile, block.range()), (0xBEDE, 24..28));
        assert!(header.marker && header.padding);
        assert_eq!(header.sequence, 0x1234);
        assert_eq!(header.payload(&packet), Some(&[7, 7][..]));
    }

    #[test]
    fn a_packet_of_padding_only_has_an_empty_payload() {
        let mut packet = vec![0xA0, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend([0, 0, 0, 4]);
        let header = Header::parse(&packet).expect("header");
        assert_eq!(header.payload(&packet), Some(&[][..]));
    }

    #[test]
    fn implausible_padding_is_refused() {
        let mut packet = vec![0xA0, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 1, 9];
        let header = Header::parse(&packet).expect("header");
        assert_eq!(header.payload(&packet), None);
        packet[13] = 0;
        assert_eq!(header.payload(&packet), None);
        packet.truncate(FIXED_LEN);
        assert_eq!(header.payload(&packet), None);
    }

    #[test]
    fn a_cut_or_foreign_header_is_refused() {
        let whole = FixedHeader {
            marker: false,
            payload_type: 111,
            sequence: 1,
            timestamp: 2,
            ssrc: 3,
        }
        .to_bytes();
        assert!(Header::parse(&whole).is_some());
        assert!(Header::parse(&whole[..11]).is_none());
        let mut version_one = whole;
        version_one[0] = 0x40;
        assert!(Header::parse(&version_one).is_none());
        let mut promised_csrc = whole;
        promised_csrc[0] |= 1;
        assert!(Header::parse(&promised_csrc).is_none());
        let mut promised_extension = whole;
        promised_extension[0] |= 0x10;
        assert!(Header::parse(&promised_extension).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(header) = Header::parse(&bytes) {
                prop_assert!(header.header_len <= bytes.len());
                if let Some(block) = header.extension {
                    prop_assert!(bytes.get(block.range()).is_some());
                }
                let _ = header.payload(&bytes);
            }
        }

        #[test]
        fn what_is_written_is_read(
            marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
        ) {
            let fixed = FixedHeader { marker, payload_type, sequence, timestamp, ssrc };
            let mut out = [0xFF; FIXED_LEN];
            prop_assert_eq!(fixed.write(&mut out), Some(FIXED_LEN));
            let header = Header::parse(&out).expect("own header");
            prop_assert_eq!(header.marker, marker);
            prop_assert_eq!(header.payload_type, payload_type);
            prop_assert_eq!(header.sequence, sequence);
            prop_assert_eq!(header.timestamp, timestamp);
            prop_assert_eq!(header.ssrc, ssrc);
            prop_assert_eq!(header.header_len, FIXED_LEN);
            prop_assert_eq!(fixed.write(&mut out[..11]), None);
        }
    }
}
