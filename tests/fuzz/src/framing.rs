//! Datagrams over a stream: what is cut out of it, by a second reading, and what is left of it when
//! it is slower than what is sent.

use crate::input::Input;
use crate::origin;
use sfu::media::transport::framing::{Deframer, FRAME_MAX, QUEUE_BYTES, Queue};
use std::time::Duration;

/// One after the other: the same bytes are cut, and are steps of a queue.
pub(crate) fn framing(bytes: &[u8]) {
    cut(bytes);
    queue(bytes);
}

/// All frames of a stream that is whole, until one is too long.
fn whole(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while let Some((head, rest)) = stream.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*head));
        if len > FRAME_MAX || len > rest.len() {
            break;
        }
        let (body, rest) = rest.split_at(len);
        bodies.extend((len > 0).then_some(body));
        stream = rest;
    }
    bodies
}

/// The first byte says how the rest is cut on its way.
fn cut(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else {
        return;
    };
    let (mut deframer, mut rest) = (Deframer::default(), stream);
    let mut expected = whole(stream).into_iter();
    while !rest.is_empty() {
        let room = deframer.room();
        assert!(!room.is_empty());
        let len = (1 + usize::from(piece) * 17)
            .min(rest.len())
            .min(room.len());
        room[..len].copy_from_slice(&rest[..len]);
        deframer.filled(len);
        rest = &rest[len..];
        loop {
            match deframer.next_frame() {
                Ok(Some(body)) => assert_eq!(Some(&*body), expected.next()),
                Ok(None) => break,
                Err(_) => return assert_eq!(expected.next(), None),
            }
        }
    }
    assert_eq!(expected.next(), None);
}

/// Datagrams are pushed, time passes, some bytes are taken: only whole datagrams leave, in order.
fn queue(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mut queue, mut now) = (Queue::default(), origin());
    let (mut stream, mut number, mut pushed) = (Vec::new(), 0_u16, 0_u64);
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => now += Duration::from_millis(input.byte().into()),
            1 => {
                let len = usize::from(input.short()).min(queue.front().len());
                stream.extend_from_slice(&queue.front()[..len]);
                queue.wrote(len);
            }
            kind => {
                number = number.wrapping_add(1);
                let [high, low] = number.to_be_bytes();
                let mut datagram = vec![if kind == 2 { 0x80 } else { 22 }, 96, high, low];
                let more = usize::from(input.short()) % (FRAME_MAX - 16);
                datagram.resize(16 + more, 0);
                pushed += u64::from(queue.push(&datagram, now).is_ok());
            }
        }
        assert!(queue.len() <= QUEUE_BYTES);
    }
    while !queue.is_empty() {
        let len = queue.front().len();
        stream.extend_from_slice(queue.front());
        queue.wrote(len);
    }
    let bodies = whole(&stream);
    let bytes: usize = bodies.iter().map(|body| body.len() + 2).sum();
    assert_eq!(bytes, stream.len(), "a frame was cut");
    assert_eq!(bodies.len() as u64 + queue.dropped(), pushed);
    let numbers = bodies
        .iter()
        .map(|body| u16::from_be_bytes([body[2], body[3]]));
    assert!(numbers.is_sorted());
}
