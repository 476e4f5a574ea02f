//! RTCP and transport-wide feedback: what was read is written, and reads the same again.

use sfu::rtp::rtcp::{MAX_BLOCKS, Packet, Writer, XrBlock, packets};
use sfu::rtp::twcc::{Arrival, Feedback, Head, encode};

/// Bytes of one datagram.
const DATAGRAM: usize = 65_536;

/// A compound of RTCP.
pub(crate) fn rtcp(bytes: &[u8]) {
    let mut items = 0;
    let mut out = vec![0; DATAGRAM];
    for packet in packets(bytes) {
        items += 1;
        if let Ok(packet) = packet {
            rewrite(&packet, &mut out);
        }
    }
    // Each packet has a header of four bytes.
    assert!(items <= bytes.len() / 4 + 1);
}

fn rewrite(packet: &Packet<'_>, out: &mut [u8]) {
    let mut writer = Writer::new(out);
    match packet {
        Packet::SenderReport { ssrc, info, blocks } => {
            let blocks: Vec<_> = blocks.clone().collect();
            assert!(blocks.len() <= MAX_BLOCKS);
            let written = writer.sender_report(*ssrc, info, &blocks);
            written.expect("room for a report");
        }
        Packet::ReceiverReport { ssrc, blocks } => {
            let blocks: Vec<_> = blocks.clone().collect();
            assert!(blocks.len() <= MAX_BLOCKS);
            writer.receiver_report(*ssrc, &blocks).expect("room");
        }
        Packet::Goodbye(ssrcs) => {
            let ssrcs: Vec<_> = ssrcs.clone().collect();
            assert!(ssrcs.len() <= MAX_BLOCKS);
            writer.goodbye(&ssrcs).expect("room");
        }
        Packet::PictureLoss { sender, media } => {
            writer.picture_loss(*sender, *media).expect("room");
        }
        Packet::Nack { lost, .. } => return rewrite_nack(lost.clone(), writer, packet),
        Packet::ExtendedReport { ssrc, blocks } => {
            for block in blocks.clone() {
                match block {
                    XrBlock::ReferenceTime { ntp } => {
                        writer.reference_time(*ssrc, ntp).expect("room")
                    }
                    XrBlock::Delays(delays) => {
                        assert!(delays.count() <= DATAGRAM / 12);
                    }
                    XrBlock::Other => {}
                }
            }
            return;
        }
        _ => return,
    }
    let len = writer.len();
    let again: Vec<_> = packets(&out[..len]).collect();
    let [Ok(again)] = &again[..] else {
        panic!("not one packet: {again:?}");
    };
    assert_eq!(told(again), told(packet));
}

/// A packet as text, its lists spelled out: the iterators themselves hold bytes.
fn told(packet: &Packet<'_>) -> String {
    match packet {
        Packet::SenderReport { ssrc, info, blocks } => {
            format!(
                "SR {ssrc} {info:?} {:?}",
                blocks.clone().collect::<Vec<_>>()
            )
        }
        Packet::ReceiverReport { ssrc, blocks } => {
            format!("RR {ssrc} {:?}", blocks.clone().collect::<Vec<_>>())
        }
        Packet::Goodbye(ssrcs) => format!("BYE {:?}", ssrcs.clone().collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

fn rewrite_nack(lost: impl Iterator<Item = u16>, mut writer: Writer<'_>, packet: &Packet<'_>) {
    let Packet::Nack { sender, media, .. } = packet else {
        return;
    };
    let mut lost: Vec<u16> = lost.collect();
    assert!(lost.len() <= DATAGRAM / 4 * 17);
    lost.sort_unstable();
    lost.dedup();
    lost.truncate(500);
    if lost.is_empty() {
        return;
    }
    assert_eq!(writer.nack(*sender, *media, &lost), lost.len());
    let mut out = [0; 4096];
    let mut second = Writer::new(&mut out);
    second.nack(*sender, *media, &lost);
    let len = second.len();
    let Some(Ok(Packet::Nack { lost: again, .. })) = packets(&out[..len]).next() else {
        panic!("a NACK does not read back");
    };
    assert!(again.eq(lost));
}

/// Transport-wide feedback, behind the two SSRCs.
pub(crate) fn twcc(bytes: &[u8]) {
    let Some(feedback) = Feedback::parse(bytes) else {
        return;
    };
    let statuses: Vec<_> = feedback.statuses().collect();
    assert_eq!(statuses.len(), usize::from(feedback.status_count));
    let base = u64::from(feedback.base) + 0x1_0000;
    let arrived = statuses.iter().enumerate();
    let arrivals: Vec<Arrival> = arrived
        .filter_map(|(index, (seq, ticks))| {
            assert_eq!(*seq, feedback.base.wrapping_add(index as u16));
            let seq = base + index as u64;
            ticks.map(|ticks| Arrival { seq, ticks })
        })
        .collect();
    let head = Head {
        sender: 1,
        media: 2,
        count: feedback.count,
        base,
    };
    let mut out = [0; 1200];
    let Some(encoded) = encode(&mut out, &head, &arrivals) else {
        return;
    };
    assert!(encoded.len <= out.len() && encoded.arrivals <= arrivals.len());
    let mut written = packets(&out[..encoded.len]);
    let Some(Ok(Packet::TransportFeedback { body, .. })) = written.next() else {
        panic!("not a feedback packet");
    };
    assert!(written.next().is_none());
    let again = Feedback::parse(body).expect("its own writing");
    assert_eq!((again.base, again.count), (feedback.base, feedback.count));
    let read = again
        .statuses()
        .filter_map(|(seq, ticks)| Some((seq, ticks?)));
    // The reference time has 24 bits of 64 ms: 32 bits of ticks.
    let told = arrivals[..encoded.arrivals].iter();
    let told = told.map(|arrival| (arrival.seq as u16, arrival.ticks as u32));
    assert!(read.map(|(seq, ticks)| (seq, ticks as u32)).eq(told));
}
