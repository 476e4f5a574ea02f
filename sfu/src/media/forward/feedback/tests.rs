use super::*;

#[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
fn epoch() -> Instant {
    Instant::now()
}

const SSRC: u32 = 10;
fn rtx() -> Rtx {
    Rtx {
        ssrc: 11,
        payload_types: [(96, 97)].into_iter().collect(),
        next: ExtSeq(500),
    }
}

fn sent(seq: u64) -> Sent {
    let mut head = Head::EMPTY;
    head.push(&[0x90, seq as u8]);
    Sent {
        spatial: 1,
        source: ExtSeq(seq + 1000),
        generation: 0,
        outgoing: Outgoing {
            ssrc: SSRC,
            seq: ExtSeq(seq),
            time: seq as u32 * 3000,
            payload_type: 96,
            marker: seq.is_multiple_of(2),
            head,
            skip: 4,
            cut: false,
        },
    }
}

/// A copy that sent 0x1_0000 - 10 to 0x1_0000 + 9.
fn fed(rtx: Option<Rtx>, now: Instant) -> Feedback {
    let mut feedback = Feedback::new(SSRC, rtx, 512, now);
    for seq in 0xfff6..0x1_000a {
        feedback.handle_sent(&sent(seq), false, now);
    }
    feedback
}

fn ask(feedback: &mut Feedback, seqs: &[u16], now: Instant) -> Vec<Resend> {
    let mut out = Vec::new();
    let last = Some(ExtSeq(0x1_0009));
    feedback.handle_nack(
        seqs.iter().copied(),
        last,
        &Source::default(),
        &mut out,
        now,
    );
    out
}

#[test]
fn a_resend_over_rtx_has_fresh_numbers_and_names_the_original() {
    let now = epoch();
    let mut feedback = fed(Some(rtx()), now);
    let later = now + RESEND_PAUSE;
    let out = ask(&mut feedback, &[0xfffe, 3], later);
    let heads: Vec<_> = out.iter().map(|r| r.outgoing.head.as_slice()).collect();
    assert_eq!(heads, [[0xff, 0xfe, 0x90, 0xfe], [0, 3, 0x90, 3]]);
    assert_eq!(out[0].source, ExtSeq(0xfffe + 1000));
    assert_eq!(out[0].spatial, 1);
    let numbers: Vec<_> = out.iter().map(|r| r.outgoing.seq.0).collect();
    assert_eq!(numbers, [500, 501]);
    let first = out[0].outgoing;
    assert_eq!((first.ssrc, first.payload_type), (11, 97));
    assert_eq!(
        (first.time, first.marker, first.skip),
        (0xfffe * 3000, true, 4)
    );
}

#[test]
fn a_resend_without_rtx_is_the_packet_as_it_was() {
    let now = epoch();
    let mut feedback = fed(None, now);
    let out = ask(&mut feedback, &[0xffff], now + RESEND_PAUSE);
    assert_eq!(out[0].outgoing, sent(0xffff).outgoing);
}

#[test]
fn a_packet_is_resent_as_often_as_chromium_asks_and_not_too_soon() {
    let now = epoch();
    let mut feedback = fed(None, now);
    assert!(ask(&mut feedback, &[5], now + RESEND_PAUSE / 2).is_empty());
    let mut at = now;
    for round in 0..12 {
        at += RESEND_PAUSE;
        let resent = ask(&mut feedback, &[5, 5], at).len();
        assert_eq!(resent, usize::from(round < 10), "{round}");
    }
    assert_eq!(feedback.counters().resent, 10);
}

#[test]
fn a_short_round_trip_allows_a_quick_second_resend() {
    let now = epoch();
    let mut feedback = fed(None, now);
    feedback.handle_round_trip(Duration::from_millis(10));
    assert!(ask(&mut feedback, &[5], now + Duration::from_millis(19)).is_empty());
    assert_eq!(
        ask(&mut feedback, &[5], now + Duration::from_millis(20)).len(),
        1
    );
}

#[test]
fn nothing_is_resent_from_a_key_frame_request_to_the_key_frame() {
    let now = epoch();
    let mut feedback = fed(None, now);
    let later = now + RESEND_PAUSE;
    feedback.handle_key_frame_request();
    assert!(ask(&mut feedback, &[5], later).is_empty());
    feedback.handle_sent(&sent(0x1_000a), false, later);
    assert!(ask(&mut feedback, &[5], later).is_empty());
    feedback.handle_sent(&sent(0x1_000b), true, later);
    assert_eq!(ask(&mut feedback, &[5], later).len(), 1);
}

#[test]
fn the_newest_key_frame_is_resent_whatever_was_asked_for_since() {
    let now = epoch();
    let mut feedback = fed(None, now);
    let of_frame = |seq, time| {
        let mut sent = sent(seq);
        sent.outgoing.time = time;
        sent
    };
    feedback.handle_sent(&of_frame(0x1_000a, 9), true, now);
    feedback.handle_key_frame_request();
    for (seq, time) in [(0x1_000c, 9), (0x1_000d, 10)] {
        feedback.handle_sent(&of_frame(seq, time), false, now);
    }
    // It comes late, as what it repeats was lost on the way to us.
    feedback.handle_sent(&of_frame(0x1_000b, 9), false, now);
    let later = now + RESEND_PAUSE;
    let mut out = Vec::new();
    let asked = [9, 10, 11, 12, 13].into_iter();
    let last = Some(ExtSeq(0x1_000d));
    feedback.handle_nack(asked, last, &Source::default(), &mut out, later);
    let resent: Vec<u64> = out.iter().map(|resend| resend.outgoing.seq.0).collect();
    assert_eq!(resent, [0x1_000a, 0x1_000b, 0x1_000c]);
    assert_eq!(feedback.counters().throttled, 2);
}

