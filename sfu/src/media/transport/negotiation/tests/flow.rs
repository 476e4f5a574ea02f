//! Whole calls, with offers as browsers made them.

use super::*;
use crate::media::message::NegotiatedLayer;

fn mids(answered: &Answered) -> Vec<(&str, u32)> {
    answered
        .mids
        .iter()
        .map(|(mid, track)| (mid.as_str(), track.index))
        .collect()
}

/// Chromium joins a room with one video in it.
fn joins(world: &mut World) {
    world.subscribe(1, Codec::Vp8).expect("taken on");
    assert_eq!(world.needed(), None, "the first offer comes unasked");

    let joined = world.offer(CHROMIUM_JOIN);
    assert_eq!(mids(&joined), [("3", 1)]);
    assert!(joined.receiving.is_empty());
    assert!(
        joined
            .sdp
            .contains("m=application 9 UDP/DTLS/SCTP webrtc-datachannel")
    );
    assert!(
        joined
            .sdp
            .contains("a=msid:PA_other|TR_1 TR_1\r\na=sendonly")
    );
    assert_eq!(
        joined.sdp.matches("a=msid:").count(),
        1,
        "spare sections have no msid"
    );
    assert_eq!(world.needed(), None);
}

/// … and turns on its microphone.
fn speaks(world: &mut World) {
    let mut microphone = spec(MediaKind::Audio, MICROPHONE);
    (microphone.dtx, microphone.red) = (true, true);
    assert_eq!(world.publish(1, microphone), None);
    let answered = world.offer(CHROMIUM_MICROPHONE);
    let [receiving] = answered.receiving.as_slice() else {
        panic!("one section sends");
    };
    assert_eq!(receiving.mid, "7");
    assert_eq!(receiving.track, Some(own_track(1)));
    assert_eq!(receiving.codecs, [(63, Codec::Red), (111, Codec::Opus)]);
    assert_eq!(receiving.extensions.audio_level, Some(1));
    assert!(
        answered
            .sdp
            .contains("a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1")
    );
}

#[test]
fn a_chromium_call_from_joining_to_a_restart() {
    let mut world = world();
    joins(&mut world);
    speaks(&mut world);

    for index in 2..5 {
        world.subscribe(index, Codec::Vp8).expect("taken on");
    }
    assert_eq!(world.needed(), Some((0, 1)), "four videos, three sections");
    let answered = world.offer(CHROMIUM_FOURTH_VIDEO);
    assert_eq!(mids(&answered), [("3", 1), ("4", 2), ("5", 3), ("9", 4)]);
    assert_eq!(world.needed(), None);

    // The camera of that offer was announced late.
    let camera = world
        .publish(2, spec(MediaKind::Video, CAMERA))
        .expect("its section waits");
    let layer = |spatial, rid: &str| NegotiatedLayer {
        spatial,
        rid: rid.to_owned(),
    };
    assert_eq!(camera.layers, [layer(0, "q"), layer(1, "h"), layer(2, "f")]);
    assert_eq!(
        (camera.mid.as_str(), camera.rtx.as_slice()),
        ("8", &[(97, 96)][..])
    );
    assert!(
        answered
            .sdp
            .contains("a=rid:f recv\r\na=simulcast:recv q;h;f\r\na=recvonly")
    );

    // The microphone goes inactive and the camera's section is stopped …
    let answered = world.offer(CHROMIUM_STOPPED);
    assert!(!answered.remote.ice_restart);
    assert_eq!(answered.ended, [own_track(1), own_track(2)]);
    assert!(answered.receiving.is_empty());
    // … and comes back, during a restart, as one to receive in.
    world.subscribe(5, Codec::Vp8).expect("taken on");
    let answered = world.offer(CHROMIUM_RESTART);
    assert!(answered.remote.ice_restart);
    assert_eq!(
        mids(&answered),
        [("3", 1), ("4", 2), ("5", 3), ("10", 5), ("9", 4)]
    );
}

