//! A client and a server in virtual time, and the rules of TURN they keep.

mod allocations;
mod capacity;
mod codes;
mod credentials;
mod peers;
mod relaying;

use super::*;
use crate::address::Transport;
use crate::config::Own;
use crate::credentials::{Credentials, Secret};
use crate::message::attribute::*;
use crate::message::integrity::Key;
use crate::message::writer::Writer;
use crate::message::{Transaction, unmask};
use std::net::IpAddr;
use std::time::Duration;

const REALM_TEXT: &str = "example.org";
const SFU: &str = "9.9.9.9:7882";

pub(super) fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    Instant::now()
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn config(now: Instant) -> Config {
    let mut config = Config::new(
        REALM_TEXT,
        Wall {
            at: now,
            unix_s: 1_700_000_000,
        },
    );
    config.credentials = Credentials {
        fixed: ["alice", "bob", "carol"]
            .map(|name| (name.to_owned(), Secret::new(format!("{name}'s"))))
            .into(),
        shared: vec![Secret::new("north")],
        lookup: None,
    };
    config.own = Own {
        external: vec![ip("9.9.9.9"), ip("2600::9")],
        sfu: vec![
            address(SFU),
            address("192.168.1.9:7882"),
            address("[2600::9]:7882"),
        ],
        host: vec![ip("9.9.9.9"), ip("192.168.1.9")],
        links: Vec::new(),
    };
    config
}

/// A server and the time.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) now: Instant,
    count: u64,
}

/// Somebody at an address with a name.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) key: Key,
    pub(super) nonce: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Answer(pub(super) Vec<u8>);

impl Answer {
    pub(super) fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("an answer is a message")
    }

    pub(super) fn code(&self) -> u16 {
        let value = self.message().attribute(ERROR_CODE);
        value.map_or(0, |value| u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    pub(super) fn attribute(&self, kind: u16) -> Option<Vec<u8>> {
        self.message().attribute(kind).map(<[u8]>::to_vec)
    }

    pub(super) fn relayed(&self) -> SocketAddr {
        self.message()
            .address(XOR_RELAYED_ADDRESS)
            .expect("an allocation")
    }

    pub(super) fn lifetime(&self) -> u32 {
        word(&self.attribute(LIFETIME).expect("a lifetime")).expect("four bytes")
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let now = start();
        let mut config = config(now);
        change(&mut config);
        Self {
            server: Server::new(config, &[5; 32], now),
            now,
            count: 0,
        }
    }

    pub(super) fn transaction(&mut self) -> Transaction {
        self.count += 1;
        let mut out = [0; 12];
        out[4..].copy_from_slice(&self.count.to_be_bytes());
        out
    }

    /// Sends bytes and takes the answer, if any.
    pub(super) fn say(&mut self, client: Client, bytes: &[u8]) -> Option<Answer> {
        let way = self.server.handle_client(client, bytes, self.now);
        assert_eq!(way, Way::Nowhere);
        let answer = self.server.poll_output().map(|(to, bytes)| {
            assert_eq!(to, client);
            Answer(bytes.to_vec())
        });
        assert!(self.server.poll_output().is_none(), "one answer at most");
        answer
    }

    pub(super) fn unsigned(&mut self, client: Client, method: Method) -> Option<Answer> {
        let transaction = self.transaction();
        let mut out = Vec::new();
        Writer::new(&mut out, method, Class::Request, &transaction).finish(false);
        self.say(client, &out)
    }

    /// A user who has got his nonce.
    pub(super) fn user(&mut self, name: &str, remote: &str) -> User {
        self.user_with(name, &format!("{name}'s"), client(remote))
    }

    pub(super) fn user_with(&mut self, name: &str, password: &str, client: Client) -> User {
        let challenge = self
            .unsigned(client, Method::Allocate)
            .expect("a challenge");
        assert_eq!(challenge.code(), 401);
        assert_eq!(
            challenge.attribute(REALM).as_deref(),
            Some(REALM_TEXT.as_bytes())
        );
        User {
            client,
            name: name.into(),
            key: Key::long_term(name, REALM_TEXT, password),
            nonce: challenge.attribute(NONCE).expect("a nonce"),
        }
    }

    /// A signed request.
    pub(super) fn ask(
        &mut self,
        user: &User,
        method: Method,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Answer {
        let transaction = self.transaction();
        let bytes = signed(user, method, transaction, fill);
        let answer = self.say(user.client, &bytes).expect("an answer");
        if !matches!(answer.code(), 401 | 438) {
            assert!(answer.message().verify(&user.key), "answers are signed");
        }
        answer
    }

    pub(super) fn allocate(&mut self, user: &User) -> Answer {
        self.ask(user, Method::Allocate, |writer| {
            writer.bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        })
    }

    pub(super) fn permit(&mut self, user: &User, peers: &[&str]) -> u16 {
        let answer = self.ask(user, Method::CreatePermission, |writer| {
            for peer in peers {
                writer.address(XOR_PEER_ADDRESS, address(peer));
            }
        });
        answer.code()
    }

    pub(super) fn bind(&mut self, user: &User, number: u16, peer: &str) -> u16 {
        let answer = self.ask(user, Method::ChannelBind, |writer| {
            writer.bytes(CHANNEL_NUMBER, &[(number >> 8) as u8, number as u8, 0, 0]);
            writer.address(XOR_PEER_ADDRESS, address(peer));
        });
        answer.code()
    }

    pub(super) fn refresh(&mut self, user: &User, lifetime: u32) -> Answer {
        self.ask(user, Method::Refresh, |writer| {
            writer.word(LIFETIME, lifetime);
        })
    }

    /// A user with an allocation, and where it is.
    pub(super) fn allocated(&mut self, name: &str, remote: &str) -> (User, SocketAddr) {
        let user = self.user(name, remote);
        let answer = self.allocate(&user);
        assert_eq!(answer.code(), 0);
        let relayed = answer.relayed();
        (user, relayed)
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        while self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_timeout(self.now);
        }
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }
}

pub(super) fn client(remote: &str) -> Client {
    Client {
        transport: Transport::Udp,
        local: address("9.9.9.9:3479"),
        remote: address(remote),
        shared: false,
        link: 0,
    }
}

pub(super) fn signed(
    user: &User,
    method: Method,
    transaction: Transaction,
    fill: impl FnOnce(&mut Writer<'_>),
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, method, Class::Request, &transaction);
    fill(&mut writer);
    writer
        .bytes(USERNAME, user.name.as_bytes())
        .bytes(REALM, REALM_TEXT.as_bytes())
        .bytes(NONCE, &user.nonce)
        .sign(&user.key, false)
        .finish(true);
    out
}

pub(super) fn at(relayed: SocketAddr) -> RelayPort {
    RelayPort {
        family: Family::of(relayed.ip()),
        port: relayed.port(),
    }
}

pub(super) fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    [&number.to_be_bytes()[..], &len, payload].concat()
}

