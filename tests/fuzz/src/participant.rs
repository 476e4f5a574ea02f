//! A whole participant: what it says by signalling, what it sends as datagrams, before its keys and
//! with them, and time, read from one input; with a room, a worker's media and a bystander about it.
//!
//! The clients are handmade; the server's side is a room and a plane wired as the shell wires them.

use crate::description::RECORDED;
use crate::input::Input;
use dimpl::{Dtls, Output};
use proto::livekit;
use proto::signal::Frame;
use proto::token::Claims;
use sfu::config::codecs::Codec;
use sfu::ids::{PeerId, SessionId};
use sfu::media::demux::{Carrier, Path};
use sfu::media::message::Event;
use sfu::media::plane::{Plane, Progress, Setup as PlaneSetup};
use sfu::media::transport::candidates::Candidate;
use sfu::media::transport::dtls::Shared;
use sfu::media::transport::srtp::{self, Keying, Opener, Profile, Sealer, Side};
use sfu::room::command::{Command, Join};
use sfu::room::effect::Effect;
use sfu::room::{Room, Setup};
use sfu::rtp::header::Header;
use sfu::signal::session::{Opening, Session};
use sfu::units::ExtSeq;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Steps of one input.
const STEPS_MAX: usize = 60;
/// What one step may set off: commands, wake-ups and events, one after the other.
const PASSES_MAX: usize = 5000;
/// Bytes the server may send for one step: it sends copies of what came, and its own reports.
const SENT_MAX: usize = 256 * 1024;
/// Time since 1970 at the origin, in ms.
const UNIX_MS: u64 = 1_700_000_000_000;

/// What one client may say of our address in one step: each question is answered once.
const SIGHTINGS_MAX: usize = 64;
/// Building certificates is slow.
static SHARED: LazyLock<Arc<Shared>> =
    LazyLock::new(|| Arc::new(Shared::new().expect("a certificate")));

/// The client's half of a handshake, and its keys.
struct Secured {
    dtls: Dtls,
    fingerprint: String,
    keys: Option<(Opener, Sealer)>,
}

impl Secured {
    fn new(now: Instant) -> Self {
        let certificate = dimpl::certificate::generate_self_signed_certificate().expect("made");
        let fingerprint = certificate.fingerprint_str();
        let config = dimpl::Config::builder().build().expect("a configuration");
        let mut dtls = Dtls::new_12(Arc::new(config), certificate, now);
        dtls.set_active(true);
        Self {
            dtls,
            fingerprint,
            keys: None,
        }
    }

    fn flight(&mut self) -> Vec<Vec<u8>> {
        let (mut flight, mut buffer) = (Vec::new(), vec![0; 4096]);
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => flight.push(bytes.to_vec()),
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::Aes128Gcm,
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::Aes256Gcm,
                        _ => Profile::Aes128CmSha1_80,
                    };
                    let keying = Keying::new(profile, &material).expect("its length");
                    self.keys = srtp::keyed(&keying, Side::Client);
                }
                Output::Timeout(_) => return flight,
                _ => {}
            }
        }
    }
}

struct World {
    now: Instant,
    start: Instant,
    room: Room,
    plane: Plane,
    session: Session,
    closed: bool,
    wake: Option<Instant>,
    commands: VecDeque<Command>,
    answer: String,
    path: Path,
    secured: Secured,
    /// The next number of each stream.
    next: BTreeMap<u32, u64>,
}

const fn peer(slot: u32) -> PeerId {
    PeerId {
        worker: 0,
        slot,
        generation: 0,
    }
}

fn join(slot: u32, identity: &str, dual: bool) -> Join {
    Join {
        session: SessionId(u64::from(slot)),
        peer: peer(slot),
        claims: Claims {
            identity: identity.to_owned(),
            ..Claims::default()
        },
        client: livekit::ClientInfo {
            protocol: 17,
            ..livekit::ClientInfo::default()
        },
        address: None,
        auto_subscribe: true,
        adaptive_stream: false,
        metadata: String::new(),
        attributes: Vec::new(),
        add_tracks: Vec::new(),
        offer: None,
        publish_codecs: Codec::ALL.to_vec(),
        subscribe_codecs: Codec::ALL.to_vec(),
        one_codec_per_section: false,
        outside_only: false,
        dual,
        reuse_sections: true,
        passive_offers: false,
        client_configuration: None,
        ways: sfu::room::command::Ways::default(),
    }
}

