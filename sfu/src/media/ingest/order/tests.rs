//! Numbers over wraps, gaps and padding; each forwarded number given once.

use super::*;
use Arrival::{Empty, Media, Padding, Repair};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Forwarded number relative to the first packet's.
fn forwarded(order: &mut Order, base: u16, seq: u16, kind: Arrival) -> Option<i64> {
    let place = order.place(seq, u32::from(seq), kind, None).expect("taken");
    let base = i64::from(base) + 0x1_0000;
    place.seq.map(|seq| seq.0 as i64 - base)
}

#[test]
fn numbers_and_times_extend_over_the_wrap() {
    let mut order = Order::default();
    let first = order.place(0xFFFF, u32::MAX, Media, None).expect("first");
    let second = order.place(0, 0, Media, None).expect("second");
    assert_eq!(second.raw.0, first.raw.0 + 1);
    assert_eq!(second.time.0, first.time.0 + 1);
    assert_eq!((second.gap, second.late), (0, false));
}

#[test]
fn a_gap_is_told_and_filled_late() {
    let mut order = Order::default();
    order.place(10, 0, Media, None).expect("first");
    let after = order.place(13, 30, Media, None).expect("after the gap");
    assert_eq!(after.gap, 2);
    let late = order.place(11, 10, Media, None).expect("late");
    assert!(late.late);
    assert_eq!(late.gap, 0);
    assert_eq!(order.place(11, 10, Media, None), Err(Rejected::Duplicate));
    assert_eq!(order.place(13, 30, Media, None), Err(Rejected::Duplicate));
}

#[test]
fn what_is_older_than_the_stream_or_the_window_is_refused() {
    let mut order = Order::default();
    order.place(100, 0, Media, None).expect("first");
    assert_eq!(order.place(99, 0, Media, None), Err(Rejected::TooOld));
    order.place(100 + 2048, 9, Media, None).expect("far ahead");
    assert_eq!(order.place(100, 0, Media, None), Err(Rejected::TooOld));
    assert!(order.place(101, 0, Media, None).is_ok());
    // An old number with a newer timestamp.
    assert_eq!(order.place(102, 10, Media, None), Err(Rejected::TooOld));
}

#[test]
fn a_repair_neither_begins_nor_advances_a_stream() {
    let mut order = Order::default();
    assert_eq!(order.place(10, 0, Repair, None), Err(Rejected::Ahead));
    order.place(10, 0, Media, None).expect("first");
    assert_eq!(order.place(11, 0, Repair, None), Err(Rejected::Ahead));
    order.place(12, 0, Media, None).expect("third");
    assert!(order.place(11, 0, Repair, None).expect("repair").late);
}

#[test]
fn empty_packets_leave_no_hole() {
    let mut order = Order::default();
    assert_eq!(forwarded(&mut order, 10, 10, Media), Some(0));
    assert_eq!(forwarded(&mut order, 10, 11, Empty), None);
    assert_eq!(forwarded(&mut order, 10, 12, Empty), None);
    assert_eq!(forwarded(&mut order, 10, 13, Media), Some(1));
    // A padding packet behind a gap: the gap keeps its numbers.
    assert_eq!(forwarded(&mut order, 10, 16, Empty), None);
    assert_eq!(forwarded(&mut order, 10, 17, Media), Some(4));
    assert_eq!(forwarded(&mut order, 10, 14, Media), Some(2));
    assert_eq!(forwarded(&mut order, 10, 15, Repair), Some(3));
    assert_eq!(order.ranges.len(), 3);
}

#[test]
fn a_late_empty_packet_is_tolerated() {
    let mut order = Order::default();
    assert_eq!(forwarded(&mut order, 10, 10, Media), Some(0));
    assert_eq!(forwarded(&mut order, 10, 12, Media), Some(2));
    assert_eq!(forwarded(&mut order, 10, 11, Empty), None);
    assert_eq!(forwarded(&mut order, 10, 13, Media), Some(3));
}

#[test]
fn late_padding_takes_the_number_that_was_kept_for_it() {
    let mut order = Order::default();
    assert_eq!(forwarded(&mut order, 10, 10, Media), Some(0));
    assert_eq!(forwarded(&mut order, 10, 12, Media), Some(2));
    assert_eq!(forwarded(&mut order, 10, 11, Padding), Some(1));
    // In its turn it needs none.
    assert_eq!(forwarded(&mut order, 10, 13, Padding), None);
    assert_eq!(forwarded(&mut order, 10, 14, Media), Some(3));
}

