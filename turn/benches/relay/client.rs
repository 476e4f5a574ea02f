//! A client that allocates and binds one channel.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use turn::message::attribute::{
    CHANNEL_NUMBER, ERROR_CODE, LIFETIME, NONCE, REALM, REQUESTED_TRANSPORT, USERNAME,
    XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS,
};
use turn::message::integrity::Key;
use turn::message::writer::Writer;
use turn::message::{Class, Message, Method};

pub(crate) const REALM_TEXT: &str = "bench";
pub(crate) const NAME: &str = "bench";
pub(crate) const PASSWORD: &str = "secret";
pub(crate) const CHANNEL: u16 = 0x4000;

/// An allocation with a channel.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    /// Where its peer sends to.
    pub(crate) relayed: SocketAddr,
    /// What ends the allocation.
    goodbye: Vec<u8>,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.socket.send(&self.goodbye);
    }
}

impl Client {
    /// Allocates at `server`, from an address of its own, and binds [`CHANNEL`] to `peer`.
    pub(crate) fn new(server: SocketAddr, from: SocketAddr, peer: SocketAddr) -> Self {
        let socket = UdpSocket::bind(from).expect("a socket");
        socket.connect(server).expect("an address");
        let patience = Duration::from_secs(5);
        socket.set_read_timeout(Some(patience)).expect("a timeout");
        let mut nonce = Vec::new();
        let mut asked = 0;
        let mut ask = |method, fill: &dyn Fn(&mut Writer<'_>), nonce: &[u8]| {
            asked += 1;
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, method, Class::Request, &[asked; 12]);
            fill(&mut writer);
            if !nonce.is_empty() {
                writer
                    .bytes(USERNAME, NAME.as_bytes())
                    .bytes(REALM, REALM_TEXT.as_bytes())
                    .bytes(NONCE, nonce)
                    .sign(&Key::long_term(NAME, REALM_TEXT, PASSWORD), false);
            }
            writer.finish(false);
            socket.send(&out).expect("sent");
            let mut answer = vec![0; 2048];
            let len = socket.recv(&mut answer).expect("an answer");
            answer.truncate(len);
            answer
        };
        let allocate = |writer: &mut Writer<'_>| {
            writer.bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        };
        let challenge = ask(Method::Allocate, &allocate, &nonce);
        nonce.extend_from_slice(attribute(&challenge, NONCE).expect("a nonce"));
        let allocated = ask(Method::Allocate, &allocate, &nonce);
        let relayed = Message::parse(&allocated)
            .ok()
            .and_then(|message| message.address(XOR_RELAYED_ADDRESS))
            .unwrap_or_else(|| panic!("no allocation: {:?}", attribute(&allocated, ERROR_CODE)));
        let bind = |writer: &mut Writer<'_>| {
            let [high, low] = CHANNEL.to_be_bytes();
            writer
                .bytes(CHANNEL_NUMBER, &[high, low, 0, 0])
                .address(XOR_PEER_ADDRESS, peer);
        };
        let bound = ask(Method::ChannelBind, &bind, &nonce);
        assert_eq!(attribute(&bound, ERROR_CODE), None);
        let mut goodbye = Vec::new();
        Writer::new(&mut goodbye, Method::Refresh, Class::Request, &[99; 12])
            .word(LIFETIME, 0)
            .bytes(USERNAME, NAME.as_bytes())
            .bytes(REALM, REALM_TEXT.as_bytes())
            .bytes(NONCE, &nonce)
            .sign(&Key::long_term(NAME, REALM_TEXT, PASSWORD), false)
            .finish(false);
        Self {
            socket,
            relayed,
            goodbye,
        }
    }
}

fn attribute(message: &[u8], kind: u16) -> Option<&[u8]> {
    Message::parse(message).ok()?.attribute(kind)
}
