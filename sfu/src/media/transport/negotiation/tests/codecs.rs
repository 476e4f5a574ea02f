//! Codecs, their parameters, feedback and header extensions.

use super::*;

const BOTH: [Codec; 2] = [Codec::Vp8, Codec::Opus];

fn types(answered: &Answered, mid: &str) -> Vec<u8> {
    let section = sections(&answered.sdp).into_iter().find(|s| s.mid == mid);
    let codecs = section.expect("the section").codecs;
    codecs.iter().map(|c| c.payload_type).collect()
}

#[test]
fn only_enabled_codecs_and_their_rtx_are_answered_with_the_tables_feedback() {
    let mut world = world();
    let answered = world.offer(CHROMIUM_JOIN);
    assert_eq!(types(&answered, "0"), [111, 63]);
    assert_eq!(types(&answered, "3"), [96, 97]);
    let video = &sections(&answered.sdp)[3];
    assert_eq!(
        video.codecs[0].feedback,
        ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"]
    );
    let audio = &sections(&answered.sdp)[0];
    assert!(
        audio.codecs[0].feedback.is_empty(),
        "Chromium offers audio no nack"
    );
    let uris: Vec<_> = audio.extensions.iter().map(|e| e.uri.as_str()).collect();
    assert_eq!(
        uris,
        [
            "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            "urn:ietf:params:rtp-hdrext:sdes:mid"
        ]
    );
}

#[test]
fn audio_nack_is_answered_when_offered() {
    let mut world = world();
    world.subscribe(1, Codec::Opus).expect("taken on");
    let answered = world.offer(&offer(&[("0", "audio", "recvonly rtcp-fb:111_nack")]));
    assert!(answered.sending[0].feedback.nack);
}

#[test]
fn red_comes_first_only_if_wanted_and_made_of_opus() {
    let red = |red: bool, sdp: &str| {
        let mut world = world();
        let mut microphone = spec(MediaKind::Audio, MICROPHONE);
        microphone.red = red;
        world.publish(1, microphone);
        types(&world.offer(sdp), "7")
    };
    assert_eq!(red(true, CHROMIUM_MICROPHONE), [63, 111]);
    assert_eq!(red(false, CHROMIUM_MICROPHONE), [111, 63]);
    let foreign = CHROMIUM_MICROPHONE.replace("a=fmtp:63 111/111", "a=fmtp:63 111/9");
    assert_eq!(red(true, &foreign), [111]);
}

#[test]
fn red_is_dropped_where_it_is_not_enabled() {
    let mut world = world_with(&BOTH, false);
    world.subscribe(1, Codec::Red).expect("Opus will do");
    let answered = world.offer(CHROMIUM_JOIN);
    assert_eq!(types(&answered, "0"), [111]);
    assert_eq!(answered.sending[0].red_payload_type, None);
}

#[test]
fn one_codec_per_section_keeps_the_preferred_one() {
    let mut world = world_with(&[Codec::Vp8, Codec::Opus, Codec::Red], true);
    let mut microphone = spec(MediaKind::Audio, MICROPHONE);
    microphone.red = true;
    world.publish(1, microphone);
    let answered = world.offer(CHROMIUM_MICROPHONE);
    assert_eq!(
        types(&answered, "7"),
        [63, 111],
        "RED cannot do without Opus"
    );
    assert_eq!(types(&answered, "0"), [111, 63], "it only receives there");
}

#[test]
fn one_codec_of_redundant_sound_is_opus_whatever_is_offered_before_it() {
    let mut world = world_with(&Codec::ALL, true);
    let mut microphone = spec(MediaKind::Audio, MICROPHONE);
    microphone.red = true;
    world.publish(1, microphone);
    let law_first = CHROMIUM_MICROPHONE.replace("SAVPF 111 63 9 0 8", "SAVPF 0 8 111 63 9");
    assert_eq!(types(&world.offer(&law_first), "7"), [63, 111]);
}

#[test]
fn opus_parameters_follow_the_announced_track() {
    let fmtp = |dtx: bool, stereo: bool, offered: &str| {
        let mut world = world();
        let mut microphone = spec(MediaKind::Audio, "mic");
        (microphone.dtx, microphone.stereo) = (dtx, stereo);
        world.publish(1, microphone);
        let sdp = offer(&[("0", "audio", "sendonly msid:-_mic")]).replace("minptime=10", offered);
        let answered = world.offer(&sdp);
        sections(&answered.sdp)[0].codecs[0]
            .fmtp
            .clone()
            .unwrap_or_default()
    };
    assert_eq!(fmtp(true, false, "minptime=10"), "minptime=10;usedtx=1");
    assert_eq!(
        fmtp(true, false, "usedtx=1;minptime=10"),
        "minptime=10;usedtx=1"
    );
    assert_eq!(
        fmtp(false, false, "minptime=10;usedtx=1;stereo=1"),
        "minptime=10"
    );
    assert_eq!(
        fmtp(true, true, "minptime=10;stereo=1"),
        "minptime=10;usedtx=1;stereo=1;maxaveragebitrate=510000"
    );
}

