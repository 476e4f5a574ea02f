//! The H264 payload format (RFC 6184 §5): does a key frame begin in this packet?
//!
//! A view over bytes: reads unit headers and lengths, which stay clear under end-to-end encryption,
//! never a unit's inside. Only the modes of single units and of non-interleaved packets are
//! negotiated. Ingest asks once for each packet.

/// The five bits that tell what a unit is.
const TYPE: u8 = 0x1F;
/// Sequence parameter set: it precedes every picture a decoder can begin with.
const SPS: u8 = 7;
/// Several units in one packet, each behind two bytes of length.
const STAP_A: u8 = 24;
/// A piece of a unit.
const FU_A: u8 = 28;
/// The piece is the first one.
const START: u8 = 0x80;

/// Does a sequence parameter set begin in this payload? Alone, among others, or as a first piece. An
/// IDR picture without one is no place to begin: the decoder may know another set.
/// (LK: sfu-media §2.6)
#[must_use]
pub fn starts_key_frame(payload: &[u8]) -> bool {
    let Some((&header, rest)) = payload.split_first() else {
        return false;
    };
    match header & TYPE {
        SPS => true,
        STAP_A => aggregates_sps(rest),
        FU_A => rest
            .first()
            .is_some_and(|piece| piece & START != 0 && piece & TYPE == SPS),
        _ => false,
    }
}

/// Walks the units behind their lengths; each step consumes two bytes at least.
fn aggregates_sps(mut units: &[u8]) -> bool {
    while let Some((size, rest)) = units.split_first_chunk::<2>() {
        let size = usize::from(u16::from_be_bytes(*size));
        let Some((unit, next)) = rest.split_at_checked(size) else {
            return false;
        };
        if unit.first().is_some_and(|header| header & TYPE == SPS) {
            return true;
        }
        units = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stap_a(units: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0x78];
        for unit in units {
            out.extend((unit.len() as u16).to_be_bytes());
            out.extend(*unit);
        }
        out
    }

    #[test]
    fn a_parameter_set_begins_a_key_frame_however_it_is_packed() {
        let (sps, pps, idr, delimiter) =
            (&[0x67, 0x42, 0xC0][..], &[0x68][..], &[0x65][..], &[9][..]);
        assert!(starts_key_frame(sps));
        assert!(starts_key_frame(&[0x27]), "whatever its importance");
        assert!(starts_key_frame(&stap_a(&[sps, pps])));
        assert!(starts_key_frame(&stap_a(&[delimiter, &[], sps, pps, idr])));
        assert!(
            starts_key_frame(&[0x7C, 0x87, 1, 2]),
            "the first piece of one"
        );
    }

    #[test]
    fn nothing_else_begins_one() {
        for payload in [
            &[][..],
            &[0x65, 1, 2],
            &[0x68],
            &[0x41, 0x67],
            &[0x7C],
            &[0x7C, 0x85, 7],
            &[0x7C, 0x07, 7],
            &[0x7C, 0x47],
            &stap_a(&[&[0x68], &[0x65]]),
            &stap_a(&[]),
        ] {
            assert!(!starts_key_frame(payload), "{payload:02x?}");
        }
        let cut = stap_a(&[&[0x68], &[0x67, 1, 2]]);
        for len in 0..cut.len() {
            assert!(!starts_key_frame(&cut[..len]), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            front in proptest::option::of(prop_oneof![Just(0x78_u8), Just(0x7C), Just(0x67)]),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let payload: Vec<u8> = front.into_iter().chain(rest).collect();
            let _ = starts_key_frame(&payload);
        }

        /// What is behind the headers may be encrypted: it changes nothing.
        #[test]
        fn only_headers_and_lengths_are_looked_at(
            units in proptest::collection::vec((0_u8..32, proptest::collection::vec(any::<u8>(), 0..30)), 1..6),
            noise: u8,
        ) {
            let unit = |(kind, inside): &(u8, Vec<u8>)| -> Vec<u8> {
                std::iter::once(0x60 | kind).chain(inside.iter().copied()).collect()
            };
            let sealed = |(kind, inside): &(u8, Vec<u8>)| -> Vec<u8> {
                std::iter::once(0x60 | kind).chain(inside.iter().map(|byte| byte ^ noise)).collect()
            };
            let plain: Vec<Vec<u8>> = units.iter().map(unit).collect();
            let dark: Vec<Vec<u8>> = units.iter().map(sealed).collect();
            let pack = |units: &[Vec<u8>]| stap_a(&units.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let expected = units.iter().any(|(kind, _)| *kind == SPS);
            prop_assert_eq!(starts_key_frame(&pack(&plain)), expected);
            prop_assert_eq!(starts_key_frame(&pack(&dark)), expected);
        }
    }
}
