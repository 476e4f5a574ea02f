//! Redundant audio (RFC 2198): where the newest block lies among the older ones sent with it.
//!
//! A view over bytes; never copies them nor looks into a block. `ingest` asks once for each packet,
//! so that a subscriber without RED can be sent the newest block alone.

/// The last block's header: no block follows.
const LAST_HEADER: usize = 1;
/// The header of every other block.
const BLOCK_HEADER: usize = 4;

/// The offset of the newest block, if all blocks have the payload type `inner` and lie within
/// `payload`. It may be empty. `None` for what is not RED of that codec, such as encrypted frames.
#[must_use]
pub fn primary(payload: &[u8], inner: u8) -> Option<usize> {
    let mut header = 0;
    let mut older = 0;
    loop {
        let block = payload.get(header..)?;
        let (first, rest) = block.split_first()?;
        if first & 0x7F != inner {
            return None;
        }
        if first & 0x80 == 0 {
            let start = header + LAST_HEADER + older;
            return (start <= payload.len()).then_some(start);
        }
        // Fourteen bits of timestamp offset, ten of length.
        let length = u16::from_be_bytes([*rest.get(1)?, *rest.get(2)?]) & 0x3FF;
        older += usize::from(length);
        header += BLOCK_HEADER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Blocks, oldest first, as RFC 2198 §3 lays them out; offsets grow by 960.
    fn red(inner: u8, blocks: &[Vec<u8>]) -> Vec<u8> {
        let (newest, older) = blocks.split_last().expect("one block at least");
        let mut out = Vec::new();
        for (index, block) in older.iter().enumerate() {
            let offset = (older.len() - index) as u32 * 960;
            let word = 1 << 31 | u32::from(inner) << 24 | offset << 10 | block.len() as u32;
            out.extend(word.to_be_bytes());
        }
        out.push(inner);
        out.extend(blocks.concat());
        assert!(out.ends_with(newest));
        out
    }

    #[test]
    fn the_example_of_the_rfc_has_its_primary_behind_the_dvi_block() {
        // RFC 2198 §4, with one payload type: 0x85 stands for block PT 5, F=1.
        let mut payload = vec![0x85, 0x2A, 0x00, 0x54, 0x05];
        payload.extend([1; 0x54]);
        payload.extend([2; 84]);
        let start = primary(&payload, 5).expect("RED");
        assert_eq!(payload[start..], [2; 84]);
    }

    #[test]
    fn a_lone_block_follows_its_header() {
        assert_eq!(primary(&[111, 1, 2], 111), Some(1));
        assert_eq!(primary(&[111], 111), Some(1), "an empty one");
    }

    #[test]
    fn what_is_cut_short_or_of_another_codec_is_not_read() {
        let whole = red(111, &[vec![1; 10], vec![]]);
        assert_eq!(primary(&whole, 111), Some(whole.len()));
        for len in 0..whole.len() {
            assert_eq!(primary(&whole[..len], 111), None, "{len} bytes");
        }
        assert_eq!(primary(&whole, 110), None);
        let mixed = red(110, &[vec![1; 10], vec![2]]);
        let mixed: Vec<u8> = [&[0x80 | 111, 0, 0, 0][..], &mixed].concat();
        assert_eq!(primary(&mixed, 111), None);
    }

    proptest! {
        #[test]
        fn the_newest_of_any_blocks_is_found(
            inner in 0u8..128,
            blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1024), 1..5),
        ) {
            let payload = red(inner, &blocks);
            let start = primary(&payload, inner).expect("RED");
            prop_assert_eq!(Some(&payload[start..]), blocks.last().map(Vec::as_slice));
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            payload in proptest::collection::vec(any::<u8>(), 0..64), inner in 0u8..128,
        ) {
            if let Some(start) = primary(&payload, inner) {
                prop_assert!(start <= payload.len());
            }
        }
    }
}
