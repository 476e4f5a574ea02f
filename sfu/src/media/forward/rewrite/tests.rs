use super::*;
use crate::media::packet::Span;
use crate::rtp::vp8::{Descriptor, PictureId};
use std::time::Duration;

#[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
fn epoch() -> Instant {
    Instant::now()
}

const MS: Duration = Duration::from_millis(1);

fn packet(spatial: u8, seq: u64, time: u64, arrival: Instant) -> Packet {
    Packet {
        seq: ExtSeq(seq),
        time: RtpTime(time),
        arrival,
        payload_type: 96,
        marker: true,
        spatial,
        key_frame: true,
        late: false,
        codec: CodecInfo::Vp8(Descriptor {
            len: 3,
            frame_start: true,
            start_and_partition: 0x10,
            picture_id: Some(PictureId {
                value: (seq & 0x7fff) as u16,
                wide: true,
            }),
            ..Descriptor::default()
        }),
        trailer: 0,
        span: Span { start: 0, len: 100 },
    }
}

fn clock(ntp_ms: u64, rtp: u64, arrival: Instant) -> Option<SenderClock> {
    Some(SenderClock {
        ntp: (ntp_ms << 32) / 1000,
        rtp: RtpTime(rtp),
        arrival,
    })
}

fn follow(rewriter: &mut Rewriter, packet: &Packet, source: &Source) -> Result<Numbers, Refusal> {
    let order = rewriter.order(packet, source);
    rewriter.follow(packet, order, false)
}

/// A copy that began at sequence number 100 and time 1000 with layer 0 at time 50,000.
fn begun(now: Instant) -> Rewriter {
    let mut rewriter = Rewriter::new(true, 90_000, 100, 1000);
    let first = rewriter.begin(&packet(0, 10, 50_000, now), &Source::default(), now);
    let first = first.expect("first");
    assert_eq!((first.seq, first.time), (ExtSeq(100), 1000));
    rewriter
}

#[test]
fn gaps_stay_holes_and_late_packets_fill_them_once() {
    let now = epoch();
    let source = Source::default();
    let mut rewriter = begun(now);
    let fresh = follow(&mut rewriter, &packet(0, 13, 53_000, now), &source).expect("fresh");
    assert_eq!((fresh.seq, fresh.time), (ExtSeq(103), 4000));
    assert_eq!(rewriter.holes(), 2);
    let late = packet(0, 11, 51_000, now);
    let filled = follow(&mut rewriter, &late, &source).expect("late");
    assert_eq!((filled.seq, filled.time), (ExtSeq(101), 2000));
    assert_eq!(
        follow(&mut rewriter, &late, &source),
        Err(Refusal::Duplicate)
    );
    let newest = packet(0, 13, 53_000, now);
    assert_eq!(
        follow(&mut rewriter, &newest, &source),
        Err(Refusal::Duplicate)
    );
    let before = packet(0, 9, 49_000, now);
    assert_eq!(
        follow(&mut rewriter, &before, &source),
        Err(Refusal::NoPlace)
    );
    assert_eq!(rewriter.holes(), 1);
}

#[test]
fn a_late_packet_behind_one_left_out_is_not_overtaken_by_a_new_start() {
    let now = epoch();
    let source = Source::default();
    let mut rewriter = begun(now);
    let left_out = packet(0, 12, 51_000, now);
    let order = rewriter.order(&left_out, &source);
    rewriter.skip(&left_out, order);
    let late = follow(&mut rewriter, &packet(0, 11, 51_000, now), &source);
    // Its picture is newer than any sent: it has no place.
    assert_eq!(late, Err(Refusal::NoPlace));
    rewriter.pause(false);
    let next = rewriter.begin(&packet(0, 13, 60_000, now), &source, now);
    assert_eq!(next.expect("resumed").seq, ExtSeq(101));
}

#[test]
fn late_padding_fills_its_hole_and_cuts_no_frame() {
    let now = epoch();
    let source = Source::default();
    let mut rewriter = begun(now);
    let padding = |seq| Packet {
        marker: false,
        late: true,
        codec: CodecInfo::None,
        span: Span { start: 0, len: 0 },
        ..packet(0, seq, 51_000, now)
    };
    follow(&mut rewriter, &packet(0, 12, 51_000, now), &source).expect("fresh");
    let filler = follow(&mut rewriter, &padding(11), &source).expect("a hole");
    assert_eq!((filler.seq, filler.skip), (ExtSeq(101), 0));
    assert!(filler.head.as_slice().is_empty());
    assert_eq!(rewriter.holes(), 0);
    // As the copy's newest, too.
    let left_out = packet(0, 14, 51_000, now);
    let order = rewriter.order(&left_out, &source);
    rewriter.skip(&left_out, order);
    let filler = follow(&mut rewriter, &padding(13), &source).expect("a hole");
    assert_eq!(filler.seq, ExtSeq(103));
    rewriter.pause(false);
    let next = rewriter.begin(&packet(0, 20, 60_000, now), &source, now);
    assert_eq!(next.expect("resumed").seq, ExtSeq(104));
}

