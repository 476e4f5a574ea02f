//! From a publisher to its subscribers.

use super::client::Rtp;
use super::world::{
    AUDIO_SSRC, MID, RID, World, audio, audio_without_red, message, ms, pli, receiver_report,
    sending, simulcast, video, vp8,
};
use crate::config::codecs::Codec;
use crate::media::message::{Command, Event, Wish};
use std::time::Duration;

fn started(events: &[Event]) -> usize {
    let is = |event: &&Event| matches!(event, Event::TrackStarted { .. });
    events.iter().filter(is).count()
}

#[test]
fn speech_reaches_a_subscriber_and_nobody_else() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let watcher = world.watcher(track, audio("recvonly"));
    let other = world.join(&[audio("recvonly")]);
    let events = world.take_events();
    assert!(events.iter().any(|event| matches!(event,
        Event::SubscriptionBound { peer, track: of } if *peer == world.clients[watcher].peer && *of == track)));
    for at in 1..=5 {
        world.speak(publisher, at);
    }
    let media = world.take_media(watcher);
    assert_eq!(media.len(), 5);
    assert!(media.iter().all(|packet| packet.payload == b"speech"));
    assert!(media.windows(2).all(|two| two[1].seq == two[0].seq + 1
        && two[1].time == two[0].time.wrapping_add(960)
        && two[0].ssrc == two[1].ssrc));
    assert!(world.clients[other].media.is_empty());
    assert!(world.clients[publisher].media.is_empty());
}

#[test]
fn red_passes_to_who_negotiated_it_and_its_newest_block_to_the_others() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let with = world.watcher(track, audio("recvonly"));
    let without = world.watcher(track, audio_without_red("recvonly"));
    world.say(publisher, 1, 63, &[111, b'r', b'e', b'd']);
    world.speak(publisher, 2);
    let types = |world: &mut World, who| -> Vec<u8> {
        let media = world.take_media(who);
        media.iter().map(|packet| packet.payload_type).collect()
    };
    assert_eq!(types(&mut world, with), [63, 111]);
    assert_eq!(types(&mut world, without), [111, 111]);
}

#[test]
fn media_that_is_of_no_use_to_its_track_is_counted_by_why() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    world.say(publisher, 1, 99, b"of no type");
    let muted = true;
    world.command(Command::MuteTrack { track, muted });
    for at in 2..4 {
        world.speak(publisher, at);
    }
    let media = world.plane.counters().dropped.media;
    assert_eq!((media.payload_type, media.muted), (1, 2));
    // Also of who leaves in the midst of it.
    world.remove(publisher);
    let others = (media.repeated, media.late, media.malformed, media.limit);
    assert_eq!(others, (0, 0, 0, 0));
    assert_eq!(world.plane.counters().dropped.media, media);
}

#[test]
fn media_before_its_track_is_announced_is_counted_and_starts_the_track_later() {
    let mut world = World::new();
    let who = world.join(&[sending(&audio("sendonly"), "mic")]);
    for at in 0..3 {
        world.speak(who, at);
    }
    assert_eq!(world.plane.counters().dropped.unknown_stream, 3);
    world.announce(who, 0, Codec::Opus, "mic");
    assert_eq!(started(&world.take_events()), 0);
    world.speak(who, 3);
    world.speak(who, 4);
    assert_eq!(started(&world.take_events()), 1);
}

#[test]
fn a_track_announced_before_its_offer_starts_with_its_media() {
    let mut world = World::new();
    let who = world.add();
    world.announce(who, 0, Codec::Opus, "mic");
    world.clients[who]
        .sections
        .push(("0".into(), sending(&audio("sendonly"), "mic")));
    world.offer(who);
    world.check(who, true);
    world.shake(who);
    world.speak(who, 0);
    assert_eq!(started(&world.take_events()), 1);
}

#[test]
fn a_track_announced_twice_starts_once() {
    let mut world = World::new();
    let (who, _) = world.speaker();
    world.announce(who, 0, Codec::Opus, "mic");
    world.speak(who, 1);
    assert_eq!(started(&world.take_events()), 1);
    assert_eq!(world.plane.population().tracks, 1);
}

