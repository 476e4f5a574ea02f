//! The first bytes of a TCP connection: a beginning asks for more or is told, and what was told stays.

use sfu::greeting::{MOST_BYTES, Reading, hello, kind, proxy};

/// A PROXY header if there is one, and what follows it; both as they grow.
pub(crate) fn greeting(bytes: &[u8]) {
    let rest = match grown(bytes, proxy::read) {
        Reading::Is(Some(header)) => {
            assert!((1..=bytes.len()).contains(&header.length));
            &bytes[header.length..]
        }
        _ => bytes,
    };
    let told = grown(rest, kind);
    assert!(rest.len() < MOST_BYTES || told != Reading::More);
    // What is no greeting as a whole may still hold a hello's body.
    let _ = hello::read(bytes);
}

/// What a reader says of a text that comes in pieces.
fn grown<T: PartialEq>(bytes: &[u8], read: impl Fn(&[u8]) -> Reading<T>) -> Reading<T> {
    let mut before = Reading::More;
    // Some lengths stand for all: each costs a reading of the whole.
    let step = bytes.len() / 16 + 1;
    for len in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        let now = read(&bytes[..len]);
        if before != Reading::More {
            assert!(now == before, "a verdict was taken back");
        }
        before = now;
    }
    before
}
