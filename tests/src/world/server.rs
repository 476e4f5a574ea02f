//! A whole server without its shell: rooms, the media plane and signalling sessions joined in
//! virtual time.
//!
//! Owns what the shell owns when it runs: which frame goes to which room, which event to which
//! room, when somebody must be woken. Decides nothing itself. Driven by the world and by fuzzing:
//! call a `handle_*`, drain [`Server::poll_output`], and call [`Server::handle_timeout`] at
//! [`Server::poll_timeout`] (it may be early, never late).

mod entrance;
mod streams;

#[cfg(test)]
mod tests;

pub use entrance::Entrance;
use proto::livekit;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response;
use proto::signal::{FrameBuf, FrameRef};
use proto::token::{Claims, Keys, Secret, Verified, VideoGrant};
use sfu::config::codecs::Codec;
use sfu::config::keys;
use sfu::ice_servers::{Credential, IceServer, Ours};
use sfu::ids::{PeerId, SessionId};
use sfu::media::demux::{Carrier, Path};
use sfu::media::message::{self, Event, PathReport, PathTransport};
use sfu::media::plane::{Plane, Population, Progress};
use sfu::media::transport::candidates::Candidate;
use sfu::media::transport::dtls;
use sfu::media::transport::framing::Taken;
use sfu::room::command::Command;
use sfu::room::effect::{Effect, JoinRefusal};
use sfu::room::{Room, Settings};
use sfu::signal::client::Hints;
use sfu::signal::join::{self, Asked, Policy};
use sfu::signal::session::{HearError, Opening, Session};
use sfu::worker::relay::Relay;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streams::Streams;
use turn::net::{Door, lane};

/// The wall-clock time at which every world begins, in ms since 1970.
pub const UNIX_MS: u64 = 1_700_000_000_000;
/// Its port of UDP.
pub const UDP_PORT: u16 = 7882;
/// Its port of ICE-TCP, and the one of TURN beside it.
pub const TCP_PORT: u16 = 7881;
/// See [`TCP_PORT`].
pub const TURN_PORT: u16 = 3478;
/// An API key, which also makes the names by which clients come to TURN.
const KEY: (&str, &str) = ("sim", "a-secret-of-the-world-that-is-long-enough");

