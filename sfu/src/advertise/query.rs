//! The question to a STUN server, what is our address as you see it, and its answer. (RFC 8489)

use crate::media::demux::{STUN_BINDING_REQUEST, STUN_COOKIE, STUN_HEADER, StunAttributes};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Type of a binding success response. (RFC 8489 §5)
const SUCCESS: u16 = 0x0101;
/// Type of XOR-MAPPED-ADDRESS. (RFC 8489 §14.2)
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// What tells one question's answer from another's, and from what somebody else makes up.
pub type Transaction = [u8; 12];

/// A question.
#[must_use]
pub fn request(transaction: &Transaction) -> [u8; STUN_HEADER] {
    let mut message = [0; STUN_HEADER];
    message[..2].copy_from_slice(&STUN_BINDING_REQUEST.to_be_bytes());
    message[4..8].copy_from_slice(&STUN_COOKIE);
    message[8..].copy_from_slice(transaction);
    message
}

/// Our address in the answer to that question; `None` for anything else.
#[must_use]
pub fn mapped(message: &[u8], transaction: &Transaction) -> Option<SocketAddr> {
    let header = message.first_chunk::<STUN_HEADER>()?;
    let expected = [
        &SUCCESS.to_be_bytes()[..],
        &header[2..4],
        &STUN_COOKIE,
        transaction,
    ];
    if header[..] != expected.concat() {
        return None;
    }
    let (_, _, value) =
        StunAttributes::of(message).find(|&(kind, _, _)| kind == XOR_MAPPED_ADDRESS)?;
    let mask = &header[4..];
    let port = u16::from_be_bytes([*value.get(2)? ^ mask[0], *value.get(3)? ^ mask[1]]);
    let ip = match (value.get(1)?, value.len()) {
        (1, 8) => IpAddr::V4(Ipv4Addr::from(unmasked::<4>(value, mask)?)),
        (2, 20) => IpAddr::V6(Ipv6Addr::from(unmasked::<16>(value, mask)?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn unmasked<const N: usize>(value: &[u8], mask: &[u8]) -> Option<[u8; N]> {
    let mut address = *value.get(4..)?.first_chunk::<N>()?;
    for (byte, mask) in address.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The IPv4 response of RFC 5769 §2.2, as far as its address.
    const RESPONSE: [u8; 48] = [
        0x01, 0x01, 0x00, 0x1c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76,
        0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1,
        0x12, 0xa6, 0x43,
    ];

    fn transaction() -> Transaction {
        RESPONSE[8..20].try_into().expect("twelve bytes")
    }

    #[test]
    fn the_address_in_an_answer_is_read_as_the_rfc_has_it() {
        let expected = "192.0.2.1:32853".parse().ok();
        assert_eq!(mapped(&RESPONSE, &transaction()), expected);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        assert_eq!(mapped(&RESPONSE, &[7; 12]), None);
        assert_eq!(mapped(&request(&transaction()), &transaction()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = mapped(&bytes, &[0; 12]);
            for (byte, known) in bytes.iter_mut().zip(&RESPONSE[..24]) {
                *byte = *known;
            }
            let _ = mapped(&bytes, &transaction());
        }
    }
}
