//! Tests of `offering`, against a client that answers as browsers do.

use super::*;
use crate::ids::{MediaKind, PeerId};
use crate::media::message::StreamLabel;
use crate::media::transport::sdp::{Direction, Section, SectionKind};
use proptest::prelude::*;
use std::time::Duration;

/// Our side with a clock, and what the client answered from the offers it got.
struct World {
    offering: Offering,
    now: Instant,
    ssrc: u32,
    /// Codecs the client knows, by name.
    knows: &'static [&'static str],
    ufrag: &'static str,
}

const EVERYTHING: [&str; 4] = ["opus", "red", "VP8", "rtx"];
const SETUP: SubscriberSetup = SubscriberSetup {
    data_channels: true,
    reuse_sections: true,
    passive: false,
};

fn world(setup: SubscriberSetup) -> World {
    World {
        offering: Offering::new(&[Codec::Vp8, Codec::Opus, Codec::Red], setup, 100),
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        now: Instant::now(),
        ssrc: 1000,
        knows: &EVERYTHING,
        ufrag: "theirs",
    }
}

fn track(index: u32) -> TrackKey {
    let peer = PeerId {
        worker: 0,
        slot: 1,
        generation: 0,
    };
    TrackKey { peer, index }
}

fn local() -> Local {
    Local {
        ufrag: "ourufrag".to_owned(),
        pwd: "ourpasswordourpassword".to_owned(),
        fingerprint: "sha-256 0A:0B".to_owned(),
        candidates: vec!["candidate:1 1 udp 2130706431 192.0.2.1 7882 typ host".to_owned()],
        session_id: 42,
    }
}

fn sections(sdp: &str) -> Vec<Section> {
    RemoteDescription::parse(sdp).expect("readable").sections
}

impl World {
    fn subscribe(&mut self, index: u32, codec: Codec) -> Result<(), TrackError> {
        self.ssrc += 2;
        let forwarding = Forwarding {
            track: track(index),
            codec,
            h264: None,
            stereo: false,
            label: StreamLabel {
                stream_id: format!("PA_other|TR_{index}"),
                track_id: format!("TR_{index}"),
            },
            ssrc: self.ssrc,
            rtx_ssrc: (codec == Codec::Vp8).then_some(self.ssrc + 1),
        };
        self.offering.subscribe(forwarding, self.now)
    }

    fn unsubscribe(&mut self, index: u32) {
        self.offering.unsubscribe(track(index), self.now);
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn due(&mut self) -> Option<Due> {
        self.offering.poll_due(self.now)
    }

    /// The offer that is due after a while.
    fn offer(&mut self) -> OwnOffer {
        self.wait(200);
        assert!(self.due().is_some(), "an offer is due");
        self.offering.offer(&local())
    }

    fn answer(&self, offer: &OwnOffer) -> String {
        let sections = sections(&offer.sdp);
        let live = sections.iter().filter(|section| !section.rejected);
        let mids: Vec<_> = live.map(|section| section.mid.as_str()).collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
            mids.join(" ")
        );
        for section in &sections {
            sdp += &self.answer_section(section);
        }
        sdp
    }

    fn answer_section(&self, section: &Section) -> String {
        let knows = |rtpmap: &str| self.knows.iter().any(|name| rtpmap.starts_with(name));
        let codecs = section.codecs.iter().filter(|codec| knows(&codec.rtpmap));
        let (mut formats, mut lines) = (Vec::new(), String::new());
        for codec in codecs {
            let pt = codec.payload_type;
            formats.push(pt.to_string());
            lines += &format!("a=rtpmap:{pt} {}\r\n", codec.rtpmap);
            if let Some(fmtp) = &codec.fmtp {
                lines += &format!("a=fmtp:{pt} {fmtp}\r\n");
            }
            for feedback in &codec.feedback {
                lines += &format!("a=rtcp-fb:{pt} {feedback}\r\n");
            }
        }
        let media = section.kind != SectionKind::Application;
        let stopped = section.rejected || (media && formats.is_empty());
        let port = if stopped { 0 } else { 9 };
        if formats.is_empty() {
            formats.push(if media {
                "0".into()
            } else {
                "webrtc-datachannel".into()
            });
        }
        let direction = match section.direction {
            Direction::SendOnly => "recvonly",
            Direction::SendRecv if !media => "sendrecv",
            _ => "inactive",
        };
        format!(
            "m={} {port} {} {}\r\n{lines}a=mid:{}\r\na=rtcp-mux\r\na=setup:active\r\n\
             a=ice-ufrag:{}\r\na=ice-pwd:theirpasswordtheirpassword\r\n\
             a=fingerprint:sha-256 01:02\r\na={direction}\r\n",
            section.line.media,
            section.line.proto,
            formats.join(" "),
            section.mid,
            self.ufrag,
        )
    }

