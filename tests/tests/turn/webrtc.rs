//! The TURN client of crate `webrtc`, which is a state machine: here are its sockets, and its time, which
//! runs ahead of ours so that it refreshes what it has.

use super::road::Road;
use super::server::{Peer, SFU, Server};
use bytes::BytesMut;
use rtc::crypto::default_provider;
use rtc::sansio::Protocol as _;
use rtc::shared::{TransportContext, TransportMessage, TransportProtocol};
use rtc::stun::error_code::ErrorCodeAttribute;
use rtc::stun::message::{
    CLASS_REQUEST, Getter as _, METHOD_ALLOCATE, METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION,
    METHOD_REFRESH, Message, Method, is_stun_message,
};
use rtc::turn::client::{Client, ClientConfig, Event};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Later than half of an allocation's lifetime and than a permission's or a channel's turn to be refreshed.
const LATER: Duration = Duration::from_secs(310);

/// The client, its road, and what it has been answered.
struct Stranger {
    client: Client,
    road: Road,
    context: TransportContext,
    now: Instant,
    /// Answers: to what, and the code of an error; 0 of a success.
    heard: Vec<(Method, u16)>,
}

impl Stranger {
    fn new(road: Road, server: SocketAddr, password: &str) -> Self {
        let transport_protocol = match &road {
            Road::Udp(_) => TransportProtocol::UDP,
            Road::Stream { .. } => TransportProtocol::TCP,
        };
        let local_addr = SocketAddr::new(server.ip(), 0);
        let config = ClientConfig {
            turn_serv_addr: server.to_string(),
            local_addr,
            transport_protocol,
            username: "alice".into(),
            password: password.into(),
            ..ClientConfig::default()
        };
        let crypto = default_provider().expect("one is built in");
        #[expect(clippy::disallowed_methods, reason = "its time begins now")]
        let now = Instant::now();
        Self {
            client: Client::new(config, crypto).expect("a client"),
            road,
            context: TransportContext {
                local_addr,
                peer_addr: server,
                transport_protocol,
                ecn: None,
            },
            now,
            heard: Vec::new(),
        }
    }

    /// Sends what it has to say.
    fn speak(&mut self) {
        while let Some(out) = self.client.poll_write() {
            self.road.send(&out.message).expect("it is taken");
        }
    }

    /// Gives it the next message.
    fn listen(&mut self) {
        let bytes = self.road.receive().expect("an answer");
        self.note(&bytes);
        let message = TransportMessage {
            now: self.now,
            transport: self.context,
            message: BytesMut::from(&bytes[..]),
        };
        self.client.handle_read(message).expect("it understands");
    }

    fn note(&mut self, bytes: &[u8]) {
        if !is_stun_message(bytes) {
            return;
        }
        let mut message = Message::new();
        message.raw = bytes.to_vec();
        message.decode().expect("STUN");
        let mut code = ErrorCodeAttribute::default();
        let code = code.get_from(&message).map_or(0, |()| code.code.0);
        assert_ne!(message.typ.class, CLASS_REQUEST, "a server asks nothing");
        self.heard.push((message.typ.method, code));
    }

    fn event(&mut self) -> Event {
        loop {
            self.speak();
            if let Some(event) = self.client.poll_event() {
                return event;
            }
            self.listen();
        }
    }

    /// Waits for an answer of this kind; data that comes in between is lost.
    fn until(&mut self, wanted: (Method, u16)) {
        self.speak();
        while !self.heard.contains(&wanted) {
            self.listen();
            while self.client.poll_event().is_some() {}
            self.speak();
        }
    }

    fn allocate(&mut self) -> SocketAddr {
        self.client.allocate(self.now).expect("asked");
        match self.event() {
            Event::AllocateResponse(_, relayed) => relayed,
            other => panic!("{other:?}"),
        }
    }

