//! A small client of TURN over any transport: it waits for every answer, and can misbehave.

use super::road::Road;
use super::server::REALM;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use turn::message::attribute::{
    CHANNEL_NUMBER, ERROR_CODE, LIFETIME, NONCE, REALM as REALM_ATTRIBUTE,
    REQUESTED_ADDRESS_FAMILY, REQUESTED_TRANSPORT, USERNAME, XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS,
};
use turn::message::integrity::Key;
use turn::message::writer::Writer;
use turn::message::{Class, Message, Method};

/// A client.
pub(crate) struct Client {
    road: Road,
    name: String,
    pub(crate) realm: String,
    key: Key,
    nonce: Vec<u8>,
    count: u64,
}

/// An answer, or data.
#[derive(Debug, Clone)]
pub(crate) struct Received(pub(crate) Vec<u8>);

impl Received {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("a message")
    }

    /// The code of an error; 0 of a success.
    pub(crate) fn code(&self) -> u16 {
        let value = self.message().attribute(ERROR_CODE);
        value.map_or(0, |value| u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    pub(crate) fn relayed(&self) -> SocketAddr {
        self.message()
            .address(XOR_RELAYED_ADDRESS)
            .expect("an allocation")
    }
}

impl Client {
    pub(crate) fn udp(server: SocketAddr, name: &str, password: &str) -> Self {
        Self::new(Road::udp(server), name, password)
    }

    pub(crate) fn tcp(server: SocketAddr, name: &str, password: &str) -> Self {
        Self::new(Road::tcp(server), name, password)
    }

    /// Over TLS; puts the server's certificate where it can be looked at.
    pub(crate) fn tls(
        server: SocketAddr,
        name: &str,
        password: &str,
        seen: &Arc<Mutex<Vec<u8>>>,
    ) -> Self {
        Self::new(Road::tls(server, seen), name, password)
    }

    fn new(road: Road, name: &str, password: &str) -> Self {
        Self {
            road,
            name: name.into(),
            realm: REALM.into(),
            key: Key::long_term(name, REALM, password),
            nonce: Vec::new(),
            count: 0,
        }
    }

    /// Sends bytes as they are; a stream must be told of padding by the caller.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.road.send(bytes)
    }

    /// The next message or datagram.
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        self.road.receive().map(Received)
    }

    /// A request of these attributes, signed once a nonce is known.
    pub(crate) fn request(
        &mut self,
        method: Method,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Vec<u8> {
        self.count += 1;
        let mut transaction = [9; 12];
        transaction[4..].copy_from_slice(&self.count.to_be_bytes());
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, method, Class::Request, &transaction);
        fill(&mut writer);
        if !self.nonce.is_empty() {
            writer
                .bytes(USERNAME, self.name.as_bytes())
                .bytes(REALM_ATTRIBUTE, self.realm.as_bytes())
                .bytes(NONCE, &self.nonce)
                .sign(&self.key, false);
        }
        writer.finish(true);
        out
    }

    pub(crate) fn ask(&mut self, method: Method, fill: impl FnOnce(&mut Writer<'_>)) -> Received {
        let bytes = self.request(method, fill);
        self.send(&bytes).expect("it is taken");
        let answer = self.receive().expect("an answer");
        assert_eq!(answer.message().transaction[..], bytes[8..20]);
        answer
    }

    /// Gets a nonce.
    pub(crate) fn greet(&mut self) {
        self.nonce.clear();
        let challenge = self.ask(Method::Allocate, |_| {});
        assert_eq!(challenge.code(), 401);
        self.nonce = challenge
            .message()
            .attribute(NONCE)
            .expect("a nonce")
            .to_vec();
    }

    pub(crate) fn spoil_nonce(&mut self) {
        self.nonce[20] ^= 1;
    }

    pub(crate) fn allocate(&mut self) -> Received {
        self.allocate_family(1)
    }

    pub(crate) fn allocate_family(&mut self, family: u8) -> Received {
        if self.nonce.is_empty() {
            self.greet();
        }
        self.ask(Method::Allocate, |writer| {
            writer
                .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .bytes(REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        })
    }

    pub(crate) fn refresh(&mut self, lifetime_s: u32) -> u16 {
        self.ask(Method::Refresh, |writer| {
            writer.word(LIFETIME, lifetime_s);
        })
        .code()
    }

    pub(crate) fn permit(&mut self, peer: SocketAddr) -> u16 {
        self.ask(Method::CreatePermission, |writer| {
            writer.address(XOR_PEER_ADDRESS, peer);
        })
        .code()
    }

    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr) -> u16 {
        self.ask(Method::ChannelBind, |writer| {
            writer
                .bytes(CHANNEL_NUMBER, &[(number >> 8) as u8, number as u8, 0, 0])
                .address(XOR_PEER_ADDRESS, peer);
        })
        .code()
    }

    /// Sends over a channel and takes what comes back.
    pub(crate) fn echo(&mut self, number: u16, payload: &[u8]) -> Received {
        self.send(&channel_data(number, payload)).expect("taken");
        self.receive().expect("it comes back")
    }
}

/// ChannelData, padded as a stream wants it.
pub(crate) fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let mut out = [&number.to_be_bytes()[..], &len, payload].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}
