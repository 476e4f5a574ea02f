//! The VP8 payload descriptor (RFC 7741 §4.2): clear even under end-to-end encryption.

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
    #[must_use]
    pub fn parse(_payload: &[u8]) -> Option<Self> {
        todo!()
    }
}