    fn take(&mut self, offer: &OwnOffer) -> Accepted {
        let answer = self.answer(offer);
        self.offering
            .handle_answer(offer.id, &answer, self.now)
            .expect("usable")
            .expect("awaited")
    }

    /// Offers, and has it answered.
    fn negotiate(&mut self) -> (OwnOffer, Accepted) {
        let offer = self.offer();
        let accepted = self.take(&offer);
        (offer, accepted)
    }
}

#[test]
fn the_first_offer_has_the_data_channels_and_what_there_is_to_send() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    world.subscribe(1, Codec::Vp8).expect("taken");
    world.offering.negotiate(world.now);
    assert_eq!(world.due(), Some(Due::Offer), "at once");
    let offer = world.offering.offer(&local());
    assert_eq!(offer.id, 101);
    assert_eq!(offer.mids, [("1".into(), track(0)), ("2".into(), track(1))]);
    let read = RemoteDescription::parse(&offer.sdp).expect("readable");
    let kinds: Vec<_> = read.sections.iter().map(|section| section.kind).collect();
    assert_eq!(
        kinds,
        [
            SectionKind::Application,
            SectionKind::Media(MediaKind::Audio),
            SectionKind::Media(MediaKind::Video)
        ]
    );
    assert_eq!(read.bundle.len(), 3);
    for section in &read.sections {
        assert_eq!(section.transport.ufrag.as_deref(), Some("ourufrag"));
        assert!(offer.sdp.contains("a=setup:actpass") && !offer.sdp.contains("a=setup:passive"));
    }
    let video = &read.sections[2];
    assert_eq!(video.direction, Direction::SendOnly);
    assert_eq!(video.streams.ssrcs, [1004, 1005]);
    assert_eq!(video.streams.fid, [(1004, 1005)]);
    assert_eq!(video.streams.track_id.as_deref(), Some("TR_1"));
    let accepted = world.take(&offer);
    let bound: Vec<_> = accepted
        .sending
        .iter()
        .map(|sending| sending.track)
        .collect();
    assert_eq!(bound, [track(0), track(1)]);
    let video = &accepted.sending[1];
    assert_eq!((video.payload_type, video.rtx_payload_type), (96, Some(97)));
    assert!(video.feedback.nack && video.feedback.nack_pli && video.feedback.remb);
}

#[test]
fn numbers_of_formats_and_extensions_are_livekits() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    world.subscribe(1, Codec::Vp8).expect("taken");
    let offer = world.offer();
    for line in [
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtcp-fb:111 nack",
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 111/111",
        "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 goog-remb",
        "a=rtcp-fb:96 ccm fir",
        "a=rtcp-fb:96 nack pli",
        "a=fmtp:97 apt=96",
        "a=extmap:1 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        "a=extmap:3 http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
        "a=ice-lite",
        "a=max-message-size:65535",
    ] {
        assert!(
            offer.sdp.lines().any(|own| own == line),
            "{line} in {}",
            offer.sdp
        );
    }
    assert!(!offer.sdp.contains("transport-cc"));
}

#[test]
fn what_is_sent_as_red_is_not_asked_for_again() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Red).expect("taken");
    let (offer, accepted) = world.negotiate();
    assert!(!offer.sdp.contains("a=rtcp-fb:111 nack"));
    let sending = &accepted.sending[0];
    assert_eq!(
        (sending.payload_type, sending.red_payload_type),
        (111, Some(63))
    );
    assert!(!sending.feedback.nack);
}

