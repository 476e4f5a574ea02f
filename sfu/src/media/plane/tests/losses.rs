//! Much of what goes by UDP is lost for long, one way or the other.

use super::client::Rtp;
use super::world::{AUDIO_SSRC, World, audio, ms, receiver_report};
use crate::media::demux::Carrier;
use crate::media::message::{Event, Side};

/// Packets a second.
const RATE: u32 = 50;

/// Who lost much, as told.
fn told(world: &mut World) -> Vec<(u8, Side)> {
    let told = world
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            Event::HeavyLoss { peer, side, .. } => Some((peer.slot as u8, side)),
            _ => None,
        });
    told.collect()
}

/// A report on this copy, of which so many were lost.
fn losing(media: u32, highest: u32, lost: u32) -> Vec<u8> {
    let mut report = receiver_report(media, highest);
    report[13..16].copy_from_slice(&lost.to_be_bytes()[1..]);
    report
}

/// One speaks and one listens for some seconds. Of each second so many packets do not reach us, and so
/// many, in the listener's numbering, do not reach him; who is said to lose much.
fn call(carrier: Carrier, seconds: u32, (up, down): (u32, u32)) -> Vec<(u8, Side)> {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    for client in [publisher, who] {
        world.clients[client].path.carrier = carrier;
        world.check(client, true);
        world.feedback(client, &receiver_report(AUDIO_SSRC, 1));
    }
    world.speak(publisher, 1);
    let first = world.take_media(who)[0].clone();
    for second in 0..seconds {
        for at in 1..=RATE {
            // The last of a second comes, so that the others are missed.
            let packet = world.clients[publisher].rtp(&Rtp {
                ssrc: AUDIO_SSRC,
                payload_type: 111,
                time: (1 + second * RATE + at) * 960,
                payload: b"speech",
                ..Rtp::default()
            });
            if at > up {
                world.send(publisher, vec![packet]);
            }
            world.advance(ms(20));
        }
        let highest = u32::from(first.seq) + (second + 1) * RATE;
        world.feedback(who, &losing(first.ssrc, highest, (second + 1) * down));
    }
    told(&mut world)
}

#[test]
fn a_listener_who_loses_much_is_told_of_and_so_is_a_speaker_each_by_his_own_losses() {
    let udp = Carrier::Udp(0);
    assert_eq!(call(udp, 23, (0, 20)), [(1, Side::Publisher)]);
    // What did not reach us reaches nobody: that is the speaker's trouble.
    assert_eq!(call(udp, 23, (20, 20)), [(0, Side::Publisher)]);
    assert_eq!(call(udp, 18, (20, 20)), []);
    assert_eq!(call(udp, 60, (10, 10)), []);
    assert_eq!(call(udp, 60, (0, 0)), []);
    assert_eq!(call(Carrier::Tcp(1), 60, (0, 20)), []);
}
