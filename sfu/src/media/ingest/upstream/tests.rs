//! One stream from its first packet on: order, padding, repairs, reports, key frames.

use super::*;
use crate::media::ingest::key_frames::THROTTLE;
use crate::media::packet::Head;
use crate::rtp::header::FixedHeader;
use proptest::prelude::*;

mod outage;

fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    Instant::now()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const SSRC: u32 = 7;
/// S=1, PID=0, no extension; then a VP8 header with P=0 (key) or P=1.
const KEY: &[u8] = &[
    0x10, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01, 9,
];
const DELTA: &[u8] = &[0x10, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

fn setup(codec: Codec) -> UpstreamSetup {
    UpstreamSetup {
        ssrc: SSRC,
        codec,
        formats: Formats::new(codec, &[(96, codec), (111, Codec::Opus)], &[(97, 96)]),
        encrypted: false,
        trailers: false,
        spatial: 0,
        only_layer: false,
        screen_share: false,
        nack: true,
        key_frame_throttle: THROTTLE[0],
    }
}

fn header(payload_type: u8, sequence: u16, timestamp: u32) -> Header {
    let fixed = FixedHeader {
        marker: false,
        payload_type,
        sequence,
        timestamp,
        ssrc: SSRC,
    };
    Header::parse(&fixed.to_bytes()).expect("own header")
}

/// An audio stream fed by sequence number; timestamps follow.
struct Audio {
    upstream: Upstream,
    now: Instant,
}

impl Audio {
    fn new() -> Self {
        Self {
            upstream: Upstream::new(setup(Codec::Opus)),
            now: instant(),
        }
    }

    fn media(&mut self, seq: u16) -> Option<Packet> {
        let payload = seq.to_be_bytes();
        let header = header(96, seq, u32::from(seq) * 960);
        self.upstream.handle_packet(&header, &payload, self.now)
    }

    fn padding(&mut self, seq: u16) -> Option<Packet> {
        let header = header(96, seq, u32::from(seq) * 960);
        self.upstream.handle_packet(&header, &[], self.now)
    }

    fn rtx(&mut self, original: u16, payload: &[u8]) -> Option<Packet> {
        let header = header(97, 5000, u32::from(original) * 960);
        let bytes = [&original.to_be_bytes()[..], payload].concat();
        self.upstream.handle_rtx(&header, &bytes, self.now)
    }

    fn nacks_after(&mut self, wait: Duration) -> Vec<u16> {
        self.now += wait;
        let mut out = Vec::new();
        self.upstream.poll_nacks(None, self.now, &mut out);
        out
    }

    fn payload(&mut self, packet: &Packet) -> Option<&[u8]> {
        self.upstream.framed(packet, &Head::EMPTY, (0, false))
    }
}

#[test]
fn a_packet_is_kept_with_its_payload_and_found_again() {
    let mut audio = Audio::new();
    let packet = audio.media(65_535).expect("forwarded");
    let next = audio.media(0).expect("forwarded");
    assert_eq!(next.seq.0, packet.seq.0 + 1);
    assert_eq!(audio.payload(&packet), Some(&[0xFF, 0xFF][..]));
    let found = audio.upstream.find(next.seq).expect("kept");
    assert_eq!(found.seq, next.seq);
    assert_eq!(audio.payload(&found), Some(&[0, 0][..]));
}

#[test]
fn a_lost_packet_is_asked_for_and_comes_late() {
    let mut audio = Audio::new();
    audio.media(1);
    audio.media(4);
    assert_eq!(audio.upstream.poll_timeout(), Some(audio.now + ms(20)));
    assert!(audio.nacks_after(ms(19)).is_empty());
    assert_eq!(audio.nacks_after(ms(1)), [2, 3]);
    let late = audio.media(2).expect("forwarded");
    assert!(late.late);
    let repaired = audio.rtx(3, &[0, 3]).expect("forwarded");
    assert!(repaired.late);
    assert_eq!(
        (repaired.payload_type, repaired.seq.0),
        (96, late.seq.0 + 1)
    );
    assert_eq!(audio.payload(&repaired), Some(&[0, 3][..]));
    assert_eq!(audio.upstream.poll_timeout(), None);
    // The other copies are of no use.
    assert!(audio.media(3).is_none());
    assert!(audio.rtx(2, &[0, 2]).is_none());
    assert_eq!(audio.upstream.counters().useless.repeated, 2);
    assert_eq!(audio.upstream.counters().nacked, 2);
    // Both were only slow.
    let (block, _) = audio.upstream.report_block(audio.now).expect("block");
    assert_eq!(block.cumulative_lost, 0);
}

#[test]
fn the_lost_end_of_a_burst_is_asked_for_by_the_timer() {
    let mut audio = Audio::new();
    audio.media(1);
    audio.media(3);
    // Nothing follows: only the clock moves.
    let mut asked = 0;
    while let Some(due) = audio.upstream.poll_timeout() {
        let wait = due - audio.now;
        asked += audio.nacks_after(wait).len();
    }
    assert_eq!(asked, 5);
}

#[test]
fn padding_leaves_no_hole_and_is_not_missed() {
    let mut audio = Audio::new();
    let first = audio.media(1).expect("forwarded");
    assert!(audio.padding(2).is_none());
    assert!(audio.padding(3).is_none());
    let second = audio.media(4).expect("forwarded");
    assert_eq!(second.seq.0, first.seq.0 + 1);
    // Late padding ends the search for it, and fills the hole that was left for it.
    audio.media(6);
    let filler = audio.padding(5).expect("forwarded");
    assert!(filler.late && filler.is_empty());
    assert_eq!(filler.seq.0, second.seq.0 + 1);
    assert_eq!(audio.payload(&filler), Some(&[][..]));
    let found = audio.upstream.find(filler.seq).expect("kept");
    assert!(found.is_empty());
    assert!(audio.nacks_after(ms(100)).is_empty());
    assert_eq!(audio.upstream.counters().padding, 3);
}

#[test]
fn probes_and_foreign_payload_types_are_not_media() {
    let mut audio = Audio::new();
    assert!(audio.rtx(1, &[1]).is_none(), "RTX never starts a stream");
    audio.media(1);
    assert!(audio.rtx(2, &[]).is_none());
    let short = audio
        .upstream
        .handle_rtx(&header(97, 1, 1), &[0], audio.now);
    assert!(short.is_none());
    assert!(audio.rtx(2, &[1]).is_none(), "RTX never advances a stream");
    let foreign = audio
        .upstream
        .handle_packet(&header(98, 2, 1), &[1], audio.now);
    assert!(foreign.is_none());
    let counters = audio.upstream.counters();
    assert_eq!((counters.padding, counters.forwarded), (2, 1));
    let useless = audio.upstream.take_useless();
    assert_eq!((useless.payload_type, useless.late), (1, 2));
}

#[test]
fn a_red_track_may_carry_plain_opus() {
    let mut upstream = Upstream::new(setup(Codec::Red));
    let now = instant();
    let red = upstream.handle_packet(&header(96, 1, 0), &[1], now);
    let opus = upstream.handle_packet(&header(111, 2, 960), &[1], now);
    assert_eq!(red.map(|packet| packet.payload_type), Some(96));
    assert_eq!(opus.map(|packet| packet.payload_type), Some(111));
}

#[test]
fn the_newest_block_of_red_is_found_and_of_nothing_else() {
    let mut upstream = Upstream::new(setup(Codec::Red));
    let now = instant();
    let block = [0x80 | 111, 0x0F, 0, 2, 111, 1, 1, 9, 9, 9];
    let mut codec = |payload_type, seq, payload: &[u8]| {
        let packet = upstream.handle_packet(&header(payload_type, seq, 0), payload, now);
        packet.map(|packet| packet.codec)
    };
    let found = Some(CodecInfo::Red { primary: 7 });
    assert_eq!(codec(96, 1, &block), found);
    assert_eq!(codec(111, 2, &block), Some(CodecInfo::None), "plain Opus");
    assert_eq!(
        codec(96, 3, &[1, 2, 3]),
        Some(CodecInfo::None),
        "unreadable"
    );
}

#[test]
fn what_comes_while_muted_leaves_no_hole() {
    let mut audio = Audio::new();
    let first = audio.media(1).expect("forwarded");
    audio.media(3);
    audio.upstream.set_muted(true);
    assert_eq!(audio.upstream.poll_timeout(), None, "nothing is missed");
    assert!(audio.media(4).is_none());
    assert!(audio.media(5).is_none());
    audio.upstream.set_muted(false);
    let next = audio.media(6).expect("forwarded");
    assert_eq!(next.seq.0, first.seq.0 + 3);
    assert_eq!(audio.upstream.counters().useless.muted, 2);
}

#[test]
fn a_report_block_quotes_the_last_sender_report() {
    let mut audio = Audio::new();
    let info = SenderInfo {
        ntp: 0x1_0002_0003_0004,
        rtp: 960,
        packets: 1,
        bytes: 1,
    };
    assert!(audio.upstream.report_block(audio.now).is_none());
    assert!(!audio.upstream.handle_sender_report(&info, audio.now));
    audio.media(1);
    assert!(audio.upstream.handle_sender_report(&info, audio.now));
    audio.media(3);
    let (block, _) = audio
        .upstream
        .report_block(audio.now + ms(500))
        .expect("block");
    assert_eq!((block.ssrc, block.highest), (SSRC, 3));
    assert_eq!((block.cumulative_lost, block.fraction_lost), (1, 85));
    assert_eq!((block.last_report, block.delay), (0x0002_0003, 32_768));
    let clock = audio.upstream.clock().expect("clock");
    assert_eq!(clock.rtp.wire(), 960);
}

#[test]
fn a_video_stream_asks_for_key_frames_until_one_comes() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let start = instant();
    assert_eq!(upstream.poll_timeout(), None);
    let delta = upstream.handle_packet(&header(96, 1, 0), DELTA, start);
    assert!(delta.is_some_and(|packet| !packet.key_frame));
    assert!(upstream.poll_key_frame_request(start));
    assert_eq!(upstream.poll_timeout(), Some(start + ms(1000)));
    assert!(upstream.poll_key_frame_request(start + ms(1000)));
    let key = upstream.handle_packet(&header(96, 2, 3000), KEY, start + ms(1100));
    assert!(key.is_some_and(|packet| packet.key_frame));
    assert_eq!(upstream.poll_timeout(), None);
}

