//! H264 in its forms, G.711, and publishers that change from one codec to another.

use super::client::{Received, Rtp};
use super::world::{
    AUDIO_SSRC, MID, RID, VIDEO_SSRC, World, audio, audio_without_red, in_three_layers, ms, nack,
    sending, video, video_of_two_codecs, vp8,
};
use crate::config::codecs::Codec;
use crate::ids::TrackKey;
use crate::media::message::{Command, Event, Wish};
use crate::rtp::h264;
use std::time::Duration;

/// Constrained baseline in mode 1.
const H264: u8 = 108;

/// A frame of H264, its pictures as if encrypted: parameter sets in one packet, the picture in two
/// pieces, or a delta in one. Each ends in the number of its layer.
fn frame(number: u32, layer: u8, key_frame: bool) -> Vec<Vec<u8>> {
    let noise = |front: &[u8]| {
        let mut payload = front.to_vec();
        payload.extend((0..60_u32).map(|at| (number.wrapping_mul(197) ^ (at * 31)) as u8));
        payload.push(layer);
        payload
    };
    if !key_frame {
        return vec![noise(&[0x41, 0x9A, 0x21])];
    }
    vec![
        vec![0x78, 0, 4, 0x67, 0x42, 0xC0, 0x1F, 0, 2, 0x68, 0xCE, layer],
        noise(&[0x7C, 0x85, 0x88]),
        noise(&[0x7C, 0x45]),
    ]
}

struct Camera {
    who: usize,
    track: TrackKey,
    payload_type: u8,
}

impl Camera {
    /// A camera of one layer that begins with this payload type.
    fn new(world: &mut World, section: &str, payload_type: u8) -> Self {
        let section = sending(section, "cam") + &format!("a=ssrc:{VIDEO_SSRC} cname:a\r\n");
        let who = world.join(&[section]);
        let track = world.announce(who, 0, Codec::H264, "cam");
        let camera = Self {
            who,
            track,
            payload_type,
        };
        camera.film(world, 0, true);
        camera
    }

    fn film(&self, world: &mut World, number: u32, key_frame: bool) {
        let payloads = match self.payload_type {
            96 => vec![vp8(number as u16, key_frame, 100)],
            _ => frame(number, 0, key_frame),
        };
        self.send(world, VIDEO_SSRC, number, &[], payloads);
    }

    fn send(
        &self,
        world: &mut World,
        ssrc: u32,
        number: u32,
        extensions: &[(u8, &[u8])],
        payloads: Vec<Vec<u8>>,
    ) {
        let last = payloads.len() - 1;
        for (at, payload) in payloads.iter().enumerate() {
            let packet = world.clients[self.who].rtp(&Rtp {
                ssrc,
                payload_type: self.payload_type,
                time: number * 3000,
                marker: at == last,
                extensions,
                payload,
            });
            world.send(self.who, vec![packet]);
        }
    }
}

fn contiguous(media: &[Received]) -> bool {
    media
        .windows(2)
        .all(|two| two[1].seq == two[0].seq.wrapping_add(1))
}

fn refused(world: &mut World) -> usize {
    let events = world.take_events();
    let is = |event: &&Event| matches!(event, Event::SubscriptionRefused { .. });
    events.iter().filter(is).count()
}

