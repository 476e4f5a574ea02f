//! A client of TURN in the world, as libwebrtc's: one allocation with one peer.
//!
//! Owns what it asks of a TURN server and asks again, what it keeps alive and when, and how its
//! datagrams are wrapped. It takes data apart by itself; its requests are written with the server's
//! own writer, for clients that share no code with the server try those elsewhere (`cargo turn`).
//! Driven by the world; time is given. (RFC 8656)

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use turn::message::attribute::{
    CHANNEL_NUMBER, DATA, ERROR_CODE, LIFETIME, NONCE, REALM, REQUESTED_TRANSPORT, USERNAME,
    XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS, word,
};
use turn::message::integrity::Key;
use turn::message::writer::Writer;
use turn::message::{Class, Message, Method, Transaction};

/// A request is repeated after this and twice as long each time, so often. (RFC 8489 §6.2.1)
const AGAIN: Duration = Duration::from_millis(500);
const TRIES: u32 = 7;
/// The one channel it binds. (RFC 8656 §12: 0x4000 to 0x4FFF)
const CHANNEL: u16 = 0x4001;
/// UDP in REQUESTED-TRANSPORT. (RFC 8656 §18.8)
const UDP: u32 = 17 << 24;

/// How a client of TURN is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Habit {
    /// With whom it talks.
    pub peer: SocketAddr,
    /// Its name and password.
    pub ticket: (String, String),
    /// It binds a channel, which costs four bytes a packet; otherwise each packet is a message.
    pub channels: bool,
    /// It is reached by a stream, where data is padded.
    pub stream: bool,
    /// How long the server keeps a permission and a channel; RFC 8656 does not have it told.
    pub keeps: (Duration, Duration),
}

/// A request that was not answered yet.
#[derive(Debug)]
struct Asking {
    transaction: Transaction,
    bytes: Vec<u8>,
    again: Instant,
    tries: u32,
}

/// One allocation's client.
#[derive(Debug)]
pub struct Turning {
    habit: Habit,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    relayed: Option<SocketAddr>,
    permitted: bool,
    bound: bool,
    asking: BTreeMap<u8, Asking>,
    /// When what is kept alive is asked for again.
    due: BTreeMap<u8, Instant>,
    /// It keeps nothing alive until then: the machine sleeps, in the middle of a call.
    sleeps_until: Option<Instant>,
    out: Vec<Vec<u8>>,
    count: u64,
    salt: u32,
}

/// What it asks for, in the order of doing so.
const KINDS: [Method; 4] = [
    Method::Allocate,
    Method::CreatePermission,
    Method::ChannelBind,
    Method::Refresh,
];
const ALLOCATE: u8 = 0;
const PERMIT: u8 = 1;
const BIND: u8 = 2;
const REFRESH: u8 = 3;

impl Turning {
    /// It asks for an allocation at once; its transactions are told apart by `salt`.
    #[must_use]
    pub fn new(habit: Habit, salt: u32, now: Instant) -> Self {
        let mut turning = Self {
            habit,
            realm: Vec::new(),
            nonce: Vec::new(),
            relayed: None,
            permitted: false,
            bound: false,
            asking: BTreeMap::new(),
            due: BTreeMap::new(),
            sleeps_until: None,
            out: Vec::new(),
            count: 0,
            salt,
        };
        turning.ask(ALLOCATE, now);
        turning
    }

    /// The address its peer sees, while it has one.
    #[must_use]
    pub const fn relayed(&self) -> Option<SocketAddr> {
        self.relayed
    }

