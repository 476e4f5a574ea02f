//! The data channels of one connection: who opened which, what waits in each direction. (RFC 8832)
//!
//! Owns channel establishment, the labels LiveKit gives a meaning (LK: signalling §6.9), and the
//! bounded queues towards the client: a lossy message that would come too late is dropped, a client
//! that cannot keep up with reliable ones is given up. Never looks into a message. Inbound messages
//! stay in SCTP's window until they are asked for, so that a flood stops at its sender. Called by
//! `transport`.

pub mod dcep;
mod queue;

#[cfg(test)]
mod tests;

use super::sctp::{Delivery, Event, Persistence, Protocol, Sctp};
use crate::media::message::Channel;
use bytes::Bytes;
use dcep::Control;
use queue::{Lossy, Reliable};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Open channels of a connection. Clients open three; what is beyond is closed again.
const CHANNELS_MAX: usize = 16;
/// The channels we open on a connection on which the client opens none for us, in this order of
/// streams. (LK: signalling §6.9)
const OURS: [(u16, Channel, Delivery); 3] = [
    (1, Channel::Reliable, RELIABLE),
    (3, Channel::Lossy, LOSSY),
    (5, Channel::DataTrack, LOSSY),
];
/// In order, until it arrives.
const RELIABLE: Delivery = Delivery {
    ordered: true,
    persistence: Persistence::Reliable,
};
/// As it comes, once.
const LOSSY: Delivery = Delivery {
    ordered: false,
    persistence: Persistence::Retransmits(0),
};
/// Lossy bytes that may go before a waiting reliable one: SCTP prefers the unordered ones, and a
/// steady flow of them would hold reliable ones up for ever.
const LOSSY_LEAD: usize = 32 * 1024;

/// What becomes of a message to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It goes out as the client can take it.
    Queued,
    /// Lossy, and too much waits already; or there is no such channel.
    Dropped,
    /// Reliable, and too much waits already: the client is given up.
    TooSlow,
}

/// A channel with a stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// We asked for it.
    Asked(Channel),
    /// Both sides know it.
    Open(Channel),
}

/// The data channels of a connection.
#[derive(Debug, Default)]
pub struct Channels {
    sctp: Sctp,
    /// We open the channels.
    opens: bool,
    channels: BTreeMap<u16, State>,
    /// Streams with something to read, each once.
    unread: VecDeque<u16>,
    reliable: Reliable,
    lossy: Lossy,
    data_track: Lossy,
    /// Lossy bytes written since reliable ones had their turn.
    lead: usize,
    /// Both user channels were open once, and that was told.
    told: bool,
    /// Messages and channels thrown away since last asked.
    refused: u64,
}

impl Channels {
    /// The channels of a connection on which we open them if `opens`, else the client does.
    #[must_use]
    pub fn new(opens: bool) -> Self {
        Self {
            opens,
            ..Self::default()
        }
    }

    /// A packet from the client; then poll.
    pub fn handle(&mut self, packet: &[u8], now: Instant) {
        self.sctp.handle(packet, now);
        self.handle_events();
    }

