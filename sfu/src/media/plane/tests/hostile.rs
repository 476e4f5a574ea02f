//! What nobody should send.

use super::client::Rtp;
use super::world::{AUDIO_SSRC, World, audio, message, ms, video};
use crate::media::peer::uplink;
use proptest::prelude::*;

fn call() -> (World, usize, usize, usize) {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let watcher = world.watcher(track, audio("recvonly"));
    let hostile = world.watcher(track, audio("recvonly"));
    (world, publisher, watcher, hostile)
}

fn assert_unharmed(world: &mut World, publisher: usize, watcher: usize) {
    world.take_media(watcher);
    for at in 1..4 {
        world.speak(publisher, at);
    }
    assert_eq!(world.take_media(watcher).len(), 3);
}

#[test]
fn nobody_is_at_port_zero() {
    let (mut world, publisher, watcher, hostile) = call();
    let mut check = world.clients[hostile].check(true);
    let mut path = world.clients[hostile].path;
    path.remote.set_port(0);
    world.plane.sent();
    world.plane.handle_datagram(path, &mut check, world.now);
    assert_eq!(world.plane.outgoing().count(), 0, "it is answered");
    assert_eq!(world.plane.counters().dropped.not_ours, 1);
    assert_unharmed(&mut world, publisher, watcher);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_datagrams_by_any_path_do_no_harm(
        datagrams in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)), 1..60),
    ) {
        let (mut world, publisher, watcher, hostile) = call();
        let before = world.plane.counters().traffic.datagrams_in;
        let count = datagrams.len() as u64;
        for (known, mut datagram) in datagrams {
            let mut path = world.clients[hostile].path;
            if !known {
                path.remote.set_port(9);
            }
            world.plane.handle_datagram(path, &mut datagram, world.now);
            world.advance(ms(7));
        }
        // What may be somebody's who has moved is taken later.
        world.advance(ms(300));
        prop_assert_eq!(world.plane.counters().traffic.datagrams_in, before + count);
        assert_unharmed(&mut world, publisher, watcher);
    }

    #[test]
    fn any_feedback_of_an_authentic_peer_does_no_harm(
        messages in proptest::collection::vec((200u8..=207, 0u8..32, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 1..40),
    ) {
        let (mut world, publisher, watcher, hostile) = call();
        world.speak(publisher, 0);
        let ssrc = world.clients[hostile].media[0].ssrc;
        for (kind, format, own, body) in messages {
            let mut plain = message(kind, format, if own { ssrc } else { AUDIO_SSRC }, &body);
            plain.resize(plain.len().next_multiple_of(4), 0);
            world.feedback(hostile, &plain);
            world.feedback(publisher, &plain);
            world.advance(ms(3));
        }
        assert_unharmed(&mut world, publisher, watcher);
    }

    #[test]
    fn any_media_of_an_authentic_publisher_does_no_harm(
        packets in proptest::collection::vec((0u8..128, 0u32..4, any::<u32>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 1..40),
    ) {
        let (mut world, publisher, watcher, _) = call();
        let (camera, film) = world.camera();
        world.watcher(film, video("recvonly"));
        let ssrcs = [super::world::VIDEO_SSRC, super::world::RTX_SSRC, 7, 0];
        for (payload_type, which, time, named, payload) in packets {
            let extensions: &[(u8, &[u8])] = &[(1, b"0"), (2, b"q"), (3, b"q"), (4, &[0, 1])];
            let packet = world.clients[camera].rtp(&Rtp {
                ssrc: ssrcs[which as usize],
                payload_type: if payload_type < 64 { 96 + payload_type % 2 } else { payload_type },
                time,
                marker: named,
                extensions: if named { extensions } else { &[] },
                payload: &payload,
            });
            world.send(camera, vec![packet]);
            world.advance(ms(3));
        }
        assert_unharmed(&mut world, publisher, watcher);
    }
}

#[test]
fn ten_thousand_streams_and_addresses_of_one_peer_fill_no_table() {
    let (mut world, publisher, _, hostile) = call();
    let home = world.clients[publisher].path;
    for at in 0..10_000_u32 {
        let packet = world.clients[publisher].rtp(&Rtp {
            ssrc: 0x0100_0000 + at,
            payload_type: 111,
            extensions: &[(1, b"0")],
            payload: b"x",
            ..Rtp::default()
        });
        let mut packet = packet;
        world.plane.handle_datagram(home, &mut packet, world.now);
        world.plane.fan_out(world.now);
        world.plane.sent();
        let mut path = world.clients[hostile].path;
        path.remote.set_port(1 + at as u16);
        let mut check = world.clients[hostile].check(false);
        world.plane.handle_datagram(path, &mut check, world.now);
        world.plane.sent();
    }
    let dropped = world.plane.counters().dropped;
    assert!(
        dropped.limit + dropped.unknown_stream > 9_000,
        "{dropped:?}"
    );
    assert!(world.plane.demux.dropped() > 9_000);
    let peer = world.plane.peers.at(0).expect("the publisher");
    assert!(peer.uplink.len() <= uplink::STREAMS_MAX);
    // The hostile publisher hurt its own track at most.
    let (other, track) = world.speaker();
    let second = world.watcher(track, audio("recvonly"));
    assert_unharmed(&mut world, other, second);
}

#[test]
fn a_stream_replaced_in_its_layer_is_not_mixed_with_the_old_one() {
    let (mut world, publisher, watcher, _) = call();
    world.take_media(watcher);
    for (ssrc, payload) in [
        (AUDIO_SSRC, b"old"),
        (0x9999, b"new"),
        (AUDIO_SSRC, b"old"),
        (0x9999, b"new"),
    ] {
        let packet = world.clients[publisher].rtp(&Rtp {
            ssrc,
            payload_type: 111,
            extensions: &[(1, b"0")],
            payload,
            ..Rtp::default()
        });
        world.send(publisher, vec![packet]);
    }
    let payloads: Vec<_> = world
        .take_media(watcher)
        .into_iter()
        .map(|one| one.payload)
        .collect();
    assert_eq!(payloads, [b"old", b"new", b"new"]);
}

#[test]
fn a_batch_of_packets_in_turn_stirs_each_peer_once() {
    let mut world = World::new();
    let (first, _) = world.speaker();
    let (second, _) = world.speaker();
    for at in 1..100 {
        for who in [first, second] {
            let mut packet = world.clients[who].rtp(&Rtp {
                ssrc: AUDIO_SSRC,
                payload_type: 111,
                time: at * 960,
                payload: b"speech",
                ..Rtp::default()
            });
            let path = world.clients[who].path;
            world.plane.handle_datagram(path, &mut packet, world.now);
        }
    }
    assert_eq!(world.plane.stirred.len(), 2);
}