#[test]
fn a_malformed_descriptor_is_taken_out_like_padding() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let now = instant();
    let first = upstream
        .handle_packet(&header(96, 1, 0), KEY, now)
        .expect("key");
    // X set, and nothing behind it.
    assert!(
        upstream
            .handle_packet(&header(96, 2, 0), &[0x90], now)
            .is_none()
    );
    let third = upstream
        .handle_packet(&header(96, 3, 0), DELTA, now)
        .expect("delta");
    assert_eq!(third.seq.0, first.seq.0 + 1);
    assert_eq!(upstream.counters().useless.malformed, 1);
}

#[test]
fn too_many_losses_ask_for_a_key_frame() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let start = instant();
    upstream.handle_packet(&header(96, 1, 0), KEY, start);
    assert!(!upstream.poll_key_frame_request(start));
    upstream.handle_packet(&header(96, 700, 90_000), DELTA, start);
    assert!(upstream.poll_key_frame_request(start));
    let mut out = Vec::new();
    upstream.poll_nacks(None, start + ms(1000), &mut out);
    assert!(out.is_empty());
}

proptest! {
    #[test]
    fn any_packets_keep_the_stream_whole_and_bounded(
        codec in prop_oneof![Just(Codec::Opus), Just(Codec::Vp8)],
        packets in proptest::collection::vec(
            (any::<bool>(), any::<u16>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..1400)),
            0..120,
        ),
        step_ms in 0u64..50,
    ) {
        let mut now = instant();
        let mut upstream = Upstream::new(setup(codec));
        let mut out = Vec::new();
        for (rtx, sequence, timestamp, payload) in packets {
            now += ms(step_ms);
            let packet = if rtx {
                upstream.handle_rtx(&header(97, 1, timestamp), &payload, now)
            } else {
                upstream.handle_packet(&header(96, sequence, timestamp), &payload, now)
            };
            if let Some(packet) = packet {
                let kept = if rtx { &payload[2..] } else { &payload[..] };
                prop_assert_eq!(upstream.framed(&packet, &Head::EMPTY, (0, false)), Some(kept));
            }
            out.clear();
            upstream.poll_nacks(None, now, &mut out);
            prop_assert!(out.len() <= crate::media::ingest::loss::MISSING_LIMIT);
            let _ = upstream.poll_key_frame_request(now);
            let _ = upstream.report_block(now);
            prop_assert!(upstream.footprint() <= 128 << 10);
            prop_assert!(upstream.poll_timeout().is_none_or(|due| due > now));
        }
    }
}

