//! The vectors of RFC 5769 and RFC 8489, and what holds of any bytes.

use super::algorithm::{Algorithm, OFFERED};
use super::attribute::{
    DATA, LIFETIME, NONCE, PASSWORD_ALGORITHM, REALM, SOFTWARE, USERHASH, USERNAME,
    XOR_MAPPED_ADDRESS, XOR_PEER_ADDRESS,
};
use super::integrity::{Key, userhash};
use super::writer::{Head, Writer};
use super::*;
use proptest::prelude::*;

/// RFC 5769 §2.4: a request with long-term authentication.
const LONG_TERM: &[u8] = &[
    0x00, 0x01, 0x00, 0x60, 0x21, 0x12, 0xa4, 0x42, 0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0,
    0x29, 0xda, 0x41, 0x2e, 0x00, 0x06, 0x00, 0x12, 0xe3, 0x83, 0x9e, 0xe3, 0x83, 0x88, 0xe3, 0x83,
    0xaa, 0xe3, 0x83, 0x83, 0xe3, 0x82, 0xaf, 0xe3, 0x82, 0xb9, 0x00, 0x00, 0x00, 0x15, 0x00, 0x1c,
    0x66, 0x2f, 0x2f, 0x34, 0x39, 0x39, 0x6b, 0x39, 0x35, 0x34, 0x64, 0x36, 0x4f, 0x4c, 0x33, 0x34,
    0x6f, 0x4c, 0x39, 0x46, 0x53, 0x54, 0x76, 0x79, 0x36, 0x34, 0x73, 0x41, 0x00, 0x14, 0x00, 0x0b,
    0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x2e, 0x6f, 0x72, 0x67, 0x00, 0x00, 0x08, 0x00, 0x14,
    0xf6, 0x70, 0x24, 0x65, 0x6d, 0xd6, 0x4a, 0x3e, 0x02, 0xb8, 0xe0, 0x71, 0x2e, 0x85, 0xc9, 0xa2,
    0x8c, 0xa8, 0x96, 0x66,
];

/// RFC 5769 §2.2: a response with an IPv4 address and a fingerprint.
const RESPONSE: &[u8] = &[
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
    0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9,
    0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
];

/// RFC 8489 B.1 as erratum 6268 has it: a request with a hashed name, signed by SHA-256 alone.
const ANONYMOUS: &[u8] = &[
    0x00, 0x01, 0x00, 0x90, 0x21, 0x12, 0xa4, 0x42, 0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0,
    0x29, 0xda, 0x41, 0x2e, 0x00, 0x1e, 0x00, 0x20, 0x4a, 0x3c, 0xf3, 0x8f, 0xef, 0x69, 0x92, 0xbd,
    0xa9, 0x52, 0xc6, 0x78, 0x04, 0x17, 0xda, 0x0f, 0x24, 0x81, 0x94, 0x15, 0x56, 0x9e, 0x60, 0xb2,
    0x05, 0xc4, 0x6e, 0x41, 0x40, 0x7f, 0x17, 0x04, 0x00, 0x15, 0x00, 0x29, 0x6f, 0x62, 0x4d, 0x61,
    0x74, 0x4a, 0x6f, 0x73, 0x32, 0x41, 0x41, 0x41, 0x43, 0x66, 0x2f, 0x2f, 0x34, 0x39, 0x39, 0x6b,
    0x39, 0x35, 0x34, 0x64, 0x36, 0x4f, 0x4c, 0x33, 0x34, 0x6f, 0x4c, 0x39, 0x46, 0x53, 0x54, 0x76,
    0x79, 0x36, 0x34, 0x73, 0x41, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x0b, 0x65, 0x78, 0x61, 0x6d,
    0x70, 0x6c, 0x65, 0x2e, 0x6f, 0x72, 0x67, 0x00, 0x00, 0x1d, 0x00, 0x04, 0x00, 0x02, 0x00, 0x00,
    0x00, 0x1c, 0x00, 0x20, 0xb5, 0xc7, 0xbf, 0x00, 0x5b, 0x6c, 0x52, 0xa2, 0x1c, 0x51, 0xc5, 0xe8,
    0x92, 0xf8, 0x19, 0x24, 0x13, 0x62, 0x96, 0xcb, 0x92, 0x7c, 0x43, 0x14, 0x93, 0x09, 0x27, 0x8c,
    0xc6, 0x51, 0x8e, 0x65,
];

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn the_long_term_vector_of_rfc_5769_is_right_and_another_password_is_not() {
    let message = Message::parse(LONG_TERM).expect("a message");
    assert_eq!(
        (message.method, message.class),
        (Some(Method::Binding), Class::Request)
    );
    let username = std::str::from_utf8(message.attribute(USERNAME).expect("there")).expect("UTF-8");
    assert_eq!(username, "マトリックス");
    // The password of the vector is TheMatrIX, after SASLprep.
    let right = Key::long_term(username, "example.org", "TheMatrIX");
    assert!(message.is_signed() && message.verify(&right));
    assert!(!message.verify(&Key::long_term(username, "example.org", "TheMatrix")));
    assert!(!message.is_signed_sha256() && !message.has_fingerprint);
}

