//! The ClientHello of TLS: which host is asked for and which protocols are offered.
//!
//! Owns the walk through records, handshake message and extensions, as far as that. What a server
//! answers is the library's part, which reads all of it again. (RFC 8446 §4.1.2, §5.1)

use super::{MOST_BYTES, Reading};

/// Bytes of a record's header.
const RECORD_HEADER: usize = 5;
/// Bytes of a record at most. (RFC 8446 §5.1)
const MOST_RECORD: usize = 1 << 14;
/// Records that one hello may come in: some clients cut theirs in two so that boxes on the way do not
/// read the host.
const MOST_RECORDS: usize = 64;
/// Protocols that are looked at.
const MOST_PROTOCOLS: usize = 16;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// The host, in small letters and without a dot at the end. (RFC 6066 §3)
    pub host: Option<String>,
    /// The protocols, the client's favourite first. (RFC 7301)
    pub protocols: Vec<Vec<u8>>,
}

impl Hello {
    /// Does the client offer this protocol?
    #[must_use]
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.protocols.iter().any(|offered| offered == protocol)
    }
}

/// The hello that `bytes` begin with.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading<Hello> {
    match message(bytes) {
        Reading::Is(message) => match body(&message) {
            Some(hello) => Reading::Is(hello),
            None => Reading::Malformed,
        },
        Reading::More => Reading::More,
        Reading::Malformed => Reading::Malformed,
    }
}

/// The body of the handshake message, put together from its records.
fn message(bytes: &[u8]) -> Reading<Vec<u8>> {
    let mut message = Vec::new();
    let mut rest = bytes;
    for _ in 0..MOST_RECORDS {
        let known = rest.len().min(2);
        if rest[..known] != [HANDSHAKE, 3][..known] {
            return Reading::Malformed;
        }
        let Some(header) = rest.get(..RECORD_HEADER) else {
            return Reading::More;
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > MOST_RECORD {
            return Reading::Malformed;
        }
        let there = &rest[RECORD_HEADER..];
        message.extend_from_slice(&there[..length.min(there.len())]);
        match complete(&message) {
            Reading::Is(whole) => {
                message.truncate(whole);
                message.drain(..4);
                return Reading::Is(message);
            }
            Reading::Malformed => return Reading::Malformed,
            Reading::More => {}
        }
        match there.get(length..) {
            Some(next) => rest = next,
            None => return Reading::More,
        }
    }
    Reading::Malformed
}

/// How long a message is that has come whole.
fn complete(message: &[u8]) -> Reading<usize> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Reading::Malformed;
    }
    let Some(header) = message.get(..4) else {
        return Reading::More;
    };
    let length = 4 + usize::try_from(u32::from_be_bytes([0, header[1], header[2], header[3]]))
        .unwrap_or(MOST_BYTES);
    if length > MOST_BYTES {
        return Reading::Malformed;
    }
    if message.len() < length {
        return Reading::More;
    }
    Reading::Is(length)
}

/// What a hello that is there as a whole says; `None` if its lengths lie.
fn body(bytes: &[u8]) -> Option<Hello> {
    let mut rest = Rest(bytes);
    // Version and random; then what was before extensions were.
    rest.take(34)?;
    rest.short_vector()?;
    rest.vector()?;
    rest.short_vector()?;
    let mut hello = Hello::default();
    if rest.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Rest(rest.vector()?);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let value = extensions.vector()?;
        match kind {
            SERVER_NAME => hello.host = host(value)?,
            ALPN => hello.protocols = protocols(value)?,
            _ => {}
        }
    }
    Some(hello)
}

/// The host name among the names. An outer `None` is a lie about a length.
fn host(value: &[u8]) -> Option<Option<String>> {
    let mut names = Rest(Rest(value).vector()?);
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector()?;
        if kind == 0 {
            let text = std::str::from_utf8(name).ok().filter(|name| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                !name.is_empty() && name.len() <= 255 && name.bytes().all(plain)
            });
            return Some(text.map(|name| name.trim_end_matches('.').to_ascii_lowercase()));
        }
    }
    Some(None)
}