#[test]
fn late_padding_that_nothing_has_passed_needs_no_number() {
    let mut order = Order::default();
    assert_eq!(forwarded(&mut order, 10, 10, Media), Some(0));
    // A picture (11, 12), then padding that comes in the wrong order, before the picture.
    assert_eq!(forwarded(&mut order, 10, 15, Padding), None);
    assert_eq!(forwarded(&mut order, 10, 13, Padding), None);
    assert_eq!(forwarded(&mut order, 10, 14, Padding), None);
    assert_eq!(forwarded(&mut order, 10, 11, Media), Some(1));
    assert_eq!(forwarded(&mut order, 10, 12, Media), Some(2));
    assert_eq!(forwarded(&mut order, 10, 16, Media), Some(3));
    // A malformed one likewise.
    assert_eq!(forwarded(&mut order, 10, 18, Empty), None);
    assert_eq!(forwarded(&mut order, 10, 17, Empty), None);
    assert_eq!(forwarded(&mut order, 10, 19, Media), Some(4));
}

#[test]
fn a_stream_may_begin_with_empty_packets() {
    let mut order = Order::default();
    assert_eq!(forwarded(&mut order, 10, 10, Empty), None);
    assert_eq!(forwarded(&mut order, 10, 11, Empty), None);
    assert_eq!(forwarded(&mut order, 10, 12, Media), Some(0));
}

fn part(number: u16, starts: bool, ends: bool) -> Option<Frame> {
    Some(Frame {
        picture: Some(Picture { number, last: 0x7F }),
        starts,
        ends,
    })
}

const WHOLE: Option<Frame> = Some(Frame {
    picture: None,
    starts: true,
    ends: true,
});

fn certain(place: Place) -> Option<(u64, bool)> {
    let settled = place.settled?;
    Some((place.raw.0 - settled.first.0, settled.certain))
}

#[test]
fn what_is_missing_between_two_frames_that_follow_each_other_was_padding() {
    let mut order = Order::default();
    let first = order
        .place(10, 0, Media, part(126, true, true))
        .expect("first");
    let next = order
        .place(15, 1, Media, part(127, true, false))
        .expect("a frame");
    assert_eq!(next.seq, Some(ExtSeq(first.raw.0 + 1)));
    assert_eq!(certain(next), Some((4, true)));
    // Late padding, and a publisher that thinks otherwise: their numbers are given to nobody.
    assert_eq!(order.place(12, 0, Padding, None), Err(refused(12, false)));
    assert_eq!(order.place(13, 0, Media, None), Err(refused(13, true)));
    assert_eq!(order.place(14, 0, Repair, None), Err(refused(14, true)));
    // Once is enough.
    assert_eq!(order.place(14, 0, Repair, None), Err(Rejected::Duplicate));
    assert_eq!(order.place(15, 1, Media, None), Err(Rejected::Duplicate));
    // Numbers of pictures begin anew.
    order
        .place(16, 1, Media, part(127, false, true))
        .expect("its end");
    let over = order
        .place(18, 2, Media, part(0, true, true))
        .expect("a frame");
    assert_eq!(over.seq, Some(ExtSeq(first.raw.0 + 3)));
}

#[test]
fn what_is_missing_between_padding_of_one_time_was_padding() {
    let mut order = Order::default();
    let first = order.place(10, 0, Media, WHOLE).expect("first");
    let padding = order
        .place(12, 0, Padding, None)
        .expect("behind a lost one");
    assert_eq!(certain(padding), Some((1, true)));
    let padding = order
        .place(15, 0, Padding, None)
        .expect("behind two lost ones");
    assert_eq!(certain(padding), Some((2, true)));
    let next = order.place(16, 9, Media, WHOLE).expect("a frame");
    assert_eq!((next.seq, next.gap), (Some(ExtSeq(first.raw.0 + 1)), 0));
    // Of another time: there was a frame between.
    let padding = order
        .place(18, 18, Padding, None)
        .expect("behind a lost frame");
    assert_eq!((padding.settled, padding.gap), (None, 1));
    let late = order.place(17, 18, Media, WHOLE).expect("the frame");
    assert_eq!(late.seq, Some(ExtSeq(first.raw.0 + 2)));
}

