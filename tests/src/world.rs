//! The simulated world: whole servers and clients without sockets, under one virtual clock and one
//! seed.
//!
//! Owns the clock, the roads and what is on them. Each participant has a road of its own in each
//! direction; signalling takes another one that loses nothing. Called by the scenarios of `sim`.

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
pub mod wire;

#[cfg(test)]
mod tests;

use crate::link::{Conditions, Link};
use checks::Checks;
use client::{Client, Leg, Manner, Output};
use invariants::Wish;
use losses::Losses;
use prost::Message as _;
use proto::livekit;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message as Response;
use proto::signal::{Frame, FrameBuf};
use server::{Entrance, Server};
use sfu::ids::SessionId;
use sfu::media::transport::dtls;
use sfu::rtp::header::Header;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
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
    ToServer(usize, SocketAddr, Vec<u8>),
    ToClient(usize, Leg, Vec<u8>),
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
    /// RTP packets lost on the way up, by SSRC.
    pub lost_up: BTreeMap<u32, u64>,
    /// What arrived, beside what it is told was lost.
    pub losses: Losses,
    server: usize,
    room: String,
    session: Option<SessionId>,
    /// Where its connections are seen by the server.
    addresses: [SocketAddr; 2],
    /// Where they were before its router forgot them: nothing arrives there any more.
    former: Vec<(SocketAddr, Leg)>,
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
    on_the_way: BTreeMap<(Instant, u64), Event>,
    count: u64,
    ports: u16,
    seed: u64,
    start: Instant,
}

/// A certificate is slow to make, and no world depends on its bytes.
fn certificate() -> Arc<dtls::Shared> {
    static SHARED: OnceLock<Arc<dtls::Shared>> = OnceLock::new();
    let make = || Arc::new(dtls::Shared::new().expect("a certificate"));
    Arc::clone(SHARED.get_or_init(make))
}

