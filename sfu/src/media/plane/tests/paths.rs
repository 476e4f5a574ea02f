//! Addresses that change, restarts, silence.

use super::client::Client;
use super::world::{AUDIO_SSRC, World, audio, ms, receiver_report, video};
use crate::ids::PeerId;
use crate::media::demux::Carrier;
use crate::media::message::{Command, Event, PeerFailure};
use crate::media::transport::candidates::Candidate;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

fn kinds(events: &[Event]) -> Vec<&'static str> {
    let kind = |event: &Event| match event {
        Event::Connected { .. } => Some("connected"),
        Event::PathChanged { .. } => Some("moved"),
        Event::Disconnected { .. } => Some("disconnected"),
        Event::Failed { reason, .. } if *reason == PeerFailure::ConsentExpired => Some("failed"),
        _ => None,
    };
    events.iter().filter_map(kind).collect()
}

#[test]
fn silence_is_told_after_ten_seconds_and_ends_after_fifteen() {
    let mut world = World::new();
    let who = world.join(&[audio("recvonly")]);
    world.take_events();
    world.advance(ms(9_900));
    assert!(kinds(&world.take_events()).is_empty());
    world.advance(ms(200));
    assert_eq!(kinds(&world.take_events()), ["disconnected"]);
    world.check(who, true);
    assert_eq!(kinds(&world.take_events()), ["connected"]);
    world.advance(ms(15_100));
    assert_eq!(kinds(&world.take_events()), ["disconnected", "failed"]);
    world.check(who, true);
    assert_eq!(kinds(&world.take_events()), ["connected"]);
}

#[test]
fn media_follows_an_authentic_packet_to_a_new_address() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    world.take_events();
    world.clients[who].path.remote.set_port(50_000);
    world.check(who, false);
    world.feedback(who, &receiver_report(1, 1));
    assert_eq!(kinds(&world.take_events()), ["moved"]);
    world.speak(publisher, 1);
    assert_eq!(world.take_media(who).len(), 1);
}

#[test]
fn who_moves_after_a_silence_gets_a_key_frame_and_who_moves_at_once_what_he_misses() {
    let mut world = World::new();
    let (publisher, track) = world.camera();
    let who = world.watcher(track, video("recvonly"));
    world.film(publisher, 1, true);
    let ssrc = world.take_media(who)[0].ssrc;
    for (port, silence, asked) in [(50_000, 300, 0), (50_001, 1000, 1)] {
        world.feedback(who, &receiver_report(ssrc, 1));
        world.advance(ms(2000));
        world.feedback(who, &receiver_report(ssrc, 1));
        world.take_control(publisher, 206, Some(1));
        world.clients[who].path.remote.set_port(port);
        world.advance(ms(silence));
        world.feedback(who, &receiver_report(ssrc, 1));
        world.advance(ms(20));
        let asks = world.take_control(publisher, 206, Some(1));
        assert_eq!(asks.len(), asked, "after {silence} ms");
    }
    // Nor is anything sent again of what a connection that is gone should have carried.
    let gone = world.clients[who].path;
    world.film(publisher, 2, true);
    world.plane.handle_path_lost(gone, world.now);
    world.advance(ms(3000));
    assert!(world.take_control(publisher, 206, Some(1)).is_empty());
    world.clients[who].path.remote.set_port(50_002);
    world.feedback(who, &receiver_report(ssrc, 1));
    world.advance(ms(20));
    assert_eq!(world.take_control(publisher, 206, Some(1)).len(), 1);
}

#[test]
fn a_connection_that_is_gone_is_sent_nothing_and_the_next_one_is() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    world.take_events();
    world.clients[who].path.carrier = Carrier::Tcp(1);
    world.check(who, true);
    world.feedback(who, &receiver_report(1, 1));
    assert_eq!(kinds(&world.take_events()), ["moved"]);
    let gone = world.clients[who].path;
    // Both are paths of his; only the connection goes.
    let home = crate::media::demux::Path {
        carrier: Carrier::Udp(0),
        ..gone
    };
    world.plane.handle_path_lost(gone, world.now);
    assert!(!world.plane.knows(&gone) && world.plane.knows(&home));
    world.clients[who].path = home;
    world.speak(publisher, 1);
    assert_eq!(world.take_media(who).len(), 1);
    assert_eq!(kinds(&world.take_events()), ["moved"]);
    world.plane.handle_path_lost(home, world.now);
    assert_eq!(world.plane.counters().dropped.no_path, 0);
    world.speak(publisher, 1);
    assert_eq!(world.take_media(who).len(), 0);
    assert_eq!(world.plane.counters().dropped.no_path, 1);
    world.clients[who].path.carrier = Carrier::Tcp(2);
    world.check(who, true);
    assert_eq!(kinds(&world.take_events()), ["moved"]);
    world.speak(publisher, 1);
    assert_eq!(world.take_media(who).len(), 1);
}