fn refused(seq: u16, media: bool) -> Rejected {
    let raw = ExtSeq(0x1_0000 + u64::from(seq));
    Rejected::Settled { raw, media }
}

/// A stream that pads, and so many whole frames of it without numbers, 3000 ticks apart.
fn padded(order: &mut Order, frames: u16) {
    for n in 0..frames {
        let time = u32::from(n) * 3000;
        order.place(2 * n, time, Media, WHOLE).expect("a frame");
        order
            .place(2 * n + 1, time, Padding, None)
            .expect("padding");
    }
}

#[test]
fn where_no_frame_has_room_there_was_none_most_likely() {
    let mut order = Order::default();
    padded(&mut order, 10);
    let near = order.place(21, 30_100, Media, WHOLE).expect("behind a gap");
    assert_eq!(certain(near), Some((1, false)));
    // A whole frame may be missing here.
    let far = order.place(23, 36_100, Media, WHOLE).expect("behind a gap");
    assert_eq!(far.settled, None);
}

#[test]
fn nothing_is_guessed_of_who_does_not_pad_or_is_not_asked_or_has_no_rhythm() {
    let judged = |order: &mut Order, seq, time| {
        let place = order.place(seq, time, Media, WHOLE).expect("behind a gap");
        certain(place)
    };
    // Never padding: an idle screen share that begins to move.
    let mut order = Order::default();
    for n in 0..10 {
        order
            .place(n, u32::from(n) * 18_000, Media, WHOLE)
            .expect("a frame");
    }
    assert_eq!(judged(&mut order, 11, 9 * 18_000 + 6000), None);
    // Without NACK nobody would notice.
    let mut order = Order::new(false);
    padded(&mut order, 10);
    assert_eq!(judged(&mut order, 21, 30_000), None);
    // Too few frames, and a time that runs backwards.
    let mut order = Order::default();
    padded(&mut order, 5);
    assert_eq!(judged(&mut order, 11, 15_000), None);
    let mut order = Order::default();
    padded(&mut order, 10);
    assert_eq!(judged(&mut order, 21, 26_000), None);
}

#[test]
fn numbers_of_pictures_that_come_round_within_an_outage_say_nothing() {
    // 128 pictures, two packets each, are missing: the number is the next one again.
    let mut order = Order::default();
    order
        .place(10, 0, Media, part(7, true, true))
        .expect("first");
    let after = order
        .place(267, 387_000, Media, part(8, true, true))
        .expect("after");
    assert_eq!(after.settled, None);
    // Begun anew in fewer bits.
    let wide = |number| {
        Some(Frame {
            picture: Some(Picture {
                number,
                last: 0x7FFF,
            }),
            starts: true,
            ends: true,
        })
    };
    let mut order = Order::default();
    order.place(10, 0, Media, wide(300)).expect("first");
    let after = order
        .place(12, 3000, Media, part(0, true, true))
        .expect("after");
    assert_eq!(after.settled, None);
    // Small numbers in fewer bits than large ones, as some senders write them.
    let mut order = Order::default();
    order
        .place(10, 0, Media, part(127, true, true))
        .expect("first");
    let after = order.place(12, 3000, Media, wide(128)).expect("after");
    assert_eq!(certain(after), Some((1, true)));
}

#[test]
fn a_picture_s_number_is_believed_more_than_the_rhythm() {
    let mut order = Order::default();
    padded(&mut order, 10);
    order
        .place(20, 30_000, Media, part(40, true, false))
        .expect("its end is lost");
    order.place(22, 30_000, Padding, None).expect("padding");
    let after = order
        .place(24, 33_000, Media, part(42, true, true))
        .expect("after");
    assert_eq!(after.settled, None, "41 is missing");
}

#[test]
fn more_than_can_be_known_of_is_not_settled() {
    let mut order = Order::default();
    order.place(10, 0, Media, WHOLE).expect("first");
    let after = order.place(3010, 0, Padding, None).expect("padding");
    assert_eq!((after.settled, after.gap), (None, 2999));
}

#[test]
fn what_may_have_been_of_a_frame_keeps_its_number() {
    for (before, after) in [
        // The picture between them is missing, or its end, or its begin.
        (part(7, true, true), part(9, true, true)),
        (part(7, true, false), part(8, true, true)),
        (part(7, true, true), part(8, false, true)),
        // Nobody tells.
        (part(7, true, true), None),
        (None, part(8, true, true)),
        (WHOLE, WHOLE),
    ] {
        let mut order = Order::default();
        let first = order.place(10, 0, Media, before).expect("first");
        let next = order.place(12, 1, Media, after).expect("behind a gap");
        assert_eq!(next.settled, None, "{before:?} {after:?}");
        assert_eq!(next.seq.expect("media").0, first.raw.0 + 2);
    }
}