    /// Data may pass.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.permitted
    }

    /// It neither refreshes nor repeats anything until then.
    pub const fn sleep_until(&mut self, end: Instant) {
        self.sleeps_until = Some(end);
    }

    /// It has no more use for its allocation.
    pub fn end(&mut self, now: Instant) {
        if self.relayed.take().is_some() {
            self.due.clear();
            let bytes = self.request(REFRESH, |writer| {
                writer.word(LIFETIME, 0);
            });
            self.out.push(bytes.1);
            self.asking.clear();
        }
        self.sleep_until(now + Duration::from_secs(100_000));
    }

    /// What it wants to send to the TURN server.
    pub fn take_output(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let again = self.asking.values().map(|asking| asking.again);
        let next = again.chain(self.due.values().copied()).min()?;
        Some(self.sleeps_until.map_or(next, |until| until.max(next)))
    }

    /// Repeats what was not answered, and asks for what must be kept alive.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.sleeps_until.is_some_and(|until| now < until) {
            return;
        }
        let due = self.due.iter().filter(|(_, at)| **at <= now);
        for kind in due.map(|(kind, _)| *kind).collect::<Vec<_>>() {
            self.due.remove(&kind);
            self.ask(kind, now);
        }
        let mut vain = false;
        for asking in self.asking.values_mut().filter(|one| one.again <= now) {
            asking.tries += 1;
            vain |= asking.tries >= TRIES;
            asking.again = now + AGAIN * 2_u32.pow(asking.tries.min(TRIES));
            self.out.push(asking.bytes.clone());
        }
        if vain {
            self.start_over(now);
        }
    }

    /// A datagram or frame of the TURN server: what of it is the peer's.
    pub fn handle(&mut self, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        if let [0x40..=0x4F, _, high, low, data @ ..] = bytes {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            return (number == CHANNEL).then(|| data.get(..len).map(<[u8]>::to_vec))?;
        }
        let message = Message::parse(bytes).ok()?;
        match (message.method?, message.class) {
            (Method::Data, Class::Indication) => {
                let from = message.address(XOR_PEER_ADDRESS);
                let data = message.attribute(DATA)?;
                (from == Some(self.habit.peer)).then(|| data.to_vec())
            }
            (method, class) => {
                let kind = KINDS.iter().position(|kind| *kind == method)? as u8;
                let asking = self.asking.get(&kind)?;
                if asking.transaction == message.transaction {
                    self.asking.remove(&kind);
                    self.answered(kind, class, &message, now);
                }
                None
            }
        }
    }

    /// A datagram for the peer as it goes to the TURN server; `None` while it may not pass.
    pub fn wrap(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        if !self.permitted {
            return None;
        }
        if self.bound {
            let mut bytes = CHANNEL.to_be_bytes().to_vec();
            bytes.extend((datagram.len() as u16).to_be_bytes());
            bytes.extend(datagram);
            if self.habit.stream {
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            return Some(bytes);
        }
        let transaction = self.transaction();
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, Method::Send, Class::Indication, &transaction)
            .address(XOR_PEER_ADDRESS, self.habit.peer)
            .bytes(DATA, datagram)
            .finish(false);
        Some(bytes)
    }

    fn answered(&mut self, kind: u8, class: Class, message: &Message<'_>, now: Instant) {
        if class != Class::Success {
            return self.failed(kind, message, now);
        }
        match kind {
            ALLOCATE => {
                self.relayed = message.address(XOR_RELAYED_ADDRESS);
                self.keep_allocation(message, now);
                self.ask(PERMIT, now);
            }
            REFRESH => self.keep_allocation(message, now),
            PERMIT => {
                let first = !std::mem::replace(&mut self.permitted, true);
                self.due.insert(PERMIT, now + before(self.habit.keeps.0));
                if first && self.habit.channels {
                    self.ask(BIND, now);
                }
            }
            _ => {
                self.bound = true;
                self.due.insert(BIND, now + before(self.habit.keeps.1));
            }
        }
    }

    fn keep_allocation(&mut self, message: &Message<'_>, now: Instant) {
        let lifetime = message.attribute(LIFETIME).and_then(word).unwrap_or(0);
        let lifetime = Duration::from_secs(lifetime.into());
        self.due.insert(REFRESH, now + before(lifetime));
    }

    fn failed(&mut self, kind: u8, message: &Message<'_>, now: Instant) {
        let code = match message.attribute(ERROR_CODE) {
            Some([_, _, hundreds, rest, ..]) => u16::from(*hundreds) * 100 + u16::from(*rest),
            _ => 0,
        };
        let told = |kind| message.attribute(kind).map(<[u8]>::to_vec);
        let first = self.nonce.is_empty();
        if (code == 401 && first) || code == 438 {
            self.realm = told(REALM).unwrap_or_default();
            self.nonce = told(NONCE).unwrap_or_default();
            return self.ask(kind, now);
        }
        // The allocation is gone. (RFC 8656 §5)
        if code == 437 {
            self.start_over(now);
        }
    }

    fn start_over(&mut self, now: Instant) {
        (self.relayed, self.permitted, self.bound) = (None, false, false);
        self.asking.clear();
        self.due.clear();
        self.ask(ALLOCATE, now);
    }

    fn ask(&mut self, kind: u8, now: Instant) {
        let peer = self.habit.peer;
        let (transaction, bytes) = self.request(kind, |writer| match kind {
            ALLOCATE => {
                writer.word(REQUESTED_TRANSPORT, UDP);
            }
            PERMIT => {
                writer.address(XOR_PEER_ADDRESS, peer);
            }
            BIND => {
                writer.word(CHANNEL_NUMBER, u32::from(CHANNEL) << 16);
                writer.address(XOR_PEER_ADDRESS, peer);
            }
            _ => {}
        });
        self.out.push(bytes.clone());
        let asking = Asking {
            transaction,
            bytes,
            again: now + AGAIN,
            tries: 0,
        };
        self.asking.insert(kind, asking);
    }

    fn request(&mut self, kind: u8, fill: impl FnOnce(&mut Writer<'_>)) -> (Transaction, Vec<u8>) {
        let transaction = self.transaction();
        let mut bytes = Vec::new();
        let method = KINDS[usize::from(kind)];
        let mut writer = Writer::new(&mut bytes, method, Class::Request, &transaction);
        fill(&mut writer);
        if !self.nonce.is_empty() {
            let (name, password) = &self.habit.ticket;
            let realm = String::from_utf8_lossy(&self.realm);
            writer
                .bytes(USERNAME, name.as_bytes())
                .bytes(REALM, &self.realm)
                .bytes(NONCE, &self.nonce)
                .sign(&Key::long_term(name, &realm, password), false);
        }
        writer.finish(true);
        (transaction, bytes)
    }

    fn transaction(&mut self) -> Transaction {
        self.count += 1;
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&self.salt.to_be_bytes());
        transaction[4..].copy_from_slice(&self.count.to_be_bytes());
        transaction
    }
}

/// In good time before something ends.
fn before(lifetime: Duration) -> Duration {
    lifetime * 3 / 4
}