#[test]
fn firefox_regenerates_track_ids_and_is_matched_by_kind() {
    let mut world = world_with(&[Codec::Vp8, Codec::Opus], true);
    let joined = world.offer(FIREFOX_JOIN);
    let open = sections(&joined.sdp);
    assert!(
        open.iter().all(|s| !s.rejected),
        "bundle-only sections are not stopped"
    );
    let mut world = world_with(&[Codec::Vp8, Codec::Opus], true);
    world.publish(1, spec(MediaKind::Video, "unknown-camera"));
    world.publish(2, spec(MediaKind::Audio, "unknown-microphone"));
    let answered = world.offer(FIREFOX_CAMERA);
    let tracks: Vec<_> = answered
        .receiving
        .iter()
        .map(|r| r.track.map(|t| t.index))
        .collect();
    assert_eq!(tracks, [Some(2), Some(1)]);
    let camera = &answered.receiving[1];
    assert_eq!(
        (camera.codecs.as_slice(), camera.rtx.as_slice()),
        (&[(120, Codec::Vp8)][..], &[(124, 120)][..])
    );
    assert_eq!((camera.ssrcs.all.len(), camera.ssrcs.fid.len()), (6, 3));
    assert_eq!(
        answered.receiving[0].codecs,
        [(109, Codec::Opus)],
        "the offer's payload type"
    );
}

#[test]
fn the_rust_sdk_is_answered() {
    let mut world = world();
    world.subscribe(1, Codec::Red).expect("taken on");
    world.subscribe(2, Codec::Vp8).expect("taken on");
    let answered = world.offer(RUST_JOIN);
    assert_eq!(mids(&answered), [("0", 1), ("3", 2)]);
    let audio = &answered.sending[0];
    assert_eq!(
        (audio.payload_type, audio.red_payload_type),
        (111, Some(63))
    );
    assert_eq!((audio.rtx_ssrc, audio.rtx_payload_type), (None, None));
    let video = &answered.sending[1];
    assert_eq!((video.payload_type, video.rtx_payload_type), (96, Some(97)));
    let fid = format!("a=ssrc-group:FID {} {}\r\n", video.ssrc, video.ssrc + 1);
    assert!(answered.sdp.contains(&fid));
}

#[test]
fn a_removed_track_leaves_its_section_inactive_once_and_then_free() {
    let mut world = world();
    let join = offer(&[("0", "video", "recvonly")]);
    world.subscribe(1, Codec::Vp8).expect("taken on");
    world.offer(&join);
    world.unsubscribe(1);
    world.subscribe(2, Codec::Vp8).expect("taken on");
    assert_eq!(
        world.needed(),
        Some((0, 0)),
        "the section will do: nothing to add"
    );
    let answered = world.offer(&join);
    assert_eq!(directions(&answered), [Direction::Inactive]);
    assert!(answered.mids.is_empty() && !answered.sdp.contains("a=msid:"));
    assert_eq!(world.needed(), Some((0, 0)), "the next one still waits");
    let answered = world.offer(&join);
    assert_eq!(directions(&answered), [Direction::SendOnly]);
    assert_eq!(mids(&answered), [("0", 2)]);
    assert_eq!(world.needed(), None);
}

#[test]
fn twenty_publishers_coming_and_going_do_not_grow_the_offer() {
    let mut world = world();
    let names: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    let mut count = 2;
    let client = |count: usize| -> String {
        let lines = names
            .iter()
            .take(count)
            .map(|mid| (mid.as_str(), "video", "recvonly"));
        offer(&lines.collect::<Vec<_>>())
    };
    world.offer(&client(count));
    let mut present = Vec::new();
    for index in 0..20 {
        world.subscribe(index, Codec::Vp8).expect("taken on");
        present.push(index);
        if present.len() > 3 {
            world.unsubscribe(present.remove(0));
        }
        while let Some((audio, video)) = world.needed() {
            assert_eq!(audio, 0);
            count += video as usize;
            world.offer(&client(count));
        }
        let sent: Vec<u32> = world
            .negotiation
            .mids()
            .iter()
            .map(|(_, t)| t.index)
            .collect();
        assert!(
            present.iter().all(|index| sent.contains(index)),
            "{sent:?} {present:?}"
        );
    }
    assert!(
        count <= 4,
        "three at a time need no more than four sections, not {count}"
    );
}
