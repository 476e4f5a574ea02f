//! STUN requests: raw, and with the signature and fingerprint that let the reader look further.

use crate::input::Input;
use aws_lc_rs::hmac;
use sfu::advertise::query;
use sfu::media::demux::{StunAttributes, username};
use sfu::media::transport::ice::stun::response::Response;
use sfu::media::transport::ice::stun::{Key, Request, Writer};
use std::net::IpAddr;
use std::net::SocketAddr;

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
/// The longest answer: a check is answered by no more than about its own size.
const ANSWER_MAX: usize = 160;

/// A connectivity check.
pub(crate) fn stun(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let form = input.byte();
    if form & 1 == 0 {
        return read(input.rest(), false);
    }
    let attributes = input.rest();
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    message.extend([7; 12]);
    message.extend(attributes.get(..attributes.len() & !3).unwrap_or_default());
    let sound = !StunAttributes::of(&message).any(|(kind, ..)| matches!(kind, 8 | 0x8028));
    let whole = {
        let mut attributes = StunAttributes::of(&message);
        attributes.by_ref().for_each(drop);
        attributes.offset() == message.len()
    };
    sign(&mut message, PASSWORD);
    read(&message, sound && whole);
}

/// A nominating check, rightly signed.
pub(crate) fn check(ufrag: &str, password: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    message.extend([7; 12]);
    let name = format!("{ufrag}:abcd");
    let mut add = |kind: u16, value: &[u8]| {
        message.extend(kind.to_be_bytes());
        message.extend((value.len() as u16).to_be_bytes());
        message.extend(value);
        message.resize(message.len().next_multiple_of(4), 0);
    };
    add(0x0006, name.as_bytes());
    add(0x0024, &0x6E00_01FF_u32.to_be_bytes());
    add(0x802A, &1_u64.to_be_bytes());
    add(0x0025, &[]);
    sign(&mut message, password);
    message
}

fn sign(message: &mut Vec<u8>, password: &str) {
    let set_length = |message: &mut Vec<u8>, len: usize| {
        message[2..4].copy_from_slice(&((len - 20) as u16).to_be_bytes());
    };
    let len = message.len();
    set_length(message, len + 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, message);
    message.extend([0, 8, 0, 20]);
    message.extend(tag.as_ref());
    set_length(message, len + 32);
    let crc = crc32(message) ^ 0x5354_554E;
    message.extend([0x80, 0x28, 0, 4]);
    message.extend(crc.to_be_bytes());
}

fn read(message: &[u8], signed: bool) {
    if let Some(name) = username(message) {
        assert!(name.len() <= message.len() && !name.contains(':'));
    }
    let Ok(request) = Request::parse(message) else {
        return;
    };
    assert!(!request.verify(&Key::new("another password")));
    if signed {
        assert!(request.is_signed() && request.verify(&Key::new(PASSWORD)));
    }
    let address = SocketAddr::from(([0x20, 1, 0, 0, 0, 0, 0, 1], 40_000));
    answer(&request, address);
}

fn answer(request: &Request<'_>, address: SocketAddr) {
    let key = Key::new(PASSWORD);
    let mut out = [0; ANSWER_MAX];
    let good = Writer::success(&mut out, request)
        .mapped(address, &request.transaction)
        .sign(&key)
        .finish();
    let len = good.expect("an answer fits");
    assert!(is_whole(&out[..len]));
    let bad = Writer::error(&mut out, request, 420, "Unknown Attribute")
        .unknown(&request.unknown)
        .sign(&key)
        .finish();
    let len = bad.expect("an answer fits");
    assert!(is_whole(&out[..len]));
}

/// Do the attributes fill the message?
fn is_whole(message: &[u8]) -> bool {
    let mut attributes = StunAttributes::of(message);
    attributes.by_ref().for_each(drop);
    attributes.offset() == message.len() && Request::parse(message).is_err()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |mut crc: u32, byte: &u8| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The answer of a STUN server, or of a client that we asked: what is read of it stands in it, masked.
pub(crate) fn stun_answer(bytes: &[u8]) {
    if let Ok(response) = Response::parse(bytes) {
        assert!(Response::is_one(bytes));
        assert!(!response.verify(&Key::new("another password")));
        assert_eq!(response.error.is_none(), bytes[1] == 1);
    }
    let Some(header) = bytes.first_chunk::<20>() else {
        assert_eq!(query::mapped(bytes, &[0; 12]), None);
        return;
    };
    let mut transaction = [0; 12];
    transaction.copy_from_slice(&header[8..]);
    let Some(mapped) = query::mapped(bytes, &transaction) else {
        return;
    };
    assert_eq!(
        (&header[..2], &header[4..8]),
        (&[1, 1][..], &[0x21, 0x12, 0xA4, 0x42][..])
    );
    let ip = match mapped.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let masked: Vec<u8> = ip
        .iter()
        .zip(&header[4..])
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    assert!(bytes.windows(masked.len()).any(|window| window == masked));
    transaction[0] ^= 1;
    assert_eq!(query::mapped(bytes, &transaction), None);
}