#[test]
fn a_picture_is_not_left_out_if_some_of_it_may_be_missing_before_padding() {
    let now = epoch();
    let source = Source::default();
    for (gap, kept) in [(1, true), (0, false)] {
        let mut rewriter = begun(now);
        // Late already, but newer than all that was sent.
        let padding = Packet {
            late: true,
            codec: CodecInfo::None,
            span: Span { start: 0, len: 0 },
            ..packet(0, 11 + gap, 53_000, now)
        };
        follow(&mut rewriter, &padding, &source).expect("fresh");
        let unwanted = packet(0, 12 + gap, 53_000, now);
        let order = rewriter.order(&unwanted, &source);
        let sent = rewriter.follow(&unwanted, order, true);
        assert_eq!(sent.is_ok(), kept, "{gap} missing");
    }
}

#[test]
fn audio_behind_one_left_out_keeps_its_number_to_itself() {
    let now = epoch();
    let source = Source::default();
    let mut rewriter = Rewriter::new(false, 48_000, 100, 0);
    rewriter
        .begin(&packet(0, 10, 0, now), &source, now)
        .expect("first");
    let left_out = packet(0, 12, 1920, now);
    let order = rewriter.order(&left_out, &source);
    rewriter.skip(&left_out, order);
    let late = follow(&mut rewriter, &packet(0, 11, 960, now), &source).expect("late");
    assert_eq!(late.seq, ExtSeq(101));
    rewriter.pause(false);
    let next = rewriter.begin(&packet(0, 13, 2880, now), &source, now);
    assert_eq!(next.expect("resumed").seq, ExtSeq(102));
}

#[test]
fn a_switch_is_mapped_by_both_sender_reports() {
    let now = epoch();
    let mut rewriter = begun(now);
    // Layer 0 showed 50,000 at 1.000 s, layer 1 showed 7,000,000 at 1.500 s.
    let source = Source {
        clocks: [clock(1000, 50_000, now), clock(1500, 7_000_000, now), None],
        ..Source::default()
    };
    // Layer 1's frame was taken at 1.533 s and comes 540 ms after the first packet.
    let at = now + 540 * MS;
    let key = packet(1, 900, 7_002_970, at);
    let switched = rewriter.begin(&key, &source, at).expect("mapped");
    assert_eq!(switched.seq, ExtSeq(101));
    assert_eq!(switched.time, 1000 + 45_000 + 2970);
    let (report, copy) = rewriter.clock(&source).expect("clock");
    assert_eq!((report.ntp, copy), (3 << 31, 1000 + 45_000));
}

#[test]
fn a_switch_without_reports_waits_half_a_second_and_then_trusts_the_wall_clock() {
    let now = epoch();
    let mut rewriter = begun(now);
    let source = Source::default();
    let at = now + 100 * MS;
    let key = packet(1, 900, 7_000_000, at);
    assert_eq!(rewriter.begin(&key, &source, at), Err(Refusal::NotYet));
    let old = follow(&mut rewriter, &packet(0, 11, 60_000, at), &source);
    assert_eq!(old.expect("the old layer goes on").time, 11_000);
    let at = now + 600 * MS;
    let key = packet(1, 950, 7_045_000, at);
    let switched = rewriter.begin(&key, &source, at).expect("wall clock");
    assert_eq!(
        (switched.seq, switched.time),
        (ExtSeq(102), 11_000 + 45_000)
    );
}

#[test]
fn a_layer_slightly_behind_goes_on_by_one_tick_and_one_far_behind_waits() {
    let now = epoch();
    for (behind, expected) in [(4000, Ok(1001)), (5000, Err(Refusal::NotYet))] {
        let mut rewriter = begun(now);
        let source = Source {
            clocks: [clock(1000, 50_000, now), clock(1000, 7_000_000, now), None],
            ..Source::default()
        };
        let key = packet(1, 900, 7_000_000 - behind, now);
        let switched = rewriter.begin(&key, &source, now).map(|n| n.time);
        assert_eq!(switched, expected, "{behind}");
    }
}