impl World {
    fn new(dual: bool) -> Self {
        let now = crate::origin();
        let room = Setup {
            name: "room".to_owned(),
            settings: sfu::room::Settings::default(),
            server_info: livekit::ServerInfo {
                version: "1".to_owned(),
                ..livekit::ServerInfo::default()
            },
            epoch: (now, UNIX_MS),
            config: None,
        };
        let plane = PlaneSetup {
            dtls: Arc::clone(&SHARED),
            advertised: vec![Candidate::udp(SocketAddr::from(([127, 0, 0, 1], 7882)))],
            node: 0,
            process: 0,
            worker: 0,
            track: Default::default(),
            inquiring: true,
        };
        let mut world = Self {
            now,
            start: now,
            room: Room::new(room, [7; 32], now),
            plane: Plane::new(plane, [9; 32]),
            session: Session::new(Opening::Join, None),
            closed: false,
            wake: None,
            commands: VecDeque::new(),
            answer: String::new(),
            path: Path {
                carrier: Carrier::Udp(0),
                local: None,
                port: 0,
                remote: SocketAddr::from(([192, 0, 2, 1], 40_000)),
            },
            secured: Secured::new(now),
            next: BTreeMap::new(),
        };
        for (slot, identity) in [(1, "bystander"), (2, "hostile")] {
            let join = join(slot, identity, dual && slot == 2);
            world.command(Command::Join(Box::new(join)));
        }
        world
    }

    fn command(&mut self, command: Command) {
        self.commands.push_back(command);
        self.settle();
    }

    /// Lets everything happen that is due without time passing.
    fn settle(&mut self) {
        let mut sent = 0;
        for pass in 0.. {
            assert!(pass < PASSES_MAX, "one step has no end");
            if let Some(command) = self.commands.pop_front() {
                let effects = self.room.handle(command, self.now);
                assert!(effects.len() < PASSES_MAX);
                effects.into_iter().for_each(|effect| self.apply(effect));
            } else {
                let progress = self.plane.fan_out(self.now);
                let (bytes, replied) = self.carry();
                sent += bytes;
                assert!(sent <= SENT_MAX, "{sent} bytes for one step");
                let before = self.commands.len();
                let sightings = std::iter::from_fn(|| self.plane.poll_sighting()).count();
                assert!(sightings <= SIGHTINGS_MAX);
                while let Some(event) = self.plane.poll_event() {
                    self.note(&event);
                    self.commands.push_back(Command::Media(event));
                }
                let idle = self.commands.len() == before && !replied;
                if idle && progress == Progress::Done {
                    return;
                }
            }
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Media(command) => self.plane.handle_command(command, self.now),
            Effect::WakeAt(at) => self.wake = Some(at),
            Effect::Signal {
                session: SessionId(2),
                message,
            } => {
                // A message that JSON cannot carry is the only one left out.
                let _ = self.session.say(*message);
            }
            Effect::CloseSession { session } => self.closed |= session == SessionId(2),
            _ => {}
        }
    }

    fn note(&mut self, event: &Event) {
        if let Event::Answer(answer) = event
            && answer.peer.slot == 2
        {
            self.answer.clone_from(&answer.sdp);
        }
    }

    /// Takes what the plane sends, and lets the handshake reply.
    fn carry(&mut self) -> (usize, bool) {
        let mut packets = Vec::new();
        for run in self.plane.outgoing() {
            packets.extend(run.bytes.chunks(run.segment).map(<[u8]>::to_vec));
        }
        self.plane.sent();
        let bytes = packets.iter().map(Vec::len).sum();
        let mut replies = Vec::new();
        for packet in packets {
            if matches!(packet.first(), Some(20..=63))
                && self.secured.dtls.handle_packet(&packet).is_ok()
            {
                replies.extend(self.secured.flight());
            }
        }
        let replied = !replies.is_empty();
        for reply in replies {
            self.datagram(reply);
        }
        (bytes, replied)
    }