    fn permit(&mut self, relayed: SocketAddr, peer: SocketAddr) {
        let now = self.now;
        let mut relay = self.client.relay(relayed).expect("an allocation");
        relay.create_permission(now, peer).expect("asked");
        match self.event() {
            Event::CreatePermissionResponse(_, of) => assert_eq!(of, peer),
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, relayed: SocketAddr, data: &[u8], peer: SocketAddr) {
        let now = self.now;
        let mut relay = self.client.relay(relayed).expect("an allocation");
        relay.send_to(now, data, peer).expect("permitted");
    }

    /// The next data, whether it came by a channel, and of whom it is.
    fn data(&mut self) -> (bool, SocketAddr, Vec<u8>) {
        match self.event() {
            Event::DataIndicationOrChannelData(channel, peer, data) => {
                (channel.is_some(), peer, data.to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    /// To a peer that sends all back, first by an indication, and by a channel once it is bound.
    fn echo(&mut self, relayed: SocketAddr, peer: SocketAddr) {
        for len in [1, 3, 172, 1200] {
            let data = vec![len as u8; len];
            self.send(relayed, &data, peer);
            assert_eq!(self.data(), (true, peer, data));
        }
    }

    /// Time passes: it refreshes its allocation and permissions, and its channels with the next data.
    fn later(&mut self) {
        self.now += LATER;
        self.heard.clear();
        self.client.handle_timeout(self.now).expect("time passes");
    }
}

/// A client on each kind of road.
fn strangers(server: &Server) -> Vec<Stranger> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let bound = server.turn().bound();
    let new = |road: Road, at| Stranger::new(road, at, "alice-password");
    vec![
        new(Road::udp(server.udp()), server.udp()),
        new(Road::udp(bound.udp[1]), bound.udp[1]),
        new(Road::tcp(server.tcp()), server.tcp()),
        new(Road::tls(server.tls(), &seen), server.tls()),
    ]
}

#[test]
fn the_client_of_webrtc_relays_over_every_transport_to_peers_and_to_the_sfu() {
    let server = Server::start();
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    let sfu: SocketAddr = SFU.parse().expect("an address");
    // It speaks first, and no channel leads to it.
    let speaker = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let speaker_at = speaker.local_addr().expect("bound");
    for mut stranger in strangers(&server) {
        let relayed = stranger.allocate();
        for other in [peer, sfu, speaker_at] {
            stranger.permit(relayed, other);
        }
        for other in [peer, sfu] {
            stranger.echo(relayed, other);
        }
        speaker.send_to(b"hello", relayed).expect("sent");
        let heard = (false, speaker_at, b"hello".to_vec());
        assert_eq!(stranger.data(), heard);
        let now = stranger.now;
        let mut relay = stranger.client.relay(relayed).expect("an allocation");
        relay.close(now).expect("asked");
        stranger.until((METHOD_REFRESH, 0));
        assert!(stranger.client.relay(relayed).is_err());
    }
    server.until(|totals| totals.server.released == 4 && totals.server.allocations == 0);
}

#[test]
fn the_client_of_webrtc_refreshes_all_it_has_and_relays_on() {
    let server = Server::start();
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    for mut stranger in strangers(&server) {
        let relayed = stranger.allocate();
        stranger.permit(relayed, peer);
        stranger.echo(relayed, peer);
        for _ in 0..3 {
            stranger.later();
            stranger.until((METHOD_REFRESH, 0));
            stranger.until((METHOD_CREATE_PERMISSION, 0));
            stranger.echo(relayed, peer);
            stranger.until((METHOD_CHANNEL_BIND, 0));
            assert!(stranger.heard.iter().all(|(_, code)| *code == 0));
        }
    }
}

#[test]
fn the_client_of_webrtc_takes_a_new_nonce_for_a_stale_one_and_relays_on() {
    let lifetime = Duration::from_secs(1);
    let server = Server::with(|settings| settings.server.lifetimes.nonce = lifetime);
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    for mut stranger in strangers(&server) {
        let relayed = stranger.allocate();
        stranger.permit(relayed, peer);
        stranger.echo(relayed, peer);
        // It refreshes on and on, until the second of its nonce is up.
        let mut asked = 0;
        while !stranger.heard.contains(&(METHOD_REFRESH, 438)) {
            stranger.later();
            stranger.speak();
            // Of its allocation and of its permission.
            stranger.listen();
            stranger.listen();
            asked += 1;
        }
        assert!(asked > 1, "the first nonce was stale at once");
        stranger.later();
        stranger.until((METHOD_REFRESH, 0));
        stranger.until((METHOD_CREATE_PERMISSION, 0));
        stranger.echo(relayed, peer);
    }
}

#[test]
fn the_client_of_webrtc_is_told_why_it_gets_no_relay() {
    let server = Server::with(|settings| settings.server.limits.user_allocations = 1);
    let refused = |password: &str, code: u16| {
        let mut stranger = Stranger::new(Road::udp(server.udp()), server.udp(), password);
        stranger.client.allocate(stranger.now).expect("asked");
        let event = stranger.event();
        assert!(matches!(event, Event::AllocateError(..)), "{event:?}");
        assert_eq!(
            stranger.heard,
            [(METHOD_ALLOCATE, 401), (METHOD_ALLOCATE, code)]
        );
    };
    refused("bob-password", 401);
    let mut first = Stranger::new(Road::udp(server.udp()), server.udp(), "alice-password");
    first.allocate();
    refused("alice-password", 486);
}
