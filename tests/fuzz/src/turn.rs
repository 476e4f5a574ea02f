//! TURN: messages, the frames of a stream, and a server with its clients, peers and SFU.

use crate::input::Input;
use crate::origin;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use turn::address::{AllocationId, Client, Family, RelayPort, Transport};
use turn::config::{Config, Wall};
use turn::credentials::{Credentials, Secret};
use turn::frame::{FRAME_MAX, Frame, next};
use turn::message::algorithm::{Algorithm, OFFERED};
use turn::message::attribute::*;
use turn::message::integrity::{Key, userhash};
use turn::message::writer::{Head, Writer};
use turn::message::{Class, Message, Method};
use turn::policy::PeerPolicy;
use turn::server::{Server, Way};

const REALM_TEXT: &str = "r";
const PORTS: (u16, u16) = (30_000, 30_002);
const SFU: ([u8; 4], u16) = ([9, 9, 9, 9], 7882);
const OWN_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 9));

/// Bytes as a message: raw, or with a right header and a signature.
pub(crate) fn message(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.flag() {
        return read(input.rest());
    }
    let sha256 = input.flag();
    let key = Key::long_term("u", "r", "p");
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Method::Allocate, Class::Request, &[7; 12]);
    let mut sound = true;
    while !input.is_empty() {
        let kind = input.short();
        sound &= !matches!(
            kind,
            MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 | FINGERPRINT
        );
        writer.bytes(kind, input.slice());
    }
    writer.sign(&key, sha256).finish(true);
    if sound {
        let message = Message::parse(&out).expect("what was written is read");
        assert!(message.verify(&key) && message.has_fingerprint);
        assert!(!message.verify(&Key::long_term("u", "r", "q")));
    }
    read(&out);
}

fn read(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else {
        return;
    };
    for (kind, value) in message.attributes() {
        assert!(value.len() <= bytes.len());
        if let Some((at, placed)) = message.place(kind) {
            assert_eq!(bytes.get(at..at + placed.len()), Some(placed));
        }
    }
    assert!(message.unknown(&[]).as_slice().len() <= 8);
    if let Some(address) = message.address(XOR_PEER_ADDRESS) {
        let head = Head::indication(address, 5, &message.transaction);
        let whole = [head.bytes(), b"12345", head.padding()].concat();
        let back = Message::parse(&whole).expect("a message");
        assert_eq!(back.address(XOR_PEER_ADDRESS), Some(address));
        assert_eq!(back.attribute(DATA), Some(&b"12345"[..]));
    }
}

/// Bytes as a stream: read in pieces, it has the same frames as read at once.
pub(crate) fn stream(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let step = usize::from(input.byte()) + 1;
    let bytes = input.rest();
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(whole, frames(bytes, step));
}

/// The lengths of frames, and whether the stream broke.
fn frames(bytes: &[u8], step: usize) -> (Vec<usize>, bool) {
    let mut kept: Vec<u8> = Vec::new();
    let mut found = Vec::new();
    for piece in bytes.chunks(step) {
        kept.extend_from_slice(piece);
        loop {
            match next(&kept) {
                Frame::Partial => break,
                Frame::Broken => return (found, true),
                Frame::Whole { len, taken } => {
                    assert!(len <= taken && taken <= kept.len() && taken > 0);
                    found.push(len);
                    kept.drain(..taken);
                }
            }
        }
        assert!(kept.len() < FRAME_MAX + step);
    }
    (found, false)
}

/// Somebody who knows a password.
struct User {
    client: Client,
    name: &'static str,
    key: Key,
    /// The algorithm that is chosen, if the client knows that it may.
    algorithm: Option<Algorithm>,
    /// The client hides its name.
    hashed: bool,
    nonce: Vec<u8>,
}

impl User {
    fn sign(&self, writer: &mut Writer<'_>) {
        if self.hashed {
            writer.bytes(USERHASH, &userhash(self.name, REALM_TEXT));
        } else {
            writer.bytes(USERNAME, self.name.as_bytes());
        }
        writer
            .bytes(REALM, REALM_TEXT.as_bytes())
            .bytes(NONCE, &self.nonce);
        if let Some(algorithm) = self.algorithm {
            writer
                .bytes(PASSWORD_ALGORITHMS, &OFFERED)
                .bytes(PASSWORD_ALGORITHM, &algorithm.value());
        }
        writer.sign(&self.key, self.algorithm.is_some());
    }
}

/// A server, those who use it, and what they were let do.
struct World {
    server: Server,
    users: Vec<User>,
    now: Instant,
    count: u64,
    /// Until when each client may talk with each peer, at the most.
    let_in: HashMap<(usize, IpAddr), Instant>,
    ids: Vec<AllocationId>,
}

/// Any sequence of what clients, peers, the SFU and time can do.
pub(crate) fn server(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(input.byte());
    // A run is bounded by its steps, whatever the input's length.
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.end();
}

