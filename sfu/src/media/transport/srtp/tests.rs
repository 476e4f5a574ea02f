//! Tests of `srtp`: the vectors of RFC 3711, 6188 and 7714, and what an attacker may try.

use super::*;
use proptest::prelude::*;

const PROFILES: [Profile; 3] = [
    Profile::Aes128Gcm,
    Profile::Aes256Gcm,
    Profile::Aes128CmSha1_80,
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 3711 B.3, RFC 6188 §7: master key and salt, cipher key, salt, auth key.
#[test]
fn session_keys_are_derived_as_rfc_3711_and_6188_show() {
    for (key, salt, cipher_key, cipher_salt, auth) in [
        (
            "E1F97A0D3E018BE0D64FA32C06DE4139",
            "0EC675AD498AFEEBB6960B3AABE6",
            "C61E7A93744F39EE10734AFE3FF7A087",
            "30CBBC08863D8C85D49DB34A9AE1",
            "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4",
        ),
        (
            "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6",
            "3b04803de51ee7c96423ab5b78d2",
            "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4",
            "fa31791685ca444a9e07c6c64e93",
            "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05",
        ),
    ] {
        for (label, expected) in [(0, cipher_key), (1, auth), (2, cipher_salt)] {
            let mut out = vec![0; hex(expected).len()];
            derive(&hex(key), &hex(salt), label, &mut out).unwrap();
            assert_eq!(out, hex(expected), "label {label}");
        }
    }
}

/// RFC 3711 B.2: session key and salt; SSRC, roll-over count and sequence number are 0.
#[test]
fn the_key_stream_is_that_of_rfc_3711() {
    let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
    let cm = Cm::new(&key, &hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"), &[0; 20]).unwrap();
    let mut stream = vec![0; 16 * 0xFF02];
    cm.apply((0, 0), &mut stream);
    for (block, expected) in [
        (0x0000, "E03EAD0935C95E80E166B16DD92B4EB4"),
        (0x0001, "D23513162B02D0F72A43A2FE4A5F97AB"),
        (0x0002, "41E95B3BB0A2E8DD477901E4FCA894C0"),
        (0xFEFF, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
        (0xFF00, "362B7C3C6773516318A077D7FC5073AE"),
        (0xFF01, "6A2CC3787889374FBEB4C81B17BA6C44"),
    ] {
        assert_eq!(
            stream[16 * block..16 * (block + 1)],
            hex(expected),
            "block {block:#x}"
        );
    }
}

/// The session keys of RFC 7714 §16 and §17.
fn rfc_7714(key_len: u8) -> Ciphers {
    let key: Vec<u8> = (0..key_len).collect();
    let gcm = || Cipher::Gcm(Gcm::new(&key, b"Quid pro quo").unwrap());
    Ciphers {
        rtp: gcm(),
        rtcp: gcm(),
    }
}

/// RFC 7714 §16.1.1, §16.1.2, §16.2.1, §16.2.2.
#[test]
fn rtp_is_sealed_and_opened_as_rfc_7714_shows() {
    let plain = hex(
        "8040f17b8041f8d35501a0b2 47616c6c696120657374206f6d6e697320646976697361\
                     20696e207061727465732074726573",
    );
    for (key_len, sealed) in [
        (
            16,
            "8040f17b8041f8d35501a0b2 f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b\
             36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            32,
            "8040f17b8041f8d35501a0b2 32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f\
             1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ] {
        let (ssrc, seq) = (0x5501_A0B2, 0xF17B);
        let mut packet = plain.clone();
        packet.resize(plain.len() + OVERHEAD_MAX, 0);
        let sealer = Sealer::new(rfc_7714(key_len));
        let len = sealer
            .seal_rtp(12, plain.len(), ExtSeq(u64::from(seq)), ssrc, &mut packet)
            .unwrap();
        assert_eq!(packet[..len], hex(sealed));
        let mut opener = Opener::new(rfc_7714(key_len));
        let opened = opener.open_rtp(12, ssrc, seq, &mut packet[..len]).unwrap();
        assert_eq!(
            opened,
            Opened {
                seq: ExtSeq(0xF17B),
                len: plain.len()
            }
        );
        assert_eq!(packet[..opened.len], plain);
    }
}

const RTCP_PLAIN: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
                          deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";

/// RFC 7714 §17.1 to §17.4 for both key lengths.
#[test]
fn rtcp_is_sealed_and_opened_as_rfc_7714_shows() {
    let plain = hex(RTCP_PLAIN);
    for (key_len, sealed, tagged) in [
        (
            16,
            "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda\
             4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
            "841dd9683dd78ec92ae58790125f62b3000005d4",
        ),
        (
            32,
            "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be\
             8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
            "91db4afbfeee5a978fab4393ed2615fe000005d4",
        ),
    ] {
        let mut sealer = Sealer::new(rfc_7714(key_len));
        sealer.rtcp_index = 0x5D4;
        let mut packet = plain.clone();
        packet.resize(plain.len() + OVERHEAD_MAX, 0);
        let len = sealer.seal_rtcp(&mut packet, plain.len()).unwrap();
        assert_eq!(packet[..len], hex(sealed));
        let mut unencrypted = [plain.clone(), hex(tagged)].concat();
        for packet in [&mut packet[..len], &mut unencrypted[..]] {
            let mut opener = Opener::new(rfc_7714(key_len));
            let len = opener.open_rtcp(packet).unwrap();
            assert_eq!(packet[..len], plain);
        }
    }
}

/// Keying material that differs in every byte.
fn keying(profile: Profile) -> Keying {
    let len = 2 * (profile.key_len() + profile.salt_len());
    let material: Vec<u8> = (0..len as u8).map(|byte| byte.wrapping_mul(7)).collect();
    Keying::new(profile, &material).unwrap()
}

/// A client's sealer and our opener.
fn client_to_server(profile: Profile) -> (Sealer, Opener) {
    let (_, sealer) = keyed(&keying(profile), Side::Client).unwrap();
    let (opener, _) = keyed(&keying(profile), Side::Server).unwrap();
    (sealer, opener)
}

const SSRC: u32 = 0x1234_5678;

fn rtp(seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 9]);
    packet.extend(SSRC.to_be_bytes());
    packet.extend(payload);
    packet
}

fn seal(sealer: &Sealer, index: u64, payload: &[u8]) -> Vec<u8> {
    let mut packet = rtp(index as u16, payload);
    let plain_len = packet.len();
    packet.resize(plain_len + OVERHEAD_MAX, 0);
    let len = sealer
        .seal_rtp(12, plain_len, ExtSeq(index), SSRC, &mut packet)
        .unwrap();
    packet.truncate(len);
    packet
}

fn open(opener: &mut Opener, sealed: &[u8]) -> Result<(u64, Vec<u8>), Refused> {
    let mut packet = sealed.to_vec();
    let seq = u16::from_be_bytes([sealed[2], sealed[3]]);
    let opened = opener.open_rtp(12, SSRC, seq, &mut packet)?;
    Ok((opened.seq.0, packet[12..opened.len].to_vec()))
}

fn rtcp(ssrc: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet.extend(body);
    packet
}

fn seal_rtcp(sealer: &mut Sealer, ssrc: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = rtcp(ssrc, body);
    let plain_len = packet.len();
    packet.resize(plain_len + OVERHEAD_MAX, 0);
    let len = sealer.seal_rtcp(&mut packet, plain_len).unwrap();
    packet.truncate(len);
    packet
}

#[test]
fn what_the_client_seals_we_open_and_the_reverse_but_not_our_own() {
    for profile in PROFILES {
        let (mut our_opener, our_sealer) = keyed(&keying(profile), Side::Server).unwrap();
        let (mut their_opener, their_sealer) = keyed(&keying(profile), Side::Client).unwrap();
        let theirs = seal(&their_sealer, 7, b"hello");
        let ours = seal(&our_sealer, 7, b"hello");
        assert_ne!(theirs, ours);
        assert_eq!(open(&mut our_opener, &ours), Err(Refused::Auth));
        assert_eq!(open(&mut our_opener, &theirs), Ok((7, b"hello".to_vec())));
        assert_eq!(open(&mut their_opener, &ours), Ok((7, b"hello".to_vec())));
    }
}

#[test]
fn any_changed_byte_is_refused_and_leaves_no_trace() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = client_to_server(profile);
        let sealed = seal(&sealer, 7, b"some payload");
        for at in 0..sealed.len() {
            let mut packet = sealed.clone();
            packet[at] ^= 0x40;
            let seq = u16::from_be_bytes([packet[2], packet[3]]);
            let ssrc = u32::from_be_bytes(*packet[8..].first_chunk().unwrap());
            assert_eq!(
                opener.open_rtp(12, ssrc, seq, &mut packet),
                Err(Refused::Auth),
                "{profile:?} {at}"
            );
        }
        assert!(matches!(opener.rtp.find(SSRC), replay::Found::New));
        assert!(open(&mut opener, &sealed).is_ok());
        let sealed = seal_rtcp(&mut sealer, SSRC, b"some report.");
        for at in 0..sealed.len() {
            let mut packet = sealed.clone();
            packet[at] ^= 0x80;
            assert_eq!(
                opener.open_rtcp(&mut packet),
                Err(Refused::Auth),
                "{profile:?} {at}"
            );
        }
        assert!(opener.open_rtcp(&mut sealed.clone()).is_ok());
    }
}

