//! Views over RTP packets and payloads: what is read must be what the bytes say, told by a second
//! and simpler reading, and what can be written again must read back.

use sfu::rtp::extension::{ExtensionIds, Extensions, elements};
use sfu::rtp::header::{FixedHeader, Header};
use sfu::rtp::{h264, red, trailer, vp8};

/// Where the payload begins, by a reading of its own.
fn payload_start(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut start = 12 + 4 * usize::from(first & 15);
    if first & 0x10 != 0 {
        let block = packet.get(start..start + 4)?;
        start += 4 + 4 * (usize::from(block[2]) * 256 + usize::from(block[3]));
    }
    (first >> 6 == 2 && packet.len() >= 12 && packet.len() >= start).then_some(start)
}

/// RTP's fixed header, padding and payload.
pub(crate) fn rtp(bytes: &[u8]) {
    let header = Header::parse(bytes);
    assert_eq!(header.map(|header| header.header_len), payload_start(bytes));
    let Some(header) = header else { return };
    let mut again = FixedHeader {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    }
    .to_bytes();
    again[0] |= u8::from(header.padding) << 5 | header.csrc_count;
    again[0] |= u8::from(header.extension.is_some()) << 4;
    assert_eq!(again, bytes[..12]);
    if let Some(payload) = header.payload(bytes) {
        let padding = header.padding_len(bytes).expect("it has a payload");
        assert_eq!(header.header_len + payload.len() + padding, bytes.len());
    } else {
        assert!(header.padding);
    }
}

/// Header extensions: the first ten bytes are the negotiated ids, the rest is the packet.
pub(crate) fn extension(bytes: &[u8]) {
    let Some((ids, packet)) = bytes.split_first_chunk::<10>() else {
        return;
    };
    let Some(header) = Header::parse(packet) else {
        return;
    };
    let id = |at: usize| Some(ids[at]).filter(|id| *id != 0);
    let ids = ExtensionIds {
        mid: id(0),
        rid: id(1),
        repaired_rid: id(2),
        audio_level: id(3),
        transport_cc: id(4),
        abs_send_time: id(5),
        abs_capture_time: id(6),
        playout_delay: id(7),
        frame_marking: id(8),
        dependency_descriptor: id(9),
    };
    let found = Extensions::parse(&header, packet, &ids);
    for name in [found.mid, found.rid, found.repaired_rid]
        .into_iter()
        .flatten()
    {
        assert!(!name.is_empty() && name.len() <= 255 && name.is_ascii());
    }
    assert!(found.audio_level.is_none_or(|level| level.level <= 127));
    assert!(found.abs_send_time.is_none_or(|time| time < 1 << 24));
    let block = header.extension.map_or(0, |block| block.range().len());
    let told: usize = elements(&header, packet)
        .map(|(id, data)| {
            assert_ne!(id, 0);
            1 + data.len()
        })
        .sum();
    assert!(told <= block);
    rewritten_extensions_read_the_same(&header, packet, &ids);
}

fn rewritten_extensions_read_the_same(header: &Header, packet: &[u8], ids: &ExtensionIds) {
    let mut block = Vec::new();
    for (id, data) in elements(header, packet) {
        block.extend([id, data.len() as u8]);
        block.extend(data);
    }
    block.resize(block.len().next_multiple_of(4), 0);
    let mut again = vec![0x90; 12];
    again.extend([0x10, 0]);
    again.extend(((block.len() / 4) as u16).to_be_bytes());
    again.extend(block);
    // What took one byte of head takes two now, and may be too much for the length's 16 bits.
    let Some(second) = Header::parse(&again) else {
        return;
    };
    assert!(elements(&second, &again).eq(elements(header, packet)));
    let read = Extensions::parse(header, packet, ids);
    assert_eq!(Extensions::parse(&second, &again, ids), read);
}

/// VP8's payload descriptor.
pub(crate) fn vp8(bytes: &[u8]) {
    let Some(read) = vp8::Descriptor::parse(bytes) else {
        return;
    };
    let len = usize::from(read.len);
    assert!((1..=vp8::MAX_LEN).contains(&len) && len <= bytes.len());
    assert!(read.size.is_none() || read.key_frame);
    let mut head = [0; vp8::MAX_LEN];
    let written = read.write(&mut head);
    assert!(written <= len);
    let again = [&head[..written], &bytes[len..]].concat();
    let second = vp8::Descriptor::parse(&again).expect("its own writing");
    let expected = vp8::Descriptor {
        len: written as u8,
        ..read
    };
    assert_eq!(second, expected);
}

/// H264: a key frame that begins in the front of a payload begins in the whole.
pub(crate) fn h264(bytes: &[u8]) {
    let Some((&cut, payload)) = bytes.split_first() else {
        return;
    };
    let whole = h264::starts_key_frame(payload);
    let front = &payload[..payload.len().min(usize::from(cut))];
    assert!(whole || !h264::starts_key_frame(front));
    if whole {
        assert!(matches!(payload[0] & 31, 7 | 24 | 28));
    }
}

/// RED, by a second reading: all headers first, then the sum of what they say.
pub(crate) fn red(bytes: &[u8]) {
    let Some((&inner, payload)) = bytes.split_first() else {
        return;
    };
    let mut older = 0;
    let mut headers = 0;
    let mut rest = payload;
    let expected = loop {
        match *rest {
            [first, ..] if first & 0x7F != inner => break None,
            [first, ..] if first < 0x80 => {
                let start = headers + 1 + older;
                break (start <= payload.len()).then_some(start);
            }
            [_, _, high, low, ..] => {
                older += usize::from(high & 3) * 256 + usize::from(low);
                headers += 4;
                rest = &rest[4..];
            }
            _ => break None,
        }
    };
    assert_eq!(red::primary(payload, inner), expected);
}

/// LiveKit's packet trailer.
pub(crate) fn trailer(bytes: &[u8]) {
    let len = usize::from(trailer::len(bytes));
    if len == 0 {
        return;
    }
    assert!(len >= 5 && len < bytes.len());
    let (rest, end) = bytes.split_at(bytes.len() - 4);
    assert_eq!(end, b"LKTS");
    assert_eq!(usize::from(!rest[rest.len() - 1]), len);
}
