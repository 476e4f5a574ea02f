//! A participant in the world: what livekit-client and a browser do together, as far as the server
//! can tell.
//!
//! Owns its tracks, its descriptions and what it makes of the streams it gets. Composed of the parts
//! beside it; frames, datagrams and time go in, frames and datagrams come out. Called by the world.

mod publishing;
mod watching;

use super::access::Way;
use super::description::{self, Section};
use super::invariants::Wish;
use super::source::Kind;
use super::watch::Named;
use super::wire::{Connection, Opened};
use proto::livekit;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message as Response;
pub use publishing::Track;
use sfu::media::transport::srtp::Opener;
use sfu::rtp::header::Header;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;
pub use watching::Stream;

/// Which of a client's connections: the first one, or the one it receives by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leg {
    /// By which it sends, and receives if there is no other.
    First,
    /// By which it receives only.
    Second,
}

impl Leg {
    /// All there may be.
    pub const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// Its place among them.
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To its server's signalling.
    Say(Box<Request>),
    /// To its server's media port.
    Datagram(Leg, Vec<u8>),
}

/// How a client is.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Who.
    pub identity: String,
    /// Two connections.
    pub dual: bool,
    /// What it publishes.
    pub tracks: Vec<Kind>,
    /// Payloads are encrypted end to end.
    pub encrypted: bool,
    /// It has no RTX: what is sent again, and padding behind each frame, share the pictures' numbers,
    /// as with the SDKs on libwebrtc that do not offer it.
    pub pads: bool,
    /// By which way it comes to its server.
    pub way: Way,
}

/// One client at one server.
pub struct Client {
    /// How it is.
    pub manner: Manner,
    /// Its sid, once it has joined.
    pub sid: String,
    /// What it publishes.
    pub tracks: Vec<Track>,
    /// What it gets, by SSRC.
    pub streams: BTreeMap<u32, Stream>,
    /// What it said it wants, by track.
    pub wishes: BTreeMap<String, Wish>,
    /// Everything it was told but descriptions.
    pub told: Vec<Response>,
    /// The name and password by which it comes to TURN servers.
    pub ticket: Option<(String, String)>,
    /// Streams of RTX: which stream each repairs.
    repairs: BTreeMap<u32, u32>,
    first: Connection,
    second: Option<Connection>,
    sections: Vec<Section>,
    offers: u32,
    outstanding: bool,
    offer_again: bool,
    out: Vec<Output>,
    reports_at: Option<Instant>,
    polls_at: Instant,
    unix_ms: u64,
    epoch: Instant,
}

impl Client {
    /// The second opener of a connection, once, when there are keys.
    pub fn take_tap(&mut self, leg: Leg) -> Option<Opener> {
        match leg {
            Leg::First => self.first.take_tap(),
            Leg::Second => self.second.as_mut()?.take_tap(),
        }
    }

    /// Is a datagram of a stream of retransmissions?
    #[must_use]
    pub fn repairs(&self, datagram: &[u8]) -> bool {
        Header::parse(datagram).is_some_and(|header| self.repairs.contains_key(&header.ssrc))
    }

    /// What the server's description says of the stream a packet is of; `whose` tells by the track's
    /// sid whose it is.
    #[must_use]
    pub fn named(&self, header: &Header, whose: impl Fn(&str) -> u32) -> Option<Named> {
        let repeats = self.repairs.get(&header.ssrc).copied();
        let stream = self.streams.get(&repeats.unwrap_or(header.ssrc))?;
        let vp8 = stream.is_vp8(header.payload_type, repeats.is_some());
        Some(Named {
            repeats,
            vp8,
            clock_rate: stream.clock_rate(),
            group: whose(&stream.track),
            wish: self.wishes.get(&stream.track).copied(),
        })
    }

    /// A client that is about to join; all its chance comes from `seed`.
    #[must_use]
    pub fn new(manner: Manner, seed: u64, unix_ms: u64, now: Instant) -> Self {
        let name = &manner.identity;
        let first = Connection::new(format!("{name}1xx"), seed, now);
        let second = manner
            .dual
            .then(|| Connection::new(format!("{name}2xx"), seed + 1, now));
        let tracks: Vec<Track> = (0..)
            .zip(&manner.tracks)
            .map(|(n, kind)| Track::new(*kind, n, &manner, seed, now))
            .collect();
        Self {
            sid: String::new(),
            tracks,
            streams: BTreeMap::new(),
            wishes: BTreeMap::new(),
            told: Vec::new(),
            ticket: None,
            repairs: BTreeMap::new(),
            first,
            second,
            sections: Vec::new(),
            offers: 0,
            outstanding: false,
            offer_again: false,
            out: Vec::new(),
            reports_at: None,
            polls_at: now,
            unix_ms,
            epoch: now,
            manner,
        }
    }

