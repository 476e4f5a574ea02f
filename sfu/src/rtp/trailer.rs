//! LiveKit's packet trailer: what a client appends to the last packet of a frame for those who know
//! of it, such as the time a picture was taken. (LK: sfu-media §2.12)
//!
//! A view over bytes. The trailer comes after encryption, so it is found in sealed frames too. Ingest
//! asks where a track announced trailers, so that no chance bytes are taken for one.

/// Its last bytes.
const MAGIC: [u8; 4] = *b"LKTS";
/// The length before them is told with all bits turned.
const LENGTH_MASK: u8 = 0xFF;
/// Magic and length: the least there is.
const ENVELOPE: u8 = 5;

/// Bytes of the trailer at the end of a frame's last packet, zero if there is none or the packet
/// is not longer than it.
#[must_use]
pub fn len(payload: &[u8]) -> u8 {
    let Some((rest, &[turned, m0, m1, m2, m3])) = payload.split_last_chunk::<5>() else {
        return 0;
    };
    let len = turned ^ LENGTH_MASK;
    let fits = usize::from(len) < rest.len() + usize::from(ENVELOPE);
    if [m0, m1, m2, m3] == MAGIC && len >= ENVELOPE && fits {
        len
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_trailer(frame: &[u8], inside: &[u8]) -> Vec<u8> {
        let turned = (inside.len() as u8 + ENVELOPE) ^ LENGTH_MASK;
        [frame, inside, &[turned], &MAGIC].concat()
    }

    #[test]
    fn a_trailer_is_as_long_as_it_says() {
        assert_eq!(len(&with_trailer(b"frame", b"12345678")), 13);
        assert_eq!(len(&with_trailer(b"frame", b"")), 5);
    }

    #[test]
    fn what_cannot_be_one_is_none() {
        assert_eq!(len(b""), 0);
        assert_eq!(len(b"LKTS"), 0);
        assert_eq!(len(&with_trailer(b"", b"12")), 0, "nothing would be left");
        assert_eq!(len(b"frame\x05LKTS"), 0, "longer than the packet");
        assert_eq!(len(b"frame\xFFLKTS"), 0, "shorter than itself");
        assert_eq!(len(b"frame\xFALKTX"), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_something_remains(
            frame in proptest::collection::vec(any::<u8>(), 0..300),
            end in prop_oneof![Just(&b"LKTS"[..]), Just(&b""[..])],
        ) {
            let payload = [&frame[..], end].concat();
            let found = usize::from(len(&payload));
            prop_assert!(found == 0 || found < payload.len());
        }
    }
}
