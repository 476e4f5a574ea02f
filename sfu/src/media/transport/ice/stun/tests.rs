//! Tests of `stun`: the vectors of RFC 5769 and any bytes at all.

use super::client::{Check, read};
use super::*;
use proptest::prelude::*;

/// RFC 5769 §2: the password of all three messages.
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 5769 §2.1.
fn sample_request() -> Vec<u8> {
    hex("0001 0058 2112a442 b7e7a701bc34d686fa87dfae
         8022 0010 5354554e207465737420636c69656e74
         0024 0004 6e0001ff
         8029 0008 932ff9b151263b36
         0006 0009 6576746a3a68367659202020
         0008 0014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
         8028 0004 e57a3bcf")
}

#[test]
fn the_sample_request_of_rfc_5769_is_read_and_verified() {
    let bytes = sample_request();
    let request = Request::parse(&bytes).unwrap();
    assert_eq!(request.username, Some(&b"evtj:h6vY"[..]));
    assert_eq!(request.priority, Some(0x6E00_01FF));
    assert_eq!(request.role, Some(Role::Controlled));
    assert!(!request.use_candidate);
    assert!(request.unknown.as_slice().is_empty());
    assert!(request.verify(&Key::new(PASSWORD)));
    assert!(!request.verify(&Key::new("another")));
}

#[test]
fn the_sample_responses_of_rfc_5769_are_read_by_the_tests_reader() {
    let v4 = hex("0101 003c 2112a442 b7e7a701bc34d686fa87dfae
                  8022 000b 7465737420766563746f7220
                  0020 0008 0001a147e112a643
                  0008 0014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
                  8028 0004 c07d4c96");
    let answer = read(&v4, PASSWORD);
    assert_eq!(answer.mapped, Some("192.0.2.1:32853".parse().unwrap()));
    assert!(answer.signed);
    let v6 = hex("0101 0048 2112a442 b7e7a701bc34d686fa87dfae
                  8022 000b 7465737420766563746f7220
                  0020 0014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9
                  0008 0014 a382954e4be67bf11784c97c8292c275bfe3ed41
                  8028 0004 c8fb0b4c");
    let answer = read(&v6, PASSWORD);
    let expected = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
    assert_eq!(answer.mapped, Some(expected.parse().unwrap()));
    assert!(answer.signed);
}

#[test]
fn the_mapped_addresses_of_rfc_5769_are_written_bit_for_bit() {
    let bytes = sample_request();
    let request = Request::parse(&bytes).unwrap();
    let mut out = [0; 128];
    for (address, attribute) in [
        ("192.0.2.1:32853", "0020 0008 0001a147e112a643"),
        ("[::ffff:192.0.2.1]:32853", "0020 0008 0001a147e112a643"),
        (
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
            "0020 0014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
        ),
    ] {
        let len = Writer::success(&mut out, &request)
            .mapped(address.parse().unwrap(), &request.transaction)
            .finish()
            .unwrap();
        let expected = hex(attribute);
        assert_eq!(out[20..20 + expected.len()], expected);
        assert_eq!(len, 20 + expected.len() + 8);
    }
}

#[test]
fn any_changed_byte_breaks_the_request() {
    let key = Key::new(PASSWORD);
    let good = sample_request();
    for at in 0..good.len() {
        for flip in [1, 0x80] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            assert!(
                Request::parse(&bytes).is_err(),
                "byte {at}: the fingerprint"
            );
            // With the fingerprint made right again, the signature must tell.
            let covered = bytes.len() - 8;
            let crc = crc32(&bytes[..covered]) ^ FINGERPRINT_XOR;
            bytes[covered + 4..].copy_from_slice(&crc.to_be_bytes());
            if at < covered
                && let Ok(request) = Request::parse(&bytes)
            {
                assert!(!request.verify(&key), "byte {at}: the signature");
            }
        }
    }
}

#[test]
fn what_follows_the_signature_is_ignored_and_what_follows_the_fingerprint_refused() {
    let check = Check {
        username: Some("a:b"),
        password: Some(PASSWORD),
        priority: 1,
        nominate: false,
        controlled: false,
        extra: &[],
    };
    let bytes = check.bytes();
    let splice = |offset: usize| {
        let mut bytes = bytes.clone();
        bytes.splice(offset..offset, hex("0025 0000"));
        let len = (bytes.len() - STUN_HEADER) as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes
    };
    let mut unsigned_tail = splice(bytes.len() - 8);
    let covered = unsigned_tail.len() - 8;
    let crc = crc32(&unsigned_tail[..covered]) ^ FINGERPRINT_XOR;
    unsigned_tail[covered + 4..].copy_from_slice(&crc.to_be_bytes());
    let request = Request::parse(&unsigned_tail).unwrap();
    assert!(!request.use_candidate);
    assert!(request.verify(&Key::new(PASSWORD)));
    let after_all = splice(bytes.len());
    assert_eq!(
        Request::parse(&after_all).unwrap_err(),
        Malformed::Fingerprint
    );
}

#[test]
fn what_is_no_request_is_told_apart() {
    let mut indication = sample_request();
    indication[1] = 0x11;
    assert_eq!(Request::parse(&indication).unwrap_err(), Malformed::Kind);
    let longer = [sample_request(), vec![0; 4]].concat();
    assert_eq!(Request::parse(&longer).unwrap_err(), Malformed::Message);
    assert_eq!(Request::parse(&[]).unwrap_err(), Malformed::Message);
    let unsealed = &sample_request()[..88];
    let mut bytes = unsealed[..80].to_vec();
    bytes[3] = 60;
    assert!(matches!(
        Request::parse(&bytes),
        Err(Malformed::Fingerprint | Malformed::Attribute)
    ));
}

#[test]
fn an_answer_that_does_not_fit_comes_to_nothing() {
    let bytes = sample_request();
    let request = Request::parse(&bytes).unwrap();
    let whole = Writer::error(&mut [0; 128], &request, 401, "Unauthorized")
        .finish()
        .unwrap();
    for room in 0..whole {
        let mut out = vec![0; room];
        assert_eq!(
            Writer::error(&mut out, &request, 401, "Unauthorized").finish(),
            None
        );
    }
}

#[test]
fn a_key_does_not_show_itself() {
    assert_eq!(format!("{:?}", Key::new(PASSWORD)), "Key(..)");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::parse(&bytes);
        // Behind a right header the attributes are reached too.
        let mut message = hex("0001 0000 2112a442 000000000000000000000000");
        message.extend(&bytes);
        let len = (bytes.len() as u16).to_be_bytes();
        message[2..4].copy_from_slice(&len);
        let crc = crc32(&message) ^ FINGERPRINT_XOR;
        let _ = Request::parse(&message);
        message.extend(hex("8028 0004"));
        message.extend(crc.to_be_bytes());
        if let Ok(request) = Request::parse(&message) {
            let _ = request.verify(&Key::new(PASSWORD));
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written(
        username in "[a-z]{1,20}:[a-z]{1,20}", password in "[a-z]{22}", priority: u32, nominate: bool, controlled: bool
    ) {
        let bytes = Check {
            username: Some(&username), password: Some(&password), priority, nominate, controlled, extra: &[(0x7777, b"x"), (0xC057, b"yz")],
        }.bytes();
        let request = Request::parse(&bytes).unwrap();
        prop_assert_eq!(request.username, Some(username.as_bytes()));
        prop_assert_eq!(request.priority, Some(priority));
        prop_assert_eq!(request.use_candidate, nominate);
        prop_assert_eq!(request.role, Some(if controlled { Role::Controlled } else { Role::Controlling }));
        prop_assert_eq!(request.unknown.as_slice(), [0x7777]);
        prop_assert!(request.verify(&Key::new(&password)));
        prop_assert!(!request.verify(&Key::new("wrong")));
    }

    #[test]
    fn an_address_is_read_as_it_was_written(v6: u128, v4: u32, port: u16) {
        let bytes = sample_request();
        let request = Request::parse(&bytes).unwrap();
        for ip in [IpAddr::from(v6.to_be_bytes()), IpAddr::from(v4.to_be_bytes())] {
            let address = SocketAddr::new(ip.to_canonical(), port);
            let mut out = [0; 128];
            let key = Key::new(PASSWORD);
            let len = Writer::success(&mut out, &request).mapped(address, &request.transaction).sign(&key).finish().unwrap();
            prop_assert_eq!(read(&out[..len], PASSWORD).mapped, Some(address));
        }
    }
}