#[test]
fn unknown_numbers_and_streams_that_are_gone_miss() {
    let now = epoch();
    let mut feedback = fed(None, now);
    let later = now + RESEND_PAUSE;
    assert!(ask(&mut feedback, &[0x000a, 0xfff5, 0x8000], later).is_empty());
    let mut out = Vec::new();
    let restarted = Source {
        generations: [0, 1, 0],
        ..Source::default()
    };
    let last = Some(ExtSeq(0x1_0009));
    feedback.handle_nack([5].into_iter(), last, &restarted, &mut out, later);
    assert!(out.is_empty());
    feedback.handle_jump(1);
    assert!(ask(&mut feedback, &[5], later).is_empty());
    assert_eq!(feedback.counters().missed, 5);
    assert_eq!(feedback.counters().resent, 0);
}

#[test]
fn an_old_packet_gives_way_in_the_ring_and_cannot_push_out_a_new_one() {
    let now = epoch();
    let mut feedback = Feedback::new(SSRC, None, 8, now);
    for seq in [100, 108, 100] {
        feedback.handle_sent(&sent(seq), false, now);
    }
    let mut out = Vec::new();
    let (last, later) = (Some(ExtSeq(108)), now + RESEND_PAUSE);
    let seqs = [100u16, 108].into_iter();
    feedback.handle_nack(seqs, last, &Source::default(), &mut out, later);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].outgoing, sent(108).outgoing);
}

#[test]
fn a_flood_of_nacks_is_cut() {
    let now = epoch();
    let mut feedback = fed(None, now);
    let mut out = Vec::new();
    let last = Some(ExtSeq(0x1_0009));
    let all = (0..=u16::MAX).cycle().take(100_000);
    feedback.handle_nack(all, last, &Source::default(), &mut out, now + RESEND_PAUSE);
    assert!(out.len() <= MAX_NACKED);
    assert_eq!(feedback.counters().excess, 100_000 - MAX_NACKED as u64);
}

#[test]
fn a_missing_layer_is_asked_for_every_two_round_trips_within_bounds() {
    let now = epoch();
    let mut asked = KeyFrameAsk::default();
    let rtt = Duration::from_millis(300);
    assert_eq!(asked.poll(Some(2), None, rtt, now), Some((2, false)));
    assert_eq!(asked.poll(Some(2), None, rtt, now), None);
    let next = now + rtt * 2;
    assert_eq!(asked.poll_timeout(Some(2), None, now), Some(next));
    assert_eq!(asked.poll(Some(2), None, rtt, next), Some((2, false)));
    assert_eq!(asked.poll_timeout(None, Some(2), now), None);
}

#[test]
fn an_unproven_stream_is_asked_for_with_one_urgent_request() {
    let now = epoch();
    let mut asked = KeyFrameAsk::default();
    asked.handle_key_frame_sent(DEFAULT_RTT, now);
    assert_eq!(asked.poll(None, Some(0), DEFAULT_RTT, now), None);
    let mut at = now;
    let mut urgent = Vec::new();
    for _ in 0..4 {
        at += INTERVAL_LOW;
        urgent.extend(asked.poll(None, Some(0), DEFAULT_RTT, at).map(|(_, u)| u));
    }
    assert_eq!(urgent, [true, false, false, false]);
    asked.handle_proof();
    assert_eq!(asked.poll_timeout(None, Some(0), at), None);
}

#[test]
fn a_client_that_never_reports_is_given_up() {
    let now = epoch();
    let mut asked = KeyFrameAsk::default();
    asked.handle_key_frame_sent(DEFAULT_RTT, now);
    let late = now + Duration::from_secs(31);
    assert_eq!(asked.poll_timeout(None, Some(0), late), None);
}

#[test]
fn a_request_stands_until_a_key_frame_is_sent() {
    let now = epoch();
    let mut asked = KeyFrameAsk::default();
    asked.handle_proof();
    asked.handle_request();
    assert_eq!(
        asked.poll(None, Some(1), DEFAULT_RTT, now),
        Some((1, false))
    );
    assert_eq!(
        asked.poll_timeout(None, Some(1), now),
        Some(now + INTERVAL_LOW)
    );
    asked.handle_key_frame_sent(DEFAULT_RTT, now);
    assert_eq!(asked.poll_timeout(None, Some(1), now), None);
}

const INTERVAL_LOW: Duration = Duration::from_millis(200);

#[test]
fn a_codec_without_rtx_beside_one_with_it_is_not_resent() {
    let now = epoch();
    let other = Rtx {
        payload_types: [(98, 99)].into_iter().collect(),
        ..rtx()
    };
    let mut feedback = fed(Some(other), now);
    let later = now + RESEND_PAUSE;
    assert_eq!(ask(&mut feedback, &[0x0001], later), []);
    assert_eq!(
        (feedback.counters().missed, feedback.counters().resent),
        (1, 0)
    );
}