#[test]
fn an_unencrypted_rtcp_packet_without_a_right_tag_is_refused() {
    for profile in PROFILES {
        let (_, mut opener) = client_to_server(profile);
        for tail in [14, 20] {
            let forged = [rtcp(SSRC, b"good bye"), vec![0; tail]].concat();
            assert_eq!(opener.open_rtcp(&mut forged.clone()), Err(Refused::Auth));
        }
    }
}

#[test]
fn a_packet_is_opened_once() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = client_to_server(profile);
        let sealed = seal(&sealer, 7, b"once");
        assert!(open(&mut opener, &sealed).is_ok());
        assert_eq!(open(&mut opener, &sealed), Err(Refused::Replay));
        let sealed = seal_rtcp(&mut sealer, SSRC, b"once");
        assert!(opener.open_rtcp(&mut sealed.clone()).is_ok());
        assert_eq!(opener.open_rtcp(&mut sealed.clone()), Err(Refused::Replay));
    }
}

#[test]
fn the_roll_over_is_followed_and_late_packets_belong_before_it() {
    for profile in PROFILES {
        let (sealer, mut opener) = client_to_server(profile);
        let order = [
            0xFFFD, 0xFFFF, 0x1_0001, 0xFFFE, 0x1_0000, 0x1_7FFF, 0x1_FFF0, 0x2_0005, 0x1_FFFF,
        ];
        for index in order {
            let sealed = seal(&sealer, index, b"payload");
            assert_eq!(
                open(&mut opener, &sealed),
                Ok((index, b"payload".to_vec())),
                "{index:#x}"
            );
        }
        let replayed = seal(&sealer, 0x1_FFF0, b"payload");
        assert_eq!(open(&mut opener, &replayed), Err(Refused::Replay));
        let too_old = seal(&sealer, 0x2_0005 - 1024, b"payload");
        assert_eq!(open(&mut opener, &too_old), Err(Refused::Replay));
    }
}