/// What the server sends, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A frame on a signalling connection.
    Frame {
        /// The connection.
        session: SessionId,
        /// The frame.
        frame: FrameBuf,
    },
    /// The server ends a signalling connection.
    Close {
        /// The connection.
        session: SessionId,
    },
    /// A datagram. One for a TCP connection waits with that one's frames besides, one for an
    /// allocation in the lane to TURN.
    Datagram {
        /// By which way.
        path: Path,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// Why somebody is not let in, or let out again.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Before the room was asked.
    #[error(transparent)]
    Join(#[from] join::JoinError),
    /// By the room.
    #[error("refused by the room: {0:?}")]
    Refused(JoinRefusal),
}

/// One room.
struct Held {
    room: Room,
    wake: Option<Instant>,
}

/// One signalling connection.
struct Line {
    room: String,
    session: Session,
}

/// One server.
pub struct Server {
    plane: Plane,
    streams: Streams,
    relay: Relay,
    /// TURN's ends of the lanes, until it takes them.
    door: Option<Door>,
    /// What reached the plane, for who judges it.
    arrived: Vec<(Path, Vec<u8>)>,
    /// By which transport the server says that each address reached it last.
    transports: BTreeMap<SocketAddr, PathTransport>,
    rooms: BTreeMap<String, Held>,
    lines: BTreeMap<SessionId, Line>,
    /// Which room hears of a peer.
    peers: BTreeMap<PeerId, String>,
    refused: BTreeMap<SessionId, JoinRefusal>,
    keys: Keys,
    policy: Policy,
    settings: Settings,
    follow_ups: VecDeque<(String, Command)>,
    outputs: VecDeque<Output>,
    /// Counts sessions, peers and rooms.
    drawn: u32,
    seed: [u8; 32],
    epoch: Instant,
}

impl Server {
    /// A server at `address`; `dtls` is shared, for a certificate is slow to make.
    #[must_use]
    pub fn new(dtls: Arc<dtls::Shared>, address: SocketAddr, seed: u64, now: Instant) -> Self {
        let setup = sfu::media::plane::Setup {
            dtls,
            advertised: vec![
                Candidate::udp(address),
                Candidate::tcp(SocketAddr::new(address.ip(), TCP_PORT)),
            ],
            node: 0,
            process: 0,
            worker: 0,
            track: Default::default(),
            // The clients here answer nothing; whether they are asked must make no difference to them.
            inquiring: seed % 2 == 1,
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let (to_turn, from_sfu) = lane();
        let (to_sfu, from_turn) = lane();
        Self {
            plane: Plane::new(setup, bytes),
            streams: Streams::default(),
            relay: Relay::new(to_turn, from_turn),
            door: Some(Door { to_sfu, from_sfu }),
            arrived: Vec::new(),
            transports: BTreeMap::new(),
            rooms: BTreeMap::new(),
            lines: BTreeMap::new(),
            peers: BTreeMap::new(),
            refused: BTreeMap::new(),
            keys: Keys::from_iter([(KEY.0.to_owned(), Secret::new(KEY.1))]),
            policy: Policy {
                codecs: Codec::ALL.to_vec(),
                ice_servers: vec![IceServer {
                    urls: vec![format!("turn:{}:{TURN_PORT}", address.ip())],
                    credential: Credential::Ours(tickets()),
                }],
                auto_create: true,
            },
            settings: Settings::default(),
            follow_ups: VecDeque::new(),
            outputs: VecDeque::new(),
            drawn: 0,
            seed: bytes,
            epoch: now,
        }
    }

    /// A signalling connection opens.
    ///
    /// # Errors
    /// The server or the room refuses.
    pub fn enter(&mut self, entrance: &Entrance, now: Instant) -> Result<SessionId, EnterError> {
        let admission = self.admit(entrance, now)?;
        self.drawn += 1;
        let session = SessionId(u64::from(self.drawn));
        let (opening, command) = if admission.resumes() {
            let resume = admission.into_resume(session, &self.policy);
            (Opening::Resume, Command::Resume(Box::new(resume)))
        } else {
            let peer = PeerId {
                worker: 0,
                slot: self.drawn,
                generation: 0,
            };
            self.peers.insert(peer, entrance.room.clone());
            let join = admission.into_join(session, peer, &self.policy);
            (Opening::Join, Command::Join(Box::new(join)))
        };
        let line = Line {
            room: entrance.room.clone(),
            session: Session::new(opening, None),
        };
        self.lines.insert(session, line);
        self.open_room(&entrance.room, now);
        self.tell(entrance.room.clone(), command, now);
        self.settle(now);
        match self.refused.remove(&session) {
            Some(reason) => Err(EnterError::Refused(reason)),
            None => Ok(session),
        }
    }

    /// Checks token and request as the real entrance does.
    fn admit(&self, entrance: &Entrance, now: Instant) -> Result<join::Admission, join::JoinError> {
        let single = entrance.join_request();
        let pairs = entrance.parameters();
        let asked = if entrance.dual {
            Asked::Parameters(&pairs)
        } else {
            Asked::Request(Some(&single))
        };
        join::check(self.claims(entrance, now), asked, Hints::default())
    }

    /// The claims of a token that was signed and verified.
    fn claims(&self, entrance: &Entrance, now: Instant) -> Option<Verified<Claims>> {
        let claims = Claims {
            identity: entrance.identity.clone(),
            video: Some(VideoGrant {
                room_join: true,
                room: entrance.room.clone(),
                ..VideoGrant::default()
            }),
            ..Claims::default()
        };
        let now_s = self.unix_ms(now) / 1000;
        let token = self.keys.sign(&claims, Duration::from_secs(3600), now_s);
        self.keys.verify(&token.ok()?, now_s).ok()
    }

    /// A client's frame.
    pub fn handle_frame(&mut self, session: SessionId, frame: &FrameRef<'_>, now: Instant) {
        let server_ms = self.unix_ms(now) as i64;
        let Some(line) = self.lines.get_mut(&session) else {
            return;
        };
        match line.session.handle_frame(frame, server_ms) {
            Ok(heard) => {
                let room = line.room.clone();
                if let Some(reply) = heard.reply {
                    self.say(session, reply, now);
                }
                if let Some(request) = heard.request {
                    self.request(room, session, request, now);
                }
            }
            Err(HearError::Frame(_) | HearError::Flood) => {
                self.outputs.push_back(Output::Close { session });
                self.handle_lost(session, now);
            }
        }
        self.settle(now);
    }

    fn request(&mut self, room: String, session: SessionId, request: Request, now: Instant) {
        self.tell(room, Command::Request { session, request }, now);
    }

    /// A signalling connection is gone.
    pub fn handle_lost(&mut self, session: SessionId, now: Instant) {
        if let Some(line) = self.lines.remove(&session) {
            self.tell(line.room, Command::SessionLost { session }, now);
        }
        self.settle(now);
    }

    /// A datagram came; it is opened in place.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &mut [u8], now: Instant) {
        let path = Path {
            carrier: Carrier::Udp(0),
            local: None,
            port: 0,
            remote: from,
        };
        self.arrived.push((path, datagram.to_vec()));
        self.plane.handle_datagram(path, datagram, now);
        self.settle(now);
    }

    /// TURN has handed something over.
    pub fn handle_relayed(&mut self, now: Instant) {
        loop {
            let (plane, arrived) = (&mut self.plane, &mut self.arrived);
            let more = self.relay.receive(|path, datagram| {
                arrived.push((path, datagram.to_vec()));
                plane.handle_datagram(path, datagram, now);
                !plane.is_full()
            });
            while let Some(path) = self.relay.poll_lost() {
                self.plane.handle_path_lost(path, now);
            }
            if !more {
                return;
            }
            self.settle(now);
        }
    }

    /// Somebody connects to the port of ICE-TCP; connections have numbers that are used once.
    pub fn handle_connected(&mut self, number: u32, from: SocketAddr, now: Instant) {
        self.streams.connected(number, from, now);
    }

    /// A connection brought so many bytes.
    pub fn handle_stream(&mut self, number: u32, mut bytes: &[u8], now: Instant) {
        loop {
            let (plane, arrived) = (&mut self.plane, &mut self.arrived);
            let read = self.streams.receive(number, bytes, now, |path, datagram| {
                arrived.push((path, datagram.to_vec()));
                plane.handle_datagram(path, datagram, now);
                Taken {
                    known: plane.knows(&path),
                    full: plane.is_full(),
                }
            });
            self.settle(now);
            let Some(read) = read else { return };
            bytes = &bytes[read..];
        }
    }

    /// A connection was closed at its other end.
    pub fn handle_closed(&mut self, number: u32, now: Instant) {
        self.streams.closed(number);
        self.settle(now);
    }

    /// The connections, from which who has their sockets writes.
    pub const fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }

    /// TURN's ends of the lanes, once.
    pub const fn take_door(&mut self) -> Option<Door> {
        self.door.take()
    }

    /// What reached the plane since this was asked last, as it came.
    pub fn take_arrived(&mut self) -> Vec<(Path, Vec<u8>)> {
        std::mem::take(&mut self.arrived)
    }

    /// By which transport the server says that an address reached it last.
    #[must_use]
    pub fn transport(&self, remote: &SocketAddr) -> Option<PathTransport> {
        self.transports.get(remote).copied()
    }

    /// Datagrams for allocations that TURN had no place for.
    #[must_use]
    pub const fn relay_dropped(&self) -> u64 {
        self.relay.dropped()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((path, mut datagram)) = self.plane.poll_waiting(now) {
            self.plane.handle_datagram(path, &mut datagram, now);
        }
        self.plane.handle_timeout(now);
        let plane = &self.plane;
        self.streams.look(now, |path| plane.knows(path));
        let due = self
            .rooms
            .iter_mut()
            .filter(|(_, held)| held.wake.is_some_and(|at| at <= now));
        for (name, held) in due {
            held.wake = None;
            self.follow_ups.push_back((name.clone(), Command::Wake));
        }
        self.follow(now);
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let rooms = self.rooms.values().filter_map(|held| held.wake);
        let others = [self.plane.poll_timeout(), self.streams.poll_timeout()];
        rooms.chain(others.into_iter().flatten()).min()
    }

    /// The next thing the server sends.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Peers, tracks and copies that live on the plane.
    #[must_use]
    pub fn population(&self) -> Population {
        self.plane.population()
    }

    /// Rooms, signalling connections, peers and media connections that live here.
    #[must_use]
    pub fn holdings(&self) -> [usize; 4] {
        let media = self.streams.count();
        [self.rooms.len(), self.lines.len(), self.peers.len(), media]
    }

    /// The plane, whose counters tests look at.
    #[must_use]
    pub const fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Wall-clock time at `now`.
    #[must_use]
    pub fn unix_ms(&self, now: Instant) -> u64 {
        UNIX_MS + now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    fn open_room(&mut self, name: &str, now: Instant) {
        if self.rooms.contains_key(name) {
            return;
        }
        let setup = sfu::room::Setup {
            name: name.to_owned(),
            settings: self.settings.clone(),
            server_info: livekit::ServerInfo {
                version: "sim".into(),
                protocol: 17,
                ..Default::default()
            },
            epoch: (self.epoch, UNIX_MS),
            config: None,
        };
        self.drawn += 1;
        let mut seed = self.seed;
        seed[8..12].copy_from_slice(&self.drawn.to_le_bytes());
        let room = Room::new(setup, seed, now);
        self.rooms
            .insert(name.to_owned(), Held { room, wake: None });
        self.tell(name.to_owned(), Command::Wake, now);
    }

    fn tell(&mut self, room: String, command: Command, now: Instant) {
        self.follow_ups.push_back((room, command));
        self.follow(now);
    }

    fn follow(&mut self, now: Instant) {
        while let Some((name, command)) = self.follow_ups.pop_front() {
            let Some(held) = self.rooms.get_mut(&name) else {
                continue;
            };
            for effect in held.room.handle(command, now) {
                self.apply(&name, effect, now);
            }
        }
    }

    fn apply(&mut self, room: &str, effect: Effect, now: Instant) {
        match effect {
            Effect::Signal { session, message } => self.say(session, *message, now),
            Effect::RefreshToken { session, claims } => {
                let now_s = self.unix_ms(now) / 1000;
                let valid_for = Duration::from_secs(600);
                if let Ok(token) = self.keys.sign(&claims, valid_for, now_s) {
                    let message = signal_response::Message::RefreshToken(token);
                    self.say(session, message, now);
                }
            }
            Effect::CloseSession { session } => {
                self.lines.remove(&session);
                self.outputs.push_back(Output::Close { session });
            }
            Effect::RefuseJoin { session, reason } => {
                self.lines.remove(&session);
                self.refused.insert(session, reason);
            }
            Effect::Media(command) => {
                if let message::Command::RemovePeer { peer } = &command {
                    self.peers.remove(peer);
                }
                self.plane.handle_command(command, now);
            }
            Effect::WakeAt(at) => {
                if let Some(held) = self.rooms.get_mut(room) {
                    held.wake = Some(at);
                }
            }
            Effect::Count(_) | Effect::Prefer { .. } => {}
            Effect::Closed => {
                self.rooms.remove(room);
            }
        }
    }

    fn say(&mut self, session: SessionId, message: signal_response::Message, _now: Instant) {
        let Some(line) = self.lines.get_mut(&session) else {
            return;
        };
        match line.session.say(message) {
            Ok(Some(frame)) => self.outputs.push_back(Output::Frame { session, frame }),
            Ok(None) => {}
            Err(_) => {
                let room = line.room.clone();
                self.lines.remove(&session);
                self.outputs.push_back(Output::Close { session });
                self.follow_ups
                    .push_back((room, Command::SessionLost { session }));
            }
        }
    }

    /// Fans out, hands events to rooms, until nothing more follows.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some(path) = self.streams.poll_lost() {
                self.plane.handle_path_lost(path, now);
            }
            let progress = self.plane.fan_out(now);
            for run in self.plane.outgoing() {
                for bytes in run.bytes.chunks(run.segment) {
                    self.outputs.push_back(Output::Datagram {
                        path: run.to,
                        bytes: bytes.to_vec(),
                    });
                }
                match run.to.carrier {
                    Carrier::Udp(_) => {}
                    Carrier::Tcp(number) => self.streams.push(number, &run, now),
                    Carrier::Relay { .. } => self.relay.push(&run),
                }
            }
            self.relay.flush();
            self.plane.sent();
            let heard = self.hear_events(now);
            if progress == Progress::Done && !heard {
                break;
            }
        }
    }

    fn hear_events(&mut self, now: Instant) -> bool {
        let mut heard = false;
        while let Some(event) = self
            .plane
            .poll_event()
            .or_else(|| self.plane.poll_data(|_| true))
        {
            heard = true;
            self.note_path(&event);
            if let Some(room) = self.peers.get(&event.peer()).cloned() {
                self.tell(room, Command::Media(event), now);
            }
        }
        heard
    }

    fn note_path(&mut self, event: &Event) {
        if let Event::Connected { path, .. } | Event::PathChanged { path, .. } = event {
            let PathReport {
                remote, transport, ..
            } = path;
            self.transports.insert(*remote, *transport);
        }
    }
}

/// The names by which clients come to TURN: every server of the world takes them.
#[must_use]
pub fn tickets() -> Ours {
    Ours {
        key: KEY.0.into(),
        secret: keys::Secret::new(KEY.1.into()),
        ttl: Duration::from_secs(86_400),
    }
}