#[test]
fn changes_are_gathered_for_a_moment_and_wait_for_the_answer() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    world.wait(9);
    assert_eq!(world.due(), None);
    world.wait(1);
    assert_eq!(world.due(), Some(Due::Offer));
    let first = world.offering.offer(&local());
    world.subscribe(1, Codec::Vp8).expect("taken");
    world.wait(5_000);
    assert_eq!(world.due(), None, "one at a time");
    world.take(&first);
    assert_eq!(world.due(), Some(Due::Offer), "right after the answer");
    let second = world.offering.offer(&local());
    assert_eq!((second.id, second.mids.len()), (first.id + 1, 2));
    world.take(&second);
    world.subscribe(2, Codec::Vp8).expect("taken");
    world.wait(149);
    assert_eq!(world.due(), None, "just negotiated");
    world.wait(1);
    assert_eq!(world.due(), Some(Due::Offer));
}

#[test]
fn a_removed_tracks_section_is_inactive_once_and_then_takes_another() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Vp8).expect("taken");
    world.negotiate();
    world.unsubscribe(0);
    world.subscribe(1, Codec::Vp8).expect("taken");
    let (offer, accepted) = world.negotiate();
    let directions: Vec<_> = sections(&offer.sdp).iter().map(|s| s.direction).collect();
    assert_eq!(directions[1..], [Direction::Inactive, Direction::SendOnly]);
    assert_eq!(accepted.sending.len(), 1);
    world.subscribe(2, Codec::Vp8).expect("taken");
    let (offer, _) = world.negotiate();
    assert_eq!(offer.mids, [("1".into(), track(2)), ("2".into(), track(1))]);
}

#[test]
fn a_client_that_loses_reused_sections_gets_new_ones() {
    let mut world = world(SubscriberSetup {
        reuse_sections: false,
        ..SETUP
    });
    for index in 0..5 {
        world.subscribe(index, Codec::Vp8).expect("taken");
        world.negotiate();
        world.unsubscribe(index);
        world.negotiate();
    }
    world.subscribe(5, Codec::Vp8).expect("taken");
    let (offer, accepted) = world.negotiate();
    assert_eq!(sections(&offer.sdp).len(), 7);
    assert_eq!(accepted.sending[0].mid, "6");
}

#[test]
fn comings_and_goings_do_not_grow_the_description() {
    let mut world = world(SETUP);
    for round in 0..100 {
        for kind in [Codec::Opus, Codec::Vp8] {
            let index = round * 2 + u32::from(kind == Codec::Vp8);
            world.subscribe(index, kind).expect("taken");
        }
        world.negotiate();
        world.unsubscribe(round * 2);
        world.unsubscribe(round * 2 + 1);
        if round % 3 == 0 {
            world.negotiate();
        }
    }
    world.subscribe(1_000, Codec::Opus).expect("taken");
    let (offer, _) = world.negotiate();
    assert!(sections(&offer.sdp).len() <= 5, "{}", offer.sdp);
}

#[test]
fn a_track_that_comes_and_goes_before_an_offer_leaves_no_section() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    world.unsubscribe(0);
    let (offer, _) = world.negotiate();
    assert_eq!(sections(&offer.sdp).len(), 1);
}

#[test]
fn a_client_without_a_channel_section_and_tracks_is_not_offered_anything() {
    let mut world = world(SubscriberSetup {
        data_channels: false,
        ..SETUP
    });
    world.offering.negotiate(world.now);
    assert_eq!(world.due(), None);
    assert_eq!(world.offering.poll_timeout(), None);
    world.subscribe(0, Codec::Opus).expect("taken");
    let (offer, accepted) = world.negotiate();
    assert!(!offer.sdp.contains("m=application"));
    assert_eq!(accepted.sending[0].mid, "0");
}

