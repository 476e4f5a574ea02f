//! Losses on both sides.

use super::client::Rtp;
use super::world::{RTX_SSRC, VIDEO_SSRC, World, audio, ms, nack, receiver_report, video, vp8};

/// Numbers a NACK asks for (RFC 4585 §6.2.1).
fn asked(nack: &[u8]) -> Vec<u16> {
    let pairs = nack[12..].chunks(4);
    pairs
        .flat_map(|pair| {
            let first = u16::from_be_bytes([pair[0], pair[1]]);
            let more = u16::from_be_bytes([pair[2], pair[3]]);
            let rest = (0..16).filter(move |bit| (more >> bit) & 1 == 1);
            std::iter::once(first).chain(rest.map(move |bit| first + bit + 1))
        })
        .collect()
}

#[test]
fn a_lost_packet_is_asked_for_by_timer_and_its_retransmission_forwarded_once() {
    let mut world = World::new();
    let (publisher, track) = world.camera();
    let who = world.watcher(track, video("recvonly"));
    world.film(publisher, 1, true);
    let lost = 1002;
    world.clients[publisher].lose(VIDEO_SSRC, 1);
    world.film(publisher, 3, false);
    world.take_media(who);
    world.take_control(publisher, 205, None);
    world.advance(ms(19));
    assert!(world.take_control(publisher, 205, Some(1)).is_empty());
    world.advance(ms(10));
    let nacks = world.take_control(publisher, 205, Some(1));
    assert_eq!(nacks.len(), 1);
    assert_eq!(nacks[0][8..12], VIDEO_SSRC.to_be_bytes());
    assert_eq!(asked(&nacks[0]), [lost]);
    let mut payload = lost.to_be_bytes().to_vec();
    payload.extend(vp8(2, false, 100));
    for _ in 0..2 {
        let packet = world.clients[publisher].rtp(&Rtp {
            ssrc: RTX_SSRC,
            payload_type: 97,
            time: 6000,
            payload: &payload,
            ..Rtp::default()
        });
        world.send(publisher, vec![packet]);
    }
    assert_eq!(world.take_media(who).len(), 1);
    assert_eq!(world.plane.counters().traffic.retransmitted_in, 2);
    assert_eq!(world.plane.counters().dropped.media.repeated, 1);
    world.advance(ms(500));
    assert!(world.take_control(publisher, 205, Some(1)).is_empty());
}

#[test]
fn a_subscriber_gets_a_lost_packet_again_by_rtx_with_its_number_and_not_a_hundred_times() {
    let mut world = World::new();
    let (publisher, track) = world.camera();
    let who = world.watcher(track, video("recvonly"));
    world.film(publisher, 1, true);
    world.film(publisher, 2, false);
    let media = world.take_media(who);
    let lost = &media[1];
    for _ in 0..100 {
        world.feedback(who, &nack(lost.ssrc, lost.seq));
        world.advance(ms(30));
    }
    let again = world.take_media(who);
    assert!((1..20).contains(&again.len()), "{} resends", again.len());
    assert_ne!(again[0].ssrc, lost.ssrc);
    assert_eq!(again[0].payload_type, 97);
    assert_eq!(again[0].payload[..2], lost.seq.to_be_bytes());
    assert_eq!(again[0].payload[2..], lost.payload);
}

#[test]
fn audio_sent_again_is_the_same_bytes() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    world.speak(publisher, 1);
    world.speak(publisher, 2);
    let media = world.take_media(who);
    world.advance(ms(200));
    world.feedback(who, &nack(media[0].ssrc, media[0].seq));
    let again = world.take_media(who);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].sealed, media[0].sealed);
}

#[test]
fn feedback_on_streams_of_others_does_nothing() {
    let mut world = World::new();
    let (publisher, track) = world.camera();
    let who = world.watcher(track, video("recvonly"));
    let other = world.join(&[video("recvonly")]);
    world.film(publisher, 1, true);
    let ssrc = world.take_media(who)[0].ssrc;
    world.feedback(who, &receiver_report(ssrc, 1));
    world.advance(ms(3000));
    world.take_control(publisher, 206, None);
    world.feedback(other, &super::world::pli(ssrc ^ 1));
    world.feedback(other, &nack(ssrc ^ 1, 7));
    world.advance(ms(100));
    assert!(world.take_media(who).is_empty() && world.take_media(other).is_empty());
    assert!(world.take_control(publisher, 206, None).is_empty());
}