#[test]
fn encrypted_h264_layers_change_only_where_parameter_sets_begin() {
    let mut world = World::new();
    let who = world.join(&[in_three_layers(&video_of_two_codecs("sendonly"), "cam")]);
    let track = world.announce(who, 0, Codec::H264, "cam");
    let camera = Camera {
        who,
        track,
        payload_type: H264,
    };
    let shoot = |world: &mut World, number: u32, key_frame| {
        for (layer, rid) in [b"q", b"h", b"f"].into_iter().enumerate() {
            let names: &[(u8, &[u8])] = &[(MID, b"0"), (RID, rid)];
            let payloads = frame(number, layer as u8, key_frame);
            camera.send(world, 0x5000 + layer as u32, number, names, payloads);
        }
    };
    shoot(&mut world, 0, true);
    let watcher = world.watcher(track, video_of_two_codecs("recvonly"));
    for number in 1..200 {
        let spatial = [2, 0, 1, 2][number as usize / 50];
        let wish = Wish {
            spatial,
            ..Wish::ALL
        };
        world.wish(watcher, track, wish);
        shoot(&mut world, number, number % 20 == 0);
        world.check(who, true);
        world.check(watcher, true);
        world.advance(ms(33));
    }
    let media = world.take_media(watcher);
    let media: Vec<_> = media
        .into_iter()
        .filter(|one| one.payload_type == H264)
        .collect();
    assert!(contiguous(&media));
    assert!(h264::starts_key_frame(&media[0].payload));
    let layer = |packet: &Received| *packet.payload.last().expect("a layer");
    let mut seen = vec![layer(&media[0])];
    for two in media.windows(2) {
        assert!(two[1].time.wrapping_sub(two[0].time) < 90_000, "never back");
        if layer(&two[1]) != layer(&two[0]) {
            assert!(h264::starts_key_frame(&two[1].payload));
            assert_ne!(two[1].time, two[0].time);
            seen.push(layer(&two[1]));
        }
    }
    assert_eq!(seen, [2, 0, 1, 2]);
    let sent = |payload: &Vec<u8>| {
        (0..200).any(|n| {
            let frames = [
                frame(n, payload[payload.len() - 1], true),
                frame(n, payload[payload.len() - 1], false),
            ];
            frames.concat().contains(payload)
        })
    };
    assert!(
        media.iter().all(|packet| sent(&packet.payload)),
        "untouched"
    );
}

#[test]
fn a_late_joiner_of_h264_begins_with_parameter_sets_it_asked_for() {
    let mut world = World::new();
    let camera = Camera::new(&mut world, &video_of_two_codecs("sendonly"), H264);
    for number in 1..60 {
        camera.film(&mut world, number, false);
        world.advance(ms(33));
    }
    world.take_control(camera.who, 206, Some(1));
    let who = world.watcher(camera.track, video_of_two_codecs("recvonly"));
    camera.film(&mut world, 60, false);
    world.advance(ms(33));
    assert!(!world.take_control(camera.who, 206, Some(1)).is_empty());
    assert!(world.take_media(who).is_empty());
    camera.film(&mut world, 61, true);
    camera.film(&mut world, 62, false);
    let media = world.take_media(who);
    assert_eq!(media.len(), 4);
    assert!(h264::starts_key_frame(&media[0].payload) && contiguous(&media));
    // Sent again by its own RTX type, not VP8's.
    world.advance(ms(200));
    world.feedback(who, &nack(media[3].ssrc, media[3].seq));
    let again = world.take_media(who);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].payload_type, 109);
    assert_eq!(again[0].payload[2..], media[3].payload);
}

#[test]
fn h264_goes_to_those_whose_decoder_takes_it() {
    let with = |fmtp: &str| {
        format!(
            "m=video 9 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 {fmtp}\r\na=rtcp-fb:102 nack\r\na=recvonly\r\n"
        )
    };
    let (split, single, high) = (
        with("packetization-mode=1;profile-level-id=42e034"),
        with("profile-level-id=42c00b"),
        with("packetization-mode=1;profile-level-id=64001f"),
    );
    for (sent, takes) in [
        (H264, [true, false, true]),
        (125, [true; 3]),
        (123, [false, false, true]),
    ] {
        for (section, taken) in [&split, &single, &high].into_iter().zip(takes) {
            let mut world = World::new();
            let camera = Camera::new(&mut world, &video_of_two_codecs("sendonly"), sent);
            let who = world.watcher(camera.track, section.clone());
            camera.film(&mut world, 1, true);
            let media = world.take_media(who);
            assert_eq!(media.len() == 3, taken, "{sent} to {section}");
            assert!(media.iter().all(|packet| packet.payload_type == 102));
            assert_eq!(refused(&mut world), usize::from(!taken));
        }
    }
    let mut world = World::new();
    let camera = Camera::new(&mut world, &video_of_two_codecs("sendonly"), H264);
    world.watcher(camera.track, video("recvonly"));
    assert_eq!(refused(&mut world), 1, "VP8 alone does not do");
}

