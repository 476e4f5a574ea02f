//! A client's SCTP, and a wire that loses, delays and reorders.

use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sctp_proto::ClientConfig;
use std::time::Duration;

pub(in crate::media::transport) fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    Instant::now()
}

/// The client's side of an association, with nothing above it.
pub(in crate::media::transport) struct Client {
    endpoint: Endpoint,
    pub(in crate::media::transport) association: Association,
    handle: AssociationHandle,
}

impl Client {
    pub(in crate::media::transport) fn new() -> Self {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), None);
        let mut config = ClientConfig::new();
        let transport = TransportConfig::default()
            .with_max_send_message_size(1 << 20)
            .with_max_receive_message_size(1 << 20)
            .with_rto_initial_ms(200)
            .with_rto_min_ms(200);
        config.transport = Arc::new(transport);
        let (handle, association) = endpoint.connect(config, NOWHERE).expect("a client");
        Self {
            endpoint,
            association,
            handle,
        }
    }

    pub(in crate::media::transport) fn handle(&mut self, packet: Bytes, now: Instant) {
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, NOWHERE, None, None, packet)
        {
            assert_eq!(handle, self.handle);
            self.association.handle_event(event);
        }
    }

    pub(in crate::media::transport) fn packets(&mut self, now: Instant) -> Vec<Bytes> {
        self.association.handle_timeout(now);
        let mut packets = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(more) = transmit.payload {
                packets.extend(more);
            }
        }
        packets
    }

    pub(in crate::media::transport) fn write(
        &mut self,
        stream: u16,
        ppi: PayloadProtocolIdentifier,
        message: &[u8],
    ) {
        let known = self.association.stream(stream).is_ok();
        if !known {
            self.association.open_stream(stream, ppi).expect("a stream");
        }
        let mut stream = self.association.stream(stream).expect("a stream");
        stream.write_with_ppi(message, ppi).expect("written");
    }

    pub(in crate::media::transport) fn read(&mut self, stream: u16) -> Option<Vec<u8>> {
        let chunks = self.association.stream(stream).ok()?.read().ok()??;
        let mut message = vec![0; chunks.len()];
        chunks.read(&mut message).ok()?;
        Some(message)
    }
}

/// How badly a wire treats packets.
#[derive(Debug, Clone, Copy)]
pub(in crate::media::transport) struct Wire {
    pub(in crate::media::transport) loss: f64,
    /// One way; with jitter up to as much again, so that packets overtake each other.
    pub(in crate::media::transport) delay_ms: u64,
}

pub(in crate::media::transport) const GOOD: Wire = Wire {
    loss: 0.0,
    delay_ms: 5,
};

/// Packets under way in one direction.
pub(in crate::media::transport) struct Way {
    wire: Wire,
    rng: StdRng,
    flying: Vec<(Instant, Bytes)>,
}

impl Way {
    pub(in crate::media::transport) fn new(wire: Wire, seed: u64) -> Self {
        Self {
            wire,
            rng: StdRng::seed_from_u64(seed),
            flying: Vec::new(),
        }
    }

    pub(in crate::media::transport) fn send(&mut self, packet: Bytes, now: Instant) {
        if !self.rng.random_bool(self.wire.loss) {
            let delay = self.wire.delay_ms + self.rng.random_range(0..=self.wire.delay_ms);
            self.flying
                .push((now + Duration::from_millis(delay), packet));
        }
    }

    pub(in crate::media::transport) fn arrivals(&mut self, now: Instant) -> Vec<Bytes> {
        let (arrived, flying) = std::mem::take(&mut self.flying)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.flying = flying;
        let arrived: Vec<(Instant, Bytes)> = arrived;
        arrived.into_iter().map(|(_, packet)| packet).collect()
    }
}

/// Lets both sides speak for a while, a millisecond at a time.
fn run(client: &mut Client, server: &mut Sctp, wire: Wire, now: &mut Instant, ms: u64) {
    let mut up = Way::new(wire, 1);
    let mut down = Way::new(wire, 2);
    for _ in 0..ms {
        *now += Duration::from_millis(1);
        for packet in up.arrivals(*now) {
            server.handle(&packet, *now);
        }
        for packet in down.arrivals(*now) {
            client.handle(packet, *now);
        }
        if server.poll_timeout().is_some_and(|at| at <= *now) {
            server.handle_timeout(*now);
        }
        for packet in client.packets(*now) {
            up.send(packet, *now);
        }
        while let Some(packet) = server.poll_packet(*now) {
            down.send(packet, *now);
        }
    }
}

fn events(server: &mut Sctp) -> Vec<Event> {
    std::iter::from_fn(|| server.poll_event()).collect()
}

fn connected(now: &mut Instant) -> (Client, Sctp) {
    let (mut client, mut server) = (Client::new(), Sctp::default());
    run(&mut client, &mut server, GOOD, now, 100);
    assert!(server.is_established());
    assert_eq!(events(&mut server), [Event::Established]);
    (client, server)
}

const BINARY: PayloadProtocolIdentifier = PayloadProtocolIdentifier::Binary;