#[test]
fn a_track_without_a_common_codec_is_refused_and_the_next_at_once() {
    let mut world = world(SETUP);
    world.knows = &["opus", "H264"];
    world.subscribe(0, Codec::Opus).expect("taken");
    world.subscribe(1, Codec::Vp8).expect("taken");
    let (_, accepted) = world.negotiate();
    assert_eq!(accepted.refused, [track(1)]);
    assert_eq!(accepted.sending.len(), 1);
    // The stopped section keeps its place.
    world.subscribe(2, Codec::Opus).expect("taken");
    let (offer, accepted) = world.negotiate();
    assert!(sections(&offer.sdp)[2].rejected);
    assert_eq!(accepted.sending.len(), 2);
    let mut deaf = world_of_audio();
    let refused = deaf.subscribe(1, Codec::Vp8);
    assert_eq!(refused, Err(TrackError::NoCommonCodec));
}

fn world_of_audio() -> World {
    let mut world = world(SETUP);
    world.offering = Offering::new(&[Codec::Opus], SETUP, 1);
    world
}

#[test]
fn answers_to_earlier_offers_and_repeated_ones_are_ignored() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    let (first, _) = world.negotiate();
    let repeated = world.answer(&first);
    let again = world.offering.handle_answer(first.id, &repeated, world.now);
    assert_eq!(again, Ok(None));
    world.subscribe(1, Codec::Opus).expect("taken");
    let second = world.offer();
    let late = world.offering.handle_answer(first.id, &repeated, world.now);
    assert_eq!(late, Ok(None));
    world.take(&second);
}

#[test]
fn an_answer_without_a_number_or_with_an_odd_one_is_taken() {
    for id in [0, 7_000] {
        let mut world = world(SETUP);
        world.subscribe(0, Codec::Opus).expect("taken");
        let offer = world.offer();
        let answer = world.answer(&offer);
        let taken = world.offering.handle_answer(id, &answer, world.now);
        assert!(taken.is_ok_and(|taken| taken.is_some()), "{id}");
    }
}

#[test]
fn an_answer_to_other_sections_is_refused() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    let offer = world.offer();
    let answer = world.answer(&offer);
    for (old, new) in [("a=mid:1", "a=mid:7"), ("m=audio", "m=video")] {
        let other = answer
            .replace(old, new)
            .replace("BUNDLE 0 1", "BUNDLE 0 1 7");
        let refused = world.offering.handle_answer(offer.id, &other, world.now);
        assert_eq!(refused, Err(AnswerError::OtherSections), "{new}");
    }
    let (short, _) = answer.split_once("m=audio").expect("two sections");
    let refused = world.offering.handle_answer(offer.id, short, world.now);
    assert_eq!(refused, Err(AnswerError::OtherSections));
    let passive = answer.replace("setup:active", "setup:passive");
    let refused = world.offering.handle_answer(offer.id, &passive, world.now);
    assert_eq!(
        refused,
        Err(AnswerError::Transport(OfferError::NotDtlsClient))
    );
    assert!(
        world
            .offering
            .handle_answer(offer.id, &answer, world.now)
            .is_ok()
    );
}

#[test]
fn pion_is_told_to_be_the_dtls_client_and_may_say_otherwise() {
    let mut world = world(SubscriberSetup {
        passive: true,
        ..SETUP
    });
    let offer = {
        world.offering.negotiate(world.now);
        world.offer()
    };
    assert!(offer.sdp.contains("a=setup:passive") && !offer.sdp.contains("actpass"));
    let answer = world
        .answer(&offer)
        .replace("setup:active", "setup:passive");
    let taken = world.offering.handle_answer(offer.id, &answer, world.now);
    assert!(taken.is_ok_and(|taken| taken.is_some()));
}

#[test]
fn a_section_the_client_does_not_receive_in_is_not_sent() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    let offer = world.offer();
    let answer = world.answer(&offer).replace("a=recvonly", "a=inactive");
    let accepted = world.offering.handle_answer(offer.id, &answer, world.now);
    let accepted = accepted.expect("usable").expect("awaited");
    assert!(accepted.sending.is_empty() && accepted.refused.is_empty());
}

