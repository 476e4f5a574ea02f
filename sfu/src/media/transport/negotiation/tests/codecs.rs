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
    assert_eq!(types(&answered, "0"), [111]);
    assert_eq!(types(&answered, "3"), [96, 97]);
    assert_eq!(
        types(&answered, "7"),
        [63, 111],
        "RED cannot do without Opus"
    );
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
