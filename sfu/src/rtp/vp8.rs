//! The VP8 payload descriptor (RFC 7741 §4.2): clear even under end-to-end encryption.
//!
//! Parses and writes it, and reads a key frame's size from the ten bytes that stay clear. Never
//! touches the rest of the payload. Ingest parses; forwarding writes.

/// The longest descriptor: first byte, extension byte, 15-bit picture id, TL0PICIDX, TID/KEYIDX.
pub const MAX_LEN: usize = 6;

/// First byte: an extension byte follows.
const X: u8 = 0x80;
/// First byte: non-reference frame.
const N: u8 = 0x20;
/// First byte: S and the three bits of the partition index.
const START_AND_PARTITION: u8 = 0x17;
/// S set, partition 0: a frame starts here.
const FRAME_START: u8 = 0x10;
/// Extension byte: picture id present.
const I: u8 = 0x80;
/// Extension byte: TL0PICIDX present.
const L: u8 = 0x40;
/// Extension byte: TID and Y present.
const T: u8 = 0x20;
/// Extension byte: KEYIDX present.
const K: u8 = 0x10;
/// Picture id: 15 bits instead of 7.
const M: u8 = 0x80;
/// Y of the TID byte.
const Y: u8 = 0x20;
/// KEYIDX of the TID byte.
const KEY_INDEX: u8 = 0x1f;
/// What follows the frame tag of a key frame (RFC 6386 §9.1).
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
/// Width and height are 14 bits, below two bits of scaling.
const SIZE_BITS: u16 = 0x3fff;

/// A parsed descriptor. Copy, 16 bytes or so: it travels with every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// Bytes the descriptor takes in the payload (1 to 6).
    pub len: u8,
    /// N: no other frame depends on this one.
    pub non_reference: bool,
    /// S with partition 0: first packet of a frame.
    pub frame_start: bool,
    /// The byte's S bit and partition index as they stand, to be written back.
    pub start_and_partition: u8,
    /// Picture id and whether it takes 15 bits on the wire.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX.
    pub tl0_index: Option<u8>,
    /// Temporal layer and its Y (layer sync) bit.
    pub temporal: Option<Temporal>,
    /// KEYIDX, five bits.
    pub key_index: Option<u8>,
    /// First packet of a key frame (P bit of the VP8 header clear).
    pub key_frame: bool,
    /// Width and height from the key frame's header, if this packet holds it.
    pub size: Option<(u16, u16)>,
}

/// A picture id with its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PictureId {
    /// The value, below 128 or 32,768.
    pub value: u16,
    /// Written in 15 bits.
    pub wide: bool,
}

/// Temporal layer index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Temporal {
    /// TID, 0 to 3.
    pub layer: u8,
    /// Y: depends only on the base layer.
    pub sync: bool,
}