#[test]
fn an_only_layer_is_kept_as_long_as_a_highest_one() {
    let kept = |only_layer| {
        let mut upstream = Upstream::new(UpstreamSetup {
            only_layer,
            ..setup(Codec::Vp8)
        });
        let now = instant();
        let payload = [DELTA, &[0; 988]].concat();
        let packets: Vec<Packet> = (0..150)
            .filter_map(|seq| {
                let header = header(96, seq, u32::from(seq) * 3000);
                upstream.handle_packet(&header, &payload, now)
            })
            .collect();
        let mut found =
            |packet: &&Packet| upstream.framed(packet, &Head::EMPTY, (0, false)).is_some();
        packets.iter().filter(|packet| found(packet)).count()
    };
    assert_eq!(kept(true), 150);
    assert!(kept(false) < 100, "a low layer's ring is small");
}

/// A VP8 frame of one packet with a 7-bit picture number.
fn picture(upstream: &mut Upstream, seq: u16, number: u8, now: Instant) -> Option<Packet> {
    let mut header = header(96, seq, u32::from(number) * 3000);
    header.marker = true;
    let payload = [0x90, 0x80, number, 0x01, 1, 2, 3, 4, 5, 6, 7, 8];
    upstream.handle_packet(&header, &payload, now)
}