fn protocols(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Rest(Rest(value).vector()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.short_vector()?;
        if protocols.len() < MOST_PROTOCOLS {
            protocols.push(name.to_vec());
        }
    }
    Some(protocols)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.0.get(..count)?;
        self.0 = &self.0[count..];
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes: [u8; 2] = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }

    /// Bytes behind their length of two bytes.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    /// Bytes behind their length of one byte.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(bytes: &[u8]) -> Vec<u8> {
        let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
        out.extend(bytes);
        out
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend(vector(value));
        out
    }

    /// A handshake message with these extensions.
    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0]);
        body.extend(vector(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(vector(extensions));
        let mut out = vec![1];
        out.extend(&(body.len() as u32).to_be_bytes()[1..]);
        out.extend(body);
        out
    }

    /// In records of `size` bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |piece: &[u8]| {
            let mut out = vec![22, 3, 1];
            out.extend(vector(piece));
            out
        };
        message.chunks(size).flat_map(record).collect()
    }

    fn usual() -> Vec<u8> {
        let mut name = vec![0];
        name.extend(vector(b"Rtc.Example.org."));
        let mut extensions = extension(43, &[2, 3, 4]);
        extensions.extend(extension(SERVER_NAME, &vector(&name)));
        extensions.extend(extension(ALPN, &vector(b"\x02h2\x09stun.turn")));
        hello(&extensions)
    }

    #[test]
    fn host_and_protocols_are_found_however_the_hello_is_cut() {
        for size in [1000, 50, 7] {
            let bytes = records(&usual(), size);
            for len in 0..bytes.len() {
                assert_eq!(read(&bytes[..len]), Reading::More, "{len} of {size}");
            }
            let Reading::Is(hello) = read(&bytes) else {
                panic!("not read: {size}");
            };
            assert_eq!(hello.host.as_deref(), Some("rtc.example.org"));
            assert!(hello.offers(b"stun.turn") && hello.offers(b"h2"));
            assert!(!hello.offers(b"http/1.1"));
        }
    }

    #[test]
    fn a_hello_may_say_nothing() {
        let mut bare = hello(&[]);
        assert_eq!(read(&records(&bare, 500)), Reading::Is(Hello::default()));
        // SSL 3 had no extensions at all.
        bare.truncate(bare.len() - 2);
        bare[3] -= 2;
        assert_eq!(read(&records(&bare, 500)), Reading::Is(Hello::default()));
    }

    #[test]
    fn what_lies_about_a_length_or_is_no_hello_is_refused() {
        let good = records(&usual(), 1000);
        for (at, byte) in [(0, 23), (1, 2), (3, 0x41), (5, 2), (6, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(read(&bad), Reading::Malformed, "byte {at}");
        }
        let mut empty_record = vec![22, 3, 1, 0, 0];
        empty_record.extend(&good);
        assert_eq!(read(&empty_record), Reading::Malformed);
        let mut long_name = vec![0, 0xFF];
        long_name.extend(b"x");
        let lie = hello(&extension(SERVER_NAME, &vector(&long_name)));
        assert_eq!(read(&records(&lie, 1000)), Reading::Malformed);
        let crumbs = records(&hello(&extension(99, &[0; 100])), 1);
        assert_eq!(read(&crumbs), Reading::Malformed, "too many records");
    }

    #[test]
    fn a_name_that_no_host_has_is_no_name() {
        for name in [&b"a b"[..], b"", b"\xFF\xFE", b"a/b"] {
            let mut entry = vec![0];
            entry.extend(vector(name));
            let message = hello(&extension(SERVER_NAME, &vector(&entry)));
            let read = read(&records(&message, 500));
            assert_eq!(read, Reading::Is(Hello::default()), "{name:?}");
        }
    }
}