#[test]
fn a_stereo_track_is_sent_as_such() {
    let mut world = world();
    let mono = |index| Forwarding {
        track: remote_track(index),
        codec: Codec::Opus,
        h264: None,
        stereo: false,
        label: StreamLabel {
            stream_id: "s".to_owned(),
            track_id: "t".to_owned(),
        },
        ssrc: index,
        rtx_ssrc: None,
    };
    let stereo = Forwarding {
        stereo: true,
        ..mono(1)
    };
    let now = world.now;
    world.negotiation.subscribe(stereo, now).expect("taken on");
    world.negotiation.subscribe(mono(2), now).expect("taken on");
    let answered = world.offer(CHROMIUM_JOIN);
    let fmtp = |index: usize| sections(&answered.sdp)[index].codecs[0].fmtp.clone();
    assert_eq!(
        fmtp(0).as_deref(),
        Some("minptime=10;useinbandfec=1;sprop-stereo=1")
    );
    assert_eq!(fmtp(1).as_deref(), Some("minptime=10;useinbandfec=1"));
}

#[test]
fn a_section_with_no_codec_in_common_is_refused() {
    let mut world = world();
    world.publish(1, spec(MediaKind::Video, "cam"));
    let answered = world.offer(&offer(&[
        ("0", "h264", "sendonly msid:-_cam"),
        ("1", "audio", "recvonly"),
    ]));
    // Nobody switched H264 on.
    assert!(sections(&answered.sdp)[0].rejected);
    assert!(answered.receiving.is_empty());
    assert!(answered.sdp.contains("m=video 0 UDP/TLS/RTP/SAVPF 0\r\n"));
    assert!(answered.sdp.contains("a=group:BUNDLE 1\r\n"));
}

#[test]
fn a_track_no_section_has_a_codec_for_is_refused() {
    let h264 = offer(&[("0", "h264", "recvonly"), ("1", "audio", "recvonly")]);
    let mut world = world();
    world.subscribe(1, Codec::Vp8).expect("not known yet");
    let answered = world.offer(&h264);
    assert_eq!(answered.refused, [remote_track(1)]);
    assert_eq!(
        world.subscribe(2, Codec::Vp8),
        Err(TrackError::NoCommonCodec)
    );
    assert_eq!(world.subscribe(3, Codec::Opus), Ok(()));
    let mut deaf = world_with(&[Codec::Vp8], false);
    assert_eq!(
        deaf.subscribe(1, Codec::Red),
        Err(TrackError::NoCommonCodec)
    );
}

#[test]
fn rtx_is_only_announced_to_who_takes_it() {
    let mut world = world();
    world.subscribe(1, Codec::Vp8).expect("taken on");
    let sdp = offer(&[("0", "video", "recvonly")]).replace("a=fmtp:97 apt=96\r\n", "");
    let answered = world.offer(&sdp);
    assert_eq!(answered.sending[0].rtx_ssrc, None);
    assert!(!answered.sdp.contains("ssrc-group"));
}

#[test]
fn rids_of_a_known_family_rank_by_it_and_others_by_place() {
    let layers = |rids: [&str; 3]| {
        let lines = format!(
            "sendonly rid:{0}_send rid:{1}_send rid:{2}_send simulcast:send_{0};{1};{2}",
            rids[0], rids[1], rids[2],
        );
        let answered = world().offer(&offer(&[("0", "video", lines.as_str())]));
        let layers = answered.receiving[0].layers.clone();
        layers
            .into_iter()
            .map(|layer| layer.rid)
            .collect::<Vec<_>>()
    };
    assert_eq!(layers(["f", "h", "q"]), ["q", "h", "f"]);
    assert_eq!(layers(["0", "1", "2"]), ["2", "1", "0"]);
    assert_eq!(layers(["z", "q", "a"]), ["z", "q", "a"]);
}

/// Everything switched on, as by default.
fn full_world() -> World {
    world_with(&Codec::ALL, false)
}

/// Payload types of the H264 section of a hand-made offer, `(type, parameters)` each.
fn chosen(formats: &[(u8, &str)]) -> Vec<u8> {
    types(
        &full_world().offer(&h264_offer("sendonly msid:-_cam", formats)),
        "0",
    )
}

fn h264_offer(lines: &str, formats: &[(u8, &str)]) -> String {
    let list: Vec<String> = formats.iter().map(|(own, _)| own.to_string()).collect();
    let mut maps = String::new();
    for (own, fmtp) in formats {
        maps += &format!("a=rtpmap:{own} H264/90000\r\n");
        if !fmtp.is_empty() {
            maps += &format!("a=fmtp:{own} {fmtp}\r\n");
        }
    }
    offer(&[("0", "h264", lines)])
        .replace("SAVPF 102", &format!("SAVPF {}", list.join(" ")))
        .replace("a=rtpmap:102 H264/90000\r\n", &maps)
}