#[test]
fn a_publisher_that_changes_its_codec_goes_on_at_a_key_frame() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world, &video_of_two_codecs("sendonly"), 96);
    let who = world.watcher(camera.track, video_of_two_codecs("recvonly"));
    let deaf = world.watcher(camera.track, video("recvonly"));
    for number in 1..5 {
        camera.film(&mut world, number, number == 1);
        world.advance(ms(33));
    }
    camera.payload_type = H264;
    world.take_control(camera.who, 206, Some(1));
    for number in 5..40 {
        // Its first frames are lost: what comes is no place to begin.
        camera.film(&mut world, number, number == 30);
        world.advance(ms(33));
    }
    let asked = world.take_control(camera.who, 206, Some(1)).len();
    assert!((1..4).contains(&asked), "{asked} requests");
    let media = world.take_media(who);
    let own: Vec<u8> = media.iter().map(|packet| packet.payload_type).collect();
    assert_eq!(own[..4], [96; 4]);
    assert!(own[4..].iter().all(|own| *own == H264) && own.len() == 4 + 3 + 9);
    assert!(h264::starts_key_frame(&media[4].payload) && contiguous(&media));
    let step = media[4].time.wrapping_sub(media[3].time);
    assert_eq!(step, 26 * 3000, "its clock goes on");
    assert_eq!(world.take_media(deaf).len(), 4, "nothing it cannot decode");
    // Back: everybody goes on.
    camera.payload_type = 96;
    for number in 40..43 {
        camera.film(&mut world, number, number == 41);
        world.advance(ms(33));
    }
    for who in [who, deaf] {
        let media = world.take_media(who);
        let pictures: Vec<u8> = media.iter().map(|packet| packet.payload[4] & 1).collect();
        assert_eq!(pictures, [0, 1], "from the key frame on");
        assert!(contiguous(&media));
    }
}

#[test]
fn a_codec_a_subscriber_has_not_is_not_asked_for_again_and_again() {
    let mut world = World::new();
    let mut camera = Camera::new(&mut world, &video_of_two_codecs("sendonly"), 96);
    let deaf = world.watcher(camera.track, video("recvonly"));
    camera.film(&mut world, 1, true);
    camera.payload_type = H264;
    camera.film(&mut world, 2, true);
    world.take_control(camera.who, 206, Some(1));
    for number in 3..60 {
        camera.film(&mut world, number, false);
        world.check(camera.who, true);
        world.check(deaf, true);
        world.advance(ms(100));
    }
    assert!(world.take_control(camera.who, 206, Some(1)).is_empty());
    assert_eq!(world.take_media(deaf).len(), 1);
}

#[test]
fn g711_passes_at_its_own_clock_and_its_loudness_counts() {
    const LEVEL: &str = "a=extmap:6 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n";
    for (payload_type, codec) in [(0, Codec::Pcmu), (8, Codec::Pcma)] {
        // Static types need no `rtpmap`.
        let section = audio("sendonly").replacen("111 63", "111 63 0 8", 1) + LEVEL;
        let mut world = World::new();
        let who = world.join(&[sending(&section, "mic")]);
        let track = world.announce(who, 0, codec, "mic");
        let say = |world: &mut World, at: u32| {
            let packet = world.clients[who].rtp(&Rtp {
                ssrc: AUDIO_SSRC,
                payload_type,
                time: at * 160,
                extensions: &[(MID, b"0"), (6, &[0x80 | 20])],
                payload: &[0xD5; 160],
                ..Rtp::default()
            });
            world.send(who, vec![packet]);
        };
        say(&mut world, 0);
        let watcher = world.watcher(track, section.replace("sendonly", "recvonly"));
        world.watcher(track, audio("recvonly"));
        assert_eq!(refused(&mut world), 1, "Opus alone does not do");
        world.events.clear();
        for at in 1..100 {
            say(&mut world, at);
            world.advance(ms(20));
        }
        let media = world.take_media(watcher);
        assert_eq!(media.len(), 99);
        assert!(contiguous(&media));
        assert!(
            media
                .iter()
                .all(|packet| packet.payload_type == payload_type)
        );
        let time = |packet: &Received| packet.time;
        assert!(
            media
                .windows(2)
                .all(|two| time(&two[1]).wrapping_sub(time(&two[0])) == 160)
        );
        let loud = |event: &Event| matches!(event, Event::Level { active: true, .. });
        assert!(world.take_events().iter().any(loud), "a speaker");
        // A mute of two seconds: the clock stood still, the copy's does not.
        world.command(Command::MuteTrack { track, muted: true });
        world.live(Duration::from_secs(2));
        world.command(Command::MuteTrack {
            track,
            muted: false,
        });
        say(&mut world, 100);
        let back = &world.take_media(watcher)[0];
        let apart = back.time.wrapping_sub(media[98].time);
        assert!((15_800..16_300).contains(&apart), "{apart} ticks");
        assert_eq!(back.seq, media[98].seq.wrapping_add(1));
    }
}