#[test]
fn what_a_subscriber_between_two_paths_misses_is_counted_and_nothing_else_is() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let missed = |world: &World| world.plane.counters().dropped.no_path;
    // Who never had a path has nothing to miss.
    let late = world.add();
    world.offer(late);
    world.subscribe(late, track);
    let who = world.watcher(track, audio("recvonly"));
    world.speak(publisher, 3);
    assert_eq!(world.take_media(who).len(), 1);
    assert_eq!(missed(&world), 0);
    let home = world.clients[who].path;
    world.plane.handle_path_lost(home, world.now);
    for time in 4..7 {
        world.speak(publisher, time);
    }
    assert_eq!(missed(&world), 3);
    // A track that is muted is missed by nobody.
    let muted = true;
    world.command(Command::MuteTrack { track, muted });
    world.speak(publisher, 7);
    assert_eq!(missed(&world), 3);
    // What a publisher would be told is counted as well.
    let own = world.clients[publisher].path;
    world.plane.handle_path_lost(own, world.now);
    world.advance(Duration::from_secs(6));
    assert!(missed(&world) > 3);
}

#[test]
fn a_relay_that_has_ended_is_sent_nothing_whatever_address_of_ours_it_came_to() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    world.take_events();
    let home = world.clients[who].path;
    world.clients[who].path.carrier = Carrier::Relay {
        slot: 1,
        generation: 1,
    };
    world.clients[who].path.local = "192.0.2.1".parse().ok();
    world.check(who, true);
    world.feedback(who, &receiver_report(1, 1));
    assert_eq!(kinds(&world.take_events()), ["moved"]);
    let ended = crate::media::demux::Path {
        local: None,
        ..world.clients[who].path
    };
    world.plane.handle_path_lost(ended, world.now);
    world.clients[who].path = home;
    world.speak(publisher, 1);
    assert_eq!(world.take_media(who).len(), 1);
    assert_eq!(kinds(&world.take_events()), ["moved"]);
}

#[test]
fn what_others_send_in_a_clients_name_moves_nothing() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    world.take_events();
    let home = world.clients[who].path;
    world.clients[who].path.remote.set_port(50_000);
    let ufrag = world.clients[who]
        .answer
        .lines()
        .find_map(|line| line.strip_prefix("a=ice-ufrag:"));
    let forged =
        world.clients[who].check_as((ufrag.expect("ufrag"), "not the password it is"), true);
    world.send(who, vec![forged]);
    let packet = world.clients[publisher].rtp(&super::client::Rtp {
        ssrc: AUDIO_SSRC,
        payload_type: 111,
        payload: b"forged",
        ..Default::default()
    });
    let before = world.plane.counters().dropped;
    // Authentic, yet of the publisher, from an address nobody knows; then in the watcher's name.
    world.send(who, vec![packet.clone()]);
    world.clients[who].path = home;
    world.send(who, vec![packet]);
    let dropped = world.plane.counters().dropped;
    assert_eq!(dropped.unknown_address, before.unknown_address + 1);
    assert_eq!(dropped.srtp_auth, before.srtp_auth + 1);
    assert!(kinds(&world.take_events()).is_empty());
    world.speak(publisher, 2);
    assert_eq!(world.take_media(who).len(), 1);
}

#[test]
fn a_restart_keeps_media_on_the_old_path_until_the_new_one_is_used() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    let before = world.clients[who].answer.clone();
    world.clients[who].ufrag = "restarted".into();
    world.offer(who);
    assert_ne!(world.clients[who].answer, before);
    world.take_events();
    world.speak(publisher, 1);
    assert_eq!(world.take_media(who).len(), 1);
    let old = world.clients[who].path;
    world.clients[who].path.remote.set_port(50_000);
    world.check(who, true);
    world.feedback(who, &receiver_report(1, 1));
    world.speak(publisher, 2);
    assert_eq!(world.take_media(who).len(), 1);
    assert_eq!(kinds(&world.take_events()), ["moved"]);
    assert_ne!(world.clients[who].path, old);
}

#[test]
fn refused_offers_that_restart_leave_the_credentials_in_force() {
    let mut world = World::new();
    let who = world.join(&[audio("recvonly"), audio("recvonly")]);
    let sections = world.clients[who].sections.clone();
    let ufrag = world.clients[who].ufrag.clone();
    for attempt in 0..3 {
        world.clients[who].ufrag = format!("restart{attempt}");
        world.clients[who].sections.truncate(1);
        world.offer(who);
    }
    let refused = |event: &&Event| matches!(event, Event::OfferRefused { .. });
    assert_eq!(world.take_events().iter().filter(refused).count(), 3);
    world.clients[who].sections = sections;
    world.clients[who].ufrag = ufrag;
    world.live(Duration::from_secs(20));
    assert!(kinds(&world.take_events()).is_empty());
}