#[test]
fn the_vector_of_rfc_8489_with_a_hashed_name_is_read_and_written() {
    let (name, realm) = ("マトリックス", "example.org");
    let message = Message::parse(ANONYMOUS).expect("a message");
    let hash = userhash(name, realm);
    assert_eq!(message.attribute(USERHASH), Some(&hash[..]));
    let algorithm = message.attribute(PASSWORD_ALGORITHM).expect("there");
    assert_eq!(Algorithm::of_value(algorithm), Some(Algorithm::Sha256));
    let key = |algorithm| Key::made_with(algorithm, name, realm, "TheMatrIX");
    let right = key(Algorithm::Sha256);
    assert!(message.is_signed_sha256() && message.verify(&right));
    assert!(!message.verify(&key(Algorithm::Md5)));
    assert!(!message.verify(&Key::made_with(Algorithm::Sha256, name, realm, "TheMatrix")));
    let mut out = Vec::new();
    Writer::new(
        &mut out,
        Method::Binding,
        Class::Request,
        &message.transaction,
    )
    .bytes(USERHASH, &hash)
    .bytes(NONCE, b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA")
    .bytes(REALM, realm.as_bytes())
    .bytes(PASSWORD_ALGORITHM, &Algorithm::Sha256.value())
    .sign(&right, true)
    .finish(false);
    assert_eq!(out, ANONYMOUS);
}

#[test]
fn algorithms_that_are_not_offered_are_none() {
    for value in [&[][..], &[0, 2], &[0, 3, 0, 0], &[0, 2, 0, 4, 1, 2, 3, 4]] {
        assert_eq!(Algorithm::of_value(value), None);
    }
    let all = [Algorithm::Sha256.value(), Algorithm::Md5.value()].concat();
    assert_eq!(all, OFFERED);
}

#[test]
fn the_response_vector_of_rfc_5769_is_read() {
    let message = Message::parse(RESPONSE).expect("a message");
    assert_eq!(message.class, Class::Success);
    assert!(message.has_fingerprint);
    assert_eq!(message.attribute(SOFTWARE), Some(&b"test vector"[..]));
    assert_eq!(
        message.address(XOR_MAPPED_ADDRESS),
        Some(address("192.0.2.1:32853"))
    );
    let mut damaged = RESPONSE.to_vec();
    damaged[30] ^= 1;
    assert_eq!(Message::parse(&damaged).err(), Some(Malformed::Fingerprint));
}

#[test]
fn types_are_put_together_as_the_rfc_draws_them() {
    assert_eq!(kind(Method::Binding, Class::Success), 0x0101);
    assert_eq!(kind(Method::Allocate, Class::Error), 0x0113);
    assert_eq!(kind(Method::Data, Class::Indication), 0x0017);
    for (method, number) in Method::ALL {
        for class in [
            Class::Request,
            Class::Indication,
            Class::Success,
            Class::Error,
        ] {
            assert_eq!(parts(kind(method, class)), (number, class));
        }
    }
}

#[test]
fn what_is_written_is_read_again_signed_either_way() {
    let key = Key::long_term("a", "b", "c");
    for sha256 in [false, true] {
        for text in ["1.2.3.4:5", "[2600::1]:65535"] {
            let mut out = vec![9; 3];
            let mut writer = Writer::new(&mut out, Method::Refresh, Class::Request, &[7; 12]);
            writer
                .word(LIFETIME, 5)
                .address(XOR_PEER_ADDRESS, address(text));
            writer.sign(&key, sha256).finish(true);
            let message = Message::parse(&out[3..]).expect("a message");
            assert_eq!(message.address(XOR_PEER_ADDRESS), Some(address(text)));
            assert!(message.verify(&key) && message.has_fingerprint);
            assert!(!message.verify(&Key::long_term("a", "b", "d")));
            assert_eq!(message.is_signed_sha256(), sha256);
        }
    }
}

#[test]
fn a_signature_that_was_cut_is_none() {
    let key = Key::long_term("a", "b", "c");
    for (kind, len) in [(MESSAGE_INTEGRITY, 16), (MESSAGE_INTEGRITY_SHA256, 16)] {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Method::Refresh, Class::Request, &[7; 12]);
        writer.bytes(kind, &vec![1; len]).finish(false);
        assert_eq!(Message::parse(&out).err(), Some(Malformed::Attribute));
    }
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Method::Refresh, Class::Request, &[7; 12]);
    writer.sign(&key, true).sign(&key, true).finish(false);
    assert!(Message::parse(&out).is_ok_and(|message| message.verify(&key)));
}

