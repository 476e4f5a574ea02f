//! Tests of `demux`.

use super::*;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn peer(slot: u32) -> PeerId {
    PeerId {
        worker: 0,
        slot,
        generation: 0,
    }
}

fn sender(slot: u32) -> Sender {
    let side = Side::Publisher;
    Sender {
        peer: peer(slot),
        side,
    }
}

#[test]
fn a_path_whose_connection_is_gone_leads_to_nobody_and_its_ufrag_still_does() {
    let mut demux = Demux::new();
    let sender = Sender {
        peer: peer(1),
        side: Side::Publisher,
    };
    demux.insert("ours", sender).expect("room");
    let over_tcp = Path {
        carrier: Carrier::Tcp(0),
        ..path(1)
    };
    demux.learn(&path(1), sender);
    demux.learn(&over_tcp, sender);
    assert_eq!(demux.forget(&over_tcp), Some(sender));
    assert_eq!(demux.forget(&over_tcp), None);
    assert_eq!(demux.by_path(&over_tcp), None);
    assert_eq!(demux.by_path(&path(1)), Some(sender));
    assert_eq!(demux.by_ufrag("ours"), Some(sender));
}

fn path(port: u16) -> Path {
    Path {
        carrier: Carrier::Udp(0),
        local: None,
        port: 0,
        remote: SocketAddr::from(([192, 0, 2, 1], port)),
    }
}

fn datagram(first: u8, second: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = first;
    bytes[1] = second;
    bytes
}

#[test]
fn the_first_bytes_tell_the_kind() {
    for (first, second, kind) in [
        (0, 1, Kind::Stun),
        (3, 0, Kind::Stun),
        (4, 0, Kind::Other),
        (19, 0, Kind::Other),
        (20, 254, Kind::Dtls),
        (63, 254, Kind::Dtls),
        (64, 0, Kind::Other),
        (127, 0, Kind::Other),
        (128, 96, Kind::Rtp),
        (128, 191, Kind::Rtp),
        (128, 192, Kind::Rtcp),
        (191, 223, Kind::Rtcp),
        (191, 224, Kind::Rtp),
        (192, 0, Kind::Other),
    ] {
        assert_eq!(classify(&datagram(first, second)), kind, "{first} {second}");
    }
    assert_eq!(classify(&datagram(0, 1)[..19]), Kind::Other);
    assert_eq!(classify(&datagram(128, 96)[..11]), Kind::Other);
    assert_eq!(classify(&datagram(128, 200)[..8]), Kind::Rtcp);
    assert_eq!(classify(&datagram(22, 254)[..12]), Kind::Other);
    assert_eq!(classify(&[0x80]), Kind::Other);
}

fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0];
    bytes.extend(STUN_COOKIE);
    bytes.extend([7; 12]);
    for (kind, value) in attributes {
        bytes.extend(kind.to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let len = (bytes.len() - STUN_HEADER) as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

#[test]
fn the_username_of_a_check_is_found_behind_other_attributes() {
    let bytes = request(&[(0x8022, b"odd"), (STUN_USERNAME, b"ours:theirs")]);
    assert_eq!(username(&bytes), Some("ours"));
    let mut response = bytes;
    response[0] = 1;
    assert_eq!(username(&response), None);
    assert_eq!(username(&request(&[(0x8022, b"ours:theirs")])), None);
    assert_eq!(
        username(&request(&[(STUN_USERNAME, &[0xFF, b':', 1])])),
        None
    );
}

#[test]
fn an_attribute_that_overruns_the_message_ends_the_walk() {
    let mut bytes = request(&[(STUN_USERNAME, b"ours:theirs")]);
    bytes.pop();
    assert_eq!(username(&bytes), None);
}

#[test]
fn a_ufrag_names_its_place_and_is_random_beyond() {
    let place = Place {
        node: 0xFE,
        generation: 3,
        worker: 0x81,
    };
    let mut rng = StdRng::seed_from_u64(1);
    let (one, two) = (place.ufrag(&mut rng), place.ufrag(&mut rng));
    assert_eq!(Place::of(&one), Some(place));
    assert_eq!(Place::of(&two), Some(place));
    assert_eq!(one[..PLACE_CHARS], two[..PLACE_CHARS]);
    assert_ne!(one[PLACE_CHARS..], two[PLACE_CHARS..]);
    assert_eq!(Place::of(&one[1..]), None);
    assert_eq!(Place::of(&one.replace(&one[8..9], "-")), None);
}

#[test]
fn checks_go_by_ufrag_and_the_rest_by_the_address_learned_from_them() {
    let mut demux = Demux::new();
    demux.insert("one", sender(1)).unwrap();
    assert_eq!(demux.by_ufrag("one"), Some(sender(1)));
    assert_eq!(demux.by_path(&path(5)), None);
    demux.learn(&path(5), sender(1));
    assert_eq!(demux.by_path(&path(5)), Some(sender(1)));
    let other_socket = Path {
        carrier: Carrier::Udp(1),
        ..path(5)
    };
    assert_eq!(demux.by_path(&other_socket), None);
    demux.remove(peer(1));
    assert_eq!(demux.by_ufrag("one"), None);
    assert_eq!(demux.by_path(&path(5)), None);
}

#[test]
fn a_peer_unknown_here_learns_no_address() {
    let mut demux = Demux::new();
    demux.learn(&path(5), sender(1));
    assert_eq!(demux.by_path(&path(5)), None);
}

#[test]
fn the_address_not_checked_for_longest_makes_room() {
    let mut demux = Demux::new();
    demux.insert("one", sender(1)).unwrap();
    for port in 0..ADDRESSES_PER_CONNECTION as u16 {
        demux.learn(&path(port), sender(1));
    }
    demux.learn(&path(0), sender(1));
    demux.learn(&path(999), sender(1));
    assert_eq!(demux.by_path(&path(0)), Some(sender(1)), "checked again");
    assert_eq!(demux.by_path(&path(1)), None, "the oldest now");
    assert_eq!(demux.addresses.len(), ADDRESSES_PER_CONNECTION);
    assert_eq!(demux.dropped(), 1);
}

#[test]
fn an_address_moves_to_the_peer_that_claims_it_last_and_back() {
    let mut demux = Demux::new();
    demux.insert("one", sender(1)).unwrap();
    demux.insert("two", sender(2)).unwrap();
    demux.learn(&path(5), sender(1));
    demux.learn(&path(5), sender(2));
    assert_eq!(demux.by_path(&path(5)), Some(sender(2)));
    demux.learn(&path(5), sender(1));
    assert_eq!(demux.by_path(&path(5)), Some(sender(1)));
    demux.remove(peer(2));
    assert_eq!(demux.by_path(&path(5)), Some(sender(1)));
}

#[test]
fn old_and_new_ufrag_both_lead_to_the_peer_until_the_old_one_is_retired() {
    let mut demux = Demux::new();
    demux.insert("old", sender(1)).unwrap();
    demux.insert("new", sender(1)).unwrap();
    assert_eq!(demux.by_ufrag("old"), Some(sender(1)));
    demux.retire("old");
    assert_eq!(demux.by_ufrag("old"), None);
    assert_eq!(demux.by_ufrag("new"), Some(sender(1)));
    for round in 0..100 {
        demux
            .insert(&format!("restart {round}"), sender(1))
            .unwrap();
    }
    assert_eq!(demux.ufrags.len(), UFRAGS_PER_CONNECTION);
}

#[test]
fn one_connection_too_many_is_refused() {
    let mut demux = Demux::new();
    for slot in 0..CONNECTIONS as u32 {
        demux.insert(&slot.to_string(), sender(slot)).unwrap();
    }
    assert_eq!(demux.insert("more", sender(u32::MAX)), Err(Full));
    assert_eq!(demux.insert("restart", sender(0)), Ok(()));
}

#[test]
fn the_connections_of_a_peer_are_told_apart_and_go_with_it() {
    let mut demux = Demux::new();
    let subscriber = Sender {
        side: Side::Subscriber,
        ..sender(1)
    };
    demux.insert("up", sender(1)).unwrap();
    demux.insert("down", subscriber).unwrap();
    demux.learn(&path(5), sender(1));
    demux.learn(&path(6), subscriber);
    assert_eq!(demux.by_ufrag("up"), Some(sender(1)));
    assert_eq!(demux.by_path(&path(5)), Some(sender(1)));
    assert_eq!(demux.by_ufrag("down"), Some(subscriber));
    assert_eq!(demux.by_path(&path(6)), Some(subscriber));
    demux.remove(peer(1));
    assert_eq!(demux.by_ufrag("down"), None);
    assert_eq!(demux.by_path(&path(6)), None);
}

proptest! {
    #[test]
    fn any_bytes_have_a_kind_and_perhaps_a_username(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = classify(&bytes);
        let _ = username(&bytes);
        let mut stun = request(&[]);
        stun.extend(&bytes);
        let _ = username(&stun);
    }

    #[test]
    fn a_place_survives_its_ufrag(node: u8, generation: u8, worker: u8, seed: u64) {
        let place = Place { node, generation, worker };
        let ufrag = place.ufrag(&mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(Place::of(&ufrag), Some(place));
    }

    #[test]
    fn the_tables_agree_after_any_sequence(steps in prop::collection::vec((0..4u8, 0..6u32, 0..40u16), 0..300)) {
        let mut demux = Demux::new();
        for (step, slot, port) in steps {
            match step {
                0 => demux.insert(&format!("{slot}/{port}"), sender(slot)).unwrap(),
                1 => demux.learn(&path(port), sender(slot)),
                2 => demux.retire(&format!("{slot}/{port}")),
                _ => demux.remove(peer(slot)),
            }
            let listed: usize = demux.routes.values().map(|routes| routes.addresses.len()).sum();
            prop_assert_eq!(listed, demux.addresses.len());
            let named: usize = demux.routes.values().map(|routes| routes.ufrags.len()).sum();
            prop_assert_eq!(named, demux.ufrags.len());
            for (sender, routes) in &demux.routes {
                prop_assert!(routes.addresses.len() <= ADDRESSES_PER_CONNECTION);
                prop_assert!(routes.addresses.iter().all(|address| demux.addresses.get(address) == Some(sender)));
                prop_assert!(routes.ufrags.iter().all(|ufrag| demux.ufrags.get(ufrag) == Some(sender)));
            }
        }
    }
}