    fn datagram(&mut self, mut bytes: Vec<u8>) {
        self.plane.handle_datagram(self.path, &mut bytes, self.now);
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for pass in 0.. {
            assert!(pass < PASSES_MAX, "timers without end");
            let due = [self.plane.poll_timeout(), self.wake];
            let Some(at) = due.into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            if self.wake.is_some_and(|wake| wake <= self.now) {
                self.wake = None;
                self.commands.push_back(Command::Wake);
            }
            while let Some((path, mut bytes)) = self.plane.poll_waiting(self.now) {
                self.plane.handle_datagram(path, &mut bytes, self.now);
            }
            self.plane.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn say(&mut self, frame: &Frame<&[u8], &str>) {
        if self.closed {
            return;
        }
        let unix = UNIX_MS + (self.now - self.start).as_millis() as u64;
        match self.session.handle_frame(frame, unix as i64) {
            Ok(heard) => {
                if let Some(request) = heard.request {
                    let session = SessionId(2);
                    self.command(Command::Request { session, request });
                }
            }
            Err(_) => self.lose(),
        }
    }

    fn lose(&mut self) {
        self.closed = true;
        let session = SessionId(2);
        self.command(Command::SessionLost { session });
    }

    /// A recorded client's offer, with the certificate and the ufrag that `connect` uses.
    fn offer(&mut self, which: u8, id: u32) {
        let text = RECORDED[usize::from(which) % RECORDED.len()];
        let mine = format!("a=fingerprint:sha-256 {}", self.secured.fingerprint);
        let lines: Vec<&str> = text
            .lines()
            .map(|line| match line.split_once(':') {
                Some(("a=fingerprint", _)) => mine.as_str(),
                Some(("a=ice-ufrag", _)) => "a=ice-ufrag:abcd",
                _ => line,
            })
            .collect();
        let offer = livekit::SessionDescription {
            r#type: "offer".to_owned(),
            sdp: lines.join("\r\n") + "\r\n",
            id,
            ..livekit::SessionDescription::default()
        };
        let request = livekit::signal_request::Message::Offer(offer);
        let session = SessionId(2);
        self.command(Command::Request { session, request });
    }

    /// A rightly signed check for the credentials last answered, and the handshake.
    fn connect(&mut self) {
        let value = |name: &str| self.answer.lines().find_map(|line| line.strip_prefix(name));
        if let (Some(ufrag), Some(pwd)) = (value("a=ice-ufrag:"), value("a=ice-pwd:")) {
            let check = crate::stun::check(ufrag, pwd);
            self.datagram(check);
            self.settle();
        }
        if self.secured.dtls.handle_timeout(self.now).is_ok() {
            for packet in self.secured.flight() {
                self.datagram(packet);
            }
        }
        self.settle();
    }

    /// A packet sealed with the client's keys; its header is as the input has it.
    fn media(&mut self, packet: &[u8]) {
        let (Some(header), Some((_, sealer))) = (Header::parse(packet), &self.secured.keys) else {
            return;
        };
        let next = self
            .next
            .entry(header.ssrc)
            .or_insert(u64::from(header.sequence));
        let seq = ExtSeq(*next);
        *next += 1;
        let mut bytes = packet.to_vec();
        bytes[2..4].copy_from_slice(&seq.wire().to_be_bytes());
        bytes.resize(packet.len() + srtp::OVERHEAD_MAX, 0);
        let len = sealer.seal_rtp(
            header.header_len,
            packet.len(),
            seq,
            header.ssrc,
            &mut bytes,
        );
        bytes.truncate(len.unwrap_or(0));
        self.datagram(bytes);
    }

    fn control(&mut self, packet: &[u8]) {
        let Some((_, sealer)) = &mut self.secured.keys else {
            return;
        };
        let mut bytes = packet.to_vec();
        bytes.resize(packet.len() + srtp::OVERHEAD_MAX, 0);
        if let Some(len) = sealer.seal_rtcp(&mut bytes, packet.len()) {
            bytes.truncate(len);
            self.datagram(bytes);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 10 {
            0 | 1 => self.say(&Frame::Binary(input.slice())),
            2 => self.say(&Frame::Text(&String::from_utf8_lossy(input.slice()))),
            3 => self.offer(input.byte(), u32::from(input.byte())),
            4 => self.connect(),
            5 => self.datagram(input.slice().to_vec()),
            6 => self.media(input.slice()),
            7 => self.control(input.slice()),
            8 => self.advance(Duration::from_millis(u64::from(input.short()))),
            _ if input.byte() == 0xFF => self.lose(),
            _ => {
                if self.secured.keys.is_some()
                    && self
                        .secured
                        .dtls
                        .send_application_data(input.slice())
                        .is_ok()
                {
                    for packet in self.secured.flight() {
                        self.datagram(packet);
                    }
                }
            }
        }
        self.settle();
        let population = self.plane.population();
        assert!(population.peers <= 2);
    }
}

/// One participant's life.
pub(crate) fn participant(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(input.flag());
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.advance(Duration::from_secs(3));
}
