use super::*;
use crate::config::codecs::Codec;
use crate::ids::PeerId;
use crate::media::demux::Carrier;
use crate::media::message::Side;
use crate::media::plane::opened::Reason;
use crate::media::transport::Handshake;
use crate::media::transport::candidates::Candidate;
use crate::rtp::header::Header;
use crate::rtp::{h264, red, trailer, vp8};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const PEER: PeerId = PeerId {
    worker: 0,
    slot: 70_000,
    generation: 3,
};

fn datagram(form: Form, bytes: Vec<u8>) -> Datagram {
    Datagram {
        path: Path {
            carrier: Carrier::Udp(1),
            local: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: 0,
            remote: SocketAddr::from((Ipv6Addr::LOCALHOST, 40_000)),
        },
        from: Some(Sender {
            peer: PEER,
            side: Side::Subscriber,
        }),
        bytes,
        form,
    }
}

/// Through TURN, to a port that a router calls otherwise.
fn relayed() -> Datagram {
    let mut datagram = datagram(Form::Control, vec![1, 2]);
    datagram.path.carrier = Carrier::Relay {
        slot: 7,
        generation: 3,
    };
    datagram.path.port = 40_000;
    datagram
}

fn entries() -> Vec<Entry> {
    let data = Command::SendData {
        channel: crate::media::message::Channel::Lossy,
        bytes: bytes::Bytes::from_static(&[0, 1, 255]),
        peers: vec![PEER],
    };
    let forms = [
        Form::Check { authentic: true },
        Form::Handshake {
            before: Handshake::Open,
            after: Handshake::Done,
        },
        Form::Media { seq: 70_000 },
        Form::Control,
        Form::Refused(Reason::Repeated),
    ];
    let mut entries: Vec<Entry> = forms
        .map(|form| Entry::Datagram(datagram(form, vec![0, 0, 7, 0, 9])))
        .to_vec();
    entries.extend([
        Entry::Start(Start {
            version: "1".into(),
            chance: [3; 32],
            advertised: vec![Candidate::udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))],
            place: [1, 2, 3],
            track: TrackSettings::default(),
            inquiring: true,
            secrets: false,
        }),
        Entry::Command(data),
        Entry::Advertised(vec![Candidate::tcp(SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            2,
        )))]),
        Entry::PathLost(datagram(Form::Control, Vec::new()).path),
        Entry::Datagram(relayed()),
        Entry::FanOut,
        Entry::Inquiring(false),
        Entry::Absence(3_000_000_000),
        Entry::Timeout(None),
        Entry::Timeout(Some(vec![PEER])),
        Entry::Event("Connected".into()),
        Entry::Totals(Box::new(Totals {
            counters: Counters::default(),
            population: Population::default(),
            sent: vec![(datagram(Form::Control, vec![]).path, Sent::default())],
        })),
        Entry::Gap(12),
        Entry::Keys(Keys {
            from: datagram(Form::Control, vec![]).from.expect("a sender"),
            profile: 7,
            material: vec![1, 2, 255],
        }),
        Entry::End(End::Full),
    ]);
    entries
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (index, entry) in entries.iter().enumerate() {
        write(entry, Duration::from_nanos(index as u64), &mut out);
    }
    out
}

#[test]
fn what_is_written_is_read() {
    let bytes = written(&entries());
    let read: Vec<_> = Reader::new(&bytes).expect("ours").collect();
    let expected: Vec<_> = entries()
        .into_iter()
        .enumerate()
        .map(|(index, entry)| Ok((Duration::from_nanos(index as u64), entry)))
        .collect();
    assert_eq!(read, expected);
}

#[test]
fn a_form_learned_later_replaces_the_first() {
    let first = Entry::Datagram(datagram(Form::Check { authentic: false }, vec![1]));
    let mut bytes = written(&[first]);
    amend(Form::Check { authentic: true }, &mut bytes);
    let then = Entry::Datagram(datagram(Form::Check { authentic: true }, vec![1]));
    assert_eq!(bytes, written(&[then]));
}