#[test]
fn of_recorded_offers_constrained_baseline_is_answered_behind_vp8() {
    for (sdp, mid, expected) in [
        (CHROMIUM_JOIN, "3", [96, 97, 108, 109, 114, 115].as_slice()),
        (RUST_JOIN, "3", &[96, 97, 109, 114, 115, 116]),
        (FIREFOX_JOIN, "3", &[120, 124]),
    ] {
        let answered = full_world().offer(sdp);
        assert_eq!(types(&answered, mid), expected);
    }
    let answered = full_world().offer(CHROMIUM_JOIN);
    assert_eq!(types(&answered, "0"), [111, 0, 8, 63]);
    let h264 = &sections(&answered.sdp)[3].codecs[2];
    assert_eq!(
        h264.fmtp.as_deref(),
        Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
    );
}

#[test]
fn the_announced_codec_comes_first_and_without_one_the_clients_order_stands() {
    let first = |codec: Option<Codec>, sdp: &str, mid: &str| {
        let mut world = full_world();
        let mut camera = spec(MediaKind::Video, CAMERA);
        camera.codec = codec;
        world.publish(1, camera);
        types(&world.offer(sdp), mid)[0]
    };
    let sending = CHROMIUM_FOURTH_VIDEO;
    let mid = sections(sending)
        .into_iter()
        .find(|section| section.streams.track_id.as_deref() == Some(CAMERA))
        .map(|section| section.mid);
    let mid = mid.unwrap_or_else(|| "3".to_owned());
    assert_eq!(first(Some(Codec::Vp8), sending, &mid), 96);
    assert_eq!(first(Some(Codec::H264), sending, &mid), 108);
    assert_eq!(first(None, sending, &mid), 96);
}

#[test]
fn what_more_receivers_decode_comes_first_and_unusable_formats_are_left_out() {
    let (constrained, high) = (
        "packetization-mode=1;profile-level-id=42c00b",
        "packetization-mode=1;profile-level-id=640032",
    );
    assert_eq!(chosen(&[(98, high), (99, constrained)]), [99, 98]);
    assert_eq!(
        chosen(&[(98, "profile-level-id=640032"), (99, constrained)]),
        [99]
    );
    let unusable = [(98, "packetization-mode=2"), (99, "profile-level-id=junk")];
    let refused = full_world().try_offer(&h264_offer("sendonly msid:-_cam", &unusable));
    let refused = refused.map_err(|error| error.to_string());
    assert!(types(&refused.expect("answered"), "0").is_empty());
    // Baseline stands in where its constrained form is not offered.
    assert_eq!(
        chosen(&[
            (98, ""),
            (99, "packetization-mode=1;profile-level-id=42001f")
        ]),
        [98, 99]
    );
    assert_eq!(chosen(&[(98, ""), (99, constrained)]), [99]);
}

#[test]
fn an_answer_repeats_only_what_both_must_agree_on() {
    let fmtp = "sprop-parameter-sets=Z0LAC9k=,aM4=; packetization-mode=1;max-fs=99;profile-level-id=42c00b";
    let answered = full_world().offer(&h264_offer("sendonly msid:-_cam", &[(98, fmtp)]));
    let answered = sections(&answered.sdp)[0].codecs[0].fmtp.clone();
    assert_eq!(
        answered.as_deref(),
        Some("packetization-mode=1;profile-level-id=42c00b")
    );
}

#[test]
fn a_track_of_h264_finds_the_nearest_format_or_none() {
    let sent_as = |stream: &str| {
        let mut world = full_world();
        let now = world.now;
        let forwarding = Forwarding {
            track: remote_track(1),
            codec: Codec::H264,
            h264: h264::Parameters::parse(Some(stream)),
            stereo: false,
            label: StreamLabel {
                stream_id: "s".to_owned(),
                track_id: "t".to_owned(),
            },
            ssrc: 5,
            rtx_ssrc: Some(6),
        };
        world
            .negotiation
            .subscribe(forwarding, now)
            .expect("not known yet");
        let answered = world.offer(CHROMIUM_JOIN);
        let sending = answered.sending.first();
        (
            sending.map(|one| (one.payload_type, one.rtx_payload_type)),
            answered.refused.len(),
        )
    };
    let constrained = "packetization-mode=1;profile-level-id=42e034";
    assert_eq!(sent_as(constrained), (Some((108, Some(109))), 0));
    assert_eq!(
        sent_as("profile-level-id=42e01f"),
        (Some((114, Some(115))), 0)
    );
    assert_eq!(
        sent_as("packetization-mode=1;profile-level-id=42001f"),
        (Some((108, Some(109))), 0)
    );
    assert_eq!(
        sent_as("packetization-mode=1;profile-level-id=640032"),
        (None, 1)
    );
}

#[test]
fn a_section_of_one_codec_still_receives_all() {
    let mut world = world_with(&Codec::ALL, true);
    let answered = world.offer(CHROMIUM_JOIN);
    assert_eq!(types(&answered, "3"), [96, 97, 108, 109, 114, 115]);
}