impl World {
    fn new(form: u8) -> Self {
        let now = origin();
        let mut config = Config::new(REALM_TEXT, Wall { at: now, unix_s: 0 });
        config.credentials = Credentials {
            fixed: vec![
                ("a".into(), Secret::new("1")),
                ("b".into(), Secret::new("2")),
            ],
            ..Credentials::default()
        };
        config.relay_ports = PORTS;
        config.own.external = vec![IpAddr::from([9, 9, 9, 9]), OWN_IPV6];
        config.own.sfu = vec![SFU.into()];
        config.own.host = vec![IpAddr::from([9, 9, 9, 9])];
        config.limits.user_allocations = u32::from(form & 3);
        config.limits.permissions = 4;
        config.limits.channels = 3;
        config.limits.unknown_answers_burst = 100_000;
        config.limits.allocation_bytes_s = if form & 4 == 0 { 0 } else { 1000 };
        config.limits.user_bytes_s = if form & 8 == 0 { 0 } else { 1500 };
        config.limits.total_bytes_s = if form & 16 == 0 { 0 } else { 2000 };
        let algorithm = [Algorithm::Md5, Algorithm::Sha256][usize::from(form >> 5 & 1)];
        let user = |n: u16| {
            let name = if n.is_multiple_of(2) { "a" } else { "b" };
            User {
                client: Client {
                    transport: [Transport::Udp, Transport::Tcp][usize::from(n % 3 == 2)],
                    local: ([9, 9, 9, 9], 3479).into(),
                    remote: ([1, 1, 1, (n / 3) as u8], 100 + n).into(),
                    shared: false,
                    link: u32::from(n),
                },
                name,
                key: Key::made_with(
                    algorithm,
                    name,
                    REALM_TEXT,
                    if n.is_multiple_of(2) { "1" } else { "2" },
                ),
                algorithm: (form & 96 != 0).then_some(algorithm),
                hashed: form & 128 != 0,
                nonce: Vec::new(),
            }
        };
        Self {
            server: Server::new(config, &[form; 32], now),
            users: (0..6).map(user).collect(),
            now,
            count: 0,
            let_in: HashMap::new(),
            ids: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let who = usize::from(input.byte()) % self.users.len();
        match input.byte() % 10 {
            0 => {
                let bytes = input.slice();
                self.hand(who, bytes);
            }
            1..=4 => self.request(who, input),
            5 => self.send(who, input),
            6 => {
                let port = PORTS.0 + u16::from(input.byte() % 4);
                let peer = peer(input);
                let len = usize::from(input.short());
                let at = RelayPort {
                    family: Family::of(peer.ip()),
                    port,
                };
                let way = self.server.handle_peer(at, peer, len, self.now);
                self.judge(None, Some(peer), &way, len);
            }
            7 => {
                let id = self
                    .ids
                    .get(usize::from(input.byte()) % self.ids.len().max(1))
                    .copied();
                if let Some(id) = id {
                    let len = usize::from(input.short());
                    let from = SFU.into();
                    let way = self.server.handle_sfu(id, from, len, self.now);
                    self.judge(None, Some(from), &way, len);
                }
            }
            8 => {
                self.now += Duration::from_secs(u64::from(input.short() % 700));
                self.server.handle_timeout(self.now);
            }
            _ => {
                let client = self.users[who].client;
                self.server.handle_closed(&client, self.now);
                assert!(!self.server.has_allocation(&client));
            }
        }
        while self.server.poll_event().is_some() {}
    }

    fn request(&mut self, who: usize, input: &mut Input<'_>) {
        self.count += 1;
        let method = [
            Method::Allocate,
            Method::Refresh,
            Method::CreatePermission,
            Method::ChannelBind,
        ][usize::from(input.byte() % 4)];
        let mut transaction = [0; 12];
        transaction[4..].copy_from_slice(&self.count.to_be_bytes());
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, method, Class::Request, &transaction);
        let mut peers = Vec::new();
        for _ in 0..input.byte() % 6 {
            attribute(&mut writer, input, &mut peers);
        }
        let user = &self.users[who];
        if !user.nonce.is_empty() {
            user.sign(&mut writer);
        }
        writer.finish(false);
        let Some(answer) = self.hand(who, &out) else {
            return;
        };
        let answer = Message::parse(&answer).expect("an answer is a message");
        assert_eq!(answer.transaction, transaction);
        if answer.is_signed() {
            let user = &self.users[who];
            assert!(answer.verify(&user.key));
            assert_eq!(answer.is_signed_sha256(), user.algorithm.is_some());
        }
        if let Some(nonce) = answer.attribute(NONCE) {
            self.users[who].nonce = nonce.to_vec();
        }
        if answer.class == Class::Success
            && matches!(method, Method::CreatePermission | Method::ChannelBind)
        {
            for peer in peers {
                self.let_in
                    .insert((who, peer), self.now + Duration::from_secs(300));
            }
        }
    }

