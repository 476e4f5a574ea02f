//! One SCTP association inside a DTLS connection. (RFC 8261, RFC 8831 §6)
//!
//! Owns the association, its timers and the limits of what it may hold; knows streams by number
//! only. What a stream is for is `data_channel`'s matter, which alone calls it. We wait for the
//! client's INIT: every WebRTC stack sends one.

use bytes::{Bytes, BytesMut};
use intake::{Intake, Verdict};
use sctp_proto::{
    Association, AssociationError, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig,
    Event as Reported, Payload, PayloadProtocolIdentifier, ReliabilityType, ServerConfig,
    StreamEvent, TransportConfig,
};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

mod intake;

#[cfg(test)]
pub(super) mod tests;

/// The largest message, as the session description announces it. (LK: signalling §6.9)
pub const MESSAGE_MAX: usize = 65_535;
/// Unread and incomplete messages of one association: what limits the client's window. Eight of the
/// largest; at 100 ms round trip 40 Mbit/s.
const RECEIVE_BUFFER: u32 = 512 * 1024;
/// Payload of one DATA chunk: with SCTP's and DTLS's headers below the 1200 bytes all paths carry.
const CHUNK_PAYLOAD: u32 = 1120;
/// Streams of one association before it counts as an attack: LiveKit's clients use three, and each
/// costs some hundred bytes for good.
const STREAMS_MAX: usize = 128;
/// Retransmission timeouts: half a minute of the RFC's three seconds is no call. Measured, they
/// bring a third more through one percent of loss.
const RTO_INITIAL_MS: u64 = 500;
/// See [`RTO_INITIAL_MS`].
const RTO_MIN_MS: u64 = 200;
/// A receiver away for a while must not wait a minute for the next attempt.
const RTO_MAX_MS: u64 = 5_000;
/// The engine wants an address; there is one peer, and DTLS knows where it is.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5000);

/// What a message is. (RFC 8831 §8)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Channel establishment.
    Dcep,
    /// Binary, or text: to us the same.
    User,
}

/// How a stream's messages are sent. (RFC 8831 §6.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// In order?
    pub ordered: bool,
    /// How long each is tried.
    pub persistence: Persistence,
}

/// How long a message is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Until it arrives.
    Reliable,
    /// So many retransmissions.
    Retransmits(u32),
    /// So many milliseconds.
    Lifetime(u32),
}

/// What an association tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is up.
    Established,
    /// A stream has messages to read.
    Readable(u16),
    /// The client closed a stream; ours goes too.
    Reset(u16),
    /// A packet was thrown away: the client goes beyond a limit.
    Refused,
    /// It is over, for good. Media goes on.
    Lost(String),
}

/// An association.
pub struct Sctp {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    intake: Intake,
    events: VecDeque<Event>,
    /// What the engine handed out at once and was not sent yet. Bounded by its window.
    outgoing: VecDeque<Bytes>,
    established: bool,
    lost: bool,
}

impl std::fmt::Debug for Sctp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sctp")
            .field("established", &self.established)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Default for Sctp {
    fn default() -> Self {
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_BUFFER)
            .with_max_receive_message_size(MESSAGE_MAX as u32)
            .with_max_send_message_size(MESSAGE_MAX as u32)
            .with_rto_initial_ms(RTO_INITIAL_MS)
            .with_rto_min_ms(RTO_MIN_MS)
            .with_rto_max_ms(RTO_MAX_MS);
        let mut server = ServerConfig::new();
        server.transport = Arc::new(transport);
        Self {
            endpoint: Endpoint::new(Arc::new(endpoint_config()), Some(Arc::new(server))),
            association: None,
            intake: Intake::default(),
            events: VecDeque::new(),
            outgoing: VecDeque::new(),
            established: false,
            lost: false,
        }
    }
}

fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::new();
    config.max_payload_size(CHUNK_PAYLOAD);
    config
}

impl Sctp {
    /// A packet from the client. Anything that is not SCTP is dropped.
    pub fn handle(&mut self, packet: &[u8], now: Instant) {
        self.guard(|this| this.take_packet(packet, now));
        self.collect();
    }