    /// Its own media may flow.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.first.is_up()
    }

    /// What it wants to send.
    pub fn take_output(&mut self) -> Vec<Output> {
        for datagram in self.first.take_output() {
            self.out.push(Output::Datagram(Leg::First, datagram));
        }
        if let Some(second) = &mut self.second {
            for datagram in second.take_output() {
                self.out.push(Output::Datagram(Leg::Second, datagram));
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Says something.
    pub fn say(&mut self, request: Request) {
        self.out.push(Output::Say(Box::new(request)));
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let connections = [Some(&self.first), self.second.as_ref()];
        let connections = connections.into_iter().flatten();
        let media = self.tracks.iter().map(Track::poll_timeout);
        connections
            .filter_map(Connection::poll_timeout)
            .chain(media.filter(|_| self.first.is_up()))
            .chain([self.polls_at])
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.first.handle_timeout(now);
        if let Some(second) = &mut self.second {
            second.handle_timeout(now);
        }
        if self.first.is_up() {
            self.send_media(now);
        }
        if self.polls_at <= now {
            self.polls_at = now + watching::POLL_EVERY;
            self.poll_streams(now);
        }
        if self.reports_at.is_none_or(|at| at <= now) {
            self.reports_at = Some(now + watching::REPORT_EVERY);
            self.report(now);
        }
    }

    /// A datagram from the server.
    pub fn handle_datagram(&mut self, leg: Leg, datagram: &[u8], now: Instant) {
        match self.connection(leg).handle(datagram, now) {
            Opened::Rtp(header, payload, _) => self.handle_media(&header, &payload, now),
            Opened::Rtcp(compound) => self.handle_feedback(&compound, now),
            Opened::Refused | Opened::Other => {}
        }
    }

    /// The network has changed: all connections are checked at once, as browsers do that see it.
    pub fn check(&mut self, now: Instant) {
        self.first.check(now);
        if let Some(second) = &mut self.second {
            second.check(now);
        }
    }

    /// One of its connections has a new way to its server: it is checked at once.
    pub fn check_leg(&mut self, leg: Leg, now: Instant) {
        self.connection(leg).check(now);
    }

    /// How much it wants to be reached by the way a connection has now.
    pub fn set_priority(&mut self, leg: Leg, priority: u32) {
        self.connection(leg).priority = priority;
    }

    /// Where the server told a connection that it is, over TCP or not.
    pub fn candidate(&mut self, leg: Leg, tcp: bool) -> Option<SocketAddr> {
        self.connection(leg).candidate(tcp)
    }

    /// A message from the server.
    pub fn handle_message(&mut self, message: Response, now: Instant) {
        match &message {
            Response::Join(join) => {
                if let Some(participant) = &join.participant {
                    self.sid.clone_from(&participant.sid);
                }
                let mut servers = join.ice_servers.iter();
                let turn = |server: &&livekit::IceServer| !server.credential.is_empty();
                self.ticket = servers
                    .find(turn)
                    .map(|server| (server.username.clone(), server.credential.clone()));
                self.announce();
            }
            Response::Offer(offer) => self.handle_offer(offer, now),
            Response::Answer(answer) => self.handle_answer(answer, now),
            Response::MediaSectionsRequirement(wanted) => {
                let sound = (0..wanted.num_audios).map(|_| Section::Receives { sound: true });
                self.sections.extend(sound);
                let pictures = (0..wanted.num_videos).map(|_| Section::Receives { sound: false });
                self.sections.extend(pictures);
                self.offer();
            }
            Response::TrackPublished(published) => self.published(published),
            Response::SubscribedQualityUpdate(update) => self.demanded(update),
            _ => {}
        }
        self.told.push(message);
    }

    /// It has come back by a new signalling connection: ICE starts over.
    pub fn resume(&mut self, now: Instant) {
        self.outstanding = false;
        self.first.ufrag.push('r');
        if !self.sections.is_empty() {
            self.offer();
        }
        if let Some(second) = &mut self.second {
            second.ufrag.push('r');
        }
        self.check(now);
    }

    fn announce(&mut self) {
        for n in 0..self.tracks.len() {
            let request = self.tracks[n].announcement();
            self.sections.push(self.tracks[n].section());
            self.say(Request::AddTrack(request));
        }
        if self.second.is_none() || !self.tracks.is_empty() {
            if self.sections.is_empty() {
                self.sections.push(Section::Receives { sound: true });
            }
            self.offer();
        }
    }

    fn offer(&mut self) {
        if self.outstanding {
            self.offer_again = true;
            return;
        }
        self.outstanding = true;
        self.offers += 1;
        let sdp = description::offer(&self.sections, &self.first.description("actpass"));
        let offer = livekit::SessionDescription {
            r#type: "offer".into(),
            sdp,
            id: self.offers,
            ..Default::default()
        };
        self.say(Request::Offer(offer));
    }

    fn handle_answer(&mut self, answer: &livekit::SessionDescription, now: Instant) {
        if answer.id != self.offers {
            return;
        }
        self.outstanding = false;
        self.first.set_remote(&answer.sdp, now);
        if self.second.is_none() {
            self.learn_streams(answer, now);
        }
        if std::mem::take(&mut self.offer_again) {
            self.offer();
        }
    }

    fn handle_offer(&mut self, offer: &livekit::SessionDescription, now: Instant) {
        let Some(second) = &mut self.second else {
            return;
        };
        second.set_remote(&offer.sdp, now);
        let sdp = description::answer(&offer.sdp, &second.description("active"));
        self.learn_streams(offer, now);
        self.say(Request::Answer(livekit::SessionDescription {
            r#type: "answer".into(),
            sdp,
            id: offer.id,
            ..Default::default()
        }));
    }

    fn connection(&mut self, leg: Leg) -> &mut Connection {
        match (leg, &mut self.second) {
            (Leg::Second, Some(second)) => second,
            _ => &mut self.first,
        }
    }

    fn receiving(&mut self) -> &mut Connection {
        self.second.as_mut().unwrap_or(&mut self.first)
    }
}
