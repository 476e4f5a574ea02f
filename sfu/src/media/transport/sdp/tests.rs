use super::*;
use crate::config::codecs::Codec;
use crate::ids::MediaKind;
use crate::media::message::StreamLabel;
use proptest::prelude::*;

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

fn local() -> Local {
    Local {
        ufrag: "ufragufrag".to_owned(),
        pwd: "passwordpasswordpassword".to_owned(),
        fingerprint: "sha-256 AA:BB".to_owned(),
        candidates: vec!["candidate:1 1 udp 1 192.0.2.1 7882 typ host".to_owned()],
        session_id: 9,
    }
}

fn one_section(lines: &str) -> Section {
    let text = format!("{HEAD}m=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\na=mid:a\r\n{lines}");
    RemoteDescription::parse(&text)
        .expect("parses")
        .sections
        .remove(0)
}

#[test]
fn an_offer_over_the_limit_is_not_even_read() {
    let text = " ".repeat(MAX_BYTES + 1);
    assert_eq!(RemoteDescription::parse(&text), Err(ParseError::TooLong));
}

#[test]
fn more_sections_than_the_limit_are_refused() {
    let section = |n| format!("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:{n}\r\n");
    let sections = |count: usize| (0..count).map(section).collect::<String>();
    let fits = format!("{HEAD}{}", sections(MAX_SECTIONS));
    assert_eq!(
        RemoteDescription::parse(&fits).map(|o| o.sections.len()),
        Ok(MAX_SECTIONS)
    );
    let over = format!("{HEAD}{}", sections(MAX_SECTIONS + 1));
    assert_eq!(
        RemoteDescription::parse(&over),
        Err(ParseError::TooManySections)
    );
}

#[test]
fn sections_need_a_mid_of_their_own() {
    let section = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
    let none = format!("{HEAD}{section}");
    assert_eq!(RemoteDescription::parse(&none), Err(ParseError::BadMid(0)));
    let twice = format!("{HEAD}{section}a=mid:0\r\n{section}a=mid:0\r\n");
    assert_eq!(
        RemoteDescription::parse(&twice),
        Err(ParseError::RepeatedMid(1))
    );
    let stopped = format!("{HEAD}m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n");
    assert!(RemoteDescription::parse(&stopped).is_ok_and(|o| o.sections[0].rejected));
}

#[test]
fn a_bare_carriage_return_is_refused() {
    let text = format!("{HEAD}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\ra=x\r\n");
    assert_eq!(RemoteDescription::parse(&text), Err(ParseError::Syntax));
}

#[test]
fn port_zero_stops_a_section_unless_it_is_bundle_only() {
    let text = |extra: &str| format!("{HEAD}m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n{extra}");
    let rejected = |extra: &str| {
        RemoteDescription::parse(&text(extra))
            .expect("parses")
            .sections[0]
            .rejected
    };
    assert!(rejected(""));
    assert!(!rejected("a=bundle-only\r\n"));
}

#[test]
fn transport_of_the_session_serves_sections_without() {
    let text = format!(
        "{HEAD}a=ice-ufrag:sess\r\na=ice-pwd:spwd\r\na=fingerprint:SHA-256 aa:0b\r\na=sendonly\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=ice-ufrag:own\r\na=ice-pwd:opwd\r\n\
         a=recvonly\r\n"
    );
    let offer = RemoteDescription::parse(&text).expect("parses");
    let ufrags: Vec<_> = offer
        .sections
        .iter()
        .map(|s| s.transport.ufrag.as_deref())
        .collect();
    assert_eq!(ufrags, [Some("sess"), Some("own")]);
    assert_eq!(offer.sections[0].direction, Direction::SendOnly);
    assert_eq!(offer.sections[1].direction, Direction::RecvOnly);
    assert_eq!(offer.sections[1].transport.fingerprints, ["sha-256 AA:0B"]);
}