#[test]
fn absurd_reports_give_way_to_the_wall_clock() {
    let now = epoch();
    let mut rewriter = begun(now);
    let source = Source {
        clocks: [
            clock(1000, 50_000, now),
            clock(u64::from(u32::MAX), 7_000_000, now),
            None,
        ],
        ..Source::default()
    };
    let key = packet(1, 900, 7_000_000, now);
    assert_eq!(rewriter.begin(&key, &source, now), Err(Refusal::NotYet));
    let at = now + 500 * MS;
    let switched = rewriter.begin(&packet(1, 900, 7_000_000, at), &source, at);
    assert_eq!(switched.expect("wall clock").time, 1000 + 45_000);
}

#[test]
fn a_clock_that_stood_still_while_muted_catches_up() {
    let now = epoch();
    let at = now + 10_000 * MS;
    for (muted, ticks, expected) in [
        // The source's clock ran on.
        (true, 900_000, 901_000),
        // It stood still.
        (true, 3000, 901_000),
        (false, 3000, 901_000),
        // It lags a little: that is how it is after a pause, but not after a mute.
        (false, 810_000, 811_000),
        (true, 810_000, 901_000),
    ] {
        let mut rewriter = begun(now);
        rewriter.pause(muted);
        let source = Source::default();
        let back = packet(0, 500, 50_000 + ticks, at);
        let resumed = rewriter.begin(&back, &source, at).expect("resumed");
        assert_eq!(resumed.time, expected, "{muted} {ticks}");
        assert_eq!(resumed.seq, ExtSeq(101));
        let old = packet(0, 490, 50_000, at);
        assert_eq!(follow(&mut rewriter, &old, &source), Err(Refusal::NoPlace));
    }
}

#[test]
fn reports_of_before_a_stall_are_not_passed_on() {
    let now = epoch();
    let mut rewriter = begun(now);
    let mut source = Source {
        clocks: [clock(1000, 50_000, now), None, None],
        ..Source::default()
    };
    assert!(rewriter.clock(&source).is_some());
    rewriter.pause(true);
    let at = now + 10_000 * MS;
    rewriter
        .begin(&packet(0, 500, 53_000, at), &source, at)
        .expect("resumed");
    assert!(rewriter.clock(&source).is_none());
    source.clocks[0] = clock(11_100, 62_000, at + 100 * MS);
    assert_eq!(rewriter.clock(&source).map(|c| c.1), Some(910_000));
}

#[test]
fn a_restart_on_the_same_layer_is_another_stream() {
    let now = epoch();
    let mut rewriter = begun(now);
    let source = Source {
        generations: [1, 0, 0],
        ..Source::default()
    };
    let at = now + 33 * MS;
    let restarted = packet(0, 11, 123, at);
    assert!(rewriter.is_cut_by(&restarted, &source));
    rewriter.pause(false);
    let next = rewriter.begin(&restarted, &source, at).expect("resumed");
    assert_eq!((next.seq, next.time), (ExtSeq(101), 1000 + 2970));
}

#[test]
fn a_jump_is_a_restart_and_a_late_packet_is_not() {
    let now = epoch();
    let source = Source::default();
    let rewriter = begun(now);
    assert!(rewriter.is_cut_by(&packet(0, 10 + MAX_JUMP + 1, 0, now), &source));
    assert!(!rewriter.is_cut_by(&packet(0, 10 + MAX_JUMP, 0, now), &source));
    assert!(!rewriter.is_cut_by(&packet(1, 9_999_999, 0, now), &source));
}

#[test]
fn a_cut_frame_leaves_one_number_out_at_the_switch() {
    let now = epoch();
    let source = Source::default();
    let mut rewriter = begun(now);
    let cut = Packet {
        marker: false,
        ..packet(0, 11, 53_000, now)
    };
    follow(&mut rewriter, &cut, &source).expect("fresh");
    rewriter.pause(false);
    let next = rewriter.begin(&packet(0, 20, 60_000, now), &source, now);
    assert_eq!(next.expect("resumed").seq, ExtSeq(103));
}

#[test]
fn time_never_stands_still_across_a_start() {
    let now = epoch();
    let mut rewriter = begun(now);
    rewriter.pause(false);
    let back = packet(0, 20, 40_000, now);
    let next = rewriter.begin(&back, &Source::default(), now);
    assert_eq!(next.expect("resumed").time, 1001);
}