#[test]
fn padding_that_was_lost_leaves_no_hole_and_is_not_asked_for() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let now = instant();
    let first = picture(&mut upstream, 10, 1, now).expect("forwarded");
    // 11 and 13 were padding and are lost.
    let padding = header(96, 12, 3000);
    assert!(upstream.handle_packet(&padding, &[], now).is_none());
    let next = picture(&mut upstream, 14, 2, now).expect("forwarded");
    assert_eq!(next.seq.0, first.seq.0 + 1);
    let mut out = Vec::new();
    upstream.poll_nacks(None, now + ms(500), &mut out);
    assert!(out.is_empty());
}

#[test]
fn what_is_asked_for_in_vain_brings_a_key_frame() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let mut now = instant();
    upstream.handle_packet(&header(96, 9, 0), KEY, now);
    picture(&mut upstream, 10, 1, now);
    assert!(!upstream.poll_key_frame_request(now));
    picture(&mut upstream, 12, 3, now);
    let mut asked = Vec::new();
    while asked.len() < 5 {
        now += ms(20);
        upstream.poll_nacks(None, now, &mut asked);
        assert!(!upstream.poll_key_frame_request(now), "it may still come");
    }
    now += ms(400);
    upstream.poll_nacks(None, now, &mut asked);
    assert!(upstream.poll_key_frame_request(now));
    // Nobody is asked who sends nothing; who does is asked again, for the road may have been broken.
    now += ms(1000);
    assert_eq!(upstream.poll_timeout(), None);
    picture(&mut upstream, 13, 4, now);
    assert!(upstream.poll_key_frame_request(now));
    now += ms(1000);
    upstream.handle_packet(&header(96, 14, 15_000), KEY, now);
    picture(&mut upstream, 15, 6, now);
    assert!(!upstream.poll_key_frame_request(now));
}

