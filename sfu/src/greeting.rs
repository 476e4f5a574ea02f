//! What the first bytes of a TCP connection say that it is.
//!
//! Owns telling apart what one port serves: TLS, HTTP, STUN and TURN, and media over TCP. It reads a
//! beginning again whenever more of it is there, and keeps nothing. It never decides where a
//! connection goes. Called by `server`.

pub mod hello;
pub mod proxy;

use hello::Hello;

/// The longest beginning that is ever looked at: a ClientHello with its records, which post-quantum
/// keys make some 2 KiB. What says no more in so many bytes says nothing.
pub const MOST_BYTES: usize = 16 << 10;

/// The magic cookie of STUN. (RFC 8489 §5)
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// Bytes of a STUN header.
const STUN_HEADER: usize = 20;
/// Largest frame that may begin media over TCP: a connectivity check, which is some 150 bytes. Beyond,
/// its length would look like something else.
const MOST_FRAMED: usize = 1500;
/// Letters of the longest registered method of HTTP and some more.
const MOST_METHOD: usize = 24;

/// A beginning, as far as it can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading<T> {
    /// It may become something once more of it is there.
    More,
    /// This is what it is.
    Is(T),
    /// It is nothing, whatever follows.
    Malformed,
}

/// What a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A handshake of TLS.
    Tls(Hello),
    /// A request of HTTP/1.
    Http,
    /// STUN as it is spoken with a TURN server. (RFC 8489 §6.2.2)
    Stun,
    /// STUN in a frame, as media over TCP begins. (RFC 4571, RFC 6544)
    FramedStun,
}

/// What begins with `bytes`, which no PROXY header precedes.
#[must_use]
pub fn kind(bytes: &[u8]) -> Reading<Kind> {
    match bytes.first() {
        None => Reading::More,
        Some(0x16) => match hello::read(bytes) {
            Reading::Is(hello) => Reading::Is(Kind::Tls(hello)),
            Reading::More if bytes.len() < MOST_BYTES => Reading::More,
            Reading::More | Reading::Malformed => Reading::Malformed,
        },
        // Of STUN the first two bits are zero, of a frame this is half of its length.
        Some(0..=5) => stun(bytes),
        Some(b'A'..=b'Z') => http(bytes),
        Some(_) => Reading::Malformed,
    }
}

fn stun(bytes: &[u8]) -> Reading<Kind> {
    let cookie_at = |at: usize| bytes.get(at..at + 4).map(|found| found == COOKIE);
    let short = |at: usize| -> Option<usize> {
        let bytes: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes).into())
    };
    if cookie_at(4) == Some(true) {
        let whole = bytes[0] < 4 && short(2).is_some_and(|length| length.is_multiple_of(4));
        return if whole {
            Reading::Is(Kind::Stun)
        } else {
            Reading::Malformed
        };
    }
    match (cookie_at(6), short(0), short(4)) {
        (Some(true), Some(frame), Some(length)) => {
            let whole = bytes[2] < 4 && frame <= MOST_FRAMED && frame == STUN_HEADER + length;
            if whole {
                Reading::Is(Kind::FramedStun)
            } else {
                Reading::Malformed
            }
        }
        (Some(false), ..) => Reading::Malformed,
        _ => Reading::More,
    }
}

fn http(bytes: &[u8]) -> Reading<Kind> {
    let letters = bytes
        .iter()
        .take(MOST_METHOD)
        .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-')
        .count();
    match bytes.get(letters) {
        Some(b' ') => Reading::Is(Kind::Http),
        None => Reading::More,
        Some(_) => Reading::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BINDING: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    /// Every shorter beginning asks for more, the whole one says what it is.
    fn told(bytes: &[u8], from: usize, expected: &Kind) {
        for len in 0..from {
            assert_eq!(kind(&bytes[..len]), Reading::More, "{len} bytes");
        }
        for len in from..=bytes.len() {
            assert_eq!(
                kind(&bytes[..len]),
                Reading::Is(expected.clone()),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn stun_is_told_by_its_cookie_and_framed_stun_by_the_same_two_bytes_later() {
        told(&BINDING, 8, &Kind::Stun);
        let mut framed = vec![0, 20];
        framed.extend(BINDING);
        told(&framed, 10, &Kind::FramedStun);
        // A check of 1280 bytes begins with a 5.
        let mut large = vec![5, 0, 0, 1, 4, 0xEC];
        large.extend(COOKIE);
        told(&large, 10, &Kind::FramedStun);
    }

    #[test]
    fn a_frame_that_is_not_as_long_as_what_is_in_it_is_nothing() {
        for frame in [[0, 21], [0, 24], [3, 20]] {
            let mut framed = frame.to_vec();
            framed.extend(BINDING);
            assert_eq!(kind(&framed), Reading::Malformed, "{frame:?}");
        }
        let mut odd = BINDING;
        odd[3] = 3;
        assert_eq!(kind(&odd), Reading::Malformed);
        assert_eq!(kind(&[0; 10]), Reading::Malformed);
    }

    #[test]
    fn a_request_is_told_by_its_method() {
        told(b"GET / HTTP/1.1\r\n", 4, &Kind::Http);
        told(b"M-SEARCH * HTTP/1.1\r\n", 9, &Kind::Http);
        for other in ["GET\t/", "EHLO.x", "G\r\n", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] {
            assert_eq!(kind(other.as_bytes()), Reading::Malformed, "{other}");
        }
    }

    #[test]
    fn what_nobody_speaks_here_is_told_by_its_first_byte() {
        for first in [6, 0x0D, 0x14, 0x17, 0x40, b'a', 0x80, 0xFF] {
            assert_eq!(kind(&[first]), Reading::Malformed, "{first}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_told_without_panic_and_no_verdict_is_taken_back(
            first in prop::sample::select(vec![0_u8, 1, 3, 5, 0x16, b'G']),
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = vec![first];
            bytes.extend(rest);
            let mut before = Reading::More;
            for len in 0..=bytes.len() {
                let now = kind(&bytes[..len]);
                if before != Reading::More {
                    prop_assert_eq!(&now, &before);
                }
                before = now;
            }
        }
    }
}