#[test]
fn a_record_cut_anywhere_is_read_up_to_there() {
    let bytes = written(&entries());
    for len in MAGIC.len()..bytes.len() {
        let read: Vec<_> = Reader::new(&bytes[..len]).expect("ours").collect();
        let sound = read.iter().take_while(|entry| entry.is_ok()).count();
        assert!(read.len() - sound <= 1);
        assert!(read.iter().skip(sound).all(|one| *one == Err(Fault::Cut)));
    }
    assert_eq!(Reader::new(b"FOCIREC0").err(), Some(Fault::Foreign));
}

#[test]
fn passwords_are_left_out_of_descriptions() {
    let text = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:topsecrettopsecrettopsecret\r\na=mid:0\r\n";
    let clean = redact::sdp(text);
    assert!(!clean.contains("topsecret"), "{clean}");
    assert!(clean.contains("a=ice-ufrag:abcd\r\n") && clean.ends_with("a=mid:0\r\n"));
    assert!(clean.contains(&format!("a=ice-pwd:{}\r\n", redact::PASSWORD)));
}

/// A packet with this payload.
fn packet(payload: &[u8]) -> (Vec<u8>, Header) {
    let mut bytes = vec![0x80, 96];
    bytes.extend([0; 10]);
    bytes.extend(payload);
    let header = Header::parse(&bytes).expect("a header");
    (bytes, header)
}

fn blanked(payload: &[u8], codec: Codec) -> Vec<u8> {
    let (mut bytes, header) = packet(payload);
    redact::media(&mut bytes, &header, Some((codec, false)));
    bytes.split_off(header.header_len)
}

#[test]
fn sound_is_blanked_whole_and_of_a_picture_the_head_is_kept() {
    assert_eq!(blanked(b"speech", Codec::Opus), [0; 6]);
    let picture = [0x10, 1, 0xAA, 0xBB, 0xCC];
    assert_eq!(blanked(&picture, Codec::Vp8), [0x10, 1, 0, 0, 0]);
}

proptest! {
    #[test]
    fn damaged_records_are_read_without_panic(
        at in 0_usize..2000, with: u8, len in 0_usize..2000,
    ) {
        let mut bytes = written(&entries());
        let place = at % bytes.len();
        bytes[place] ^= with;
        bytes.truncate(len.max(8));
        if let Ok(reader) = Reader::new(&bytes) {
            prop_assert!(reader.count() <= bytes.len());
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&MAGIC[..], &tail].concat();
        let _ = Reader::new(&bytes).map(Iterator::count);
    }

    #[test]
    fn any_datagram_is_packed_and_unpacked(
        pieces in proptest::collection::vec((0_usize..40, proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
    ) {
        let bytes: Vec<u8> = pieces
            .iter()
            .flat_map(|(zeros, literal)| [vec![0; *zeros], literal.clone()].concat())
            .collect();
        let entry = Entry::Datagram(datagram(Form::Control, bytes));
        let file = written(std::slice::from_ref(&entry));
        let read = Reader::new(&file).expect("ours").next();
        prop_assert_eq!(read, Some(Ok((Duration::ZERO, entry))));
    }

    /// What decides about a packet is kept whatever it holds.
    #[test]
    fn a_blanked_payload_is_judged_alike(
        front in proptest::option::of(prop_oneof![Just(0x78_u8), Just(0x7C), Just(0x67), Just(0x90), Just(0x10)]),
        body in proptest::collection::vec(any::<u8>(), 0..60),
        end in prop_oneof![Just(&b"\xFALKTS"[..]), Just(&b""[..])],
    ) {
        let payload: Vec<u8> = front.into_iter().chain(body).chain(end.iter().copied()).collect();
        for codec in Codec::ALL {
            let blank = blanked(&payload, codec);
            prop_assert_eq!(blank.len(), payload.len());
            prop_assert_eq!(trailer::len(&blank), trailer::len(&payload));
            match codec {
                Codec::Vp8 => prop_assert_eq!(vp8::Descriptor::parse(&blank), vp8::Descriptor::parse(&payload)),
                Codec::H264 => prop_assert_eq!(h264::starts_key_frame(&blank), h264::starts_key_frame(&payload)),
                Codec::Red => prop_assert_eq!(red::primary(&blank, 111), red::primary(&payload, 111)),
                _ => {}
            }
        }
    }
}
