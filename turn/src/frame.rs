//! Where one message of a stream ends and the next begins. (RFC 8489 §6.2.2, RFC 8656 §12.5)
//!
//! Owns the two lengths of TURN over TCP; keeps no bytes. The shell asks it of what it has read.

use crate::message::{COOKIE, HEADER};

/// Longest frame taken from a stream. Media datagrams have some 1,500 bytes and control a few
/// hundred; a connection must not make us keep 64 KiB for it.
pub const FRAME_MAX: usize = 16 << 10;

/// What stands at the beginning of some bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// More bytes are needed to tell or to have it whole.
    Partial,
    /// A message of `len` bytes that takes up `taken` with its padding.
    Whole {
        /// Bytes of the message.
        len: usize,
        /// Bytes to leave behind.
        taken: usize,
    },
    /// Neither STUN nor ChannelData, or longer than [`FRAME_MAX`]: the stream cannot be followed.
    Broken,
}

/// Looks at what was read.
#[must_use]
pub fn next(bytes: &[u8]) -> Frame {
    let Some(head) = bytes.first_chunk::<4>() else {
        return match bytes.first() {
            Some(first) if *first > 0x7F => Frame::Broken,
            _ => Frame::Partial,
        };
    };
    let told = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let (len, taken) = match head[0] >> 6 {
        0 => {
            let cookie = bytes.get(4..8.min(bytes.len())).unwrap_or_default();
            if !told.is_multiple_of(4) || !COOKIE.starts_with(cookie) {
                return Frame::Broken;
            }
            (HEADER + told, HEADER + told)
        }
        1 => (4 + told, 4 + told.next_multiple_of(4)),
        _ => return Frame::Broken,
    };
    if taken > FRAME_MAX {
        Frame::Broken
    } else if bytes.len() < taken {
        Frame::Partial
    } else {
        Frame::Whole { len, taken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn channel_data_is_padded_to_four_and_the_padding_left_behind() {
        let bytes = [0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0x40];
        assert_eq!(next(&bytes), Frame::Whole { len: 9, taken: 12 });
        assert_eq!(next(&bytes[..11]), Frame::Partial);
        assert_eq!(next(&bytes[12..]), Frame::Partial);
    }

    #[test]
    fn a_stream_that_is_no_turn_is_broken_at_once() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00"[..],
            b"GET / HTTP/1.1\r\n",
            &[0x80],
            &[0, 1, 0, 3],
        ] {
            assert_eq!(next(bytes), Frame::Broken, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_longer_than_the_limit_is_broken_before_it_is_kept() {
        assert_eq!(next(&[0x40, 0, 0x40, 0]), Frame::Broken);
        assert_eq!(next(&[0, 1, 0x40, 0]), Frame::Broken);
    }

    proptest! {
        #[test]
        fn any_bytes_are_framed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Frame::Whole { len, taken } = next(&bytes) {
                prop_assert!(len <= taken && taken <= bytes.len());
                prop_assert!(taken - len < 4 && taken > 0);
            }
        }
    }
}