pub(super) fn send_indication(peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Method::Send, Class::Indication, &[1; 12]);
    writer.address(XOR_PEER_ADDRESS, peer).bytes(DATA, payload);
    writer.finish(false);
    out
}

#[test]
fn a_binding_request_tells_the_address_it_came_from() {
    let mut world = World::with(|config| config.software = "Foci".into());
    for remote in ["1.2.3.4:5", "[2600::77]:6"] {
        let answer = world
            .unsigned(client(remote), Method::Binding)
            .expect("an answer");
        let message = answer.message();
        assert_eq!(
            (message.method, message.class),
            (Some(Method::Binding), Class::Success)
        );
        let mapped = unmask(
            message.attribute(XOR_MAPPED_ADDRESS).expect("there"),
            &message.transaction,
        );
        assert_eq!(mapped, Some(address(remote)));
        assert_eq!(message.attribute(SOFTWARE), Some(&b"Foci"[..]));
    }
    assert_eq!(world.server.stats().bindings, 2);
}

#[test]
fn a_binding_request_with_an_unknown_attribute_is_420() {
    let mut world = World::new();
    let mut out = Vec::new();
    Writer::new(&mut out, Method::Binding, Class::Request, &[1; 12])
        .word(0x0003, 6)
        .finish(true);
    let answer = world.say(client("1.2.3.4:5"), &out).expect("an answer");
    assert_eq!(answer.code(), 420);
    assert_eq!(answer.attribute(UNKNOWN_ATTRIBUTES), Some(vec![0, 3]));
    assert!(answer.message().has_fingerprint);
}