#[test]
fn a_subscriber_of_its_own_track_gets_it() {
    let mut world = World::new();
    let who = world.join(&[sending(&audio("sendonly"), "mic"), audio("recvonly")]);
    let track = world.announce(who, 0, Codec::Opus, "mic");
    world.speak(who, 0);
    world.subscribe(who, track);
    world.offer(who);
    world.speak(who, 1);
    assert_eq!(world.take_media(who).len(), 1);
    world.remove(who);
    world.assert_empty();
}

#[test]
fn a_late_joiner_costs_one_key_frame_request_however_many_join() {
    let mut world = World::new();
    let (publisher, track) = world.camera();
    for frame in 1..60 {
        world.film(publisher, frame, frame == 1);
        world.advance(ms(33));
    }
    world.take_control(publisher, 206, Some(1));
    let watchers: Vec<usize> = (0..12)
        .map(|_| world.watcher(track, video("recvonly")))
        .collect();
    for frame in 60..63 {
        world.film(publisher, frame, false);
        world.advance(ms(33));
    }
    let asked = world.take_control(publisher, 206, Some(1));
    assert!((1..=2).contains(&asked.len()), "{} requests", asked.len());
    world.film(publisher, 63, true);
    for who in watchers {
        let media = world.take_media(who);
        assert_eq!(media.len(), 1, "only the key frame");
        assert_eq!(media[0].payload.last(), Some(&0x5A));
    }
}

#[test]
fn an_unproven_stream_asks_again_until_a_report_names_it() {
    let mut world = World::new();
    let (publisher, track) = world.camera();
    let who = world.watcher(track, video("recvonly"));
    world.film(publisher, 1, true);
    let ssrc = world.take_media(who)[0].ssrc;
    world.take_control(publisher, 206, None);
    for frame in 2..20 {
        world.film(publisher, frame, false);
        world.advance(ms(100));
    }
    assert!(!world.take_control(publisher, 206, Some(1)).is_empty());
    world.film(publisher, 20, true);
    let report = receiver_report(ssrc, 1);
    world.feedback(who, &report);
    world.take_control(publisher, 206, None);
    for frame in 21..50 {
        world.film(publisher, frame, false);
        world.advance(ms(100));
    }
    assert!(world.take_control(publisher, 206, Some(1)).is_empty());
    let fir = message(206, 4, 0, &[ssrc.to_be_bytes(), [1, 0, 0, 0]].concat());
    world.feedback(who, &fir);
    world.feedback(who, &pli(ssrc));
    world.advance(ms(50));
    assert_eq!(world.take_control(publisher, 206, Some(1)).len(), 1);
    let feedback = world.plane.counters().feedback;
    assert_eq!((feedback.firs_in, feedback.plis_in), (1, 1));
}

/// One frame of each layer; mid and rid only when `named`.
fn layers(world: &mut World, who: usize, frame: u32, key_frame: bool, named: bool) {
    for (at, rid) in [b"q", b"h", b"f"].into_iter().enumerate() {
        let payload = vp8(frame as u16, key_frame, 100 + at);
        let extensions: &[(u8, &[u8])] = &[(MID, b"0"), (RID, rid)];
        let packet = world.clients[who].rtp(&Rtp {
            ssrc: 0x5000 + at as u32,
            payload_type: 96,
            time: frame * 3000,
            marker: true,
            extensions: if named { extensions } else { &[] },
            payload: &payload,
        });
        world.send(who, vec![packet]);
    }
}

