//! The drafts' examples, round trips, and the reading of a second implementation.

use super::*;
use crate::rtp::{oracle, rtcp};
use proptest::prelude::*;

fn head(base: u64) -> Head {
    Head {
        sender: 1,
        media: 2,
        count: 7,
        base,
    }
}

/// Our own reading of an encoded packet, through the RTCP walk.
fn read(packet: &[u8]) -> Vec<(u16, Option<i64>)> {
    let found: Vec<_> = rtcp::packets(packet).collect();
    assert_eq!(found.len(), 1);
    match &found[0] {
        Ok(rtcp::Packet::TransportFeedback { sender: 1, body }) => {
            let feedback = Feedback::parse(body).expect("feedback");
            assert_eq!(feedback.count, 7);
            feedback.statuses().collect()
        }
        other => panic!("not feedback: {other:?}"),
    }
}

fn expected(base: u64, arrivals: &[Arrival]) -> Vec<(u16, Option<i64>)> {
    let last = arrivals.last().expect("arrivals").seq;
    (base..=last)
        .map(|seq| {
            let found = arrivals.iter().find(|arrival| arrival.seq == seq);
            (seq as u16, found.map(|arrival| arrival.ticks))
        })
        .collect()
}

/// What the other implementation reads: sum of deltas in microseconds.
fn other_reading(packet: &[u8]) -> oracle::TransportLayerCc {
    let mut bytes = packet;
    let packets = oracle::unmarshal(&mut bytes).expect("oracle");
    let found = packets[0]
        .as_any()
        .downcast_ref::<oracle::TransportLayerCc>();
    found.expect("feedback").clone()
}

#[test]
fn a_steady_stream_is_one_run_and_one_byte_each() {
    let arrivals: Vec<_> = (0..100)
        .map(|i| Arrival {
            seq: 0xFFF0 + i,
            ticks: 1000 + 40 * i as i64,
        })
        .collect();
    let mut out = [0; 1200];
    let encoded = encode(&mut out, &head(0xFFF0), &arrivals).expect("fits");
    assert_eq!(encoded.arrivals, 100);
    assert_eq!(encoded.len, (20 + 2 + 100usize).next_multiple_of(4));
    assert_eq!(u16::from_be_bytes([out[20], out[21]]), 0x2000 | 100);
    assert_eq!(read(&out[..encoded.len]), expected(0xFFF0, &arrivals));
}

/// §3.1.3 example 1: 221 packets not received are the run 0x00DD.
#[test]
fn a_long_loss_is_one_run() {
    let arrivals = [Arrival { seq: 221, ticks: 0 }];
    let mut out = [0; 64];
    let encoded = encode(&mut out, &head(0), &arrivals).expect("fits");
    assert_eq!(u16::from_be_bytes([out[20], out[21]]), 0x00DD);
    assert_eq!(u16::from_be_bytes([out[22], out[23]]), 0x2001);
    assert_eq!(read(&out[..encoded.len]), expected(0, &arrivals));
}

/// A chunk that is not the last one must be full, or its empty symbols would count.
#[test]
fn a_large_delta_behind_eight_mixed_symbols_keeps_the_count() {
    let mut arrivals: Vec<_> = (0..9).map(|seq| Arrival { seq, ticks: 0 }).collect();
    arrivals.remove(3);
    arrivals.push(Arrival { seq: 9, ticks: 300 });
    let mut out = [0; 64];
    let encoded = encode(&mut out, &head(0), &arrivals).expect("fits");
    assert_eq!(read(&out[..encoded.len]), expected(0, &arrivals));
}

/// §3.1.4: the examples of both vectors; the second one's reserved symbol is a small delta here.
#[test]
fn the_vectors_of_the_draft_are_read() {
    let one_bit = [0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0];
    assert_eq!(received(0x9F1C, 14), one_bit.map(|bit| bit == 1));
    let two_bit = [0, 1, 1, 1, 1, 0, 0];
    assert_eq!(received(0xC550, 7), two_bit.map(|bit| bit == 1));
}

