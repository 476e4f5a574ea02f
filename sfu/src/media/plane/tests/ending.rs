//! Tracks, subscriptions and peers that end, also in the middle of something.

use super::world::{World, audio, ms, sending};
use crate::config::codecs::Codec;
use crate::media::message::{Command, Event};
use crate::media::pacer::FLUSH_BYTES;
use crate::media::plane::Progress;

fn ended(events: &[Event]) -> usize {
    let is = |event: &&Event| matches!(event, Event::TrackEnded { .. });
    events.iter().filter(is).count()
}

#[test]
fn nothing_is_left_when_all_have_gone() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let watchers: Vec<usize> = (0..3)
        .map(|_| world.watcher(track, audio("recvonly")))
        .collect();
    world.speak(publisher, 1);
    world.advance(ms(1000));
    assert_eq!(world.plane.population().copies, 3);
    world.remove(watchers[0]);
    assert_eq!(world.plane.population().copies, 2);
    world.remove(publisher);
    let left = world.plane.population();
    assert_eq!((left.peers, left.tracks, left.copies), (2, 0, 0));
    // Commands for who is gone do nothing.
    world.subscribe(watchers[0], track);
    world.subscribe(watchers[1], track);
    world.remove(publisher);
    world.command(Command::MuteTrack { track, muted: true });
    world.command(Command::Unpublish { track });
    world.advance(ms(1000));
    world.remove(watchers[1]);
    world.remove(watchers[2]);
    world.assert_empty();
}

#[test]
fn a_section_turned_inactive_ends_its_track_once() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    world.clients[publisher].sections[0].1 = audio("inactive");
    world.offer(publisher);
    world.offer(publisher);
    world.command(Command::Unpublish { track });
    assert_eq!(ended(&world.take_events()), 1);
    let left = world.plane.population();
    assert_eq!((left.tracks, left.copies), (0, 0));
    let peer = &world.plane.peers.at(0).expect("the publisher");
    assert_eq!(peer.link.announced(track), None);
    world.offer(who);
    assert!(!world.clients[who].answer.contains("a=msid:"));
}

#[test]
fn a_track_that_ends_before_its_section_comes_leaves_none_behind() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.join(&[audio("recvonly")]);
    world.subscribe(who, track);
    world.command(Command::Unpublish { track });
    world.offer(who);
    assert!(
        !world.clients[who].answer.contains("a=msid:"),
        "a section of nothing"
    );
    // Its section is free for the next.
    let second = world.announce(publisher, 1, Codec::Opus, "second");
    world.clients[publisher]
        .sections
        .push(("1".into(), sending(&audio("sendonly"), "second")));
    world.offer(publisher);
    let packet = world.clients[publisher].rtp(&super::client::Rtp {
        ssrc: 0x4444,
        payload_type: 111,
        extensions: &[(super::world::MID, b"1")],
        payload: b"speech",
        ..Default::default()
    });
    world.send(publisher, vec![packet]);
    world.subscribe(who, second);
    world.offer(who);
    assert_eq!(world.plane.population().copies, 1);
    world.remove(publisher);
    world.remove(who);
    world.assert_empty();
}

#[test]
fn a_publisher_that_leaves_takes_waiting_subscriptions_along() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.join(&[audio("recvonly")]);
    world.subscribe(who, track);
    world.remove(publisher);
    world.offer(who);
    assert!(!world.clients[who].answer.contains("a=msid:"));
    world.remove(who);
    world.assert_empty();
}

#[test]
fn a_renewed_subscription_gets_a_fresh_ssrc() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    world.speak(publisher, 1);
    let peer = world.clients[who].peer;
    world.command(Command::Unsubscribe { peer, track });
    world.speak(publisher, 2);
    world.offer(who);
    world.subscribe(who, track);
    world.offer(who);
    world.speak(publisher, 3);
    let media = world.take_media(who);
    assert_eq!(media.len(), 2);
    assert_ne!(media[0].ssrc, media[1].ssrc);
    assert_eq!(world.plane.population().copies, 1);
}

#[test]
fn a_publisher_replaces_its_track_in_the_same_section() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    world.watcher(track, audio("recvonly"));
    world.take_events();
    let second = world.announce(publisher, 1, Codec::Opus, "other");
    world.clients[publisher].sections[0].1 = sending(&audio("sendonly"), "other");
    world.command(Command::Unpublish { track });
    world.offer(publisher);
    let packet = world.clients[publisher].rtp(&super::client::Rtp {
        ssrc: 0x4444,
        payload_type: 111,
        extensions: &[(super::world::MID, b"0")],
        payload: b"speech",
        ..Default::default()
    });
    world.send(publisher, vec![packet]);
    let events = world.take_events();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::TrackStarted { track, .. } if *track == second)),
        "{events:?}"
    );
    assert_eq!(world.plane.population().tracks, 1);
}

/// Two speakers with two watchers each, all with one packet waiting to be forwarded.
fn waiting(world: &mut World) -> [(usize, [usize; 2]); 2] {
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let (publisher, track) = world.speaker();
        let watchers = [0; 2].map(|_| world.watcher(track, audio("recvonly")));
        rooms.push((publisher, watchers));
    }
    for &(publisher, _) in &rooms {
        let packet = world.clients[publisher].rtp(&super::client::Rtp {
            ssrc: super::world::AUDIO_SSRC,
            payload_type: 111,
            time: 960,
            payload: b"speech",
            ..Default::default()
        });
        let path = world.clients[publisher].path;
        let mut packet = packet;
        world.plane.handle_datagram(path, &mut packet, world.now);
    }
    rooms.try_into().expect("two rooms")
}

/// Fills the arena but for `room` bytes. A packet is forwarded while there are 1,600, and takes 34.
fn fill(world: &mut World, who: usize, room: usize) {
    let path = world.clients[who].path;
    let mut left = FLUSH_BYTES - room;
    while left > 0 {
        let len = left.min(1600);
        let slot = world.plane.arena.slot(path, len).expect("room");
        slot.fill(1);
        world.plane.arena.commit(len);
        left -= len;
    }
}

#[test]
fn a_track_that_ends_between_two_parts_of_a_fan_out_takes_no_other_along() {
    let mut world = World::new();
    let [(first, _), (second, watchers)] = waiting(&mut world);
    // The first track is through, the second is to come.
    fill(&mut world, first, 1600 + 34 + 10);
    assert_eq!(world.plane.fan_out(world.now), Progress::More);
    world.deliver();
    let peer = world.clients[first].peer;
    world
        .plane
        .handle_command(Command::RemovePeer { peer }, world.now);
    world.flush();
    world.speak(second, 2);
    for who in watchers {
        assert_eq!(world.take_media(who).len(), 2);
    }
}

#[test]
fn a_subscriber_that_leaves_between_two_parts_of_a_fan_out_takes_no_other_along() {
    let mut world = World::new();
    let [(first, watchers), _] = waiting(&mut world);
    fill(&mut world, first, 1600 + 10);
    assert_eq!(world.plane.fan_out(world.now), Progress::More);
    world.deliver();
    assert_eq!(world.take_media(watchers[0]).len(), 1);
    let peer = world.clients[watchers[0]].peer;
    world
        .plane
        .handle_command(Command::RemovePeer { peer }, world.now);
    world.flush();
    assert_eq!(world.take_media(watchers[1]).len(), 1);
}
