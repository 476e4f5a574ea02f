//! SCTP and data channels: a client that says anything at all inside an association it has rightly
//! opened. The client is handmade: chunks are bytes, only the checksum and the tag are always right.

use crate::input::Input;
use bytes::Bytes;
use sfu::media::message::Channel;
use sfu::media::transport::data_channel::Channels;
use sfu::media::transport::data_channel::dcep::{self, Control};
use sfu::media::transport::sctp::{Delivery, Event, MESSAGE_MAX, Persistence, Protocol, Sctp};
use std::time::{Duration, Instant};

/// The client's first piece; close to the end of the numbers, so that they wrap.
const FIRST: u32 = u32::MAX - 2;
/// The tag the client chose.
const OURS: u32 = 0x0102_0304;
/// Steps of one input: more make it slow, not deeper.
const STEPS_MAX: usize = 60;
/// Packets the server may have to say after one step: what the window of the peer lets out, and a
/// retransmission of it.
const PACKETS_MAX: usize = 2000;
/// The message a server writes at most in one step.
const MESSAGE: usize = 3000;

/// CRC-32C of each byte. (RFC 9260 appendix A)
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn packet(tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x13, 0x88, 0x13, 0x88];
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(chunks);
    let crc = packet.iter().fold(u32::MAX, |crc, byte| {
        CRC[((crc ^ u32::from(*byte)) & 255) as usize] ^ (crc >> 8)
    });
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet
}

fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind, flags];
    chunk.extend(((4 + body.len()) as u16).to_be_bytes());
    chunk.extend(body);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// What both targets have in common: something that takes packets and has some to send.
trait Side {
    fn take(&mut self, packet: &[u8], now: Instant);
    fn next(&mut self, now: Instant) -> Option<Bytes>;
}

impl Side for Sctp {
    fn take(&mut self, packet: &[u8], now: Instant) {
        self.handle(packet, now);
    }
    fn next(&mut self, now: Instant) -> Option<Bytes> {
        self.poll_packet(now)
    }
}

impl Side for Channels {
    fn take(&mut self, packet: &[u8], now: Instant) {
        self.handle(packet, now);
    }
    fn next(&mut self, now: Instant) -> Option<Bytes> {
        self.poll_packet(now)
    }
}

/// The client: its place in both numberings.
struct Client {
    tag: u32,
    /// The next piece to send.
    piece: u32,
    /// The newest piece of the server's that came.
    came: u32,
    now: Instant,
}

impl Client {
    /// Opens the association.
    fn connect(server: &mut impl Side) -> Self {
        let now = crate::origin();
        let init = words(&[OURS, 1 << 20, 0xFFFF_FFFF, FIRST]);
        // Both extensions that the engine knows: forward TSN, and re-configuration.
        let init = [init, words(&[0x8008_0006, 0xC082_0000, 0xC000_0004])].concat();
        server.take(&packet(0, &chunk(1, 0, &init)), now);
        let answer = server.next(now).expect("an INIT is acknowledged");
        let word = |at: usize| {
            let bytes = answer.get(at..).and_then(|rest| rest.first_chunk::<4>());
            u32::from_be_bytes(*bytes.expect("an INIT ACK"))
        };
        let (tag, came) = (word(16), word(28).wrapping_sub(1));
        let cookie = cookie(&answer).expect("an INIT ACK has a cookie");
        server.take(&packet(tag, &chunk(10, 0, cookie)), now);
        let mut client = Self {
            tag,
            piece: FIRST,
            came,
            now,
        };
        client.hear(server);
        client
    }

    fn say(&mut self, server: &mut impl Side, chunks: &[u8]) {
        server.take(&packet(self.tag, chunks), self.now);
    }

    /// Takes what the server has to say.
    fn hear(&mut self, server: &mut impl Side) -> usize {
        let mut bytes = 0;
        for count in 0.. {
            assert!(count < PACKETS_MAX, "the server does not stop");
            let Some(packet) = server.next(self.now) else {
                break;
            };
            bytes += packet.len();
            self.note(&packet);
        }
        bytes
    }

    fn note(&mut self, packet: &[u8]) {
        let mut rest = packet.get(12..).unwrap_or_default();
        while let Some([kind, _, high, low]) = rest.first_chunk::<4>() {
            let len = usize::from(*high) * 256 + usize::from(*low);
            if *kind == 0
                && let Some(piece) = rest.get(4..8)
            {
                let piece = u32::from_be_bytes([piece[0], piece[1], piece[2], piece[3]]);
                if piece.wrapping_sub(self.came) < 1 << 31 {
                    self.came = piece;
                }
            }
            rest = rest
                .get(len.next_multiple_of(4).max(4)..)
                .unwrap_or_default();
        }
    }