/// VP8 without picture numbers, each frame followed by padding; `lost` sequence numbers do not come.
fn without_numbers(upstream: &mut Upstream, frames: u16, lost: &[u16], start: Instant) -> Instant {
    let mut now = start;
    for n in 0..frames {
        now = start + ms(66) * u32::from(n);
        let time = u32::from(n) * 6000;
        let (media, padding) = (2 * n + 100, 2 * n + 101);
        if !lost.contains(&media) {
            let mut header = header(96, media, time);
            header.marker = true;
            let payload = if n == 0 { KEY } else { DELTA };
            upstream.handle_packet(&header, payload, now);
        }
        if !lost.contains(&padding) {
            upstream.handle_packet(&header(96, padding, time), &[], now);
        }
    }
    now
}

#[test]
fn what_was_guessed_wrongly_brings_a_key_frame_and_is_asked_for_no_more() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    // The padding before frame 20 is lost: no frame has room there.
    let now = without_numbers(&mut upstream, 21, &[139], instant());
    let mut asked = Vec::new();
    upstream.poll_nacks(None, now + ms(20), &mut asked);
    assert_eq!(asked, [139], "it is asked for all the same");
    assert!(!upstream.poll_key_frame_request(now + ms(20)));
    // And was a frame.
    let mut header = header(96, 139, 117_000);
    header.marker = true;
    assert!(
        upstream
            .handle_packet(&header, DELTA, now + ms(50))
            .is_none()
    );
    assert!(upstream.poll_key_frame_request(now + ms(50)));
    asked.clear();
    upstream.poll_nacks(None, now + ms(1000), &mut asked);
    assert!(asked.is_empty());
    assert_eq!(upstream.counters().settled, 1);
}

#[test]
fn what_comes_after_it_was_taken_for_padding_is_no_loss_in_reports() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let now = without_numbers(&mut upstream, 21, &[139], instant());
    let lost = |upstream: &mut Upstream| {
        let (block, _) = upstream.report_block(now).expect("a block");
        block.cumulative_lost
    };
    assert_eq!(lost(&mut upstream), 1);
    let late = header(96, 139, 114_000);
    assert!(upstream.handle_packet(&late, &[], now).is_none());
    assert_eq!(lost(&mut upstream), 0);
    assert_eq!(upstream.counters().settled, 1);
}

#[test]
fn padding_guessed_rightly_is_given_up_in_silence_unless_the_road_was_broken() {
    for (pause, key_frame) in [(0, false), (500, true)] {
        let mut upstream = Upstream::new(setup(Codec::Vp8));
        let mut now = without_numbers(&mut upstream, 21, &[139], instant());
        let mut out = Vec::new();
        for step in 0..60_u16 {
            now += ms(20);
            // Packets go on but for the pause.
            if u64::from(step) * 20 >= pause {
                let padding = header(96, 142 + step, 120_000);
                upstream.handle_packet(&padding, &[], now);
            }
            upstream.poll_nacks(None, now, &mut out);
        }
        assert_eq!(
            upstream.poll_key_frame_request(now),
            key_frame,
            "{pause} ms"
        );
    }
}

