//! From the first offer to `Connected`.

use super::client::Client;
use super::world::{World, audio, ms, video};
use crate::media::demux::Carrier;
use crate::media::message::{Event, PathTransport, PeerFailure};
use std::time::Duration;

fn connected(events: &[Event]) -> usize {
    let is = |event: &&Event| matches!(event, Event::Connected { .. });
    events.iter().filter(is).count()
}

fn moved(events: &[Event]) -> usize {
    let is = |event: &&Event| matches!(event, Event::PathChanged { .. });
    events.iter().filter(is).count()
}

fn handshake_failures(events: &[Event]) -> usize {
    let is = |event: &&Event| matches!(event, Event::Failed { reason, .. } if *reason == PeerFailure::Handshake);
    events.iter().filter(is).count()
}

fn offered(world: &mut World) -> usize {
    let who = world.add();
    world.clients[who]
        .sections
        .push(("0".into(), audio("recvonly")));
    world.offer(who);
    who
}

#[test]
fn a_client_that_checks_and_shakes_hands_is_connected_once() {
    let mut world = World::new();
    world.join(&[audio("recvonly"), video("recvonly")]);
    world.live(Duration::from_secs(20));
    let events = world.take_events();
    assert_eq!((connected(&events), moved(&events)), (1, 0), "{events:?}");
}

#[test]
fn whoever_comes_through_turn_is_told_of_by_the_address_of_udp() {
    let mut world = World::new();
    let who = offered(&mut world);
    let path = &mut world.clients[who].path;
    path.carrier = Carrier::Relay {
        slot: 1,
        generation: 1,
    };
    path.local = Some([127, 0, 0, 1].into());
    world.check(who, true);
    world.shake(who);
    let events = world.take_events();
    let path = events.iter().find_map(|event| match event {
        Event::Connected { path, .. } => Some(*path),
        _ => None,
    });
    let path = path.expect("connected");
    assert_eq!(path.transport, PathTransport::Turn);
    assert_eq!(path.local, ([127, 0, 0, 1], 7882).into());
}

#[test]
fn a_client_hello_is_answered_before_a_path_is_nominated() {
    let mut world = World::new();
    let who = offered(&mut world);
    world.check(who, false);
    assert_eq!(world.clients[who].checks, [0x0101]);
    world.shake(who);
    assert!(world.clients[who].srtp.is_some());
    assert_eq!(connected(&world.take_events()), 1);
}

#[test]
fn dtls_from_an_address_without_a_check_is_not_answered() {
    let mut world = World::new();
    let who = offered(&mut world);
    world.shake(who);
    assert!(world.clients[who].srtp.is_none());
    assert!(world.plane.counters().dropped.unknown_address > 0);
}

#[test]
fn a_handshake_by_another_path_than_the_one_checked_last_tells_one_path() {
    let mut world = World::new();
    let who = offered(&mut world);
    let first = world.clients[who].path;
    world.check(who, true);
    world.clients[who].path.remote.set_port(50_000);
    world.check(who, true);
    world.clients[who].path = first;
    world.shake(who);
    let events = world.take_events();
    assert_eq!((connected(&events), moved(&events)), (1, 0), "{events:?}");
}

#[test]
fn a_handshake_done_after_ten_silent_seconds_connects_once() {
    let mut world = World::new();
    let who = offered(&mut world);
    world.check(who, true);
    world.advance(ms(10_500));
    world.shake(who);
    world.live(Duration::from_secs(3));
    assert_eq!(connected(&world.take_events()), 1);
}

#[test]
fn a_certificate_other_than_the_offered_one_fails_the_handshake_once() {
    let mut world = World::new();
    let who = world.add();
    let other = Client::new(9, world.now).fingerprint;
    world.clients[who].fingerprint = other;
    world.clients[who]
        .sections
        .push(("0".into(), audio("recvonly")));
    world.offer(who);
    world.check(who, true);
    world.shake(who);
    world.advance(Duration::from_secs(5));
    let events = world.take_events();
    assert_eq!((connected(&events), handshake_failures(&events)), (0, 1));
}

#[test]
fn a_certificate_changed_by_a_later_offer_is_told_at_once() {
    let mut world = World::new();
    let who = world.join(&[audio("recvonly")]);
    world.clients[who].fingerprint = Client::new(9, world.now).fingerprint;
    world.offer(who);
    assert_eq!(handshake_failures(&world.take_events()), 1);
}

#[test]
fn a_handshake_with_a_fifth_of_the_datagrams_lost_completes_by_timers() {
    let mut world = World::new();
    let who = offered(&mut world);
    // Scattered: a strict period may hit the same flight for ever, as the timers have jitter.
    world.loses = |number| (number.wrapping_mul(2_654_435_761) >> 7).is_multiple_of(5);
    // Within the server's deadline for a handshake.
    for _ in 0..72 {
        world.check(who, true);
        world.shake(who);
        world.advance(ms(250));
    }
    assert_eq!(connected(&world.take_events()), 1);
    assert_eq!(handshake_failures(&world.take_events()), 0);
}

#[test]
fn a_handshake_that_stalls_fails() {
    let mut world = World::new();
    let who = offered(&mut world);
    world.check(who, true);
    let hello = world.clients[who].handshake(world.now);
    let path = world.clients[who].path;
    for mut datagram in hello {
        world.plane.handle_datagram(path, &mut datagram, world.now);
    }
    world.loses = |_| true;
    world.flush();
    world.loses = |number| number.is_multiple_of(2);
    for _ in 0..60 {
        // Checks go on, the client's handshake does not.
        let mut check = world.clients[who].check(true);
        world.plane.handle_datagram(path, &mut check, world.now);
        world.plane.sent();
        world.loses = |_| true;
        world.advance(ms(1000));
    }
    assert_eq!(handshake_failures(&world.take_events()), 1);
}