    fn take_packet(&mut self, packet: &[u8], now: Instant) {
        if self.lost {
            return;
        }
        match self.intake.judge(packet, self.established) {
            Verdict::Take => {}
            Verdict::Drop => return self.events.push_back(Event::Refused),
            Verdict::End(reason) => {
                self.events.push_back(Event::Refused);
                return self.end(reason.to_owned());
            }
        }
        let packet = Bytes::copy_from_slice(packet);
        match self.endpoint.handle(now, NOWHERE, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association)))
                if self.association.is_none() =>
            {
                self.association = Some((handle, association));
                // One a connection: the engine would remember each that a client asks for.
                self.endpoint.reject_new_associations();
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((known, association)) = &mut self.association
                    && *known == handle
                {
                    association.handle_event(event);
                }
            }
            Some((_, DatagramEvent::NewAssociation(_))) | None => {}
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.guard(|this| {
            if let Some((_, association)) = &mut this.association {
                association.handle_timeout(now);
            }
        });
        self.collect();
    }

    /// When [`Self::handle_timeout`] is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.1.poll_timeout()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next packet to the client.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Bytes> {
        if self.outgoing.is_empty() {
            self.guard(|this| this.gather(now));
        }
        self.outgoing.pop_front()
    }

    /// Is there a packet that was gathered and not sent?
    #[must_use]
    pub fn has_packet(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn gather(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association
            && let Some(transmit) = association.poll_transmit(now)
            && let Payload::RawEncode(packets) = transmit.payload
        {
            for packet in &packets {
                self.intake.handle_sent(packet);
            }
            self.outgoing.extend(packets);
        }
        // The farewell is out.
        if self.lost {
            self.association = None;
        }
    }

    /// Is it up?
    #[must_use]
    pub const fn is_established(&self) -> bool {
        self.established && !self.lost
    }

    /// The next message of a stream, if one is complete.
    pub fn read(&mut self, stream: u16) -> Option<(Protocol, Bytes)> {
        let mut read = None;
        self.guard(|this| {
            let association = &mut this.association.as_mut()?.1;
            let chunks = association.stream(stream).ok()?.read_sctp().ok()??;
            this.intake.handle_read(chunks.chunks.len());
            let mut message = BytesMut::zeroed(chunks.len());
            chunks.read(&mut message).ok()?;
            read = Some(match chunks.ppi {
                PayloadProtocolIdentifier::Dcep => (Protocol::Dcep, message.freeze()),
                PayloadProtocolIdentifier::StringEmpty | PayloadProtocolIdentifier::BinaryEmpty => {
                    (Protocol::User, Bytes::new())
                }
                _ => (Protocol::User, message.freeze()),
            });
            Some(())
        });
        self.collect();
        read
    }

    /// Opens a stream of ours. False if it exists, or the association is not up.
    pub fn open(&mut self, stream: u16) -> bool {
        let mut opened = false;
        if self.is_established() {
            self.guard(|this| {
                let association = &mut this.association.as_mut()?.1;
                let binary = PayloadProtocolIdentifier::Binary;
                opened = association.open_stream(stream, binary).is_ok();
                Some(())
            });
        }
        opened
    }

    /// How a stream's messages are sent from now on.
    pub fn deliver(&mut self, stream: u16, delivery: Delivery) {
        let (kind, value) = match delivery.persistence {
            Persistence::Reliable => (ReliabilityType::Reliable, 0),
            Persistence::Retransmits(times) => (ReliabilityType::Rexmit, times),
            Persistence::Lifetime(ms) => (ReliabilityType::Timed, ms),
        };
        self.guard(|this| {
            let association = &mut this.association.as_mut()?.1;
            let mut stream = association.stream(stream).ok()?;
            stream
                .set_reliability_params(!delivery.ordered, kind, value)
                .ok()
        });
    }

    /// Queues a message; false if there is no such stream to write to. An empty one is sent as the
    /// RFC asks, with a byte nobody reads. (RFC 8831 §6.6)
    pub fn write(&mut self, stream: u16, protocol: Protocol, message: &Bytes) -> bool {
        let ppi = match protocol {
            Protocol::Dcep => PayloadProtocolIdentifier::Dcep,
            Protocol::User if message.is_empty() => PayloadProtocolIdentifier::BinaryEmpty,
            Protocol::User => PayloadProtocolIdentifier::Binary,
        };
        let mut written = false;
        self.guard(|this| {
            let association = &mut this.association.as_mut()?.1;
            let mut stream = association.stream(stream).ok()?;
            let result = if message.is_empty() {
                stream.write_with_ppi(&[0], ppi)
            } else {
                stream.write_sctp(message, ppi)
            };
            written = result.is_ok();
            Some(())
        });
        written
    }

    /// Bytes of a stream written and not yet acknowledged or given up.
    pub fn buffered(&mut self, stream: u16) -> usize {
        let mut buffered = 0;
        self.guard(|this| {
            let association = &mut this.association.as_mut()?.1;
            buffered = association.stream(stream).ok()?.buffered_amount().ok()?;
            Some(())
        });
        buffered
    }

    /// Closes a stream in both directions.
    pub fn close(&mut self, stream: u16) {
        self.guard(|this| {
            let association = &mut this.association.as_mut()?.1;
            association.stream(stream).ok()?.close().ok()
        });
    }

    /// Takes what the engine has to tell, and ends it where it goes beyond its limits.
    fn collect(&mut self) {
        let Some((handle, association)) = &mut self.association else {
            return;
        };
        if self.lost {
            // Nobody is told anything of what has ended.
            while association.poll().is_some() {}
            return;
        }
        let (mut lost, mut opened) = (None, false);
        while let Some(reported) = association.poll() {
            match reported {
                Reported::Connected => {
                    self.established = true;
                    self.events.push_back(Event::Established);
                }
                Reported::Stream(StreamEvent::Opened { .. }) => opened = true,
                Reported::Stream(StreamEvent::Readable { id }) => {
                    self.events.push_back(Event::Readable(id));
                }
                Reported::Stream(StreamEvent::Finished { id }) => {
                    self.events.push_back(Event::Reset(id));
                }
                Reported::HandshakeFailed { reason } | Reported::AssociationLost { reason } => {
                    lost = Some(why(&reason));
                }
                _ => {}
            }
        }
        while let Some(event) = association.poll_endpoint_event() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                association.handle_event(event);
            }
        }
        if opened && association.stream_ids().len() > STREAMS_MAX {
            lost.get_or_insert_with(|| "too many streams".to_owned());
        }
        if let Some(reason) = lost {
            self.end(reason);
        }
    }

    fn end(&mut self, reason: String) {
        if !std::mem::replace(&mut self.lost, true) {
            self.outgoing.clear();
            self.events.push_back(Event::Lost(reason));
        }
    }

    /// The engine has never panicked in hundreds of thousands of hostile sessions. Should it yet,
    /// one client loses its data channels and not everybody the media thread.
    fn guard<T>(&mut self, act: impl FnOnce(&mut Self) -> T) {
        if catch_unwind(AssertUnwindSafe(|| {
            act(self);
        }))
        .is_err()
        {
            tracing::error!("the SCTP engine panicked: a client's data channels end");
            self.association = None;
            self.end("internal fault".to_owned());
        }
    }
}

fn why(reason: &AssociationError) -> String {
    reason.to_string()
}