impl World {
    /// So many servers and nobody.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    pub fn new(servers: usize, seed: u64) -> Self {
        let now = Instant::now();
        let address = |n: usize| SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1 + n as u8), 7882));
        let make = |n| Server::new(certificate(), address(n), seed.wrapping_add(n as u64), now);
        Self {
            now,
            seats: Vec::new(),
            checks: Checks::default(),
            broken: Vec::new(),
            servers: (0..servers).map(make).collect(),
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

    /// RTP packets that have not reached their server yet.
    #[must_use]
    pub fn media_on_the_way(&self) -> u64 {
        let is_media = |event: &&Event| matches!(event, Event::ToServer(_, _, bytes) if checks::media_ssrc(bytes).is_some());
        self.on_the_way.values().filter(is_media).count() as u64
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
        let addresses = [self.address(who), self.address(who)];
        self.seats.push(Seat {
            client,
            up: Link::new(up.clone(), seed + 1),
            down: Link::new(down.clone(), seed + 2),
            lost_up: BTreeMap::new(),
            losses: Losses::default(),
            server,
            room: "r".into(),
            session: None,
            addresses,
            former: Vec::new(),
            watches: Default::default(),
            gone: false,
        });
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

    /// Its router forgets it: what it sends comes from elsewhere.
    pub fn rebind(&mut self, who: usize) {
        let addresses = [self.address(who), self.address(who)];
        let seat = &mut self.seats[who];
        let legs = [Leg::First, Leg::Second];
        seat.former.extend(seat.addresses.into_iter().zip(legs));
        seat.addresses = addresses;
        seat.losses.unsure(self.now);
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
        let seats = self.seats.iter().filter(|seat| !seat.gone);
        let clients = seats.filter_map(|seat| seat.client.poll_timeout());
        servers.chain(clients).chain(arriving).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.on_the_way.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.happen(event);
        }
        for n in 0..self.servers.len() {
            if self.servers[n]
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.servers[n].handle_timeout(self.now);
                self.carry_from_server(n);
            }
        }
        for who in 0..self.seats.len() {
            let client = &mut self.seats[who].client;
            if client.poll_timeout().is_some_and(|at| at <= self.now) && !self.seats[who].gone {
                self.seats[who].client.handle_timeout(self.now);
                self.carry_from_client(who);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToServer(server, from, mut datagram) => {
                self.note_arrived(from, &datagram);
                self.servers[server].handle_datagram(from, &mut datagram, self.now);
                self.carry_from_server(server);
            }
            Event::ToClient(who, leg, datagram) => {
                let client = &mut self.seats[who].client;
                client.handle_datagram(leg, &datagram, self.now);
                self.carry_from_client(who);
            }
            Event::Heard(who, session, request) => self.hear(who, session, *request),
            Event::Told(who, session, frame) => {
                if self.seats[who].session == Some(session) {
                    self.tell(who, &frame);
                }
            }
        }
    }

    fn note_arrived(&mut self, from: SocketAddr, datagram: &[u8]) {
        let mut seats = self.seats.iter_mut();
        let seat = seats.find(|seat| seat.addresses.contains(&from));
        if let (Some(seat), Some(_)) = (seat, checks::media_ssrc(datagram))
            && let Some(header) = Header::parse(datagram)
        {
            seat.losses.arrived(&header);
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
        self.seats[who].gone |= leaves;
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

    fn carry_from_server(&mut self, server: usize) {
        while let Some(output) = self.servers[server].poll_output() {
            match output {
                server::Output::Frame { session, frame } => {
                    if let Some(who) = self.seat_of(server, session) {
                        let at = self.now + SIGNAL_DELAY;
                        self.put(at, Event::Told(who, session, frame));
                    }
                }
                server::Output::Close { session } => {
                    if let Some(who) = self.seat_of(server, session) {
                        self.seats[who].session = None;
                    }
                }
                server::Output::Datagram { to, bytes } => self.carry_down(server, to, bytes),
            }
        }
    }

    /// A session that was just made is not in its seat yet.
    fn seat_of(&self, server: usize, session: SessionId) -> Option<usize> {
        let of = |seat: &Seat| seat.server == server && seat.session == Some(session);
        self.seats.iter().position(of)
    }

    fn carry_down(&mut self, server: usize, to: SocketAddr, bytes: Vec<u8>) {
        let found = self
            .seats
            .iter()
            .position(|seat| seat.addresses.contains(&to));
        let Some(who) = found.filter(|who| self.seats[*who].server == server) else {
            self.watch_former(server, to, &bytes);
            return;
        };
        let seat = &mut self.seats[who];
        let repairs = seat.client.repairs(&bytes);
        self.checks.sent(who, &bytes, (seat.gone, repairs));
        let leg = if seat.addresses[0] == to {
            Leg::First
        } else {
            Leg::Second
        };
        self.watch(who, leg, &bytes);
        let seat = &mut self.seats[who];
        for at in seat.down.carry(bytes.len(), self.now) {
            self.put(at, Event::ToClient(who, leg, bytes.clone()));
        }
    }

    /// The end of all streams: so many packets were lost on their way to servers.
    pub fn finish(&mut self, lost: u64) {
        let watches = self.seats.iter().flat_map(|seat| &seat.watches);
        let told = watches.filter_map(|watch| watch.finish(lost).err());
        self.broken.extend(told.map(|broken| broken.to_string()));
    }

    /// A datagram to where somebody was is lost, but was sent.
    fn watch_former(&mut self, server: usize, to: SocketAddr, bytes: &[u8]) {
        let seats = self.seats.iter().enumerate();
        let here = seats.filter(|(_, seat)| seat.server == server);
        let found = here.flat_map(|(who, seat)| seat.former.iter().map(move |place| (who, place)));
        let mut found = found.filter(|(_, (address, _))| *address == to);
        if let Some((who, (_, leg))) = found.next() {
            let (leg, seat) = (*leg, &self.seats[who]);
            let repairs = seat.client.repairs(bytes);
            self.checks.sent(who, bytes, (seat.gone, repairs));
            self.watch(who, leg, bytes);
        }
    }

    /// Judges a datagram as it leaves the server.
    fn watch(&mut self, who: usize, leg: Leg, bytes: &[u8]) {
        let n = usize::from(leg == Leg::Second);
        let seat = &mut self.seats[who];
        let mut watch = std::mem::take(&mut seat.watches[n]);
        if let Some(opener) = seat.client.take_tap(leg) {
            watch.key(opener);
        }
        let client = &self.seats[who].client;
        let named = |header: &Header| client.named(header, |track| self.publisher_of(track));
        let told = watch.sent(bytes, named, self.now);
        self.seats[who].watches[n] = watch;
        let judged = told.and_then(|told| {
            if told.key_asked {
                let watches = self.seats.iter_mut().flat_map(|seat| &mut seat.watches);
                watches.for_each(Watch::mended);
            }
            let losses = &mut self.seats[who].losses;
            let mut blocks = told.blocks.iter();
            blocks.try_for_each(|block| losses.reported(block, self.now))
        });
        if let Err(broken) = judged
            && self.broken.len() < BROKEN_MAX
        {
            self.broken.push(format!("p{who}: {broken}"));
        }
    }

    fn publisher_of(&self, track: &str) -> u32 {
        let publishes = |seat: &Seat| seat.client.tracks.iter().any(|of| of.sid == track);
        self.seats
            .iter()
            .position(publishes)
            .map_or(u32::MAX, |who| who as u32)
    }

    fn carry_from_client(&mut self, who: usize) {
        let outputs = self.seats[who].client.take_output();
        for output in outputs {
            match output {
                Output::Say(request) => {
                    if let Some(session) = self.seats[who].session {
                        let at = self.now + SIGNAL_DELAY;
                        self.put(at, Event::Heard(who, session, request));
                    }
                }
                Output::Datagram(leg, bytes) => self.carry_up(who, leg, bytes),
            }
        }
    }

    fn carry_up(&mut self, who: usize, leg: Leg, bytes: Vec<u8>) {
        let seat = &mut self.seats[who];
        let from = seat.addresses[usize::from(leg == Leg::Second)];
        let server = seat.server;
        let arrivals = seat.up.carry(bytes.len(), self.now);
        let mut arrived = false;
        for at in arrivals {
            arrived = true;
            self.put(at, Event::ToServer(server, from, bytes.clone()));
        }
        if let Some(ssrc) = checks::media_ssrc(&bytes)
            && !arrived
        {
            *self.seats[who].lost_up.entry(ssrc).or_default() += 1;
        }
    }
}
