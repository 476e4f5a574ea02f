//! The simulated world: whole servers and clients without sockets, under one virtual clock and one
//! seed.
//!
//! Owns the clock, the roads and what is on them. Each participant has a road of its own in each
//! direction, by which its datagrams go to its server, the segments of its TCP connections, and what it
//! has with a TURN server; signalling takes another one that loses nothing. Called by the scenarios of
//! `sim`.

pub mod access;
mod carriage;
pub mod checks;
pub mod client;
pub mod description;
pub mod judge;
pub mod scenarios;
pub mod invariants;
pub mod losses;
pub mod watch;
pub mod server;
pub mod source;
pub mod pipe;
mod relays;
pub mod streams;
mod tally;
pub mod turn;
pub mod turning;
pub mod wire;

#[cfg(test)]
mod tests;

pub use access::Way;
pub use tally::Tally;

use crate::link::{Conditions, Link};
use ::turn::address::Client as Caller;
use access::Access;
use checks::Checks;
use client::{Client, Leg, Manner};
use invariants::{Broken, Ledger, Wish};
use losses::Losses;
use prost::Message as _;
use proto::livekit;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message as Response;
use proto::signal::{Frame, FrameBuf};
use server::{Entrance, Server};
use sfu::ids::SessionId;
use sfu::media::demux::Carrier;
use sfu::media::transport::dtls;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use streams::Stream;
use turn::Turn;
use watch::Watch;

/// Signalling takes so long, one way.
const SIGNAL_DELAY: Duration = Duration::from_millis(30);
/// Participants' clocks are not set: each is so much further off.
const CLOCK_ASTRAY_MS: u64 = 3_601_234;
/// Broken rules noted at most: one is enough to fail.
const BROKEN_MAX: usize = 20;
/// Steps of one run: more are a busy loop.
const STEPS_MAX: usize = 20_000_000;

/// Something on its way.
enum Event {
    /// A datagram to a server.
    ToServer(usize, SocketAddr, Vec<u8>),
    /// A datagram of a client to a TURN server.
    ToTurn(usize, Caller, Vec<u8>),
    /// A datagram to a relayed address of a TURN server, from a server.
    ToRelay(usize, SocketAddr, SocketAddr, Vec<u8>),
    /// A datagram to an address that was a client's when it was sent.
    ToClient(SocketAddr, Vec<u8>),
    /// A connection reaches its other end, is answered, or was not answered yet.
    Knocked(u32),
    Accepted(u32),
    KnockAgain(u32),
    /// The other end hears that a client has closed a connection.
    Closed(u32),
    Heard(usize, SessionId, Box<Request>),
    Told(usize, SessionId, FrameBuf),
}

/// A participant with its roads.
pub struct Seat {
    /// The participant.
    pub client: Client,
    /// From it.
    pub up: Link,
    /// To it.
    pub down: Link,
    /// RTP packets lost on the way up.
    pub lost_up: u64,
    /// What arrived, beside what it is told was lost.
    pub losses: Losses,
    server: usize,
    room: String,
    session: Option<SessionId>,
    /// No datagram passes, while TCP does: a firewall.
    walled: bool,
    /// By which way each of its connections goes.
    access: [Access; 2],
    /// The server had no path to it for a while.
    torn: [bool; 2],
    /// What was sent by each, and to each.
    ledgers: [Ledger; 2],
    /// What judges its connections.
    watches: [Watch; 2],
    /// The server has heard that it left.
    gone: bool,
}

/// All of it.
pub struct World {
    /// Virtual time.
    pub now: Instant,
    /// The participants.
    pub seats: Vec<Seat>,
    /// What must hold.
    pub checks: Checks,
    /// Invariants that did not hold.
    pub broken: Vec<String>,
    servers: Vec<Server>,
    turns: Vec<Turn>,
    streams: BTreeMap<u32, Stream>,
    /// Segments that connections which are closed have sent more than once.
    repeated: u64,
    /// Whose a path is, or was, as a server sees it.
    seen: BTreeMap<(usize, Carrier, SocketAddr), (usize, Leg)>,
    on_the_way: BTreeMap<(Instant, u64), Event>,
    count: u64,
    ports: u16,
    seed: u64,
    start: Instant,
}

/// A certificate is slow to make, and no world depends on its bytes. On the jitter of handshakes it does.
fn certificate(seed: u64) -> Arc<dtls::Shared> {
    static SHARED: OnceLock<dtls::Shared> = OnceLock::new();
    let make = || dtls::Shared::new().expect("a certificate");
    let seeded = SHARED.get_or_init(make).predictable(seed);
    Arc::new(seeded.expect("a configuration"))
}

