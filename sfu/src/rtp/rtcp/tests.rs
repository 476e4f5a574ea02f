//! Round trips, and the reading of a second, independent implementation.

use super::*;
use crate::rtp::oracle;
use proptest::prelude::*;

fn read(datagram: &[u8]) -> Vec<Packet<'_>> {
    packets(datagram)
        .collect::<Result<Vec<_>, _>>()
        .expect("well-formed")
}

fn block() -> impl Strategy<Value = ReportBlock> {
    let parts = (
        any::<u32>(),
        any::<u8>(),
        -0x80_0000i32..0x80_0000,
        any::<[u32; 4]>(),
    );
    parts.prop_map(|(ssrc, fraction_lost, cumulative_lost, rest)| ReportBlock {
        ssrc,
        fraction_lost,
        cumulative_lost,
        highest: rest[0],
        jitter: rest[1],
        last_report: rest[2],
        delay: rest[3],
    })
}

#[test]
fn a_compound_is_walked_in_order() {
    let mut out = [0; 200];
    let mut writer = Writer::new(&mut out);
    let info = SenderInfo {
        ntp: 0x0102_0304_0506_0708,
        rtp: 9,
        packets: 10,
        bytes: 11,
    };
    writer.sender_report(1, &info, &[]).expect("room");
    writer
        .source_description(1, "PA_x|TR_y", None)
        .expect("room");
    writer.picture_loss(5, 6).expect("room");
    writer.goodbye(&[7, 8]).expect("room");
    writer.reference_time(5, 77).expect("room");
    let len = writer.len();
    let found = read(&out[..len]);
    assert!(matches!(&found[0], Packet::SenderReport { ssrc: 1, info: i, .. } if *i == info));
    assert!(matches!(found[1], Packet::SourceDescription));
    assert!(matches!(
        found[2],
        Packet::PictureLoss {
            sender: 5,
            media: 6
        }
    ));
    assert!(matches!(&found[3], Packet::Goodbye(ssrcs) if ssrcs.clone().eq([7, 8])));
    let Packet::ExtendedReport { blocks, .. } = &found[4] else {
        panic!("not an XR: {:?}", found[4]);
    };
    assert!(matches!(
        blocks.clone().next(),
        Some(XrBlock::ReferenceTime { ntp: 77 })
    ));
    // The other implementation must see the same five packets.
    let theirs = oracle::unmarshal(&mut &out[..len]).expect("oracle");
    assert_eq!(theirs.len(), 5);
    let sdes = format!("{:?}", theirs[1]);
    assert!(sdes.contains("PA_x|TR_y"), "{sdes}");
}

/// The second implementation does not know the MID item, so the bytes are spelled out.
#[test]
fn a_source_description_ends_in_a_zero_and_fills_a_word() {
    let mut out = [0xEE; 40];
    let mut writer = Writer::new(&mut out);
    writer
        .source_description(7, "ab", Some("10"))
        .expect("room");
    let expected = [
        0x81, 202, 0, 4, 0, 0, 0, 7, 1, 2, b'a', b'b', 15, 2, b'1', b'0', 0, 0, 0, 0,
    ];
    assert_eq!(writer.len(), expected.len());
    assert_eq!(out[..20], expected);
}

#[test]
fn a_malformed_tail_ends_the_walk_with_one_error() {
    let mut out = [0; 64];
    let mut writer = Writer::new(&mut out);
    writer.picture_loss(5, 6).expect("room");
    let len = writer.len();
    let cut = &out[..len + 3];
    let found: Vec<_> = packets(cut).collect();
    assert_eq!(found.len(), 2);
    assert!(found[0].is_ok());
    assert_eq!(found[1].as_ref().err(), Some(&Malformed));
}

#[test]
fn a_report_that_promises_more_blocks_than_it_has_is_malformed() {
    let mut out = [0; 64];
    let mut writer = Writer::new(&mut out);
    writer
        .receiver_report(1, &[ReportBlock::default()])
        .expect("room");
    let len = writer.len();
    out[0] += 1;
    assert!(matches!(packets(&out[..len]).next(), Some(Err(Malformed))));
}

#[test]
fn padding_of_a_feedback_packet_is_not_its_body() {
    // TWCC with three bytes of padding, as Firefox sends it.
    let bytes = [
        0xAF, 205, 0, 6, 65, 227, 184, 49, 118, 243, 78, 96, 42, 63, 0, 5, 12, 162, 166, 0, 32, 5,
        200, 4, 0, 0, 0, 3,
    ];
    let found = read(&bytes);
    let Packet::TransportFeedback { body, .. } = &found[0] else {
        panic!("not TWCC: {found:?}");
    };
    assert_eq!(body.len(), 13);
}

#[test]
fn full_intra_requests_and_bit_rate_limits_are_read() {
    let fir = [
        0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 42, 0, 0, 0,
    ];
    let found = read(&fir);
    assert!(matches!(&found[0],
        Packet::FullIntraRequest { sender: 1, requests } if requests.clone().eq([(9, 42)])));
    // 0x2_0000 << 3 bits per second for one stream.
    let remb = [
        0x8F, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0E, 0, 0, 0, 0, 0, 9,
    ];
    let found = read(&remb);
    assert!(matches!(&found[0],
        Packet::MaxBitrate { bps: 0x10_0000, ssrcs } if ssrcs.clone().eq([9])));
}

