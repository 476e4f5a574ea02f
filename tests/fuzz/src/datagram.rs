//! Datagrams before anybody knows them: whose they are, and what SRTP opens. The replay window is
//! held against a model that remembers everything.

use crate::input::Input;
use sfu::ids::PeerId;
use sfu::media::demux::{
    ADDRESSES_PER_CONNECTION, Carrier, Demux, Kind, Path, Place, Sender, classify,
};
use sfu::media::message::Side as Connection;
use sfu::media::transport::srtp::{self, Keying, Opener, Profile, Refused, Sealer, Side};
use sfu::rtp::header::FixedHeader;
use sfu::units::ExtSeq;
use std::collections::BTreeSet;
use std::net::SocketAddr;

const PROFILES: [Profile; 3] = [
    Profile::Aes128Gcm,
    Profile::Aes256Gcm,
    Profile::Aes128CmSha1_80,
];
/// Packets behind the newest that the window of a live stream remembers.
const WINDOW: u64 = 1024;
const HEADER: usize = 12;

fn keys(profile: Profile) -> (Opener, Sealer) {
    let material = vec![0x5A; 2 * (profile.key_len() + profile.salt_len())];
    let keying = Keying::new(profile, &material).expect("as long as it must be");
    let (opener, _) = srtp::keyed(&keying, Side::Server).expect("keys");
    let (_, sealer) = srtp::keyed(&keying, Side::Client).expect("keys");
    (opener, sealer)
}

/// SRTP: nothing forged is opened, everything sealed is, once and within the window.
pub(crate) fn srtp(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let profile = PROFILES[usize::from(input.byte()) % PROFILES.len()];
    let (mut opener, mut sealer) = keys(profile);
    let mut model: [BTreeSet<u64>; 3] = Default::default();
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => forged(&mut opener, input.slice()),
            1 => control(&mut opener, &mut sealer, input.slice()),
            _ => {
                let stream = usize::from(input.byte() % 3);
                let step = i64::from(input.short() as i16) / 4;
                let seen = &mut model[stream];
                let newest = seen.last().copied().unwrap_or(1000);
                let index = newest.saturating_add_signed(step);
                let packet = sealed(&sealer, stream as u32, index, input.slice());
                media(&mut opener, (stream as u32, index), &packet, seen);
            }
        }
    }
}

fn forged(opener: &mut Opener, packet: &[u8]) {
    let mut packet = packet.to_vec();
    let len = packet.len();
    let header = len.min(HEADER);
    assert!(opener.open_rtp(header, 7, 7, &mut packet).is_err());
    assert!(opener.open_rtcp(&mut packet).is_err());
    assert_eq!(packet.len(), len);
}

fn control(opener: &mut Opener, sealer: &mut Sealer, body: &[u8]) {
    let mut packet = vec![0x80, 201, 0, 1, 0, 0, 0, 9];
    packet.extend(body);
    let plain = packet.clone();
    packet.resize(plain.len() + srtp::OVERHEAD_MAX, 0);
    let len = sealer.seal_rtcp(&mut packet, plain.len()).expect("sealed");
    packet.truncate(len);
    let opened = opener
        .open_rtcp(&mut packet.clone())
        .map(|len| len == plain.len());
    assert_eq!(opened, Ok(true));
    assert_eq!(opener.open_rtcp(&mut packet), Err(Refused::Replay));
}

fn sealed(sealer: &Sealer, ssrc: u32, index: u64, payload: &[u8]) -> Vec<u8> {
    let header = FixedHeader {
        marker: false,
        payload_type: 96,
        sequence: ExtSeq(index).wire(),
        timestamp: 0,
        ssrc,
    };
    let mut packet = vec![0; HEADER + payload.len() + srtp::OVERHEAD_MAX];
    let bytes = header.to_bytes();
    let len = sealer.seal_rtp_from(&bytes, payload, ExtSeq(index), ssrc, &mut packet);
    packet.truncate(len.expect("sealed"));
    packet
}

/// Opens a packet, and holds what becomes of it against all that were opened before.
fn media(opener: &mut Opener, (ssrc, index): (u32, u64), packet: &[u8], seen: &mut BTreeSet<u64>) {
    let mut damaged = packet.to_vec();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let wire = ExtSeq(index).wire();
    assert!(opener.open_rtp(HEADER, ssrc, wire, &mut damaged).is_err());
    let newest = seen.last().copied();
    let fresh = newest
        .is_none_or(|newest| index > newest || (newest - index < WINDOW && !seen.contains(&index)));
    let opened = opener.open_rtp(HEADER, ssrc, wire, &mut packet.to_vec());
    match opened {
        Ok(opened) => {
            assert!(fresh, "{index} was opened twice, or late");
            assert_eq!(opened.seq.0, index);
            seen.insert(index);
        }
        Err(refused) => {
            assert_eq!(refused, Refused::Replay);
            assert!(!fresh, "{index} was refused, newest {newest:?}");
        }
    }
}

/// What kind a datagram is, and a table of whose they are that forgets who has gone.
pub(crate) fn demux(bytes: &[u8]) {
    let kind = classify(bytes);
    assert!(bytes.len() >= 8 || kind == Kind::Other);
    let text = String::from_utf8_lossy(bytes);
    let place = Place::of(&text);
    assert!(place.is_none() || text.is_ascii());
    let mut input = Input::new(bytes);
    let mut demux = Demux::new();
    let mut gone = BTreeSet::new();
    while !input.is_empty() {
        step(&mut demux, &mut gone, &mut input);
    }
    for ufrag in 0..=u8::MAX {
        let found = demux.by_ufrag(&ufrag.to_string());
        assert!(found.is_none_or(|sender| !gone.contains(&sender.peer)));
    }
    for port in 0..256 {
        let found = demux.by_path(&path(port));
        assert!(found.is_none_or(|sender| !gone.contains(&sender.peer)));
    }
}

fn path(port: u16) -> Path {
    Path {
        carrier: Carrier::Udp(0),
        local: None,
        port: 0,
        remote: SocketAddr::from(([192, 0, 2, 1], port)),
    }
}

fn step(demux: &mut Demux, gone: &mut BTreeSet<PeerId>, input: &mut Input<'_>) {
    let act = input.byte();
    let who = input.byte();
    let peer = PeerId {
        worker: 0,
        slot: u32::from(who % 8),
        generation: 0,
    };
    let side = if who & 8 == 0 {
        Connection::Publisher
    } else {
        Connection::Subscriber
    };
    let sender = Sender { peer, side };
    let key = input.byte();
    match act % 4 {
        0 => {
            let ufrag = key.to_string();
            demux.insert(&ufrag, sender).expect("few connections");
            assert_eq!(demux.by_ufrag(&ufrag), Some(sender));
            gone.remove(&peer);
        }
        1 => {
            demux.retire(&key.to_string());
            assert_eq!(demux.by_ufrag(&key.to_string()), None);
        }
        2 if !gone.contains(&peer) => {
            demux.learn(&path(u16::from(key)), sender);
            let led = (0..256).filter(|port| demux.by_path(&path(*port)) == Some(sender));
            assert!(led.count() <= ADDRESSES_PER_CONNECTION);
        }
        _ => {
            demux.remove(peer);
            gone.insert(peer);
        }
    }
}
