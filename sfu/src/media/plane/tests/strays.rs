//! Clients whose NAT gave them another port.

use super::world::{World, audio, ms, receiver_report};
use crate::ids::TrackKey;
use crate::media::demux::Carrier;
use crate::media::message::Event;

fn call() -> (World, usize, usize, TrackKey) {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let watcher = world.watcher(track, audio("recvonly"));
    world.take_events();
    (world, publisher, watcher, track)
}

/// From here on this client is elsewhere, and sends what no key opens.
fn send_rubbish(world: &mut World, who: usize) {
    world.clients[who].path.remote = ([203, 0, 113, 1], 1).into();
    let mut bytes = vec![0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    bytes.resize(200, 7);
    world.send(who, vec![bytes]);
}

fn moves(world: &mut World) -> usize {
    let moved = |event: &&Event| matches!(event, Event::PathChanged { .. });
    world.take_events().iter().filter(moved).count()
}

#[test]
fn a_client_at_a_new_port_is_found_by_its_keys() {
    let (mut world, publisher, watcher, _) = call();
    for who in [publisher, watcher] {
        world.clients[who].path.remote.set_port(50_000);
    }
    world.advance(ms(200));
    world.take_media(watcher);
    // The watcher tells by its feedback, the publisher by its media; nobody has sent a check.
    world.feedback(watcher, &receiver_report(1, 1));
    for at in 1..=3 {
        world.speak(publisher, at);
    }
    assert_eq!(world.take_media(watcher).len(), 3);
    assert_eq!(moves(&mut world), 2);
    assert_eq!(world.plane.counters().traffic.strays_found, 2);
}

#[test]
fn a_client_at_another_address_is_found_among_many_quiet_ones() {
    let (mut world, publisher, _, track) = call();
    for _ in 0..40 {
        world.watcher(track, audio("recvonly"));
    }
    world.advance(ms(200));
    world.clients[publisher].path.remote = "203.0.113.9:4242".parse().expect("an address");
    for at in 1..=4 {
        world.speak(publisher, at);
        world.advance(ms(20));
    }
    assert_eq!(moves(&mut world), 1);
}

#[test]
fn who_is_heard_of_has_not_moved() {
    let (mut world, publisher, watcher, _) = call();
    let home = world.clients[publisher].path;
    world.advance(ms(200));
    world.speak(publisher, 1);
    // Somebody has caught a packet and is faster with it than the client.
    world.clients[publisher].path.remote.set_port(50_000);
    world.speak(publisher, 2);
    world.clients[publisher].path = home;
    assert_eq!(moves(&mut world), 0);
    assert_eq!(world.take_media(watcher).len(), 1);
}

#[test]
fn a_packet_caught_and_sent_again_moves_nobody() {
    let (mut world, publisher, watcher, _) = call();
    let packet = world.clients[publisher].rtcp(&receiver_report(1, 1));
    world.send(publisher, vec![packet.clone()]);
    world.advance(ms(200));
    world.clients[watcher].path.remote.set_port(50_000);
    world.send(watcher, vec![packet]);
    assert_eq!(moves(&mut world), 0);
    assert_eq!(world.plane.counters().traffic.strays_found, 0);
}

#[test]
fn a_flood_of_forged_packets_is_not_worth_many_keys() {
    let (mut world, publisher, watcher, _) = call();
    world.advance(ms(200));
    let before = world.plane.counters().dropped;
    world.clients[watcher].path.remote.set_port(50_000);
    let forged = |len: usize| {
        let mut bytes = vec![0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
        bytes.resize(len, 7);
        vec![bytes; 1000]
    };
    // Too short to be anybody's, from many addresses.
    world.send(watcher, forged(20));
    world.clients[publisher].path.remote.set_port(50_001);
    let home = world.clients[watcher].path;
    for host in 0..8 {
        world.clients[watcher].path.remote = ([203, 0, 113, host], 1).into();
        world.send(watcher, forged(200));
    }
    world.clients[watcher].path = home;
    let dropped = world.plane.counters().dropped;
    assert_eq!(dropped.unknown_address, before.unknown_address + 9000);
    // The budget of this moment is used up: even a client that has moved waits for the next.
    world.speak(publisher, 1);
    assert_eq!(moves(&mut world), 0);
    world.advance(ms(100));
    world.speak(publisher, 2);
    assert_eq!(moves(&mut world), 1);
}

#[test]
fn rubbish_from_one_address_keeps_nobody_from_being_found() {
    let (mut world, publisher, watcher, _) = call();
    world.advance(ms(200));
    world.clients[publisher].path.remote.set_port(50_001);
    world.clients[watcher].path.remote = ([203, 0, 113, 1], 1).into();
    let mut bytes = vec![0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    bytes.resize(200, 7);
    world.send(watcher, vec![bytes; 1000]);
    world.speak(publisher, 1);
    assert_eq!(moves(&mut world), 1);
}

#[test]
fn a_neighbour_s_old_port_leads_to_who_has_it_now() {
    let (mut world, publisher, watcher, _) = call();
    // A router begins anew, and the publisher gets the port the watcher had.
    let old = world.clients[watcher].path;
    world.clients[watcher].path.remote.set_port(50_000);
    world.clients[publisher].path = old;
    world.advance(ms(200));
    world.take_media(watcher);
    for at in 1..=3 {
        world.speak(publisher, at);
    }
    assert_eq!(moves(&mut world), 1);
    world.feedback(watcher, &receiver_report(1, 1));
    assert_eq!(moves(&mut world), 1);
    world.speak(publisher, 4);
    assert_eq!(world.take_media(watcher).len(), 1);
}

#[test]
fn who_was_heard_of_since_the_last_look_is_not_taken_for_moved() {
    let (mut world, publisher, watcher, _) = call();
    let home = world.clients[publisher].path;
    world.advance(ms(200));
    // Somebody's rubbish makes everybody be looked at; then the publisher speaks where he is.
    send_rubbish(&mut world, watcher);
    world.advance(ms(40));
    world.speak(publisher, 1);
    world.advance(ms(10));
    // A packet of his is caught, and arrives from elsewhere first.
    world.clients[publisher].path.remote.set_port(50_001);
    world.speak(publisher, 2);
    world.clients[publisher].path = home;
    assert_eq!(moves(&mut world), 0);
}

#[test]
fn a_report_finds_its_sender_though_others_are_looked_for_while_it_waits() {
    let (mut world, publisher, watcher, _) = call();
    let home = world.clients[watcher].path;
    world.feedback(watcher, &receiver_report(1, 1));
    world.clients[watcher].path.remote.set_port(50_000);
    world.feedback(watcher, &receiver_report(1, 2));
    // One that he sent before was overtaken.
    let away = std::mem::replace(&mut world.clients[watcher].path, home);
    world.advance(ms(40));
    world.feedback(watcher, &receiver_report(1, 3));
    world.clients[watcher].path = away;
    // Rubbish has everybody looked at just before he has been silent for long.
    world.advance(ms(145));
    send_rubbish(&mut world, publisher);
    world.advance(ms(65));
    assert_eq!(moves(&mut world), 1);
}

#[test]
fn a_report_right_after_the_move_finds_who_then_says_nothing() {
    let (mut world, publisher, watcher, _) = call();
    world.feedback(watcher, &receiver_report(1, 1));
    world.advance(ms(60));
    world.clients[watcher].path.remote.set_port(50_000);
    let before = *world.plane.counters();
    world.feedback(watcher, &receiver_report(1, 2));
    assert_eq!(moves(&mut world), 0, "he may still be where he was");
    world.advance(ms(250));
    assert_eq!(moves(&mut world), 1);
    world.take_media(watcher);
    world.speak(publisher, 1);
    assert_eq!(world.take_media(watcher).len(), 1);
    let after = *world.plane.counters();
    assert_eq!(after.dropped, before.dropped, "it was taken in the end");
    let taken = after.traffic.datagrams_in - before.traffic.datagrams_in;
    assert_eq!(taken, 2, "and once, as was the packet of speech");
}

#[test]
fn a_report_caught_and_brought_first_moves_nobody_who_goes_on_where_he_is() {
    let (mut world, _, watcher, _) = call();
    let home = world.clients[watcher].path;
    world.clients[watcher].path.remote.set_port(50_000);
    world.feedback(watcher, &receiver_report(1, 1));
    world.clients[watcher].path = home;
    let before = world.plane.counters().dropped.unknown_address;
    for at in 2..8 {
        world.advance(ms(50));
        world.feedback(watcher, &receiver_report(1, at));
    }
    assert_eq!(moves(&mut world), 0);
    let dropped = world.plane.counters().dropped.unknown_address;
    assert_eq!(dropped, before + 1, "it waited once");
}

#[test]
fn few_reports_of_nobody_wait_and_none_for_long() {
    let (mut world, _, watcher, _) = call();
    let home = world.clients[watcher].path;
    let before = world.plane.counters().dropped.unknown_address;
    let mut bytes = vec![0x80, 201, 0, 1, 0, 0, 0, 1];
    bytes.resize(40, 7);
    for host in 0..6 {
        world.clients[watcher].path.remote = ([203, 0, 113, host], 1).into();
        world.send(watcher, vec![bytes.clone(); 10]);
    }
    world.clients[watcher].path = home;
    let dropped = |world: &World| world.plane.counters().dropped.unknown_address - before;
    assert_eq!(dropped(&world), 60 - 16);
    world.advance(ms(250));
    assert_eq!(dropped(&world), 60);
    assert_eq!(moves(&mut world), 0);
}

#[test]
fn what_would_come_too_late_or_by_a_connection_does_not_wait() {
    let (mut world, publisher, watcher, _) = call();
    let before = world.plane.counters().dropped.unknown_address;
    let refused = |world: &World| world.plane.counters().dropped.unknown_address - before;
    world.clients[publisher].path.remote.set_port(50_000);
    let mut sender_report = vec![0x80, 200, 0, 6];
    sender_report.resize(28, 0);
    world.feedback(publisher, &sender_report);
    assert_eq!(refused(&world), 1);
    world.clients[watcher].path.carrier = Carrier::Tcp(1);
    world.feedback(watcher, &receiver_report(1, 1));
    assert_eq!(refused(&world), 2);
    world.advance(ms(300));
    assert_eq!(moves(&mut world), 0);
}