/// Which of `count` packets a feedback packet of one chunk calls received.
fn received(chunk: u16, count: u16) -> Vec<bool> {
    let mut body = vec![0, 0];
    body.extend(count.to_be_bytes());
    body.extend([0, 0, 0, 0]);
    body.extend(chunk.to_be_bytes());
    body.extend([1; 14]);
    let feedback = Feedback::parse(&body).expect("chunks");
    feedback
        .statuses()
        .map(|(_, ticks)| ticks.is_some())
        .collect()
}

#[test]
fn a_reserved_symbol_is_refused() {
    let body = [0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x01, 0, 0];
    assert_eq!(Feedback::parse(&body), None);
}

#[test]
fn a_pause_longer_than_a_delta_needs_another_packet() {
    let arrivals = [
        Arrival { seq: 1, ticks: 0 },
        Arrival {
            seq: 2,
            ticks: 0x8000,
        },
    ];
    let mut out = [0; 64];
    let encoded = encode(&mut out, &head(1), &arrivals).expect("fits");
    assert_eq!(encoded.arrivals, 1);
    let second = encode(&mut out, &head(2), &arrivals[1..]).expect("fits");
    assert_eq!(read(&out[..second.len]), [(2, Some(0x8000))]);
}

#[test]
fn a_small_buffer_takes_what_it_can() {
    let arrivals: Vec<_> = (0..100).map(|seq| Arrival { seq, ticks: 0 }).collect();
    let mut out = [0; 60];
    let encoded = encode(&mut out, &head(0), &arrivals).expect("some");
    assert!(encoded.arrivals < 100 && encoded.len <= 60);
    assert_eq!(
        read(&out[..encoded.len]),
        expected(0, &arrivals[..encoded.arrivals])
    );
    assert_eq!(encode(&mut out[..21], &head(0), &arrivals), None);
}

fn arrivals() -> impl Strategy<Value = (u64, Vec<Arrival>)> {
    // Mostly no gap and small deltas, sometimes gaps and reordering.
    let step = (
        prop_oneof![6 => Just(1u64), 2 => 2u64..9, 1 => 10u64..9000],
        prop_oneof![6 => 0i64..40, 2 => -300i64..300, 1 => -0x8000i64..0x8000],
    );
    let first = (0u64..0x2_0000, 0u64..20, 0i64..1 << 30);
    (first, proptest::collection::vec(step, 0..200)).prop_map(|((base, gap, ticks), steps)| {
        let mut list = vec![Arrival {
            seq: base + gap,
            ticks,
        }];
        for (gap, delta) in steps {
            let last = list[list.len() - 1];
            list.push(Arrival {
                seq: last.seq + gap,
                ticks: last.ticks + delta,
            });
        }
        (base, list)
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_by_both((base, arrivals) in arrivals(), room in 40usize..1200) {
        let mut out = vec![0xEE; room];
        let Some(encoded) = encode(&mut out, &head(base), &arrivals) else {
            return Ok(());
        };
        prop_assert!(encoded.len <= room && encoded.len.is_multiple_of(4));
        let told = &arrivals[..encoded.arrivals];
        let packet = &out[..encoded.len];
        prop_assert_eq!(read(packet), expected(base, told));
        let theirs = other_reading(packet);
        prop_assert_eq!(theirs.base_sequence_number, base as u16);
        prop_assert_eq!(theirs.recv_deltas.len(), told.len());
        let mut micros = i64::from(theirs.reference_time) * 64_000;
        for (delta, arrival) in theirs.recv_deltas.iter().zip(told) {
            micros += delta.delta;
            prop_assert_eq!(micros, arrival.ticks * TICK_MICROS as i64);
        }
    }

    #[test]
    fn any_body_is_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(feedback) = Feedback::parse(&body) {
            prop_assert_eq!(feedback.statuses().count(), usize::from(feedback.status_count));
        }
    }
}