#[test]
fn attributes_after_the_integrity_do_not_count() {
    let key = Key::long_term("a", "b", "c");
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Method::Refresh, Class::Request, &[7; 12]);
    writer
        .sign(&key, false)
        .word(LIFETIME, 0)
        .word(0x7777, 1)
        .finish(false);
    let message = Message::parse(&out).expect("a message");
    assert!(message.verify(&key));
    assert_eq!(message.attribute(LIFETIME), None);
    assert!(message.unknown(&[]).as_slice().is_empty());
}

#[test]
fn unknown_attributes_that_matter_are_told_and_no_more_than_eight() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Method::Binding, Class::Request, &[7; 12]);
    for kind in 0x7000..0x7010 {
        writer.bytes(kind, &[]);
    }
    writer.bytes(0x8123, &[]).finish(false);
    let message = Message::parse(&out).expect("a message");
    assert_eq!(
        message.unknown(&[0x7000]).as_slice(),
        (0x7001..0x7009).collect::<Vec<u16>>()
    );
}

#[test]
fn the_head_of_an_indication_makes_a_message_of_its_payload() {
    for (text, len) in [("1.2.3.4:5", 7), ("[2600::1]:6", 8), ("1.2.3.4:5", 0)] {
        let payload = vec![0xAB; len];
        let head = Head::indication(address(text), len, &[3; 12]);
        let whole = [head.bytes(), &payload, head.padding()].concat();
        let message = Message::parse(&whole).expect("a message");
        assert_eq!(
            (message.method, message.class),
            (Some(Method::Data), Class::Indication)
        );
        assert_eq!(message.address(XOR_PEER_ADDRESS), Some(address(text)));
        assert_eq!(message.attribute(DATA), Some(&payload[..]));
    }
    let head = Head::channel(0x4001, 5, true);
    assert_eq!(
        (head.bytes(), head.padding().len()),
        (&[0x40, 1, 0, 5][..], 3)
    );
    assert_eq!(Head::channel(0x4001, 5, false).padding().len(), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        head in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if head && bytes.len() >= HEADER {
            bytes.truncate(HEADER + (bytes.len() - HEADER) / 4 * 4);
            let len = (bytes.len() - HEADER) as u16;
            bytes[0] &= 0x3F;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[4..8].copy_from_slice(&COOKIE);
        }
        if let Ok(message) = Message::parse(&bytes) {
            let _ = message.unknown(&[]);
            let _ = message.address(XOR_PEER_ADDRESS);
            prop_assert!(!message.verify(&Key::long_term("a", "b", "c")));
        }
    }
}