#[test]
fn layers_follow_the_wish_at_key_frames_and_outlive_the_loss_of_their_names() {
    let mut world = World::new();
    let publisher = world.join(&[simulcast("cam")]);
    let track = world.announce(publisher, 0, Codec::Vp8, "cam");
    layers(&mut world, publisher, 0, true, true);
    let who = world.watcher(track, video("recvonly"));
    let mut sizes = Vec::new();
    let mut numbers = Vec::new();
    for frame in 1..200 {
        let spatial = if (60..120).contains(&frame) { 0 } else { 2 };
        let wish = Wish {
            spatial,
            ..Wish::ALL
        };
        world.wish(who, track, wish);
        layers(
            &mut world,
            publisher,
            frame,
            frame.is_multiple_of(20),
            frame < 10,
        );
        world.check(publisher, true);
        world.check(who, true);
        world.advance(ms(33));
        for packet in world
            .take_media(who)
            .iter()
            .filter(|one| !one.payload.is_empty())
        {
            sizes.push((frame, packet.payload.len()));
            numbers.push((packet.seq, packet.payload[2..4].to_vec()));
        }
    }
    let at = |frame: u32| {
        sizes
            .iter()
            .filter(move |one| one.0 == frame)
            .map(|one| one.1)
    };
    assert_eq!(at(50).collect::<Vec<_>>(), [102]);
    assert_eq!(at(59).collect::<Vec<_>>(), [102]);
    assert_eq!(at(90).collect::<Vec<_>>(), [100]);
    assert_eq!(at(199).collect::<Vec<_>>(), [102]);
    for two in numbers.windows(2) {
        assert_eq!(two[1].0, two[0].0.wrapping_add(1), "no gap at a switch");
        let picture = |bytes: &[u8]| u16::from_be_bytes([bytes[0] & 0x7F, bytes[1]]);
        assert_eq!(
            picture(&two[1].1),
            picture(&two[0].1).wrapping_add(1) & 0x7FFF
        );
    }
}

#[test]
fn a_muted_or_unwanted_track_is_not_forwarded() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    world.speak(publisher, 1);
    world.command(Command::MuteTrack { track, muted: true });
    world.speak(publisher, 2);
    world.command(Command::MuteTrack {
        track,
        muted: false,
    });
    world.speak(publisher, 3);
    world.wish(
        who,
        track,
        Wish {
            enabled: false,
            ..Wish::ALL
        },
    );
    world.speak(publisher, 4);
    world.wish(who, track, Wish::ALL);
    world.speak(publisher, 5);
    let media = world.take_media(who);
    assert_eq!(media.len(), 3);
    assert!(media.windows(2).all(|two| two[1].seq == two[0].seq + 1));
}

#[test]
fn a_batch_larger_than_the_arena_reaches_every_subscriber_once() {
    let mut world = World::new();
    let (publisher, track) = world.camera();
    let watchers: Vec<usize> = (0..12)
        .map(|_| world.watcher(track, video("recvonly")))
        .collect();
    world.film(publisher, 1, true);
    for &who in &watchers {
        world.take_media(who);
    }
    let path = world.clients[publisher].path;
    for frame in 2..62 {
        let payload = vp8(frame as u16, false, 1000);
        let mut packet = world.clients[publisher].rtp(&Rtp {
            ssrc: super::world::VIDEO_SSRC,
            payload_type: 96,
            time: frame * 3000,
            marker: true,
            payload: &payload,
            ..Rtp::default()
        });
        world.plane.handle_datagram(path, &mut packet, world.now);
    }
    world.flush();
    for who in watchers {
        let media = world.take_media(who);
        assert_eq!(media.len(), 60);
        assert!(
            media
                .windows(2)
                .all(|two| two[1].seq == two[0].seq.wrapping_add(1))
        );
    }
}

#[test]
fn reports_come_soon_and_name_their_streams() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.watcher(track, audio("recvonly"));
    for at in 1..100_u16 {
        let number = at.to_be_bytes();
        let packet = world.clients[publisher].rtp(&Rtp {
            ssrc: AUDIO_SSRC,
            payload_type: 111,
            time: u32::from(at) * 960,
            extensions: &[(super::world::TRANSPORT_CC, &number)],
            payload: b"speech",
            ..Rtp::default()
        });
        world.send(publisher, vec![packet]);
        if at == 10 {
            // SR: NTP 5 s, RTP of this packet.
            let mut report = vec![0x80, 200, 0, 6];
            report.extend(AUDIO_SSRC.to_be_bytes());
            report.extend((5_u64 << 32).to_be_bytes());
            report.extend((u32::from(at) * 960).to_be_bytes());
            report.extend([0; 8]);
            world.feedback(publisher, &report);
        }
        world.advance(ms(20));
    }
    let ssrc = world.clients[who].media[0].ssrc;
    let control = world.clients[who].control.clone();
    let reports = world.take_control(who, 200, None);
    assert!(!reports.is_empty());
    assert!(
        reports
            .iter()
            .all(|report| report[4..8] == ssrc.to_be_bytes())
    );
    let with_name = |one: &&Vec<u8>| one.windows(7).any(|part| part == b"PA_a|TR");
    assert_eq!(control.iter().filter(with_name).count(), reports.len());
    let receiver = world.take_control(publisher, 201, None);
    assert!((1..=3).contains(&receiver.len()), "every second");
    assert_eq!(receiver[0][8..12], AUDIO_SSRC.to_be_bytes());
}

