//! Channels opened from either side, fed faster than the client takes, and abused.

use super::super::sctp::tests::{Client, GOOD, Way, Wire, instant};
use super::*;
use queue::RELIABLE_MAX;
use sctp_proto::PayloadProtocolIdentifier;
use std::time::Duration;

const DCEP: PayloadProtocolIdentifier = PayloadProtocolIdentifier::Dcep;
const BINARY: PayloadProtocolIdentifier = PayloadProtocolIdentifier::Binary;

/// A client and our side of its connection.
struct Pair {
    client: Client,
    ours: Channels,
    up: Way,
    down: Way,
    now: Instant,
    /// Bytes the client takes in a millisecond, if that is limited; packets beyond wait.
    pace: Option<isize>,
    credit: isize,
}

impl Pair {
    fn new(opens: bool) -> Self {
        Self::over(opens, GOOD)
    }

    fn over(opens: bool, wire: Wire) -> Self {
        let mut pair = Self {
            client: Client::new(),
            ours: Channels::new(opens),
            up: Way::new(wire, 1),
            down: Way::new(wire, 2),
            now: instant(),
            pace: None,
            credit: 0,
        };
        while !pair.ours.sctp.is_established() || pair.client.association.is_handshaking() {
            pair.run(1);
        }
        pair
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            for packet in self.up.arrivals(self.now) {
                self.ours.handle(&packet, self.now);
            }
            for packet in self.down.arrivals(self.now) {
                self.client.handle(packet, self.now);
            }
            self.ours.handle_timeout(self.now);
            for packet in self.client.packets(self.now) {
                self.up.send(packet, self.now);
            }
            self.credit = self
                .pace
                .map_or(isize::MAX, |pace| pace + self.credit.min(0));
            while self.credit > 0
                && let Some(packet) = self.ours.poll_packet(self.now)
            {
                self.credit -= packet.len() as isize;
                self.down.send(packet, self.now);
            }
        }
    }

    fn open(&mut self, stream: u16, label: &str, kind: u8) {
        let mut message = vec![0x03, kind, 0, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, 0];
        message.extend_from_slice(label.as_bytes());
        self.client.write(stream, DCEP, &message);
        if kind & 0x80 != 0 {
            let mut stream = self.client.association.stream(stream).expect("open");
            stream
                .set_reliability_params(true, sctp_proto::ReliabilityType::Rexmit, 0)
                .expect("open");
        }
    }

    /// As livekit-client opens its channels.
    fn opened() -> Self {
        let mut pair = Self::new(false);
        pair.open(0, "_lossy", 0x81);
        pair.open(2, "_reliable", 0x00);
        pair.open(4, "_data_track", 0x81);
        pair.run(100);
        assert!(pair.ours.poll_opened());
        for stream in [0, 2, 4] {
            assert_eq!(pair.client.read(stream).as_deref(), Some(dcep::ACK));
        }
        pair
    }

    fn send(&mut self, channel: Channel, message: &[u8]) -> Sent {
        let message = Bytes::copy_from_slice(message);
        self.ours.send(channel, &message, self.now)
    }

    fn received(&mut self, stream: u16) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.client.read(stream)).collect()
    }
}

#[test]
fn channels_the_client_opens_carry_messages_both_ways() {
    let mut pair = Pair::opened();
    assert!(!pair.ours.poll_opened(), "told once");
    pair.client.write(2, BINARY, b"up");
    pair.client.write(0, BINARY, b"up, perhaps");
    pair.run(50);
    let mut read: Vec<_> = std::iter::from_fn(|| pair.ours.read()).collect();
    read.sort_by_key(|(channel, _)| *channel);
    let expected = [
        (Channel::Reliable, Bytes::from_static(b"up")),
        (Channel::Lossy, Bytes::from_static(b"up, perhaps")),
    ];
    assert_eq!(read, expected);
    for (channel, stream) in [
        (Channel::Reliable, 2),
        (Channel::Lossy, 0),
        (Channel::DataTrack, 4),
    ] {
        assert_eq!(pair.send(channel, b"down"), Sent::Queued);
        pair.run(50);
        assert_eq!(pair.received(stream), [b"down"]);
    }
}

#[test]
fn channels_we_open_are_told_once_the_client_has_them() {
    let mut pair = Pair::new(true);
    pair.run(100);
    assert!(!pair.ours.poll_opened());
    assert_eq!(pair.send(Channel::Reliable, b"early"), Sent::Dropped);
    for (stream, label) in [(1, "_reliable"), (3, "_lossy"), (5, "_data_track")] {
        let open = pair.client.read(stream).expect("an open message");
        assert!(open.ends_with(label.as_bytes()));
        pair.client.write(stream, DCEP, dcep::ACK);
    }
    pair.run(100);
    assert!(pair.ours.poll_opened());
    assert_eq!(pair.send(Channel::Reliable, b"down"), Sent::Queued);
    pair.run(50);
    assert_eq!(pair.received(1), [b"down"]);
}

