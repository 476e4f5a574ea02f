//! Clients are asked at which address they see us, and what comes of it.

use super::world::{World, audio, ms};
use crate::media::counters::Questions;
use crate::media::message::Event;
use crate::media::sighting::Sighting;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

const OURS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 7882);
/// A binding request.
const REQUEST: u16 = 1;

/// A client that answers, and one that does not.
fn world() -> World {
    let mut world = World::new();
    world.plane.handle_inquiring(true, world.now);
    for sees in [Some(OURS), None] {
        let who = world.join(&[audio("recvonly")]);
        world.clients[who].sees = sees;
    }
    world
}

fn seen(world: &mut World) -> Vec<Sighting> {
    std::iter::from_fn(|| world.plane.poll_sighting()).collect()
}

fn ip(world: &World, who: usize) -> IpAddr {
    world.clients[who].path.remote.ip()
}

fn asked(world: &World, who: usize) -> usize {
    let checks = world.clients[who].checks.iter();
    checks.filter(|kind| **kind == REQUEST).count()
}

#[test]
fn who_answers_tells_where_we_are_seen_each_minute() {
    let mut world = world();
    world.live(ms(61_000));
    let sighting = Sighting::Seen {
        by: ip(&world, 0),
        at: (*OURS.ip()).into(),
    };
    assert_eq!(seen(&mut world), [sighting; 2]);
    assert_eq!((asked(&world, 0), asked(&world, 1)), (2, 2));
    let expected = Questions {
        asked: 4,
        answered: 2,
        ..Questions::default()
    };
    assert_eq!(world.plane.counters().questions, expected);
    assert_eq!(world.plane.counters().dropped.stun, 0);
}

#[test]
fn whose_checks_are_lost_is_kept_by_his_answers_and_who_does_not_answer_is_told_silent_once() {
    let mut world = world();
    world.advance(ms(1000));
    seen(&mut world);
    world.take_events();
    // Neither sends a check from here on.
    world.advance(ms(20_000));
    let events = world.take_events();
    let failed: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Failed { peer, .. } => Some(*peer),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [world.clients[1].peer], "who answers is alive");
    let told = seen(&mut world);
    let silent = |who| Sighting::Silent {
        by: ip(&world, who),
    };
    let count = |one| told.iter().filter(|told| **told == one).count();
    assert_eq!((count(silent(0)), count(silent(1))), (0, 1), "{told:?}");
}

#[test]
fn nobody_is_asked_unless_it_is_wanted() {
    let mut world = world();
    world.live(ms(1000));
    let before = asked(&world, 0);
    world.plane.handle_inquiring(false, world.now);
    let late = world.join(&[audio("recvonly")]);
    world.live(ms(130_000));
    assert_eq!((asked(&world, 0), asked(&world, late)), (before, 0));
}

#[test]
fn a_connection_that_has_failed_is_asked_nothing_and_wakes_nobody() {
    let mut world = world();
    world.live(ms(1000));
    let before = asked(&world, 1);
    // A description of somebody else's certificate.
    let nobody = [0_u8; 32].map(|byte| format!("{byte:02X}")).join(":");
    world.clients[1].fingerprint = nobody;
    world.offer(1);
    let failed = |event: &Event| matches!(event, Event::Failed { .. });
    assert!(world.take_events().iter().any(failed));
    world.advance(ms(5000));
    assert_eq!(asked(&world, 1), before);
}

#[test]
fn a_question_without_a_place_to_be_written_holds_nobody_up() {
    let mut world = World::new();
    world.plane.handle_inquiring(true, world.now);
    let who = world.join(&[audio("recvonly")]);
    let mut path = world.clients[who].path;
    for port in 1..u16::MAX {
        path.remote.set_port(port);
        let Some(slot) = world.plane.arena.slot(path, 100) else {
            break;
        };
        slot[0] = 1;
        world.plane.arena.commit(100);
    }
    world.plane.handle_timeout(world.now);
    assert_eq!(world.plane.counters().questions.asked, 0);
    assert!(world.plane.counters().dropped.limit >= 1);
}

#[test]
fn those_who_are_here_when_asking_begins_are_not_asked_all_at_once() {
    let mut world = World::new();
    for _ in 0..6 {
        world.join(&[audio("recvonly")]);
    }
    world.plane.handle_inquiring(true, world.now);
    world.live(ms(2000));
    let soon = world.plane.counters().questions.asked;
    world.live(ms(60_000));
    let asked = (0..6).filter(|who| asked(&world, *who) > 0).count();
    assert!(soon < 6 && asked == 6, "{soon} within two seconds");
}

#[test]
fn an_answer_that_nobody_asked_for_is_dropped_and_counted() {
    let mut world = world();
    world.live(ms(1000));
    seen(&mut world);
    let mut answer = vec![1, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    answer.extend([9; 12]);
    world.send(0, vec![answer.clone(), answer[..19].to_vec()]);
    world.clients[1].path.remote.set_port(9);
    world.send(1, vec![answer]);
    assert_eq!(seen(&mut world), []);
    assert_eq!(world.plane.counters().dropped.stun, 2);
    assert_eq!(world.plane.counters().dropped.not_ours, 1);
}