#[test]
fn messages_cross_a_wire_that_loses_and_reorders() {
    let mut now = instant();
    let (mut client, mut server) = connected(&mut now);
    let bad = Wire {
        loss: 0.1,
        delay_ms: 10,
    };
    let message = |n: u8| Bytes::from(vec![n; 1 + usize::from(n) * 900]);
    for n in 0..60 {
        client.write(1, BINARY, &message(n));
    }
    let mut read = 0;
    for _ in 0..60 {
        run(&mut client, &mut server, bad, &mut now, 500);
        while let Some((protocol, bytes)) = server.read(1) {
            assert_eq!((protocol, bytes), (Protocol::User, message(read)));
            read += 1;
        }
    }
    assert_eq!(read, 60);
    for n in 0..60 {
        assert!(server.write(1, Protocol::User, &message(n)));
    }
    let mut read = 0;
    for _ in 0..60 {
        run(&mut client, &mut server, bad, &mut now, 500);
        while let Some(bytes) = client.read(1) {
            assert_eq!(bytes, message(read));
            read += 1;
        }
    }
    assert_eq!(read, 60);
}

#[test]
fn the_largest_message_crosses_and_a_larger_one_ends_the_association_alone() {
    let mut now = instant();
    let (mut client, mut server) = connected(&mut now);
    client.write(1, BINARY, &vec![7; MESSAGE_MAX]);
    run(&mut client, &mut server, GOOD, &mut now, 2_000);
    assert_eq!(
        server.read(1).map(|(_, bytes)| bytes.len()),
        Some(MESSAGE_MAX)
    );
    client.write(1, BINARY, &vec![7; MESSAGE_MAX + 1]);
    run(&mut client, &mut server, GOOD, &mut now, 2_000);
    assert!(
        events(&mut server)
            .iter()
            .any(|event| matches!(event, Event::Lost(_)))
    );
    assert!(!server.is_established());
    assert!(!server.write(1, Protocol::User, &Bytes::from_static(b"x")));
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn unread_messages_stop_their_sender_and_nothing_is_lost() {
    let mut now = instant();
    let (mut client, mut server) = connected(&mut now);
    let count = 4 * RECEIVE_BUFFER as usize / 10_000;
    for n in 0..count {
        client.write(1, BINARY, &vec![n as u8; 10_000]);
    }
    run(&mut client, &mut server, GOOD, &mut now, 3_000);
    let mut read = 0;
    for _ in 0..200 {
        while let Some((_, bytes)) = server.read(1) {
            assert_eq!(bytes[0], read as u8);
            read += 1;
        }
        if read == count {
            break;
        }
        run(&mut client, &mut server, GOOD, &mut now, 500);
        assert!(server.is_established());
    }
    assert_eq!(read, count);
}

#[test]
fn a_client_that_opens_streams_without_end_is_cut_off() {
    let mut now = instant();
    let (mut client, mut server) = connected(&mut now);
    for stream in 0..=STREAMS_MAX as u16 {
        client.write(stream, BINARY, b"x");
    }
    run(&mut client, &mut server, GOOD, &mut now, 2_000);
    let lost = Event::Lost("too many streams".to_owned());
    assert!(events(&mut server).contains(&lost));
}

#[test]
fn an_init_that_is_repeated_late_does_not_end_the_association() {
    let mut now = instant();
    let (mut client, mut server) = (Client::new(), Sctp::default());
    let init = client.packets(now);
    server.handle(&init[0], now);
    run(&mut client, &mut server, GOOD, &mut now, 100);
    server.handle(&init[0], now);
    assert!(server.is_established());
    assert_eq!(events(&mut server), [Event::Established, Event::Refused]);
}

#[test]
fn associations_beside_the_first_are_not_remembered() {
    let mut now = instant();
    let (mut client, mut server) = (Client::new(), Sctp::default());
    server.handle(&client.packets(now)[0], now);
    for _ in 0..10 {
        server.handle(&Client::new().packets(now)[0], now);
    }
    let remembered = format!("{:#?}", server.endpoint);
    assert_eq!(remembered.matches("AssociationMeta").count(), 1);
    run(&mut client, &mut server, GOOD, &mut now, 100);
    assert!(server.is_established());
}

#[test]
fn a_panic_of_the_engine_ends_one_association() {
    let mut now = instant();
    let (_, mut server) = connected(&mut now);
    let nothing: Vec<u8> = Vec::new();
    server.guard(|_| nothing[0]);
    assert_eq!(
        events(&mut server),
        [Event::Lost("internal fault".to_owned())]
    );
    server.handle(b"anything", now);
    assert_eq!(server.poll_packet(now), None);
}

/// Gives damaged bytes the checksum that makes the engine look at them. (RFC 9260 §6.8)
fn seal(packet: &mut [u8]) {
    if packet.len() < 12 {
        return;
    }
    packet[8..12].fill(0);
    let mut crc = u32::MAX;
    for byte in &*packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_packets_do_no_harm(seed: u64, arbitrary in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut now = instant();
        let (mut client, mut server) = connected(&mut now);
        let mut rng = StdRng::seed_from_u64(seed);
        server.handle(&arbitrary, now);
        for n in 0..40_u16 {
            client.write(n % 4, BINARY, &vec![1; usize::from(n) * 60 + 1]);
            for packet in client.packets(now) {
                let mut damaged = packet.to_vec();
                for _ in 0..rng.random_range(0..6) {
                    let at = rng.random_range(12..damaged.len());
                    damaged[at] = rng.random();
                }
                damaged.truncate(rng.random_range(12..=damaged.len()));
                seal(&mut damaged);
                server.handle(&damaged, now);
            }
            now += Duration::from_millis(50);
            server.handle_timeout(now);
            while server.read(n % 4).is_some() {}
            let _ = server.poll_packet(now);
        }
    }
}