#[test]
fn every_rtcp_packet_has_its_own_index_until_they_are_used_up() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = client_to_server(profile);
        for round in 0..10u8 {
            let sealed = seal_rtcp(&mut sealer, SSRC, &[round; 4]);
            let mut packet = sealed.clone();
            let len = opener.open_rtcp(&mut packet).unwrap();
            assert_eq!(packet[..len], rtcp(SSRC, &[round; 4]));
        }
        sealer.rtcp_index = E_BIT - 1;
        let sealed = seal_rtcp(&mut sealer, SSRC, b"last");
        assert!(opener.open_rtcp(&mut sealed.clone()).is_ok());
        let mut packet = [0; 64];
        assert_eq!(sealer.seal_rtcp(&mut packet, 12), None);
    }
}

#[test]
fn what_does_not_fit_is_not_sealed() {
    for profile in PROFILES {
        let (mut sealer, _) = client_to_server(profile);
        let mut packet = rtp(1, b"payload");
        let len = packet.len();
        assert_eq!(
            sealer.seal_rtp(12, len, ExtSeq(1), SSRC, &mut packet),
            None,
            "no room"
        );
        packet.resize(100, 0);
        assert_eq!(sealer.seal_rtp(12, 101, ExtSeq(1), SSRC, &mut packet), None);
        assert_eq!(sealer.seal_rtp(30, 20, ExtSeq(1), SSRC, &mut packet), None);
        assert_eq!(sealer.seal_rtp(11, 20, ExtSeq(1), SSRC, &mut packet), None);
        assert_eq!(
            sealer.seal_rtp(12, 20, ExtSeq(1 << 48), SSRC, &mut packet),
            None
        );
        assert_eq!(sealer.seal_rtcp(&mut packet, 100), None);
        assert_eq!(sealer.seal_rtcp(&mut packet, 7), None);
        assert_eq!(sealer.seal_rtcp(&mut packet, usize::MAX), None);
        assert!(
            seal_rtcp(&mut sealer, SSRC, b"").len() > 8,
            "no index was lost"
        );
        assert_eq!(sealer.rtcp_index, 1);
    }
}

