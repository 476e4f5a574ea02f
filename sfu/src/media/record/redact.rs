//! What a record leaves out: passwords, data messages, and of media all that no decision looks at.

use crate::config::codecs::Codec;
use crate::media::message::{Command, Event};
use crate::rtp::header::{FIXED_LEN, Header};
use crate::rtp::{trailer, vp8};
use bytes::Bytes;

/// Stands for every ICE password: as long as one must be. (RFC 8839 §5.4)
pub const PASSWORD: &str = "LeftOutOfTheRecord0000";
/// The line of a password.
pub const PASSWORD_LINE: &str = "a=ice-pwd:";
/// Of a VP8 key frame: tag, start code, size. (RFC 6386 §9.1)
const KEY_FRAME: usize = 10;
/// Magic and length of a trailer.
const TRAILER: usize = 5;
/// Blocks of RED that are looked at.
const BLOCKS: usize = 32;

/// A description without passwords.
#[must_use]
pub fn sdp(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.starts_with(PASSWORD_LINE) {
            out.push_str(PASSWORD_LINE);
            out.push_str(PASSWORD);
            out.push_str(line.trim_start_matches(|c| c != '\r' && c != '\n'));
        } else {
            out.push_str(line);
        }
    }
    out
}

/// A command without passwords and messages.
#[must_use]
pub fn command(command: &Command) -> Command {
    let mut command = command.clone();
    match &mut command {
        Command::Offer { sdp: text, .. } | Command::Answer { sdp: text, .. } => *text = sdp(text),
        Command::SendData { bytes, .. } => *bytes = Bytes::from(vec![0; bytes.len()]),
        _ => {}
    }
    command
}

/// An event as one line, without passwords and messages.
#[must_use]
pub fn event(event: &Event, secrets: bool) -> String {
    let mut event = event.clone();
    match &mut event {
        _ if secrets => {}
        Event::Data {
            peer,
            channel,
            bytes,
        } => return format!("Data {peer:?} {channel:?} {} bytes", bytes.len()),
        Event::Answer(ours) | Event::Offer(ours) => ours.sdp = sdp(&ours.sdp),
        _ => {}
    }
    format!("{event:?}")
}

/// Blanks what lies behind the header of an opened packet, but for what decisions look at. `format`
/// is the codec, and whether the packet repeats another one.
pub fn media(packet: &mut [u8], header: &Header, format: Option<(Codec, bool)>) {
    let padding = header.padding_len(packet).unwrap_or(0);
    let end = packet.len() - padding.min(packet.len());
    let Some(payload) = packet.get_mut(header.header_len..end) else {
        return;
    };
    match format {
        Some((codec, true)) => {
            // The number it repeats.
            let at = payload.len().min(2);
            blank(&mut payload[at..], Some(codec));
        }
        Some((codec, false)) => blank(payload, Some(codec)),
        None => blank(payload, None),
    }
    if padding > 1 {
        let len = packet.len();
        packet[len - padding..len - 1].fill(0);
    }
}

fn blank(payload: &mut [u8], codec: Option<Codec>) {
    let trailer = if trailer::len(payload) > 0 {
        TRAILER
    } else {
        0
    };
    let end = payload.len() - trailer;
    match codec {
        Some(Codec::H264) => blank_units(&mut payload[..end]),
        Some(Codec::Vp8) => {
            let kept = vp8_kept(payload).min(end);
            payload[kept..end].fill(0);
        }
        Some(Codec::Red) => {
            let kept = red_kept(payload).min(end);
            payload[kept..end].fill(0);
        }
        _ => payload[..end].fill(0),
    }
}

fn vp8_kept(payload: &[u8]) -> usize {
    let Some(descriptor) = vp8::Descriptor::parse(payload) else {
        return vp8::MAX_LEN;
    };
    let head = match (descriptor.frame_start, descriptor.key_frame) {
        (_, true) => KEY_FRAME,
        (true, false) => 1,
        (false, false) => 0,
    };
    usize::from(descriptor.len) + head
}

/// Headers of blocks, the last one included. (RFC 2198 §3)
fn red_kept(payload: &[u8]) -> usize {
    let follows = |at: &usize| payload.get(*at).is_some_and(|first| first & 0x80 != 0);
    let last = (0..BLOCKS).map(|block| 4 * block).find(|at| !follows(at));
    last.unwrap_or(4 * BLOCKS) + 1
}

/// Keeps the headers of units, and in an aggregate their lengths. (RFC 6184 §5.7, §5.8)
fn blank_units(payload: &mut [u8]) {
    let Some((&mut header, mut rest)) = payload.split_first_mut() else {
        return;
    };
    match header & 0x1F {
        24 => {
            while let Some((size, behind)) = rest.split_first_chunk_mut::<2>() {
                let size = usize::from(u16::from_be_bytes(*size));
                if size > behind.len() {
                    return behind.fill(0);
                }
                let (unit, next) = behind.split_at_mut(size);
                if let Some(inside) = unit.get_mut(1..) {
                    inside.fill(0);
                }
                rest = next;
            }
        }
        28 => {
            if let Some(inside) = rest.get_mut(1..) {
                inside.fill(0);
            }
        }
        _ => rest.fill(0),
    }
}

/// Of a datagram that was not taken: its RTP header, with zeros for all behind it.
#[must_use]
pub fn refused(datagram: &[u8]) -> Vec<u8> {
    let kept = Header::parse(datagram).map_or(FIXED_LEN, |header| header.header_len);
    let mut bytes = datagram.to_vec();
    let behind = bytes.get_mut(kept..);
    behind.unwrap_or_default().fill(0);
    bytes
}