#[test]
fn an_offer_left_unanswered_is_complained_of_while_connected() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    world.offer();
    world.wait(14_999);
    assert!(!world.offering.poll_overdue(true, world.now));
    world.wait(1);
    assert!(
        !world.offering.poll_overdue(false, world.now),
        "not connected yet"
    );
    assert_eq!(
        world.offering.poll_timeout(),
        Some(world.now + Duration::from_secs(15))
    );
    world.wait(15_000);
    assert!(world.offering.poll_overdue(true, world.now));
    assert!(!world.offering.poll_overdue(true, world.now), "once");
}

#[test]
fn a_resume_before_the_first_offer_restarts_nothing() {
    let mut world = world(SETUP);
    world.offering.restart(world.now);
    assert_eq!(world.due(), None);
    world.offering.negotiate(world.now);
    assert_eq!(world.due(), Some(Due::Offer));
}

#[test]
fn a_resume_between_negotiations_restarts_at_once() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    world.negotiate();
    world.offering.restart(world.now);
    assert_eq!(world.due(), Some(Due::Restart));
    let offer = world.offering.offer(&local());
    world.ufrag = "other";
    let accepted = world.take(&offer);
    assert!(accepted.remote.ice_restart);
    assert_eq!(accepted.sending.len(), 1);
    world.wait(1_000);
    assert_eq!(world.due(), None, "restarted once");
}

#[test]
fn a_first_offer_lost_with_its_connection_is_repeated_and_restarted_after_its_answer() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    let lost = world.offer();
    world.offering.restart(world.now);
    assert_eq!(world.due(), Some(Due::Offer));
    let again = world.offering.offer(&local());
    assert_eq!((again.id, &again.mids), (lost.id + 1, &lost.mids));
    world.take(&again);
    assert_eq!(world.due(), Some(Due::Restart));
}

#[test]
fn a_later_offer_lost_with_its_connection_is_replaced_by_one_that_restarts() {
    let mut world = world(SETUP);
    world.subscribe(0, Codec::Opus).expect("taken");
    world.negotiate();
    world.subscribe(1, Codec::Vp8).expect("taken");
    let lost = world.offer();
    world.unsubscribe(0);
    world.offering.restart(world.now);
    assert_eq!(world.due(), Some(Due::Restart));
    let offer = world.offering.offer(&local());
    assert_eq!(
        offer.mids,
        [("2".into(), track(1))],
        "with all that changed"
    );
    let late = world.answer(&lost);
    let ignored = world.offering.handle_answer(lost.id, &late, world.now);
    assert_eq!(ignored, Ok(None));
    world.take(&offer);
    world.wait(1_000);
    assert_eq!(world.due(), None);
}

proptest! {
    #[test]
    fn any_answer_is_taken_or_refused(text in ".{0,300}", cut in 0_usize..2_000) {
        let mut world = world(SETUP);
        world.subscribe(0, Codec::Vp8).expect("taken");
        let offer = world.offer();
        let _ = world.offering.handle_answer(offer.id, &text, world.now);
        let answer = world.answer(&offer);
        let cut = answer.get(..cut).unwrap_or(&answer).to_owned() + &text;
        let _ = world.offering.handle_answer(offer.id, &cut, world.now);
    }

    #[test]
    fn whatever_comes_and_goes_each_track_has_one_section(
        steps in prop::collection::vec((0_u32..6, 0_u8..4), 1..80),
    ) {
        let mut world = world(SETUP);
        let mut wanted = std::collections::BTreeSet::new();
        for (index, step) in steps {
            match step {
                0 => {
                    let codec = if index % 2 == 0 { Codec::Opus } else { Codec::Vp8 };
                    world.subscribe(index, codec).expect("taken");
                    wanted.insert(track(index));
                }
                1 => {
                    world.unsubscribe(index);
                    wanted.remove(&track(index));
                }
                2 => world.offering.restart(world.now),
                _ => {
                    world.wait(200);
                    if world.due().is_some() {
                        let offer = world.offering.offer(&local());
                        let told: std::collections::BTreeSet<_> =
                            offer.mids.iter().map(|(_, track)| *track).collect();
                        prop_assert_eq!(&told, &wanted);
                        prop_assert_eq!(told.len(), offer.mids.len());
                        world.take(&offer);
                    }
                }
            }
        }
        prop_assert!(world.offering.sections.len() <= 1 + 2 * 6);
    }
}