#[test]
fn a_nack_fills_the_buffer_and_says_how_far_it_came() {
    let lost: Vec<u16> = (0..40).map(|i| i * 20).collect();
    let mut out = [0; 12 + 4 * 10];
    let mut writer = Writer::new(&mut out);
    assert_eq!(writer.nack(1, 2, &lost), 10);
    assert_eq!(writer.nack(1, 2, &lost[10..]), 0);
}

#[test]
fn a_full_buffer_keeps_what_it_holds() {
    let mut out = [0; 20];
    let mut writer = Writer::new(&mut out);
    writer.picture_loss(1, 2).expect("room");
    assert_eq!(writer.picture_loss(1, 3), Err(Full));
    assert_eq!(writer.len(), 12);
}

proptest! {
    #[test]
    fn any_bytes_are_walked_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for packet in packets(&bytes).flatten() {
            consume(packet);
        }
    }

    #[test]
    fn any_body_under_a_plausible_header_is_walked_without_panic(
        first in 0x80u8..=0xBF, packet_type in 200u8..=207,
        mut body in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        body.truncate(body.len() / 4 * 4);
        let mut bytes = vec![first, packet_type];
        bytes.extend(((body.len() / 4) as u16).to_be_bytes());
        bytes.extend(body);
        for packet in packets(&bytes).flatten() {
            consume(packet);
        }
    }

    #[test]
    fn reports_come_back_as_written(
        blocks in proptest::collection::vec(block(), 0..=31),
        ssrc: u32, ntp: u64, rtp: u32,
    ) {
        let mut out = [0; 2000];
        let info = SenderInfo { ntp, rtp, packets: rtp ^ 1, bytes: rtp ^ 2 };
        let mut writer = Writer::new(&mut out);
        writer.sender_report(ssrc, &info, &blocks).expect("room");
        writer.receiver_report(ssrc, &blocks).expect("room");
        let len = writer.len();
        let found = read(&out[..len]);
        match (&found[0], &found[1]) {
            (
                Packet::SenderReport { ssrc: a, info: i, blocks: x },
                Packet::ReceiverReport { ssrc: b, blocks: y },
            ) => {
                prop_assert_eq!((*a, *b, *i), (ssrc, ssrc, info));
                prop_assert!(x.clone().eq(blocks.iter().copied()));
                prop_assert!(y.clone().eq(blocks.iter().copied()));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        let theirs = oracle::unmarshal(&mut &out[..len]).expect("oracle");
        let report = theirs[1]
            .as_any()
            .downcast_ref::<oracle::ReceiverReport>()
            .expect("RR");
        prop_assert_eq!(report.reports.len(), blocks.len());
        for (theirs, ours) in report.reports.iter().zip(&blocks) {
            prop_assert_eq!(theirs.ssrc, ours.ssrc);
            prop_assert_eq!(theirs.fraction_lost, ours.fraction_lost);
            prop_assert_eq!(theirs.total_lost, ours.cumulative_lost as u32 & 0xFF_FFFF);
            prop_assert_eq!(theirs.last_sequence_number, ours.highest);
            prop_assert_eq!(theirs.jitter, ours.jitter);
            prop_assert_eq!(theirs.last_sender_report, ours.last_report);
            prop_assert_eq!(theirs.delay, ours.delay);
        }
    }

    #[test]
    fn lost_numbers_come_back_as_written(
        start: u16, steps in proptest::collection::vec(1u16..40, 1..60),
    ) {
        let mut lost = vec![start];
        for step in steps {
            lost.push(lost[lost.len() - 1].wrapping_add(step));
        }
        let mut out = [0; 1000];
        let mut writer = Writer::new(&mut out);
        prop_assert_eq!(writer.nack(1, 2, &lost), lost.len());
        let len = writer.len();
        match &read(&out[..len])[0] {
            Packet::Nack { sender: 1, media: 2, lost: found } => {
                prop_assert!(found.clone().eq(lost.iter().copied()));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        let theirs = oracle::unmarshal(&mut &out[..len]).expect("oracle");
        let nack = theirs[0]
            .as_any()
            .downcast_ref::<oracle::TransportLayerNack>()
            .expect("NACK");
        let numbers: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        prop_assert_eq!(numbers, lost);
    }

    #[test]
    fn delays_come_back_as_written(entries in proptest::collection::vec(any::<[u32; 3]>(), 0..20)) {
        let blocks: Vec<DelayBlock> = entries
            .iter()
            .map(|e| DelayBlock { ssrc: e[0], last_reference: e[1], delay: e[2] })
            .collect();
        let mut out = [0; 400];
        let mut writer = Writer::new(&mut out);
        writer.delays(9, &blocks).expect("room");
        let len = writer.len();
        match &read(&out[..len])[0] {
            Packet::ExtendedReport { ssrc: 9, blocks: found } => match found.clone().next() {
                Some(XrBlock::Delays(found)) => prop_assert!(found.eq(blocks.iter().copied())),
                other => prop_assert!(false, "{:?}", other),
            },
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert!(oracle::unmarshal(&mut &out[..len]).is_ok());
    }
}

/// Runs every nested iterator to its end.
fn consume(packet: Packet<'_>) {
    match packet {
        Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => {
            assert!(blocks.count() <= MAX_BLOCKS);
        }
        Packet::Goodbye(ssrcs) | Packet::MaxBitrate { ssrcs, .. } => drop(ssrcs.count()),
        Packet::Nack { lost, .. } => drop(lost.count()),
        Packet::FullIntraRequest { requests, .. } => drop(requests.count()),
        Packet::ExtendedReport { blocks, .. } => {
            for block in blocks {
                if let XrBlock::Delays(delays) = block {
                    let _ = delays.count();
                }
            }
        }
        _ => {}
    }
}
