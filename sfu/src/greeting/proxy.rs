//! The header with which a proxy tells where a connection comes from: PROXY protocol, versions 1 and 2.
//!
//! Owns its grammar. Whose header is believed is `server`'s part. Additional values (TLV) are passed
//! over, their checksum with them. (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>)

use super::Reading;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its end included. (§2.1)
const MOST_V1: usize = 107;
/// The longest header of version 2 that is taken: a proxy that adds a client's certificate needs a few
/// thousand bytes.
const MOST_V2: usize = 4096;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses of version 2.
const V2_FIXED: usize = 16;

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its bytes; the connection proper begins after them.
    pub length: usize,
    /// Where the client is and where it connected to; `None` if the proxy speaks for itself (a health
    /// check) or of a family that has no ports here.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// The header that `bytes` begin with; `Is(None)` if they begin with none.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading<Option<Header>> {
    let begins = |signature: &[u8]| {
        let known = bytes.len().min(signature.len());
        bytes[..known] == signature[..known]
    };
    if begins(V2) {
        return v2(bytes);
    }
    if begins(V1) {
        return v1(bytes);
    }
    Reading::Is(None)
}

fn v1(bytes: &[u8]) -> Reading<Option<Header>> {
    let seen = &bytes[..bytes.len().min(MOST_V1)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() < MOST_V1 {
            Reading::More
        } else {
            Reading::Malformed
        };
    };
    let line = std::str::from_utf8(&seen[V1.len()..end]);
    match line.ok().and_then(line_addresses) {
        Some(addresses) => Reading::Is(Some(Header {
            length: end + 2,
            addresses,
        })),
        None => Reading::Malformed,
    }
}

/// `TCP4 192.0.2.1 198.51.100.1 56324 443`, or `UNKNOWN` and anything.
fn line_addresses(line: &str) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let mut ip = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => Some(word.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(word.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let (source, destination) = (ip()?, ip()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        let plain = word.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| word.parse().ok()).flatten()
    };
    let (from, to) = (port()?, port()?);
    let addresses = (
        SocketAddr::new(source, from),
        SocketAddr::new(destination, to),
    );
    words.next().is_none().then_some(Some(addresses))
}

fn v2(bytes: &[u8]) -> Reading<Option<Header>> {
    let Some(fixed) = bytes.get(..V2_FIXED) else {
        return Reading::More;
    };
    let (version, command) = (fixed[12] >> 4, fixed[12] & 15);
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if version != 2 || command > 1 || length > MOST_V2 {
        return Reading::Malformed;
    }
    let Some(header) = bytes.get(..length) else {
        return Reading::More;
    };
    let addresses = &header[V2_FIXED..];
    let addresses = match (command, fixed[13]) {
        // STREAM over IPv4, over IPv6. Of a family that names no ports nothing can be told.
        (1, 0x11) => block::<4>(addresses).map(Some),
        (1, 0x21) => block::<16>(addresses).map(Some),
        _ => Some(None),
    };
    match addresses {
        Some(addresses) => Reading::Is(Some(Header { length, addresses })),
        None => Reading::Malformed,
    }
}

/// Two addresses of `N` bytes, then their ports.
fn block<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let ip = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; N] = bytes.get(at..at + N)?.try_into().ok()?;
        Some(IpAddr::from(bytes))
    };
    let port = |at: usize| -> Option<u16> {
        let bytes: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    };
    Some((
        SocketAddr::new(ip(0)?, port(2 * N)?),
        SocketAddr::new(ip(N)?, port(2 * N + 2)?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = V2.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    /// Asks for more until it is whole, then is read, and what follows is left alone.
    fn addresses(bytes: &[u8]) -> Option<(String, String)> {
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), Reading::More, "{len}");
        }
        let mut followed = bytes.to_vec();
        followed.extend(b"GET / HTTP/1.1\r\n");
        let Reading::Is(Some(header)) = read(&followed) else {
            panic!("{:?} of {bytes:?}", read(&followed));
        };
        assert_eq!(header.length, bytes.len());
        let (source, destination) = header.addresses?;
        Some((source.to_string(), destination.to_string()))
    }

    fn pair(source: &str, destination: &str) -> Option<(String, String)> {
        Some((source.to_owned(), destination.to_owned()))
    }

    #[test]
    fn the_line_of_version_1_is_read() {
        assert_eq!(
            addresses(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"),
            pair("192.0.2.1:56324", "198.51.100.1:443")
        );
        assert_eq!(
            addresses(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"),
            pair("[2001:db8::1]:1", "[2001:db8::2]:65535")
        );
        assert_eq!(addresses(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(addresses(b"PROXY UNKNOWN ff::1 whatever\r\n"), None);
    }

    #[test]
    fn a_line_of_version_1_that_is_wrong_is_refused() {
        for line in [
            "TCP4 192.0.2.1 198.51.100.1 1\r\n",
            "TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            "TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
            "TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
            "UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "\r\n",
        ] {
            let bytes = format!("PROXY {line}");
            assert_eq!(read(bytes.as_bytes()), Reading::Malformed, "{line}");
        }
        let endless = [V1, &[b'x'; 200]].concat();
        assert_eq!(read(&endless), Reading::Malformed);
    }

    #[test]
    fn the_header_of_version_2_is_read_and_its_values_passed_over() {
        let mut v4 = vec![192, 0, 2, 1, 198, 51, 100, 1, 0xDC, 4, 1, 0xBB];
        assert_eq!(
            addresses(&second(0x21, 0x11, &v4)),
            pair("192.0.2.1:56324", "198.51.100.1:443")
        );
        // A checksum of nothing, and the host that the client asked for.
        v4.extend([3, 0, 4, 0, 0, 0, 0, 2, 0, 1, b'x']);
        assert_eq!(
            addresses(&second(0x21, 0x11, &v4)),
            pair("192.0.2.1:56324", "198.51.100.1:443")
        );
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
        assert_eq!(
            addresses(&second(0x21, 0x21, &v6)),
            pair("[::1]:3", "[::2]:4")
        );
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_or_of_another_family_names_no_client() {
        assert_eq!(addresses(&second(0x20, 0, &[])), None);
        assert_eq!(addresses(&second(0x20, 0x11, &[0; 12])), None);
        for family in [0x00, 0x12, 0x22, 0x31] {
            assert_eq!(addresses(&second(0x21, family, &[0; 216])), None);
        }
    }

    #[test]
    fn a_header_of_version_2_that_is_wrong_is_refused() {
        for (command, family, rest) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x21, 0x11, 5000),
        ] {
            let bytes = second(command, family, &vec![0; rest]);
            assert_eq!(read(&bytes), Reading::Malformed, "{command} {rest}");
        }
    }

    #[test]
    fn whatever_else_begins_is_no_header() {
        for bytes in [&b"GET /"[..], b"PUT /", b"PRO ", &[0x16, 3, 1], b"\r\nGET"] {
            assert_eq!(read(bytes), Reading::Is(None), "{bytes:?}");
        }
        assert_eq!(read(b""), Reading::More);
        assert_eq!(read(b"P"), Reading::More);
    }

    proptest! {
        #[test]
        fn any_bytes_after_a_signature_are_read_without_panic(
            version in any::<bool>(),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = if version { V1 } else { V2 }.to_vec();
            bytes.extend(rest);
            if let Reading::Is(Some(header)) = read(&bytes) {
                prop_assert!(header.length <= bytes.len());
            }
        }
    }
}
