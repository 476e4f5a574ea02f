//! Each rule is broken on purpose: a good stream is tampered with, and that very rule must tell.

use super::*;
use sfu::rtp::vp8::{Descriptor, PictureId, Temporal};

const SSRC: u32 = 7;

#[allow(
    clippy::disallowed_methods,
    reason = "an arbitrary origin for virtual time"
)]
fn origin() -> Instant {
    Instant::now()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn wish(highest: Option<u8>, since: Instant) -> Wish {
    Wish { highest, since }
}

/// Frames of two packets each, in two temporal layers; a key picture first.
fn stream() -> Vec<Sent> {
    let packet = |index: u64| {
        let frame = index / 2;
        let starts = index.is_multiple_of(2);
        let layer = (frame % 2) as u8;
        let descriptor = Descriptor {
            frame_start: starts,
            start_and_partition: if starts { 0x10 } else { 0 },
            picture_id: Some(PictureId {
                value: (32_760 + frame as u16) & 0x7FFF,
                wide: true,
            }),
            tl0_index: Some((250 + frame / 2) as u8),
            temporal: Some(Temporal { layer, sync: false }),
            ..Descriptor::default()
        };
        let mut head = [0; sfu::rtp::vp8::MAX_LEN];
        let len = descriptor.write(&mut head);
        let mut payload = head[..len].to_vec();
        payload.extend([u8::from(frame != 0), 1, 2, index as u8]);
        Sent {
            ssrc: SSRC,
            index: 65_530 + index,
            timestamp: (frame as u32).wrapping_mul(3000).wrapping_sub(9000),
            marker: !starts,
            payload,
            repeats: false,
            vp8: true,
            layer: Some(0),
        }
    };
    (0..40).map(packet).collect()
}

/// What a stream breaks, one packet each 16 ms, when what was published is that of `stream`.
fn broken_by(sent: &[Sent]) -> Option<Invariant> {
    let (mut rules, start) = (Invariants::new(), origin());
    rules.set_ready(true);
    rules.wish(SSRC, wish(Some(0), start));
    for packet in stream() {
        rules.published(&packet.payload, true);
    }
    for (n, packet) in (0..).zip(sent) {
        let told = rules.sent(packet, start + ms(16 * n));
        if let Err(broken) = told {
            return Some(broken.invariant);
        }
    }
    rules.close(SSRC, 0).err().map(|broken| broken.invariant)
}

/// What the stream breaks when one packet is changed.
fn tampered(at: usize, change: impl FnOnce(&mut Sent)) -> Option<Invariant> {
    let mut sent = stream();
    change(&mut sent[at]);
    broken_by(&sent)
}

/// Writes the descriptor of a packet anew.
fn describe(sent: &mut Sent, change: impl FnOnce(&mut Descriptor)) {
    let mut descriptor = Descriptor::parse(&sent.payload).expect("a descriptor");
    let body = pictures::body(&sent.payload, true).to_vec();
    change(&mut descriptor);
    let mut head = [0; sfu::rtp::vp8::MAX_LEN];
    let len = descriptor.write(&mut head);
    sent.payload = [&head[..len], &body].concat();
}

#[test]
fn a_good_stream_breaks_nothing() {
    assert_eq!(broken_by(&stream()), None);
}

#[test]
fn late_packets_break_nothing() {
    let mut sent = stream();
    sent.swap(10, 11);
    sent.swap(20, 24);
    assert_eq!(broken_by(&sent), None);
}

#[test]
fn a_number_left_out_is_a_hole_unless_a_packet_was_lost_before() {
    let mut sent = stream();
    sent.remove(11);
    assert_eq!(broken_by(&sent), Some(Invariant::Contiguous));
    let mut rules = Invariants::new();
    rules.set_ready(true);
    for packet in &sent {
        rules.published(&packet.payload, true);
        rules.sent(packet, origin()).expect("nothing wrong yet");
    }
    assert_eq!(rules.close(SSRC, 1), Ok(()));
}

#[test]
fn a_time_that_goes_back_or_differs_within_a_frame_is_told() {
    let back = tampered(20, |sent| sent.timestamp -= 9000);
    assert_eq!(back, Some(Invariant::Timestamps));
    let differs = tampered(21, |sent| sent.timestamp += 1);
    assert_eq!(differs, Some(Invariant::Timestamps));
}

#[test]
fn a_picture_id_that_does_not_count_is_told() {
    let skips = tampered(20, |sent| {
        describe(sent, |descriptor| {
            if let Some(id) = &mut descriptor.picture_id {
                id.value += 1;
            }
        });
    });
    assert_eq!(skips, Some(Invariant::PictureIds));
}

#[test]
fn a_base_layer_index_that_does_not_count_is_told() {
    let stands = tampered(20, |sent| {
        describe(sent, |descriptor| {
            descriptor.tl0_index = descriptor.tl0_index.map(|index| index.wrapping_sub(1));
        });
    });
    assert_eq!(stands, Some(Invariant::BaseLayer));
}

#[test]
fn a_hole_nobody_mends_within_a_second_is_told() {
    let (mut rules, start) = (Invariants::new(), origin());
    rules.set_ready(true);
    for packet in stream() {
        rules.published(&packet.payload, true);
    }
    for packet in stream().iter().filter(|packet| packet.index != 65_541) {
        rules.sent(packet, start).expect("nothing wrong yet");
    }
    assert_eq!(rules.poll(start + ms(900)), Ok(()));
    let late = rules.poll(start + ms(1100)).expect_err("nothing came");
    assert_eq!(late.invariant, Invariant::Mended);
    rules
        .key_asked(9, ms(500), start + ms(1100))
        .expect("the first");
    assert_eq!(rules.poll(start + ms(3000)), Ok(()));
}

#[test]
fn sound_and_picture_far_apart_are_told() {
    let mut rules = Invariants::new();
    let mut report = Report {
        group: 1,
        ntp: 100 << 32,
        rtp: 480,
        clock_rate: 48_000,
        timestamp: 48_480,
        captured_s: 1.0,
    };
    rules.reported(1, &report).expect("alone");
    report.clock_rate = 90_000;
    report.timestamp = 480 + 90_000 + 450;
    rules.reported(2, &report).expect("5 ms are nothing");
    report.timestamp += 900;
    let apart = rules.reported(2, &report).expect_err("15 ms");
    assert_eq!(apart.invariant, Invariant::Skew);
    report.group = 2;
    rules.reported(2, &report).expect("another publisher");
}

#[test]
fn a_packet_to_a_connection_that_is_not_ready_or_closed_is_told() {
    let (mut rules, packet) = (Invariants::new(), stream().remove(0));
    rules.published(&packet.payload, true);
    let early = rules.sent(&packet, origin()).expect_err("not ready");
    assert_eq!(early.invariant, Invariant::Ready);
    rules.set_ready(true);
    rules.sent(&packet, origin()).expect("ready");
    rules.set_ready(false);
    let late = rules.sent(&packet, origin()).expect_err("closed");
    assert_eq!(late.invariant, Invariant::Ready);
}

#[test]
fn a_retransmission_of_other_bytes_is_told() {
    let mut sent = stream();
    let again = Sent {
        repeats: true,
        ..sent[12].clone()
    };
    sent.push(again.clone());
    assert_eq!(broken_by(&sent), None);
    for change in [
        |sent: &mut Sent| sent.marker ^= true,
        |sent: &mut Sent| sent.index += 1,
    ] {
        let mut other = again.clone();
        change(&mut other);
        *sent.last_mut().expect("there") = other;
        assert_eq!(broken_by(&sent), Some(Invariant::Retransmission));
    }
}

#[test]
fn a_payload_nobody_published_is_told() {
    let changed = tampered(9, |sent| *sent.payload.last_mut().expect("bytes") ^= 0x80);
    assert_eq!(changed, Some(Invariant::Payload));
}

#[test]
fn an_index_used_for_two_packets_is_told() {
    let mut sent = stream();
    let twice = Sent {
        index: sent[12].index,
        ..sent[13].clone()
    };
    sent.insert(13, twice);
    assert_eq!(broken_by(&sent), Some(Invariant::Nonce));
    let mut same = stream();
    let again = same[12].clone();
    same.push(again);
    assert_eq!(
        broken_by(&same),
        None,
        "the same bytes again are no other packet"
    );
}

#[test]
fn a_layer_above_the_wish_is_told_once_the_switch_had_its_time() {
    let (mut rules, start) = (Invariants::new(), origin());
    rules.set_ready(true);
    rules.wish(SSRC, wish(Some(1), start));
    let high = Sent {
        layer: Some(2),
        ..stream().remove(0)
    };
    rules.published(&high.payload, true);
    rules.sent(&high, start + ms(2900)).expect("overshoot");
    let late = rules.sent(&high, start + ms(3100)).expect_err("too long");
    assert_eq!(late.invariant, Invariant::Wish);
    rules.wish(SSRC, wish(None, start));
    let lowest = Sent {
        layer: Some(0),
        ..high
    };
    let unwanted = rules.sent(&lowest, start + ms(3200)).expect_err("nothing");
    assert_eq!(unwanted.invariant, Invariant::Wish);
}

#[test]
fn three_requests_in_one_window_are_told() {
    let (mut rules, start) = (Invariants::new(), origin());
    let mut ask = |ssrc, at| rules.key_asked(ssrc, ms(500), start + ms(at));
    for (ssrc, at) in [(1, 0), (2, 0), (1, 240), (1, 500)] {
        ask(ssrc, at).expect("once a window, and an urgent one");
    }
    let thrice = ask(1, 700).expect_err("too many");
    assert_eq!(thrice.invariant, Invariant::KeyRequests);
}

#[test]
fn a_wrong_loss_and_what_stays_behind_are_told() {
    assert_eq!(loss(3, 3), Ok(()));
    assert_eq!(loss(3, 4).expect_err("wrong").invariant, Invariant::Loss);
    assert_eq!(memory(&[0, 0], &[0, 0]), Ok(()));
    assert_eq!(
        memory(&[1, 0], &[0, 0]).expect_err("left").invariant,
        Invariant::Memory
    );
}

#[test]
fn a_datagram_that_is_not_as_it_was_sent_is_told() {
    let mut ledger = Ledger::default();
    ledger.sent_up(b"one");
    ledger.sent_down(b"two");
    assert_eq!(
        (ledger.came_up(b"one"), ledger.came_down(b"two")),
        (Ok(()), Ok(()))
    );
    for wrong in [ledger.came_up(b"two"), ledger.came_down(b"one")] {
        assert_eq!(wrong.expect_err("never sent").invariant, Invariant::AsSent);
    }
}

/// What frames break of which these were sent and came, with so many counted as dropped.
fn frames(sent: &[u8], came: &[u8], dropped: u64) -> Option<Invariant> {
    let mut frames = Frames::default();
    sent.iter().for_each(|frame| frames.sent(&[*frame]));
    let mut came = came.iter().map(|frame| frames.came(&[*frame], dropped));
    let told = came.find_map(Result::err);
    drop(came);
    let told = told.or_else(|| frames.close(dropped).err());
    told.map(|broken| broken.invariant)
}

#[test]
fn frames_out_of_turn_and_those_left_out_uncounted_are_told() {
    assert_eq!(frames(&[1, 2, 3], &[1, 2, 3], 0), None);
    assert_eq!(frames(&[1, 2, 3], &[1, 3], 1), None);
    assert_eq!(
        frames(&[1, 2, 3], &[1], 2),
        None,
        "on their way, or dropped"
    );
    assert_eq!(frames(&[1, 2, 3], &[2, 1], 1), Some(Invariant::InTurn));
    assert_eq!(frames(&[1, 2], &[1, 2, 2], 0), Some(Invariant::InTurn));
    assert_eq!(frames(&[1, 2, 3], &[1, 3], 0), Some(Invariant::Counted));
    assert_eq!(frames(&[1, 2, 3], &[1, 2, 3], 1), Some(Invariant::Counted));
}