#[test]
fn encrypted_red_is_not_taken_apart_for_those_without_it() {
    let mut world = World::new();
    let who = world.join(&[sending(&audio("sendonly"), "mic")]);
    let track = world.announce_encrypted(who, 0, Codec::Opus, "mic");
    world.speak(who, 0);
    let with = world.watcher(track, audio("recvonly"));
    let without = world.watcher(track, audio_without_red("recvonly"));
    // By chance its first byte looks like the header of a lone block.
    world.say(who, 1, 63, &[111, 7, 7, 7]);
    world.speak(who, 2);
    assert_eq!(world.take_media(with).len(), 2);
    let media = world.take_media(without);
    assert_eq!(media.len(), 1, "no half of a sealed frame");
    assert_eq!(media[0].payload, b"speech");
}

#[test]
fn of_lost_and_resent_red_everybody_gets_a_whole_sequence() {
    let mut world = World::new();
    let (who, track) = world.speaker();
    let with = world.watcher(track, audio("recvonly"));
    let without = world.watcher(track, audio_without_red("recvonly"));
    let red = |at: u8| vec![0x80 | 111, 0x0F, 0, 2, 111, at - 1, at - 1, at, at, at];
    for at in 1..20_u8 {
        if at % 5 == 0 {
            world.clients[who].lose(AUDIO_SSRC, 1);
        } else {
            world.say(who, at.into(), 63, &red(at));
        }
    }
    let whole = world.take_media(with);
    let newest = world.take_media(without);
    assert_eq!((whole.len(), newest.len()), (16, 16));
    for (whole, newest) in whole.iter().zip(&newest) {
        assert_eq!((whole.payload_type, newest.payload_type), (63, 111));
        assert_eq!(whole.payload[7..], newest.payload);
    }
    let holes = newest.windows(2).filter(|two| two[1].seq != two[0].seq + 1);
    assert_eq!(holes.count(), 3, "what was lost can be asked for");
    // What is resent to either is what was sent.
    world.advance(ms(200));
    world.feedback(without, &nack(newest[2].ssrc, newest[2].seq));
    let again = world.take_media(without);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].sealed, newest[2].sealed);
}

#[test]
fn a_trailer_is_kept_for_who_reads_it_and_cut_for_the_others_again_when_resent() {
    let mut world = World::new();
    let camera = Camera::new(&mut world, &video_of_two_codecs("sendonly"), H264);
    let plain = world.watcher(camera.track, video_of_two_codecs("recvonly"));
    let without_rtx = video("recvonly")
        .replace("97 apt=96", "97 apt=95")
        .replace("VP8/90000", "H264/90000")
        .replace(
            "a=rtcp-fb:96 nack\r\n",
            "a=rtcp-fb:96 nack\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n",
        );
    let in_place = world.watcher(camera.track, without_rtx);
    world.reads_trailers = true;
    let reads = world.watcher(camera.track, video_of_two_codecs("recvonly"));
    camera.film(&mut world, 1, true);
    // Nine bytes at the end of a sealed picture, and by chance inside a frame.
    let [mut first, mut last] = [frame(2, 0, false).concat(), frame(3, 0, false).concat()];
    let body = last.clone();
    for payload in [&mut first, &mut last] {
        payload.extend([1, 2, 3, 4, 9 ^ 0xFF]);
        payload.extend(b"LKTS");
    }
    camera.send(
        &mut world,
        VIDEO_SSRC,
        2,
        &[],
        vec![first.clone(), last.clone()],
    );
    let payloads = |world: &mut World, who| -> Vec<Vec<u8>> {
        let media = world.take_media(who);
        media[media.len() - 2..]
            .iter()
            .map(|one| one.payload.clone())
            .collect()
    };
    let seen = [plain, in_place].map(|who| world.clients[who].media[4].clone());
    assert_eq!(payloads(&mut world, reads), [first.clone(), last]);
    assert_eq!(payloads(&mut world, plain), [first.clone(), body.clone()]);
    assert_eq!(payloads(&mut world, in_place), [first, body.clone()]);
    world.advance(ms(200));
    for (who, seen) in [plain, in_place].into_iter().zip(&seen) {
        world.feedback(who, &nack(seen.ssrc, seen.seq));
    }
    assert_eq!(world.take_media(plain)[0].payload[2..], body);
    let again = world.take_media(in_place);
    assert_eq!(again[0].sealed, seen[1].sealed, "the very same packet");
}
