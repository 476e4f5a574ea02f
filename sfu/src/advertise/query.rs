//! The question to a STUN server, what is our address as you see it, and its answer. (RFC 8489)

use crate::media::demux::{STUN_BINDING_REQUEST, STUN_COOKIE, STUN_HEADER};
pub use crate::media::transport::ice::stun::Transaction;
use crate::media::transport::ice::stun::response::Response;
use std::net::SocketAddr;

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
    let response = Response::parse(message).ok()?;
    let ours = response.transaction == *transaction && response.error.is_none();
    response.mapped.filter(|_| ours)
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
            bytes.truncate(bytes.len() & !3);
            if let Some(body) = bytes.len().checked_sub(STUN_HEADER) {
                bytes[2..4].copy_from_slice(&(body as u16).to_be_bytes());
            }
            let _ = mapped(&bytes, &transaction());
        }
    }
}
