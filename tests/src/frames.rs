//! What publishers send: VP8 frames of three sizes, frames in the form of H264, packets of sound.
//!
//! Each frame ends in its own number, so that no two payloads are alike.

use bytes::Bytes;

/// Most payload bytes in one packet, descriptor included.
const MTU: usize = 1100;
/// Bytes of our VP8 payload descriptor: the two fixed ones and a 15-bit picture id.
pub const DESCRIPTOR: usize = 4;

/// Ten frames at 15 per second, a key frame first: encoded test pictures in IVF.
const CLIPS: [(&str, &[u8]); 3] = [
    ("q", include_bytes!("../fixtures/q.ivf")),
    ("h", include_bytes!("../fixtures/h.ivf")),
    ("f", include_bytes!("../fixtures/f.ivf")),
];

/// One layer's endless clip.
pub struct Clip {
    frames: Vec<&'static [u8]>,
    next: usize,
}

impl Clip {
    /// The clip of a layer: `q` 160x90, `h` 320x180, `f` 640x360.
    #[must_use]
    pub fn of(rid: &str) -> Self {
        let (_, file) = CLIPS
            .iter()
            .find(|(name, _)| *name == rid)
            .expect("a layer we have");
        let mut rest = &file[32..];
        let mut frames = Vec::new();
        while rest.len() > 12 {
            let size = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            frames.push(&rest[12..12 + size]);
            rest = &rest[12 + size..];
        }
        assert_eq!(frames.len(), 10, "a clip is ten frames");
        assert_eq!(frames[0][0] & 1, 0, "and begins with a key frame");
        Self { frames, next: 0 }
    }

    /// Begins again at the key frame.
    pub const fn restart(&mut self) {
        self.next = self.next.next_multiple_of(10);
    }

    /// The payloads of the next frame, RFC 7741: descriptor and a piece of the frame each.
    pub fn next_frame(&mut self) -> Vec<Bytes> {
        let mut frame = self.frames[self.next % self.frames.len()].to_vec();
        frame.extend_from_slice(&(self.next as u64).to_be_bytes());
        let picture = (self.next as u16 & 0x7fff) | 0x8000;
        self.next += 1;
        let pieces = frame
            .chunks(MTU - DESCRIPTOR)
            .enumerate()
            .map(|(n, piece)| {
                let start = if n == 0 { 0x10 } else { 0 };
                let mut payload = vec![0x80 | start, 0x80];
                payload.extend_from_slice(&picture.to_be_bytes());
                payload.extend_from_slice(piece);
                Bytes::from(payload)
            });
        pieces.collect()
    }
}

/// The `n`th packet of sound: an Opus table-of-contents byte, the number, and noise.
#[must_use]
pub fn sound(n: u64) -> Bytes {
    let mut payload = vec![0x78];
    payload.extend_from_slice(&n.to_be_bytes());
    payload.extend((0..70u64).map(|i| (n.wrapping_mul(31).wrapping_add(i * i)) as u8));
    Bytes::from(payload)
}

/// The `n`th packet of G.711: twenty milliseconds of samples, all unlike those of others.
#[must_use]
pub fn samples(n: u64) -> Bytes {
    let mut payload = n.to_be_bytes().to_vec();
    payload.extend((0..152u64).map(|i| (n.wrapping_mul(17).wrapping_add(i * 3)) as u8));
    Bytes::from(payload)
}

/// The payloads of the `n`th frame of a layer, RFC 6184: each tenth frame begins with parameter
/// sets and is in two pieces. What is inside the units is noise, as if encrypted.
#[must_use]
pub fn h264(n: u64, layer: &str) -> Vec<Bytes> {
    let unit = |front: &[u8], piece: u64| {
        let mut payload = front.to_vec();
        payload.extend((0..200u64).map(|i| (n.wrapping_mul(29) ^ (i * 7)) as u8));
        payload.extend_from_slice(&n.to_be_bytes());
        payload.push(piece as u8);
        payload.extend_from_slice(layer.as_bytes());
        Bytes::from(payload)
    };
    if !n.is_multiple_of(10) {
        return vec![unit(&[0x41, 0x9A], 0)];
    }
    let mut sets = vec![0x67, 0x42, 0xC0, 0x1F];
    sets.extend_from_slice(&n.to_be_bytes());
    sets.extend_from_slice(layer.as_bytes());
    let mut payload = vec![0x78];
    payload.extend_from_slice(&(sets.len() as u16).to_be_bytes());
    payload.extend_from_slice(&sets);
    payload.extend_from_slice(&[0, 2, 0x68, 0xCE]);
    vec![
        Bytes::from(payload),
        unit(&[0x7C, 0x85, 0x88], 1),
        unit(&[0x7C, 0x45], 2),
    ]
}

/// A VP8 payload without its descriptor, whatever fields the descriptor has.
#[must_use]
pub fn vp8_body(payload: &[u8]) -> &[u8] {
    let bit = |at: usize, mask: u8| payload.get(at).is_some_and(|byte| byte & mask != 0);
    let mut length = 1;
    if bit(0, 0x80) {
        length += 1;
        let (picture, tl0, tid_or_key) = (bit(1, 0x80), bit(1, 0x40), bit(1, 0x30));
        if picture {
            length += if bit(length, 0x80) { 2 } else { 1 };
        }
        length += usize::from(tl0) + usize::from(tid_or_key);
    }
    payload.get(length..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_numbered_and_begin_with_a_key_frame() {
        for rid in ["q", "h", "f"] {
            let mut clip = Clip::of(rid);
            let first = clip.next_frame();
            assert_eq!(first[0][0], 0x90);
            assert_eq!(vp8_body(&first[0])[0] & 1, 0);
            assert!(first.iter().all(|payload| payload.len() <= MTU));
            assert_ne!(first, clip.next_frame());
            clip.restart();
            assert_eq!(vp8_body(&clip.next_frame()[0])[0] & 1, 0);
        }
    }
}