#[test]
fn keys_do_not_show_themselves() {
    let keying = keying(Profile::Aes128Gcm);
    assert_eq!(format!("{keying:?}"), "Keying { profile: Aes128Gcm, .. }");
    let (opener, sealer) = keyed(&keying, Side::Server).unwrap();
    assert_eq!(
        format!("{opener:?} {sealer:?}"),
        "Opener { .. } Sealer { .. }"
    );
}

fn profiles() -> impl Strategy<Value = Profile> {
    prop::sample::select(&PROFILES[..])
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_panic(
        profile in profiles(), bytes in prop::collection::vec(any::<u8>(), 0..80), header_len in 0..90usize, seq: u16
    ) {
        let (_, mut opener) = client_to_server(profile);
        prop_assert!(opener.open_rtp(header_len, SSRC, seq, &mut bytes.clone()).is_err());
        prop_assert!(opener.open_rtcp(&mut bytes.clone()).is_err());
        let (sealer, _) = client_to_server(profile);
        let _ = sealer.seal_rtp(header_len, usize::from(seq), ExtSeq(1), SSRC, &mut { bytes });
    }

    #[test]
    fn what_is_sealed_is_opened_as_it_was(
        profile in profiles(), index in 0..0x1_0000u64, payload in prop::collection::vec(any::<u8>(), 0..200), ssrc: u32
    ) {
        let (mut sealer, mut opener) = client_to_server(profile);
        let sealed = seal(&sealer, index, &payload);
        prop_assert_eq!(open(&mut opener, &sealed), Ok((index, payload.clone())));
        let mut packet = seal_rtcp(&mut sealer, ssrc, &payload);
        let len = opener.open_rtcp(&mut packet).unwrap();
        prop_assert_eq!(&packet[..len], rtcp(ssrc, &payload));
    }

    /// Both ways of sealing make the same packet, or both refuse.
    #[test]
    fn sealing_out_of_place_makes_the_packet_that_sealing_in_place_makes(
        profile in profiles(), index in 0..RTP_INDICES + 2,
        payload in prop::collection::vec(any::<u8>(), 0..200), room in 0..240usize
    ) {
        let (sealer, _) = client_to_server(profile);
        let mut plain = rtp(index as u16, &payload);
        let header = *plain.first_chunk().unwrap();
        let plain_len = plain.len();
        plain.resize(room.max(plain_len), 0);
        let mut packet = vec![0; room];
        let from = sealer.seal_rtp_from(&header, &payload, ExtSeq(index), SSRC, &mut packet);
        let in_place = sealer.seal_rtp(12, plain_len, ExtSeq(index), SSRC, &mut plain);
        prop_assert_eq!(from, in_place);
        if let Some(len) = from {
            prop_assert_eq!(&packet[..len], &plain[..len]);
        }
    }

    /// A resend repeats the identical bytes, so that no index ever seals two different packets.
    #[test]
    fn the_same_packet_is_sealed_to_the_same_bytes(
        profile in profiles(), index in 0..RTP_INDICES, payload in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let (sealer, _) = client_to_server(profile);
        prop_assert_eq!(seal(&sealer, index, &payload), seal(&sealer, index, &payload));
        let other = seal(&sealer, (index + 0x1_0000) % RTP_INDICES, &payload);
        prop_assert_ne!(seal(&sealer, index, &payload), other, "the roll-over count is sealed in");
    }
}