#[test]
fn what_a_stream_that_pads_does_not_send_again_is_filled_before_it_is_given_up() {
    for (pads, fills) in [(true, 1), (false, 0)] {
        let mut upstream = Upstream::new(setup(Codec::Vp8));
        let mut now = instant();
        let first = upstream.handle_packet(&header(96, 9, 0), KEY, now);
        let first = first.expect("forwarded");
        if pads {
            upstream.handle_packet(&header(96, 10, 0), &[], now);
        }
        // 11 is missing, and nothing tells what it was.
        let next = picture(&mut upstream, 12, 3, now).expect("forwarded");
        let (mut asked, mut fillers) = (Vec::new(), Vec::new());
        for step in 0..25_u8 {
            now += ms(20);
            picture(&mut upstream, 13 + u16::from(step), 4 + step, now);
            upstream.poll_nacks(None, now, &mut asked);
            fillers.extend(std::iter::from_fn(|| upstream.poll_filler()));
            if !fillers.is_empty() {
                break;
            }
        }
        assert_eq!(fillers.len(), fills);
        let Some(filler) = fillers.first() else {
            continue;
        };
        assert!(filler.is_empty() && filler.late && filler.payload_type == 96);
        assert!(first.seq < filler.seq && filler.seq < next.seq);
        assert!(upstream.find(filler.seq).is_some());
        assert!(!upstream.poll_key_frame_request(now), "nothing is harmed");
        // It was media after all.
        assert!(
            upstream
                .handle_packet(&header(96, 11, 1500), DELTA, now)
                .is_none()
        );
        assert!(upstream.poll_key_frame_request(now));
    }
}

/// A stream that pads, of which 11 is missing: the fillers, and whether a key frame is wanted in the end.
fn unanswered(upstream: &mut Upstream, mut now: Instant, steps: u8) -> (usize, bool) {
    let (mut asked, mut fillers, mut wanted) = (Vec::new(), 0, false);
    for step in 0..steps {
        now += ms(20);
        picture(upstream, 113 + u16::from(step), 4 + step, now);
        upstream.poll_nacks(None, now, &mut asked);
        fillers += std::iter::from_fn(|| upstream.poll_filler()).count();
        wanted |= upstream.poll_key_frame_request(now);
    }
    (fillers, wanted)
}

#[test]
fn what_is_filled_and_never_comes_brings_a_key_frame_for_it_may_have_been_media() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let now = instant();
    upstream.handle_packet(&header(96, 109, 0), KEY, now);
    upstream.handle_packet(&header(96, 110, 0), &[], now);
    picture(&mut upstream, 112, 3, now);
    assert_eq!(unanswered(&mut upstream, now, 60), (1, true));
}

#[test]
fn a_stream_whose_answers_come_late_is_not_filled_again_for_a_while() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let now = instant();
    upstream.handle_packet(&header(96, 109, 0), KEY, now);
    upstream.handle_packet(&header(96, 110, 0), &[], now);
    picture(&mut upstream, 112, 3, now);
    assert_eq!(unanswered(&mut upstream, now, 25).0, 1);
    let late = now + ms(510);
    upstream.handle_packet(&header(96, 111, 1500), DELTA, late);
    // 138 and 139 are missing.
    picture(&mut upstream, 140, 40, late);
    let mut asked = Vec::new();
    for step in 1..40 {
        upstream.poll_nacks(None, late + ms(20) * step, &mut asked);
    }
    let filler = upstream.poll_filler();
    assert_eq!(upstream.counters().settled, 1);
    assert!(asked.contains(&139), "{asked:?}");
    assert!(filler.is_none(), "{filler:?}");
}

#[test]
fn a_layer_that_was_stopped_is_asked_for_nothing() {
    let mut upstream = Upstream::new(setup(Codec::Vp8));
    let now = instant();
    upstream.handle_packet(&header(96, 9, 0), KEY, now);
    picture(&mut upstream, 11, 3, now);
    upstream.request_key_frame(false, now);
    upstream.stop();
    assert_eq!(upstream.poll_timeout(), None);
    let mut out = Vec::new();
    upstream.poll_nacks(None, now + ms(1000), &mut out);
    assert!(out.is_empty() && !upstream.poll_key_frame_request(now + ms(1000)));
}