#[test]
fn frames_out_of_turn_leave_the_numbering_alone() {
    let mut order = Order::default();
    order
        .place(10, 0, Media, part(1, true, true))
        .expect("first");
    order
        .place(12, 2, Media, part(3, true, true))
        .expect("third");
    let late = order
        .place(11, 1, Media, part(2, true, true))
        .expect("second");
    assert_eq!((late.late, late.settled), (true, None));
    let next = order
        .place(13, 3, Media, part(4, true, true))
        .expect("fourth");
    assert_eq!(next.seq.expect("media").0, late.raw.0 + 2);
}

proptest! {
    /// Forwarded numbers are unique, ordered as the publisher's, and without holes but for
    /// losses and late empty packets.
    #[test]
    fn the_forwarded_numbering_is_contiguous(
        start: u16,
        packets in proptest::collection::vec((any::<bool>(), 0usize..6), 1..300),
    ) {
        // Sort by delayed position: bounded reordering.
        let mut arrivals: Vec<_> = packets
            .iter()
            .enumerate()
            .map(|(i, (empty, delay))| (i + delay, i, *empty))
            .collect();
        arrivals.sort_unstable();
        let mut order = Order::default();
        let mut map = BTreeMap::new();
        let (mut highest, mut closed) = (None, 0u64);
        let first = arrivals[0].1;
        for (_, i, empty) in arrivals {
            let kind = if empty { Empty } else { Media };
            let seq = start.wrapping_add(i as u16);
            let Ok(place) = order.place(seq, i as u32, kind, None) else {
                prop_assert!(i < first);
                continue;
            };
            prop_assert_eq!(place.seq.is_none(), empty);
            prop_assert_eq!(place.late, highest > Some(i));
            let passed = map.last_key_value().is_some_and(|(raw, _)| *raw > place.raw);
            if empty && !passed {
                closed += 1;
            }
            highest = highest.max(Some(i));
            if let Some(seq) = place.seq {
                prop_assert_eq!(map.insert(place.raw, seq), None);
            }
        }
        let numbers: Vec<u64> = map.values().map(|seq| seq.0).collect();
        prop_assert!(numbers.is_sorted());
        let mut unique = numbers.clone();
        unique.dedup();
        prop_assert_eq!(unique.len(), numbers.len());
        if let Some((raw, seq)) = map.last_key_value() {
            prop_assert!(raw.0 - seq.0 <= closed);
        }
    }

    /// Whatever a publisher sends: no forwarded number is given twice, and they keep their order.
    #[test]
    fn any_packets_get_numbers_of_their_own(
        packets in proptest::collection::vec(
            (0u16..60, any::<bool>(), 0u8..4, (0u16..4, any::<bool>(), any::<bool>())),
            0..300,
        ),
        wild in proptest::collection::vec((any::<u16>(), any::<u32>()), 0..20),
    ) {
        let mut order = Order::default();
        let mut given = BTreeMap::new();
        let mut at = 0_u16;
        for (step, back, kind, (picture, starts, ends)) in packets {
            let seq = if back { at.wrapping_sub(step) } else { at.wrapping_add(step % 5) };
            at = if back { at } else { seq };
            let kind = [Media, Empty, Repair, Padding][usize::from(kind)];
            let picture = (picture > 0).then_some(Picture { number: picture, last: 3 });
            let frame = Some(Frame { picture, starts, ends });
            if let Ok(Place { raw, seq: Some(seq), .. }) = order.place(seq, u32::from(seq), kind, frame) {
                prop_assert_eq!(given.insert(seq, raw), None);
            }
            let unanswered = ExtSeq(0x1_0000 + u64::from(at) - u64::from(step));
            if starts && let Some(seq) = order.give_up(unanswered) {
                prop_assert_eq!(given.insert(seq, unanswered), None);
            }
            prop_assert!(order.ranges.len() <= RANGES);
        }
        prop_assert!(given.values().is_sorted());
        for (seq, timestamp) in wild {
            let _ = order.place(seq, timestamp, Media, None);
        }
    }
}