#[test]
fn a_quiet_call_needs_few_passes() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let (camera, film) = world.camera();
    let who = world.watcher(track, audio("recvonly"));
    world.clients[who]
        .sections
        .push(("1".into(), video("recvonly")));
    world.subscribe(who, film);
    world.offer(who);
    world.speak(publisher, 1);
    world.film(camera, 1, true);
    let ssrc = world.take_media(who)[1].ssrc;
    world.feedback(who, &receiver_report(ssrc, 1));
    world.wish(
        who,
        film,
        Wish {
            enabled: false,
            ..Wish::ALL
        },
    );
    world.command(Command::MuteTrack { track, muted: true });
    world.passes = 0;
    world.live(Duration::from_secs(10));
    assert!(world.passes < 300, "{} passes", world.passes);
}

#[test]
fn transport_wide_feedback_comes_every_fifty_milliseconds() {
    let mut world = World::new();
    let (publisher, _) = world.camera();
    for at in 1..100_u16 {
        let number = at.to_be_bytes();
        let packet = world.clients[publisher].rtp(&Rtp {
            ssrc: super::world::VIDEO_SSRC,
            payload_type: 96,
            time: u32::from(at) * 1800,
            extensions: &[(super::world::TRANSPORT_CC, &number)],
            payload: &vp8(at, false, 100),
            ..Rtp::default()
        });
        world.send(publisher, vec![packet]);
        world.advance(ms(20));
    }
    let count = world.take_control(publisher, 205, Some(15)).len();
    assert!(
        (30..=45).contains(&count),
        "{count} feedback packets in 2 s"
    );
    assert_eq!(world.plane.counters().feedback.twcc_out, count as u64);
}

#[test]
fn a_single_late_joiner_does_not_wait_for_its_key_frame_request() {
    for seed in 0..6 {
        let mut world = World::new();
        let (publisher, track) = world.camera();
        // Each peer draws from the same chance: the phase of the last differs.
        for _ in 0..seed {
            world.add();
        }
        for frame in 1..60 {
            world.film(publisher, frame, frame == 1);
            world.advance(ms(33));
        }
        world.take_control(publisher, 206, Some(1));
        world.watcher(track, video("recvonly"));
        for frame in 70..76 {
            world.film(publisher, frame, false);
            world.advance(ms(33));
        }
        let asked = world.take_control(publisher, 206, Some(1)).len();
        assert_eq!(asked, 1, "after 200 ms, seed {seed}");
    }
}

#[test]
fn sound_that_comes_all_at_once_goes_on_whole_if_what_is_full_is_sent_first() {
    for size in [100, 640] {
        let mut world = World::new();
        let (publisher, track) = world.speaker();
        let who = world.watcher(track, audio("recvonly"));
        let path = world.clients[publisher].path;
        let payload = vec![7; size];
        let packets: Vec<_> = (1..=200_u32)
            .map(|at| {
                world.clients[publisher].rtp(&Rtp {
                    ssrc: AUDIO_SSRC,
                    payload_type: 111,
                    time: at * 960,
                    extensions: &[(MID, b"0")],
                    payload: &payload,
                    ..Rtp::default()
                })
            })
            .collect();
        let mut sent = 0;
        for mut packet in packets {
            world.plane.handle_datagram(path, &mut packet, world.now);
            if world.plane.is_full() {
                world.flush();
                sent += 1;
            }
        }
        world.flush();
        assert_eq!(world.take_media(who).len(), 200, "{size} bytes");
        assert!((2..=30).contains(&sent), "{sent} times");
        assert!(!world.plane.is_full());
    }
}