#[test]
fn ten_thousand_spoofed_requests_cost_no_memory_and_leave_others_their_answers() {
    let mut world = World::new();
    let mut out = Vec::new();
    Writer::new(&mut out, Method::Binding, Class::Request, &[1; 12]).finish(false);
    let mut answers = 0;
    for n in 0..10_000_u32 {
        let mut spoofed = client("1.2.3.4:5");
        spoofed.remote = SocketAddr::new(IpAddr::V4((0x0B00_0000 + n).into()), 9);
        answers += usize::from(world.say(spoofed, &out).is_some());
    }
    assert_eq!(answers, 10_000);
    let mut one = 0;
    for _ in 0..10_000 {
        one += usize::from(world.say(client("3.3.3.3:5"), &out).is_some());
    }
    assert_eq!(one, 250, "one address has its burst");
    assert_eq!(world.server.stats().drops.unknown_answers, 9750);
    let (_, relayed) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(relayed.ip(), ip("9.9.9.9"));
}

#[test]
fn a_forged_address_takes_no_answers_from_whoever_has_it_but_of_its_own_kind() {
    let mut world = World::new();
    let (mut alice, _) = world.allocated("alice", "3.3.3.3:5");
    let exhaust = |world: &mut World, method| {
        (0..1000).any(|n| {
            let forged = client(&format!("3.3.3.3:{}", 1000 + n));
            world.unsigned(forged, method).is_none()
        })
    };
    assert!(exhaust(&mut world, Method::Binding));
    assert!(
        world
            .unsigned(client("3.3.3.3:6"), Method::Binding)
            .is_none()
    );
    // Bindings have no part in who may allocate.
    let (_, relayed) = world.allocated("bob", "3.3.3.3:7");
    assert_eq!(relayed.ip(), ip("9.9.9.9"));
    assert!(exhaust(&mut world, Method::Allocate));
    assert!(
        world
            .unsigned(client("3.3.3.3:8"), Method::Allocate)
            .is_none()
    );
    // A connection is nobody else's.
    let mut stream = client("3.3.3.3:9");
    stream.transport = Transport::Tcp;
    let carol = world.user_with("carol", "carol's", stream);
    assert_eq!(world.allocate(&carol).code(), 0);
    // And whoever has an allocation keeps it, over the end of a nonce.
    world.now += seconds(599);
    assert!(exhaust(&mut world, Method::Allocate));
    assert_eq!(world.refresh(&alice, 600).code(), 0);
    world.now += seconds(2);
    assert!(exhaust(&mut world, Method::Allocate));
    let stale = world.refresh(&alice, 600);
    assert_eq!(stale.code(), 438);
    alice.nonce = stale.attribute(NONCE).expect("a nonce");
    assert_eq!(world.refresh(&alice, 600).code(), 0);
}

#[test]
fn guesses_of_a_password_are_counted_although_the_address_is_real() {
    let mut world = World::new();
    let guess = world.user_with("alice", "bob's", client("3.3.3.3:5"));
    let request = signed(&guess, Method::Allocate, [1; 12], |_| {});
    let answers = (0..1000).filter(|_| world.say(guess.client, &request).is_some());
    assert_eq!(answers.count(), 249, "the burst, less the challenge");
}

#[test]
fn a_request_longer_than_any_is_dropped_before_it_is_signed_over() {
    let mut world = World::new();
    let alice = world.user("alice", "3.3.3.3:5");
    let of = |padding: usize| {
        signed(&alice, Method::Allocate, [1; 12], |writer| {
            writer.bytes(0x8FFF, &vec![0; padding]);
        })
    };
    let fits = of(REQUEST_MAX - of(0).len());
    assert_eq!(fits.len(), REQUEST_MAX);
    assert!(world.say(alice.client, &fits).is_some());
    let longer = of(REQUEST_MAX - of(0).len() + 4);
    assert!(world.say(alice.client, &longer).is_none());
    assert_eq!(world.server.stats().drops.malformed, 1);
}

#[test]
fn what_is_neither_stun_nor_channel_data_is_dropped_unanswered() {
    let mut world = World::new();
    for bytes in [
        &b""[..],
        &[0],
        &[0x80; 30],
        &[0xFF; 3],
        &[0; 20],
        &[0x40],
        &[0x40, 0, 0, 9, 1],
    ] {
        assert!(world.say(client("1.2.3.4:5"), bytes).is_none());
    }
    assert_eq!(world.server.stats().drops.malformed, 7);
}