    fn send(&mut self, who: usize, input: &mut Input<'_>) {
        let mut out = Vec::new();
        if input.flag() {
            let number = 0x4000 | u16::from(input.byte() % 4);
            let payload = input.slice();
            out.extend(number.to_be_bytes());
            out.extend((payload.len() as u16).to_be_bytes());
            out.extend(payload);
        } else {
            let mut writer = Writer::new(&mut out, Method::Send, Class::Indication, &[1; 12]);
            writer
                .address(XOR_PEER_ADDRESS, peer(input))
                .bytes(DATA, input.slice());
            writer.finish(false);
        }
        self.hand(who, &out);
    }

    /// Gives the server bytes of a client; tells its answer.
    fn hand(&mut self, who: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let client = self.users[who].client;
        let way = self.server.handle_client(client, bytes, self.now);
        self.judge(Some(who), None, &way, bytes.len());
        let answer = self.server.poll_output().map(|(to, bytes)| {
            assert_eq!(to, client);
            bytes.to_vec()
        });
        assert!(self.server.poll_output().is_none(), "one answer at most");
        assert!(answer.is_none() || way == Way::Nowhere);
        answer
    }

    /// What goes anywhere was let in, and stays within what was handed over.
    fn judge(&mut self, sender: Option<usize>, peer: Option<SocketAddr>, way: &Way, len: usize) {
        let may = |let_in: &HashMap<(usize, IpAddr), Instant>, who: usize, ip: IpAddr| {
            assert!(
                let_in
                    .get(&(who, ip))
                    .is_some_and(|until| *until > self.now),
                "{ip} was not let in"
            );
        };
        match way {
            Way::Nowhere => {}
            Way::Peer {
                from, to, payload, ..
            } => {
                assert!(payload.end <= len && (PORTS.0..=PORTS.1).contains(&from.port));
                assert!(PeerPolicy::default().allows(to.ip()) && to.ip() != IpAddr::from(SFU.0));
                may(&self.let_in, sender.expect("a client sends"), to.ip());
            }
            Way::Sfu {
                allocation,
                to,
                payload,
                ..
            } => {
                assert!(payload.end <= len && *to == SFU.into());
                may(&self.let_in, sender.expect("a client sends"), to.ip());
                if self.ids.len() < 64 {
                    self.ids.push(*allocation);
                }
            }
            Way::Client { to, payload, head } => {
                assert!(payload.end <= len && self.server.has_allocation(to));
                assert!(head.bytes().len() >= 4 && head.padding().len() < 4);
                let who = to.link as usize;
                match (peer, sender) {
                    (Some(peer), _) => may(&self.let_in, who, peer.ip()),
                    // A neighbour, by the relay of either family.
                    (None, Some(_)) if self.let_in.contains_key(&(who, OWN_IPV6)) => {}
                    (None, _) => may(&self.let_in, who, IpAddr::from(SFU.0)),
                }
            }
        }
    }

    /// Two hours later nothing is left.
    fn end(&mut self) {
        let stats = self.server.stats();
        assert!(stats.allocations <= self.users.len() as u64);
        self.now += Duration::from_secs(7200);
        while self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_timeout(self.now);
        }
        let stats = self.server.stats();
        assert_eq!((stats.allocations, self.server.poll_timeout()), (0, None));
        assert_eq!(
            stats.allocated,
            stats.released + stats.expired + stats.closed + stats.displaced + stats.left
        );
    }
}

fn attribute(writer: &mut Writer<'_>, input: &mut Input<'_>, peers: &mut Vec<IpAddr>) {
    match input.byte() % 9 {
        0 | 1 => drop(writer.bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])),
        2 => drop(writer.word(LIFETIME, u32::from(input.short()))),
        3 | 4 => {
            let peer = peer(input);
            peers.push(peer.ip());
            writer.address(XOR_PEER_ADDRESS, peer);
        }
        5 => drop(writer.bytes(CHANNEL_NUMBER, &[0x40, input.byte() % 4, 0, 0])),
        6 => drop(writer.bytes(REQUESTED_ADDRESS_FAMILY, &[input.byte() % 4, 0, 0, 0])),
        7 => drop(writer.bytes(
            [EVEN_PORT, ADDITIONAL_ADDRESS_FAMILY, DONT_FRAGMENT][usize::from(input.byte() % 3)],
            &[input.byte()],
        )),
        _ => drop(writer.bytes(input.short(), input.slice())),
    }
}

/// One of a few addresses that matter.
fn peer(input: &mut Input<'_>) -> SocketAddr {
    let port = PORTS.0 + u16::from(input.byte() % 4);
    match input.byte() % 8 {
        0 => SFU.into(),
        1 => ([9, 9, 9, 9], port).into(),
        2 => ([127, 0, 0, 1], port).into(),
        3 => ([0x2600, 0, 0, 0, 0, 0, 0, 1], port).into(),
        4 => ([0x2600, 0, 0, 0, 0, 0, 0, 9], port).into(),
        5 => ([0xFE80, 0, 0, 0, 0, 0, 0, 1], port).into(),
        n => ([8, 8, 8, n], port).into(),
    }
}