#[test]
fn codecs_come_in_the_order_of_the_media_line_with_all_that_is_theirs() {
    let section = one_section(
        "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:96 VP8/90000\r\n\
         a=rtcp-fb:96 nack pli\r\na=rtcp-fb:* ccm fir\r\na=rtpmap:55 H264/90000\r\n",
    );
    let types: Vec<_> = section.codecs.iter().map(|c| c.payload_type).collect();
    assert_eq!(types, [96, 97], "98 has no rtpmap, 55 is not on the line");
    assert_eq!(section.codecs[0].codec(MediaKind::Video), Some(Codec::Vp8));
    assert_eq!(section.codecs[0].codec(MediaKind::Audio), None);
    assert_eq!(section.codecs[0].feedback, ["nack pli", "ccm fir"]);
    assert_eq!(section.codecs[1].apt(), Some(96));
}

#[test]
fn extension_ids_are_kept_once_and_never_fifteen() {
    let section = one_section(
        "a=extmap:1/recvonly urn:a\r\na=extmap:1 urn:b\r\na=extmap:2 urn:a\r\na=extmap:15 urn:c\r\n\
         a=extmap:0 urn:d\r\na=extmap:256 urn:e\r\na=extmap:16 urn:f\r\n",
    );
    let ids: Vec<_> = section
        .extensions
        .iter()
        .map(|e| (e.id, e.uri.as_str()))
        .collect();
    assert_eq!(ids, [(1, "urn:a"), (16, "urn:f")]);
}

#[test]
fn rids_follow_the_simulcast_line_without_pause_marks() {
    let rids = "a=rid:f send\r\na=rid:h send\r\na=rid:q send\r\na=rid:x recv\r\n";
    let section = one_section(&format!("{rids}a=simulcast:send q;~h,f;f recv x\r\n"));
    assert_eq!(section.streams.rids, ["q", "h", "f"]);
    assert!(section.streams.simulcast);
    let section = one_section(rids);
    assert_eq!(section.streams.rids, ["f", "h", "q"]);
    assert!(!section.streams.simulcast);
}

#[test]
fn ssrcs_groups_and_their_msid_are_read() {
    let section = one_section(
        "a=ssrc-group:FID 1 2\r\na=ssrc-group:SIM 1 3\r\na=ssrc-group:FID 9\r\na=ssrc:1 cname:x\r\n\
         a=ssrc:1 msid:stream track\r\na=ssrc:2 cname:x\r\na=ssrc:junk cname:x\r\n",
    );
    let streams = &section.streams;
    assert_eq!(streams.ssrcs, [1, 2]);
    assert_eq!(
        (streams.fid.as_slice(), streams.sim.as_slice()),
        (&[(1, 2)][..], &[1, 3][..])
    );
    assert_eq!(streams.track_id.as_deref(), Some("track"));
    let section = one_section("a=msid:s line\r\na=ssrc:1 msid:s ssrc\r\n");
    assert_eq!(section.streams.track_id.as_deref(), Some("line"));
}

#[test]
fn no_password_is_shown() {
    let section = one_section("a=ice-ufrag:u\r\na=ice-pwd:hushhush\r\n");
    assert!(!format!("{section:?}").contains("hushhush"));
    assert!(!format!("{:?}", local()).contains("passwordpassword"));
}