    /// Time has passed; then poll.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.sctp.poll_timeout().is_some_and(|at| at <= now) {
            self.sctp.handle_timeout(now);
            self.handle_events();
        }
    }

    /// When [`Self::handle_timeout`] is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sctp.poll_timeout()
    }

    /// The next packet to the client.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Bytes> {
        if !self.sctp.has_packet() {
            self.feed(now);
        }
        self.sctp.poll_packet(now)
    }

    /// Did both user channels become open? True once.
    pub fn poll_opened(&mut self) -> bool {
        let open = self.reliable.stream.is_some() && self.lossy.stream.is_some();
        open && !std::mem::replace(&mut self.told, true)
    }

    /// Does a message wait to be read?
    #[must_use]
    pub fn has_message(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The next message of the client, the channels in turn.
    pub fn read(&mut self) -> Option<(Channel, Bytes)> {
        for _ in 0..self.unread.len() {
            let stream = self.unread.pop_front()?;
            while let Some((protocol, message)) = self.sctp.read(stream) {
                if protocol == Protocol::Dcep {
                    self.handle_control(stream, &message);
                    continue;
                }
                self.unread.push_back(stream);
                if let Some(State::Open(channel)) = self.channels.get(&stream) {
                    return Some((*channel, message));
                }
                self.refused += 1;
                break;
            }
            self.handle_events();
        }
        None
    }

    /// Sends a message as soon as the client can take it.
    pub fn send(&mut self, channel: Channel, message: &Bytes, now: Instant) -> Sent {
        match channel {
            Channel::Reliable => self.reliable.push(message),
            Channel::Lossy => self.lossy.push(message, &mut self.sctp, now),
            Channel::DataTrack => self.data_track.push(message, &mut self.sctp, now),
            Channel::Other => Sent::Dropped,
        }
    }

    /// Bytes that wait for the client in our queues.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.reliable.waiting() + self.lossy.waiting() + self.data_track.waiting()
    }

    /// Messages and channels thrown away since last asked.
    pub const fn take_refused(&mut self) -> u64 {
        std::mem::replace(&mut self.refused, 0)
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.sctp.poll_event() {
            match event {
                Event::Established if self.opens => self.open_ours(),
                Event::Established => {}
                Event::Readable(stream) => self.mark_unread(stream),
                Event::Reset(stream) => self.forget(stream),
                Event::Refused => self.refused += 1,
                Event::Lost(reason) => self.lose(&reason),
            }
        }
    }

    fn open_ours(&mut self) {
        for (stream, channel, delivery) in OURS {
            let open = dcep::open(channel, delivery);
            if self.sctp.open(stream) && self.sctp.write(stream, Protocol::Dcep, &open) {
                self.sctp.deliver(stream, delivery);
                self.channels.insert(stream, State::Asked(channel));
            }
        }
    }

    /// Reads establishment messages at once, leaves all others.
    fn mark_unread(&mut self, stream: u16) {
        while !matches!(self.channels.get(&stream), Some(State::Open(_))) {
            match self.sctp.read(stream) {
                Some((Protocol::Dcep, message)) => self.handle_control(stream, &message),
                // A message on a channel nobody opened.
                Some(_) => self.refused += 1,
                None => return,
            }
        }
        if !self.unread.contains(&stream) {
            self.unread.push_back(stream);
        }
    }

    fn handle_control(&mut self, stream: u16, message: &[u8]) {
        match (Control::parse(message), self.channels.get(&stream)) {
            (Some(Control::Open { channel, delivery }), None) => {
                if self.channels.len() >= CHANNELS_MAX {
                    return self.refuse(stream);
                }
                self.sctp.deliver(stream, delivery);
                self.sctp
                    .write(stream, Protocol::Dcep, &Bytes::from_static(dcep::ACK));
                self.admit(stream, channel);
            }
            (Some(Control::Ack), Some(&State::Asked(channel))) => self.admit(stream, channel),
            // Repeated, or crossed with a reset: harmless.
            (Some(_), _) => {}
            (None, _) => self.refuse(stream),
        }
    }

    /// A channel is open. Of several with one label the newest is sent on. (LK: signalling §6.9)
    fn admit(&mut self, stream: u16, channel: Channel) {
        tracing::debug!(stream, ?channel, "data channel open");
        self.channels.insert(stream, State::Open(channel));
        match channel {
            Channel::Reliable => self.reliable.stream = Some(stream),
            Channel::Lossy => self.lossy.move_to(stream),
            Channel::DataTrack => self.data_track.move_to(stream),
            Channel::Other => {}
        }
    }

    fn refuse(&mut self, stream: u16) {
        self.refused += 1;
        self.forget(stream);
        self.sctp.close(stream);
    }

    /// A channel is gone; an older one with its label takes its place.
    fn forget(&mut self, stream: u16) {
        self.unread.retain(|&one| one != stream);
        let Some(State::Open(channel)) = self.channels.remove(&stream) else {
            return;
        };
        let heir = self
            .channels
            .iter()
            .rev()
            .find_map(|(id, state)| (*state == State::Open(channel)).then_some(*id));
        let place = match channel {
            Channel::Reliable => &mut self.reliable.stream,
            Channel::Lossy => &mut self.lossy.stream,
            Channel::DataTrack => &mut self.data_track.stream,
            Channel::Other => return,
        };
        if *place == Some(stream) {
            *place = heir;
        }
    }

    fn lose(&mut self, reason: &str) {
        tracing::debug!(reason, "data channels lost");
        self.channels.clear();
        self.unread.clear();
        self.reliable = Reliable::default();
        self.lossy = Lossy::default();
        self.data_track = Lossy::default();
    }

    /// Hands SCTP as much of the queues as it should hold.
    fn feed(&mut self, now: Instant) {
        if !self.sctp.is_established() {
            return;
        }
        let passed = self.reliable.settle(&mut self.sctp);
        self.lead = match self.reliable.is_idle() {
            true => 0,
            false => self.lead.saturating_sub(passed),
        };
        for lossy in [&mut self.data_track, &mut self.lossy] {
            while self.lead < LOSSY_LEAD {
                let Some(written) = lossy.feed(&mut self.sctp, now) else {
                    break;
                };
                self.lead += written;
            }
        }
        self.reliable.feed(&mut self.sctp);
    }
}