#[test]
fn the_newest_channel_of_a_label_is_sent_on_and_the_older_again_when_it_goes() {
    let mut pair = Pair::opened();
    pair.open(6, "_reliable", 0x00);
    pair.run(50);
    pair.client.read(6).expect("acknowledged");
    pair.send(Channel::Reliable, b"a");
    pair.run(50);
    assert_eq!(pair.received(6), [b"a"]);
    let mut stream = pair.client.association.stream(6).expect("open");
    stream.close().expect("closed");
    pair.run(200);
    pair.send(Channel::Reliable, b"b");
    pair.run(50);
    assert_eq!(pair.received(2), [b"b"]);
}

#[test]
fn a_client_too_slow_for_reliable_messages_is_given_up_at_the_limit_and_not_before() {
    let mut pair = Pair::opened();
    pair.pace = Some(0);
    let message = vec![1; 60_000];
    let mut queued = 0;
    let last = loop {
        match pair.send(Channel::Reliable, &message) {
            Sent::Queued => queued += message.len(),
            other => break other,
        }
        assert!(queued <= RELIABLE_MAX);
    };
    assert_eq!(last, Sent::TooSlow);
    assert_eq!(
        pair.send(Channel::Reliable, &message),
        Sent::Dropped,
        "told once"
    );
    assert!(queued > RELIABLE_MAX - 60_000);
    pair.pace = None;
    let mut received = 0;
    for _ in 0..100 {
        pair.run(100);
        received += pair.received(2).len();
    }
    assert_eq!(received, queued / 60_000, "none was lost");
    assert_eq!(pair.ours.waiting(), 0);
}

#[test]
fn lossy_messages_that_would_come_late_are_dropped_and_reliable_ones_get_their_turn() {
    let mut pair = Pair::opened();
    // 80 kbit/s: a tenth of what is offered.
    pair.pace = Some(10);
    let (mut dropped, mut reliable) = (0, 0);
    for round in 0..2_000_u32 {
        for _ in 0..2 {
            if pair.send(Channel::Lossy, &[0; 1000]) == Sent::Dropped {
                dropped += 1;
            }
        }
        if round % 50 == 0 {
            assert_eq!(pair.send(Channel::Reliable, &[1; 100]), Sent::Queued);
            reliable += 1;
        }
        pair.run(10);
    }
    assert!(dropped > 3_000, "{dropped}");
    pair.run(3_000);
    assert_eq!(pair.received(2).len(), reliable);
    assert!(pair.received(0).len() > 50);
}

#[test]
fn a_message_on_a_channel_nobody_opened_is_refused() {
    let mut pair = Pair::opened();
    pair.client.write(9, BINARY, b"hello");
    pair.run(50);
    assert!(pair.ours.read().is_none());
    assert_eq!(pair.ours.take_refused(), 1);
}

#[test]
fn channels_beyond_the_limit_are_closed_and_those_within_it_live_on() {
    let mut pair = Pair::opened();
    for n in 0..40 {
        pair.open(10 + 2 * n, "mine", 0x00);
        pair.run(5);
    }
    pair.run(200);
    assert_eq!(pair.ours.channels.len(), CHANNELS_MAX);
    assert_eq!(pair.ours.take_refused(), 40 + 3 - CHANNELS_MAX as u64);
    assert_eq!(pair.send(Channel::Reliable, b"down"), Sent::Queued);
    pair.run(50);
    assert_eq!(pair.received(2), [b"down"]);
}

#[test]
fn channels_survive_a_wire_that_loses_and_reorders() {
    let wire = Wire {
        loss: 0.1,
        delay_ms: 20,
    };
    let mut pair = Pair::over(false, wire);
    pair.open(0, "_lossy", 0x81);
    pair.open(2, "_reliable", 0x00);
    pair.run(5_000);
    assert!(pair.ours.poll_opened());
    pair.client.read(2).expect("acknowledged");
    let messages: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; 3_000]).collect();
    for message in &messages {
        pair.client.write(2, BINARY, message);
        pair.send(Channel::Reliable, message);
    }
    let mut up = Vec::new();
    for _ in 0..600 {
        pair.run(100);
        up.extend(std::iter::from_fn(|| pair.ours.read()).map(|(_, message)| message.to_vec()));
        if up.len() == messages.len() && pair.ours.waiting() == 0 {
            break;
        }
    }
    pair.run(10_000);
    assert_eq!(up, messages);
    assert_eq!(pair.received(2), messages);
}