    /// A chunk that is more or less what a client sends.
    fn chunk(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let form = input.byte();
        match form % 8 {
            0 => {
                let (kind, flags) = (input.byte(), input.byte());
                chunk(kind, flags, input.slice())
            }
            1 | 2 => {
                let flags = if form & 0x80 == 0 { 3 } else { input.byte() };
                let step = if form & 0x40 == 0 { 0 } else { input.short() };
                let piece = self.piece.wrapping_add(u32::from(step));
                self.piece = self.piece.wrapping_add(1);
                let stream = u32::from(input.byte() % 8) << 16 | u32::from(input.byte());
                let protocol = [50, 51, 53, 56, 57][usize::from(input.byte()) % 5];
                let mut body = words(&[piece, stream, protocol]);
                body.extend(input.slice());
                chunk(0, flags, &body)
            }
            3 => {
                let back = u32::from(input.byte() % 4);
                let window = u32::from(input.short()) << 4;
                let gaps = u32::from(input.byte() % 4);
                let mut body = words(&[self.came.wrapping_sub(back), window, gaps << 16]);
                body.extend((0..gaps).flat_map(|_| words(&[input.word()])));
                chunk(3, 0, &body)
            }
            4 => {
                let kind = [13, 14, 15, 16, 17, 18][usize::from(input.byte()) % 6];
                let names = input.slice();
                let mut parameter = words(&[
                    kind << 16 | (16 + names.len() as u32),
                    input.word(),
                    input.word(),
                    self.piece.wrapping_sub(1),
                ]);
                parameter.extend(names);
                chunk(130, 0, &parameter)
            }
            5 => {
                let to = self.piece.wrapping_add(u32::from(input.byte()));
                let mut body = words(&[to]);
                body.extend(input.slice());
                chunk(192, 0, &body)
            }
            6 => chunk(
                4,
                0,
                &[words(&[0x0001_0008]), words(&[input.word()])].concat(),
            ),
            _ => input.slice().to_vec(),
        }
    }

    /// Packets of one step.
    fn act(&mut self, server: &mut impl Side, input: &mut Input<'_>) {
        match input.byte() % 8 {
            0 => server.take(input.slice(), self.now),
            1 => self.now += Duration::from_millis(u64::from(input.byte()) * 20),
            2 => {
                let init = words(&[input.word(), 1 << 20, 0xFFFF_FFFF, input.word()]);
                server.take(&packet(0, &chunk(1, 0, &init)), self.now);
            }
            count => {
                let chunks: Vec<u8> = (0..count % 4 + 1).flat_map(|_| self.chunk(input)).collect();
                self.say(server, &chunks);
            }
        }
    }
}

fn cookie(answer: &[u8]) -> Option<&[u8]> {
    let mut rest = answer.get(32..)?;
    loop {
        let [kind_a, kind_b, len_a, len_b] = *rest.first_chunk::<4>()?;
        let len = usize::from(len_a) * 256 + usize::from(len_b);
        if (kind_a, kind_b) == (0, 7) {
            return rest.get(4..len);
        }
        rest = rest.get(len.next_multiple_of(4).max(4)..)?;
    }
}

/// One association.
pub(crate) fn sctp(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut server = Sctp::default();
    let mut client = Client::connect(&mut server);
    let mut lost = false;
    assert!(server.is_established());
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        client.act(&mut server, &mut input);
        let stream = u16::from(input.byte() % 8);
        write(&mut server, stream, &mut input);
        if server.poll_timeout().is_some_and(|at| at <= client.now) {
            server.handle_timeout(client.now);
        }
        client.hear(&mut server);
        lost |= events(&mut server);
        for _ in 0..input.byte() % 4 {
            if let Some((_, message)) = server.read(stream) {
                assert!(message.len() <= MESSAGE_MAX);
            }
        }
        lost |= events(&mut server);
        assert!(!(lost && server.is_established()));
    }
}

/// What the association tells; whether it ended. It may, but not by a fault of the engine.
fn events(server: &mut Sctp) -> bool {
    let mut lost = false;
    for count in 0.. {
        assert!(count < 1000, "events without end");
        match server.poll_event() {
            None => break,
            Some(Event::Lost(reason)) => {
                assert!(reason != "internal fault", "the engine panicked");
                lost = true;
            }
            Some(_) => assert!(!lost, "nothing follows the end"),
        }
    }
    lost
}

fn write(server: &mut Sctp, stream: u16, input: &mut Input<'_>) {
    let act = input.byte();
    match act % 8 {
        0 => {
            server.open(stream);
        }
        1 => server.close(stream),
        2 => {
            let value = u32::from(input.byte());
            let persistence = [
                Persistence::Reliable,
                Persistence::Retransmits(value),
                Persistence::Lifetime(value),
            ];
            let delivery = Delivery {
                ordered: act & 0x80 == 0,
                persistence: persistence[usize::from(act >> 3) % 3],
            };
            server.deliver(stream, delivery);
        }
        3 | 4 => {
            let message = Bytes::from(vec![7; usize::from(input.short()) % MESSAGE]);
            server.write(stream, Protocol::User, &message);
            assert!(server.buffered(stream) <= STEPS_MAX * MESSAGE);
        }
        _ => {}
    }
}

/// The data channels of one connection, opened by either side.
pub(crate) fn data_channels(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut server = Channels::new(input.flag());
    let mut client = Client::connect(&mut server);
    let mut queued = 0;
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        client.act(&mut server, &mut input);
        let act = input.byte();
        if act & 3 == 0 {
            let channel = [
                Channel::Reliable,
                Channel::Lossy,
                Channel::DataTrack,
                Channel::Other,
            ];
            let channel = channel[usize::from(act >> 2) % 4];
            let message = Bytes::from(vec![9; usize::from(input.short()) % MESSAGE]);
            queued += message.len();
            server.send(channel, &message, client.now);
        }
        server.handle_timeout(client.now);
        client.hear(&mut server);
        let _ = server.poll_opened();
        for _ in 0..act >> 6 {
            if let Some((_, message)) = server.read() {
                assert!(message.len() <= MESSAGE_MAX);
            }
        }
        assert!(server.waiting() <= queued);
    }
    assert!(server.take_refused() <= 4096);
}

/// One message of channel establishment.
pub(crate) fn dcep(bytes: &[u8]) {
    let Some(Control::Open { channel, delivery }) = Control::parse(bytes) else {
        return;
    };
    if channel == Channel::Other {
        return;
    }
    let again = dcep::open(channel, delivery);
    assert_eq!(
        Control::parse(&again),
        Some(Control::Open { channel, delivery })
    );
}