#[test]
fn a_written_answer_has_the_shape_clients_know() {
    let answer = LocalDescription {
        role: Role::Answer,
        version: 3,
        extmap_allow_mixed: true,
        sections: vec![
            LocalSection {
                mid: "0".to_owned(),
                line: one_section("").line,
                body: Body::Rejected,
            },
            LocalSection {
                mid: "1".to_owned(),
                line: MediaLine {
                    media: "application".to_owned(),
                    proto: "UDP/DTLS/SCTP".to_owned(),
                    formats: vec!["webrtc-datachannel".to_owned()],
                },
                body: Body::Application,
            },
        ],
    };
    let expected = "v=0\r\no=- 9 3 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=msid-semantic:WMS *\r\n\
        a=fingerprint:sha-256 AA:BB\r\na=ice-lite\r\na=extmap-allow-mixed\r\na=group:BUNDLE 1\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=inactive\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n\
        a=setup:passive\r\na=ice-ufrag:ufragufrag\r\na=ice-pwd:passwordpasswordpassword\r\n\
        a=sendrecv\r\na=sctp-port:5000\r\na=max-message-size:65535\r\n\
        a=candidate:1 1 udp 1 192.0.2.1 7882 typ host\r\na=end-of-candidates\r\n";
    assert_eq!(answer.write(&local()), expected);
}

prop_compose! {
    fn any_media()(
        (sends, receives, simulcast) in any::<(bool, bool, bool)>(),
        fmtp in proptest::option::of("[a-z=;0-9]{1,20}"),
        feedback in proptest::collection::vec("[a-z]{2,6}( [a-z]{2,4})?", 0..4),
        id in 1u8..15,
        rids in proptest::sample::subsequence(vec!["q", "h", "f"], 1..=3),
        (ssrc, rtx_ssrc) in any::<(u32, Option<u32>)>(),
    ) -> LocalMedia {
        LocalMedia {
            direction: Direction::new(sends, receives),
            flags: Flags { rtcp_mux: true, rtcp_rsize: sends, extmap_allow_mixed: receives },
            codecs: vec![RtpCodec {
                payload_type: 96,
                rtpmap: "VP8/90000".to_owned(),
                fmtp,
                feedback,
            }],
            extensions: vec![Extension { id, uri: "urn:x".to_owned() }],
            rids: rids.into_iter().map(str::to_owned).collect(),
            simulcast,
            stream: sends.then(|| SentStream {
                label: StreamLabel { stream_id: "PA_x|TR_y".to_owned(), track_id: "TR_y".to_owned() },
                ssrc,
                rtx_ssrc: rtx_ssrc.filter(|rtx| *rtx != ssrc),
            }),
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in any::<String>()) {
        let _ = RemoteDescription::parse(&text);
    }

    #[test]
    fn any_attributes_are_read_without_panic(
        lines in proptest::collection::vec("a=(mid|rid|ssrc|ssrc-group|extmap|fmtp|rtpmap|rtcp-fb|msid|simulcast|group)(:[ -~]{0,24})?", 0..24),
    ) {
        let _ = RemoteDescription::parse(&format!(
            "{HEAD}m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:0\r\n{}\r\n",
            lines.join("\r\n"),
        ));
    }

    #[test]
    fn what_is_written_is_read_back(media in any_media()) {
        let line = MediaLine {
            media: "video".to_owned(),
            proto: "UDP/TLS/RTP/SAVPF".to_owned(),
            formats: vec!["96".to_owned()],
        };
        let section = LocalSection {
            mid: "m".to_owned(),
            line: line.clone(),
            body: Body::Media(Box::new(media.clone())),
        };
        let answer = LocalDescription { role: Role::Answer, version: 1, extmap_allow_mixed: false, sections: vec![section] };
        let read = RemoteDescription::parse(&answer.write(&local())).expect("reads its own").sections.remove(0);
        prop_assert_eq!((&read.line, read.direction, read.flags), (&line, media.direction, media.flags));
        prop_assert_eq!((&read.codecs, &read.extensions), (&media.codecs, &media.extensions));
        let stream = media.stream.as_ref();
        let ssrcs: Vec<u32> = stream.map(|s| [Some(s.ssrc), s.rtx_ssrc]).into_iter().flatten().flatten().collect();
        prop_assert_eq!(&read.streams.ssrcs, &ssrcs);
        prop_assert_eq!(read.streams.track_id, stream.map(|s| s.label.track_id.clone()));
        prop_assert_eq!(read.transport.ufrag, Some(local().ufrag));
    }
}