impl Descriptor {
    /// Parses the descriptor at the front of an RTP payload; `None` if it is cut short or invalid.
    ///
    /// TL0PICIDX without TID is invalid: nothing could say which frames it counts.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut bytes = payload.iter();
        let first = *bytes.next()?;
        let extension = if first & X != 0 { *bytes.next()? } else { 0 };
        let mut parsed = Self {
            non_reference: first & N != 0,
            start_and_partition: first & START_AND_PARTITION,
            frame_start: first & START_AND_PARTITION == FRAME_START,
            ..Self::default()
        };
        if extension & I != 0 {
            let high = *bytes.next()?;
            parsed.picture_id = Some(if high & M == 0 {
                PictureId {
                    value: u16::from(high),
                    wide: false,
                }
            } else {
                PictureId {
                    value: u16::from_be_bytes([high & !M, *bytes.next()?]),
                    wide: true,
                }
            });
        }
        if extension & L != 0 {
            if extension & T == 0 {
                return None;
            }
            parsed.tl0_index = Some(*bytes.next()?);
        }
        if extension & (T | K) != 0 {
            let byte = *bytes.next()?;
            parsed.temporal = (extension & T != 0).then_some(Temporal {
                layer: byte >> 6,
                sync: byte & Y != 0,
            });
            parsed.key_index = (extension & K != 0).then_some(byte & KEY_INDEX);
        }
        let rest = bytes.as_slice();
        // At most MAX_LEN by construction.
        parsed.len = (payload.len() - rest.len()) as u8;
        parsed.read_frame_header(rest);
        Some(parsed)
    }

    /// The frame header at the start of a frame (RFC 6386 §9.1): P clear means key frame.
    fn read_frame_header(&mut self, frame: &[u8]) {
        let Some(&tag) = frame.first() else { return };
        self.key_frame = self.frame_start && tag & 1 == 0;
        if !self.key_frame {
            return;
        }
        if let Some(&[_, _, _, a, b, c, w0, w1, h0, h1]) = frame.first_chunk::<10>()
            && [a, b, c] == START_CODE
        {
            self.size = Some((
                u16::from_le_bytes([w0, w1]) & SIZE_BITS,
                u16::from_le_bytes([h0, h1]) & SIZE_BITS,
            ));
        }
    }

    /// Writes the descriptor to the front of `out` and tells its length. Values that do not fit
    /// their field are cut to it; TL0PICIDX is left out without a temporal layer.
    #[must_use]
    pub fn write(&self, out: &mut [u8; MAX_LEN]) -> usize {
        let mut bytes = [0; MAX_LEN];
        let mut extension = 0;
        let mut len = 2;
        let mut push = |byte: u8| {
            // Six pushes at most: two below are the first bytes, four come here.
            if let Some(slot) = bytes.get_mut(len) {
                *slot = byte;
                len += 1;
            }
        };
        if let Some(id) = self.picture_id {
            extension |= I;
            let [high, low] = id.value.to_be_bytes();
            if id.wide {
                push(high | M);
                push(low);
            } else {
                push(low & !M);
            }
        }
        if let (Some(index), Some(_)) = (self.tl0_index, self.temporal) {
            extension |= L;
            push(index);
        }
        if self.temporal.is_some() || self.key_index.is_some() {
            let temporal = self.temporal.unwrap_or_default();
            extension |= if self.temporal.is_some() { T } else { 0 };
            extension |= if self.key_index.is_some() { K } else { 0 };
            let sync = if temporal.sync { Y } else { 0 };
            push(temporal.layer << 6 | sync | (self.key_index.unwrap_or(0) & KEY_INDEX));
        }
        let [first, second, ..] = &mut bytes;
        *first = self.start_and_partition & START_AND_PARTITION;
        *first |= if self.non_reference { N } else { 0 };
        if extension == 0 {
            len = 1;
        } else {
            *first |= X;
            *second = extension;
        }
        *out = bytes;
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What libwebrtc sends at the start of a key frame: S, wide picture id, TL0PICIDX, TID.
    const KEY_FRAME: [u8; 16] = [
        0x90, 0xe0, 0x81, 0x02, 0x07, 0x20, // descriptor
        0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x41, // 640 x 360, scale 0 / 1
    ];

    #[test]
    fn a_key_frame_of_a_browser_is_read_in_full() {
        let parsed = Descriptor::parse(&KEY_FRAME).expect("valid");
        assert_eq!(
            parsed,
            Descriptor {
                len: 6,
                non_reference: false,
                frame_start: true,
                start_and_partition: 0x10,
                picture_id: Some(PictureId {
                    value: 0x102,
                    wide: true
                }),
                tl0_index: Some(7),
                temporal: Some(Temporal {
                    layer: 0,
                    sync: true
                }),
                key_index: None,
                key_frame: true,
                size: Some((640, 0x168)),
            }
        );
    }

    #[test]
    fn the_shortest_descriptor_has_one_byte() {
        let parsed = Descriptor::parse(&[0x10, 0x01]).expect("valid");
        assert_eq!(parsed.len, 1);
        assert!(parsed.frame_start && !parsed.key_frame);
        let mut out = [0xff; MAX_LEN];
        assert_eq!(parsed.write(&mut out), 1);
        assert_eq!(out[0], 0x10);
    }

    #[test]
    fn a_later_partition_starts_no_frame_and_is_no_key_frame() {
        let parsed = Descriptor::parse(&[0x11, 0x00]).expect("valid");
        assert!(!parsed.frame_start && !parsed.key_frame);
    }

    #[test]
    fn tl0_index_without_temporal_layer_is_invalid() {
        assert_eq!(Descriptor::parse(&[0x90, 0x40, 1, 2, 3]), None);
    }

    #[test]
    fn every_cut_of_a_descriptor_is_refused() {
        for len in 0..6 {
            assert_eq!(Descriptor::parse(&KEY_FRAME[..len]), None, "{len}");
        }
    }

    #[test]
    fn a_size_needs_ten_bytes_and_the_start_code() {
        let cut = Descriptor::parse(&KEY_FRAME[..15]).expect("valid");
        assert!(cut.key_frame && cut.size.is_none());
        let mut spoiled = KEY_FRAME;
        spoiled[9] = 0;
        let spoiled = Descriptor::parse(&spoiled).expect("valid");
        assert!(spoiled.key_frame && spoiled.size.is_none());
    }

    fn descriptor() -> impl Strategy<Value = Descriptor> {
        let picture =
            proptest::option::of(
                (any::<bool>(), 0..0x8000u16).prop_map(|(wide, v)| PictureId {
                    value: if wide { v } else { v & 0x7f },
                    wide,
                }),
            );
        let temporal = proptest::option::of((0..4u8, any::<bool>()))
            .prop_map(|t| t.map(|(layer, sync)| Temporal { layer, sync }));
        let key = proptest::option::of(0..32u8);
        let tl0 = proptest::option::of(any::<u8>());
        (
            any::<bool>(),
            any::<bool>(),
            0..8u8,
            picture,
            tl0,
            temporal,
            key,
        )
            .prop_map(
                |(non_reference, start, partition, picture_id, tl0, temporal, key_index)| {
                    let start_and_partition = if start { 0x10 | partition } else { partition };
                    Descriptor {
                        non_reference,
                        start_and_partition,
                        frame_start: start_and_partition == 0x10,
                        picture_id,
                        tl0_index: temporal.and(tl0),
                        temporal,
                        key_index,
                        ..Descriptor::default()
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed_back(mut wanted in descriptor()) {
            let mut out = [0xaa; MAX_LEN];
            let len = wanted.write(&mut out);
            wanted.len = len as u8;
            prop_assert_eq!(Descriptor::parse(&out[..len]), Some(wanted));
        }

        #[test]
        fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            if let Some(parsed) = Descriptor::parse(&bytes) {
                prop_assert!(usize::from(parsed.len) <= bytes.len().min(MAX_LEN));
                // Rewriting what came in never needs more room.
                prop_assert!(parsed.write(&mut [0; MAX_LEN]) <= usize::from(parsed.len));
            }
        }
    }
}