impl World {
    /// So many servers and nobody.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    pub fn new(servers: usize, seed: u64) -> Self {
        let now = Instant::now();
        let address =
            |n: usize| SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1 + n as u8), server::UDP_PORT));
        let make = |n| {
            let seed = seed.wrapping_add(n as u64);
            Server::new(certificate(seed), address(n), seed, now)
        };
        let mut servers: Vec<Server> = (0..servers).map(make).collect();
        let doors = servers.iter_mut().map(Server::take_door).enumerate();
        let time = (server::UNIX_MS / 1000, now);
        let turn = |(n, door): (usize, Option<_>)| Some(Turn::new(address(n), door?, seed, time));
        Self {
            now,
            turns: doors.filter_map(turn).collect(),
            streams: BTreeMap::new(),
            repeated: 0,
            seen: BTreeMap::new(),
            seats: Vec::new(),
            checks: Checks::default(),
            broken: Vec::new(),
            servers,
            on_the_way: BTreeMap::new(),
            count: 0,
            ports: 40_000,
            seed,
            start: now,
        }
    }

    /// A server.
    #[must_use]
    pub fn server(&self, n: usize) -> &Server {
        &self.servers[n]
    }

    /// Sender and receiver reports of servers that were judged.
    #[must_use]
    pub fn reports_judged(&self) -> (u64, u64) {
        let watches = self.seats.iter().flat_map(|seat| &seat.watches);
        let sent = watches.map(|watch| watch.reports).sum();
        let received = self.seats.iter().map(|seat| seat.losses.compared).sum();
        (sent, received)
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// At a time, since the beginning.
    #[must_use]
    pub fn since_start(&self, at: Instant) -> Duration {
        at - self.start
    }

    /// Somebody joins room `r` of a server, by roads of these conditions.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn join(
        &mut self,
        manner: Manner,
        server: usize,
        up: &Conditions,
        down: &Conditions,
    ) -> usize {
        let who = self.seats.len();
        let seed = self
            .seed
            .wrapping_mul(1_000_003)
            .wrapping_add(who as u64 * 10);
        let unix_ms = self.servers[server].unix_ms(self.now) + CLOCK_ASTRAY_MS * who as u64;
        let client = Client::new(manner, seed, unix_ms, self.now);
        let way = client.manner.way;
        let access = [Leg::First, Leg::Second].map(|_| Access::new(way, self.address(who)));
        self.seats.push(Seat {
            client,
            up: Link::new(up.clone(), seed + 1),
            down: Link::new(down.clone(), seed + 2),
            lost_up: 0,
            losses: Losses::default(),
            server,
            room: "r".into(),
            session: None,
            walled: false,
            access,
            torn: [false; 2],
            ledgers: Default::default(),
            watches: Default::default(),
            gone: false,
        });
        self.settle_in(who);
        self.enter(who, None);
        who
    }

    fn address(&mut self, who: usize) -> SocketAddr {
        self.ports += 1;
        SocketAddr::from((Ipv4Addr::new(198, 51, 100, who as u8 + 1), self.ports))
    }

    fn enter(&mut self, who: usize, resume: Option<String>) {
        let seat = &mut self.seats[who];
        let entrance = Entrance {
            identity: seat.client.manner.identity.clone(),
            room: seat.room.clone(),
            dual: seat.client.manner.dual,
            resume,
        };
        let server = seat.server;
        let session = self.servers[server].enter(&entrance, self.now);
        self.seats[who].session = Some(session.expect("let in"));
        self.carry_from_server(server);
    }

    /// Its signalling breaks; the server notices at once.
    pub fn lose_signal(&mut self, who: usize) {
        let seat = &mut self.seats[who];
        if let Some(session) = seat.session.take() {
            let server = seat.server;
            self.servers[server].handle_lost(session, self.now);
            self.carry_from_server(server);
        }
    }

    /// It comes back by a new signalling connection.
    pub fn resume(&mut self, who: usize) {
        let sid = self.seats[who].client.sid.clone();
        self.enter(who, Some(sid));
        self.seats[who].client.resume(self.now);
        self.carry_from_client(who);
    }

    /// It leaves with a word.
    pub fn leave(&mut self, who: usize) {
        self.say(who, Request::Leave(livekit::LeaveRequest::default()));
    }

    /// It is gone without a word: nothing is heard of it any more.
    pub fn vanish(&mut self, who: usize) {
        let forever = self.now + Duration::from_secs(100_000);
        self.seats[who].up.break_until(forever);
        self.seats[who].down.break_until(forever);
        self.lose_signal(who);
    }

    /// Nothing passes for a while, in either direction.
    pub fn break_for(&mut self, who: usize, span: Duration) {
        let end = self.now + span;
        self.seats[who].up.break_until(end);
        self.seats[who].down.break_until(end);
    }

    /// From now on a firewall keeps its datagrams back, and lets TCP pass.
    pub fn wall(&mut self, who: usize) {
        self.seats[who].walled = true;
        self.seats[who].losses.unsure(self.now);
    }

    /// Its roads change.
    pub fn set_roads(&mut self, who: usize, up: &Conditions, down: &Conditions) {
        self.seats[who].up.set(up.clone());
        self.seats[who].down.set(down.clone());
    }

    /// It says something.
    pub fn say(&mut self, who: usize, request: Request) {
        self.seats[who].client.say(request);
        self.carry_from_client(who);
    }

    /// Mutes or unmutes a track, at both ends.
    pub fn mute(&mut self, who: usize, track: usize, muted: bool) {
        let track = &mut self.seats[who].client.tracks[track];
        track.source.set_muted(muted);
        let sid = track.sid.clone();
        let watched = self
            .seats
            .iter_mut()
            .flat_map(|seat| seat.client.streams.values_mut());
        for stream in watched.filter(|stream| stream.track == sid) {
            stream.judge.set_paused(muted);
        }
        self.say(who, Request::Mute(livekit::MuteTrackRequest { sid, muted }));
    }

    /// Wants a quality of a track: 0 low to 2 high; none disables it.
    pub fn want(&mut self, who: usize, track: &str, quality: Option<i32>) {
        let settings = livekit::UpdateTrackSettings {
            track_sids: vec![track.to_owned()],
            disabled: quality.is_none(),
            quality: quality.unwrap_or_default(),
            ..Default::default()
        };
        let client = &mut self.seats[who].client;
        let wish = Wish {
            highest: quality.map(|quality| quality as u8),
            since: self.now + SIGNAL_DELAY,
        };
        client.wishes.insert(track.to_owned(), wish);
        let streams = client.streams.values_mut();
        for stream in streams.filter(|stream| stream.track == track) {
            stream.judge.set_paused(quality.is_none());
        }
        self.say(who, Request::TrackSetting(settings));
    }

    /// Time passes, and with it everything that is due.
    ///
    /// # Panics
    /// If it never comes to rest.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..STEPS_MAX {
            let Some(next) = self.next().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.step();
        }
        panic!("a world that does not come to rest");
    }

    fn next(&self) -> Option<Instant> {
        let arriving = self.on_the_way.keys().next().map(|(at, _)| *at);
        let servers = self.servers.iter().filter_map(Server::poll_timeout);
        let turns = self.turns.iter().filter_map(Turn::poll_timeout);
        let streams = self.streams.values().filter_map(Stream::poll_timeout);
        let seats = self.seats.iter().filter(|seat| !seat.gone);
        let clients = seats.clone().filter_map(|seat| seat.client.poll_timeout());
        let access = seats.flat_map(|seat| &seat.access);
        let turning = access.filter_map(Access::poll_timeout);
        let times = servers.chain(turns).chain(streams).chain(clients);
        times.chain(turning).chain(arriving).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.on_the_way.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.happen(event);
        }
        let due = |at: Option<Instant>, now| at.is_some_and(|at| at <= now);
        for n in 0..self.servers.len() {
            if due(self.servers[n].poll_timeout(), self.now) {
                self.servers[n].handle_timeout(self.now);
                self.carry_from_server(n);
            }
            if due(self.turns[n].poll_timeout(), self.now) {
                self.turns[n].handle_timeout(self.now);
                self.carry_from_turn(n);
            }
        }
        self.step_streams();
        for who in 0..self.seats.len() {
            if self.seats[who].gone {
                continue;
            }
            if due(self.seats[who].client.poll_timeout(), self.now) {
                self.seats[who].client.handle_timeout(self.now);
                self.carry_from_client(who);
            }
            self.step_turning(who);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToServer(server, from, mut datagram) => {
                self.servers[server].handle_datagram(from, &mut datagram, self.now);
                self.carry_from_server(server);
            }
            Event::ToTurn(turn, from, bytes) => self.hand_to_turn(turn, from, &bytes),
            Event::ToRelay(turn, at, from, bytes) => {
                self.turns[turn].handle_peer(at, from, &bytes, self.now);
                self.carry_from_turn(turn);
            }
            Event::ToClient(at, datagram) => self.arrive(at, &datagram),
            Event::Knocked(number) => self.knocked(number),
            Event::Accepted(number) => self.accepted(number),
            Event::KnockAgain(number) => self.knock(number),
            Event::Closed(number) => self.close_stream(number),
            Event::Heard(who, session, request) => self.hear(who, session, *request),
            Event::Told(who, session, frame) => {
                if self.seats[who].session == Some(session) {
                    self.tell(who, &frame);
                }
            }
        }
    }

    fn hear(&mut self, who: usize, session: SessionId, request: Request) {
        let server = self.seats[who].server;
        let leaves = matches!(request, Request::Leave(_));
        let message = livekit::SignalRequest {
            message: Some(request),
        };
        let bytes = message.encode_to_vec();
        self.servers[server].handle_frame(session, &Frame::Binary(&bytes), self.now);
        self.carry_from_server(server);
        if leaves && !self.seats[who].gone {
            self.seats[who].gone = true;
            self.part(who);
        }
    }

    fn tell(&mut self, who: usize, frame: &FrameBuf) {
        let Frame::Binary(bytes) = frame else { return };
        let response = livekit::SignalResponse::decode(bytes.as_slice()).expect("a message");
        if let Some(message) = response.message {
            let trickle = matches!(message, Response::Trickle(_));
            if !trickle {
                self.seats[who].client.handle_message(message, self.now);
                self.carry_from_client(who);
            }
        }
    }

    fn put(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.on_the_way.insert((at, self.count), event);
    }

    fn note(&mut self, who: usize, broken: &Broken) {
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(format!("p{who}: {broken}"));
        }
    }
}
