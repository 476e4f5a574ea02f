//! What a plane keeps for a record: nothing unless asked.

use super::world::{World, audio};
use crate::media::transport::dtls::Keying;
use crate::media::transport::srtp::{Side, keyed};
use crate::rtp::header::Header;

/// A call of two after which the second has been sent a packet: as it was sealed.
fn call(world: &mut World) -> (usize, Vec<u8>) {
    let (speaker, track) = world.speaker();
    let watcher = world.watcher(track, audio("recvonly"));
    world.speak(speaker, 1);
    let sent = world.take_media(watcher).pop().expect("forwarded");
    (watcher, sent.sealed)
}

#[test]
fn keys_that_were_asked_for_open_what_was_sent() {
    let mut world = World::new();
    world.plane.keep_keys();
    let (watcher, mut packet) = call(&mut world);
    let kept: Vec<_> = std::iter::from_fn(|| world.plane.poll_keys()).collect();
    assert_eq!(kept.len(), 2, "one for each connection, once");
    let peer = world.clients[watcher].peer;
    let (_, keying) = kept
        .iter()
        .find(|(from, _)| from.peer == peer)
        .expect("the watcher's");
    let read = Keying::new(keying.profile(), &keying.material()).expect("whole");
    let (mut opener, _) = keyed(&read, Side::Client).expect("keys");
    let header = Header::parse(&packet).expect("RTP");
    let (len, ssrc, seq) = (header.header_len, header.ssrc, header.sequence);
    let opened = opener.open_rtp(len, ssrc, seq, &mut packet);
    let opened = opened.expect("authentic").len;
    assert_eq!(&packet[len..opened], b"speech");
}

#[test]
fn keys_nobody_asked_for_are_not_kept() {
    let mut world = World::new();
    call(&mut world);
    assert!(world.plane.poll_keys().is_none());
    for client in 0..2 {
        let peer = world.clients[client].peer;
        let index = world.plane.index_of(peer).expect("there");
        let peer = world.plane.peers.at_mut(index).expect("there");
        assert!(peer.connections.up().transport.take_keys().is_none());
    }
}

#[test]
fn names_and_numbers_come_from_chance_and_passwords_do_not() {
    let described = |plane: crate::media::plane::Plane| {
        let mut world = World::new();
        world.plane = plane;
        world.join(&[audio("sendrecv")]);
        let answer = world.clients[0].answer.clone();
        let line = |name: &str| {
            let found = answer.lines().find(|line| line.starts_with(name));
            found.expect("answered").to_owned()
        };
        (line("a=ice-ufrag:"), line("o="), line("a=ice-pwd:"))
    };
    let setup = || World::new().plane.setup().clone();
    let first = crate::media::plane::Plane::new(setup(), [1; 32]);
    let chance = first.chance();
    let again = crate::media::plane::Plane::with_chance(setup(), [2; 32], chance);
    let (first, again) = (described(first), described(again));
    assert_eq!((&first.0, &first.1), (&again.0, &again.1));
    assert_ne!(first.2, again.2);
}