#[test]
fn media_flows_by_ipv6() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let client = Client::at(7, IpAddr::V6(Ipv6Addr::LOCALHOST), world.now);
    let who = world.add_client(client);
    world.clients[who]
        .sections
        .push(("0".into(), audio("recvonly")));
    world.offer(who);
    world.check(who, true);
    world.shake(who);
    world.subscribe(who, track);
    world.offer(who);
    world.speak(publisher, 1);
    assert_eq!(world.take_media(who).len(), 1);
    let events = world.take_events();
    assert!(events.iter().any(|event| matches!(event,
        Event::Connected { path, .. } if path.local.is_ipv6() && path.remote.is_ipv6())));
}

#[test]
fn our_own_absence_is_not_the_silence_of_clients() {
    let mut world = World::new();
    let (_publisher, _track) = world.speaker();
    world.take_events();
    let failed = |events: &[Event]| {
        events
            .iter()
            .any(|event| matches!(event, Event::Failed { .. }))
    };
    world.plane.handle_wake(world.now);
    // The machine was suspended for a minute.
    world.now += ms(60_000);
    assert_eq!(world.plane.handle_wake(world.now), Some(ms(60_000)));
    world.advance(ms(0));
    assert!(!failed(&world.take_events()), "nobody could be heard");
    // Passes as they usually come excuse nobody: who stays silent is lost in time.
    for _ in 0..32 {
        assert_eq!(world.plane.handle_wake(world.now), None);
        world.advance(ms(500));
    }
    assert!(failed(&world.take_events()), "fifteen seconds of silence");
}

#[test]
fn a_new_address_is_told_at_once_to_whom_the_old_one_was_told_in_vain() {
    let mut world = World::new();
    let connected = world.join(&[audio("recvonly")]);
    let waiting = world.add();
    let section = ("0".to_owned(), audio("recvonly"));
    world.clients[waiting].sections.push(section);
    world.offer(waiting);
    world.take_events();
    assert_eq!(
        told_of_a_new_address(&mut world),
        [world.clients[waiting].peer]
    );
    assert_ne!(world.clients[connected].peer, world.clients[waiting].peer);
}

/// Who is told when we have another address.
fn told_of_a_new_address(world: &mut World) -> Vec<PeerId> {
    world.take_events();
    let at = "192.0.2.9:7882".parse().expect("an address");
    world.plane.handle_advertised(vec![Candidate::udp(at)]);
    world.flush();
    let events = world.take_events();
    let told = events.iter().filter_map(|event| match event {
        Event::Candidates {
            peer, candidates, ..
        } => Some((*peer, candidates.len())),
        _ => None,
    });
    told.inspect(|(_, count)| assert_eq!(*count, 1))
        .map(|(peer, _)| peer)
        .collect()
}

#[test]
fn whoever_restarts_is_told_of_a_new_address_until_he_has_a_path() {
    let mut world = World::new();
    let who = world.join(&[audio("recvonly")]);
    let told = |world: &mut World| told_of_a_new_address(world).len();
    assert_eq!(told(&mut world), 0);
    for leaves in [false, true] {
        let peer = world.clients[who].peer;
        world.command(Command::LeavePath { peer, leaves });
        world.clients[who].ufrag = format!("restarted{leaves}");
        world.offer(who);
        assert_eq!(told(&mut world), 1, "nothing has come since");
        world.clients[who].path.remote.set_port(50_000);
        world.check(who, true);
        world.feedback(who, &receiver_report(1, 1));
        assert_eq!(told(&mut world), 0, "he is back");
    }
}

#[test]
fn whoever_has_fallen_silent_is_told_of_a_new_address() {
    let mut world = World::new();
    let who = world.join(&[audio("recvonly")]);
    world.advance(ms(10_100));
    assert_eq!(told_of_a_new_address(&mut world).len(), 1);
    world.advance(ms(5_000));
    assert_eq!(told_of_a_new_address(&mut world).len(), 1);
    world.check(who, true);
    assert!(told_of_a_new_address(&mut world).is_empty());
}

#[test]
fn what_is_subscribed_to_while_there_is_no_path_is_bound_when_there_is_one() {
    let mut world = World::new();
    let (_, track) = world.speaker();
    let who = world.join(&[audio("recvonly")]);
    let path = world.clients[who].path;
    world.plane.handle_path_lost(path, world.now);
    world.subscribe(who, track);
    world.offer(who);
    let bound = |event: &Event| matches!(event, Event::SubscriptionBound { .. });
    assert!(!world.take_events().iter().any(bound));
    world.clients[who].path.remote.set_port(4);
    world.check(who, true);
    assert!(world.take_events().iter().any(bound));
}
