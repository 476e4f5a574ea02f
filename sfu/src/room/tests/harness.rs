//! Pretended clients of a room. Every effect is sorted to whom it concerns; wake-ups are kept.

use crate::config::codecs::Codec;
use crate::ids::{PeerId, SessionId, TrackKey};
use crate::media::message::{
    self, Event, NegotiatedLayer, PathReport, PathTransport, PeerFailure, Side,
};
use crate::room::command::{Command, Join, Resume, Ways};
use crate::room::effect::{Effect, JoinRefusal};
use crate::room::preference::Preference;
use crate::room::{Room, Settings, Setup};
use proto::livekit;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;
use proto::token::{Claims, VideoGrant};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(super) const UNIX_MS: u64 = 1_700_000_000_123;

/// Somebody in the room.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) identity: String,
    pub(super) session: SessionId,
    pub(super) peer: PeerId,
    pub(super) sid: String,
}

/// A published track.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) key: TrackKey,
    pub(super) sid: String,
}

/// A room and everything it said that was not looked at yet.
pub(super) struct World {
    pub(super) room: Room,
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) messages: BTreeMap<SessionId, Vec<Message>>,
    pub(super) media: Vec<message::Command>,
    pub(super) closed_sessions: Vec<SessionId>,
    pub(super) tokens: Vec<(SessionId, Claims)>,
    pub(super) refusals: Vec<(SessionId, JoinRefusal)>,
    pub(super) counts: Vec<crate::room::effect::Count>,
    pub(super) preferred: Vec<(String, Preference)>,
    pub(super) closed: bool,
    wake: Option<Instant>,
    drawn: u32,
}

pub(super) fn claims(identity: &str) -> Claims {
    Claims {
        identity: identity.to_owned(),
        ..Claims::default()
    }
}

/// What the token of a joining participant grants.
pub(super) fn grant(join: &mut Join) -> &mut VideoGrant {
    join.claims.video.get_or_insert_default()
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Settings::default(), None)
    }

    /// One whose participants are led on for losses, too.
    pub(super) fn unsteady() -> Self {
        let mut settings = Settings::default();
        settings.fallback.unstable = true;
        Self::with(settings, None)
    }

    pub(super) fn with(settings: Settings, config: Option<livekit::RoomConfiguration>) -> Self {
        let now = crate::room::tests::first_moment();
        let server_info = livekit::ServerInfo {
            version: "1.13.5".into(),
            protocol: 17,
            ..Default::default()
        };
        let setup = Setup {
            name: "r".into(),
            settings,
            server_info,
            epoch: (now, UNIX_MS),
            config,
        };
        let mut world = Self {
            room: Room::new(setup, [7; 32], now),
            now,
            start: now,
            messages: BTreeMap::new(),
            media: Vec::new(),
            closed_sessions: Vec::new(),
            tokens: Vec::new(),
            refusals: Vec::new(),
            counts: Vec::new(),
            preferred: Vec::new(),
            closed: false,
            wake: None,
            drawn: 0,
        };
        world.act(Command::Wake);
        world
    }

    pub(super) fn act(&mut self, command: Command) {
        if matches!(command, Command::Wake) {
            self.wake = None;
        }
        for effect in self.room.handle(command, self.now) {
            assert!(
                !self.closed,
                "nothing follows the end of a room: {effect:?}"
            );
            match effect {
                Effect::Signal { session, message } => {
                    self.messages.entry(session).or_default().push(*message)
                }
                Effect::RefreshToken { session, claims } => self.tokens.push((session, *claims)),
                Effect::CloseSession { session } => self.closed_sessions.push(session),
                Effect::RefuseJoin { session, reason } => self.refusals.push((session, reason)),
                Effect::Media(command) => self.media.push(command),
                Effect::WakeAt(at) => self.wake = Some(at),
                Effect::Prefer {
                    identity,
                    preference,
                } => self.preferred.push((identity, preference)),
                Effect::Count(count) => self.counts.push(count),
                Effect::Closed => self.closed = true,
            }
        }
    }

    /// Lets time pass, with every wake-up on the way.
    pub(super) fn advance(&mut self, ms: u64) {
        let target = self.now + Duration::from_millis(ms);
        for _ in 0..10_000 {
            let Some(at) = self.wake.filter(|at| *at <= target) else {
                break;
            };
            self.now = self.now.max(at);
            self.act(Command::Wake);
        }
        self.now = target;
    }

    pub(super) fn session(&mut self) -> SessionId {
        self.drawn += 1;
        SessionId(u64::from(self.drawn))
    }

    pub(super) fn join_request(&mut self, identity: &str) -> Join {
        let session = self.session();
        let client = livekit::ClientInfo {
            sdk: 1,
            version: "2.23.0".into(),
            protocol: 17,
            client_protocol: 2,
            ..Default::default()
        };
        Join {
            session,
            peer: PeerId {
                worker: 0,
                slot: self.drawn,
                generation: 0,
            },
            claims: claims(identity),
            client,
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
            dual: false,
            reuse_sections: true,
            passive_offers: false,
            client_configuration: None,
            ways: Ways::default(),
        }
    }

    /// Somebody joins, not yet connected. What it was told stays to be looked at.
    pub(super) fn join_with(&mut self, identity: &str, change: impl FnOnce(&mut Join)) -> Client {
        let mut join = self.join_request(identity);
        change(&mut join);
        let (session, peer) = (join.session, join.peer);
        self.act(Command::Join(Box::new(join)));
        let told = self
            .messages
            .get(&session)
            .and_then(|messages| messages.first());
        let sid = match told {
            Some(Message::Join(join)) => join
                .participant
                .as_ref()
                .expect("a participant")
                .sid
                .clone(),
            _ => String::new(),
        };
        Client {
            identity: identity.to_owned(),
            session,
            peer,
            sid,
        }
    }

    /// Somebody joins and is connected.
    pub(super) fn enter_with(&mut self, identity: &str, change: impl FnOnce(&mut Join)) -> Client {
        let client = self.join_with(identity, change);
        self.connect(&client);
        client
    }

    pub(super) fn enter(&mut self, identity: &str) -> Client {
        self.enter_with(identity, |_| {})
    }

    /// Everybody of the list is connected, and all that was said is forgotten.
    pub(super) fn quiet<const N: usize>(&mut self, identities: [&str; N]) -> [Client; N] {
        let clients = identities.map(|identity| self.enter(identity));
        self.advance(6_000);
        self.forget();
        clients
    }

    pub(super) fn forget(&mut self) {
        self.messages.clear();
        self.media.clear();
        self.closed_sessions.clear();
        self.tokens.clear();
        self.counts.clear();
    }

    pub(super) fn connect(&mut self, client: &Client) {
        self.connect_side(client, Side::Publisher);
    }

    pub(super) fn connect_side(&mut self, client: &Client, side: Side) {
        self.connect_by(client, side, PathTransport::Udp);
    }

    pub(super) fn connect_by(&mut self, client: &Client, side: Side, transport: PathTransport) {
        let local = "192.0.2.1:7882".parse().expect("an address");
        let remote = "192.0.2.2:5000".parse().expect("an address");
        let path = PathReport {
            local,
            remote,
            transport,
        };
        self.event(Event::Connected {
            peer: client.peer,
            side,
            path,
        });
    }

    pub(super) fn fail(&mut self, client: &Client) {
        self.fail_side(client, Side::Publisher);
    }

    pub(super) fn fail_side(&mut self, client: &Client, side: Side) {
        self.event(Event::Failed {
            peer: client.peer,
            side,
            reason: PeerFailure::ConsentExpired,
        });
    }

    pub(super) fn event(&mut self, event: Event) {
        self.act(Command::Media(event));
    }

    pub(super) fn request(&mut self, client: &Client, request: Request) {
        self.act(Command::Request {
            session: client.session,
            request,
        });
    }

    pub(super) fn lose(&mut self, client: &Client) {
        self.act(Command::SessionLost {
            session: client.session,
        });
    }

    pub(super) fn resume_request(&mut self, client: &Client) -> Resume {
        Resume {
            session: self.session(),
            identity: client.identity.clone(),
            sid: Some(crate::ids::ParticipantSid::from_wire(&client.sid)),
            reason: livekit::ReconnectReason::RrSignalDisconnected,
            client: livekit::ClientInfo {
                sdk: 1,
                version: "2.23.0".into(),
                protocol: 17,
                ..Default::default()
            },
            client_configuration: None,
            ice_servers: Vec::new(),
        }
    }

    pub(super) fn resume(&mut self, client: &Client) -> Client {
        let resume = self.resume_request(client);
        let session = resume.session;
        self.act(Command::Resume(Box::new(resume)));
        Client {
            session,
            ..client.clone()
        }
    }

    /// What a client was told since last asked.
    pub(super) fn take(&mut self, client: &Client) -> Vec<Message> {
        self.messages.remove(&client.session).unwrap_or_default()
    }

    pub(super) fn take_media(&mut self) -> Vec<message::Command> {
        std::mem::take(&mut self.media)
    }

    /// Announces a track; returns it if it was accepted.
    pub(super) fn announce(
        &mut self,
        client: &Client,
        request: livekit::AddTrackRequest,
    ) -> Option<Track> {
        let (told, commanded) = (
            self.messages.entry(client.session).or_default().len(),
            self.media.len(),
        );
        self.request(client, Request::AddTrack(request));
        let messages = &self.messages[&client.session][told..];
        let sid = messages.iter().find_map(|message| match message {
            Message::TrackPublished(published) => Some(published.track.as_ref()?.sid.clone()),
            _ => None,
        })?;
        let key = self.media[commanded..]
            .iter()
            .find_map(|command| match command {
                message::Command::Publish { track, .. } => Some(*track),
                _ => None,
            })?;
        Some(Track { key, sid })
    }

    pub(super) fn start(&mut self, track: &Track, codec: Codec, rids: &[&str]) {
        let layer = |(spatial, rid): (usize, &&str)| NegotiatedLayer {
            spatial: spatial as u8,
            rid: (*rid).to_owned(),
        };
        let layers = rids.iter().enumerate().map(layer).collect();
        self.event(Event::TrackStarted {
            track: track.key,
            mid: "7".into(),
            codec,
            layers,
        });
    }

    pub(super) fn publish_camera(&mut self, client: &Client) -> Track {
        let track = self.announce(client, camera("cam")).expect("accepted");
        self.start(&track, Codec::Vp8, &["q", "h", "f"]);
        track
    }

    pub(super) fn publish_microphone(&mut self, client: &Client) -> Track {
        let track = self.announce(client, microphone("mic")).expect("accepted");
        self.start(&track, Codec::Opus, &[""]);
        track
    }

    pub(super) fn bind(&mut self, client: &Client, track: &Track) {
        self.event(Event::SubscriptionBound {
            peer: client.peer,
            track: track.key,
        });
    }

    pub(super) fn subscribe(&mut self, client: &Client, sids: &[&str], subscribe: bool) {
        let track_sids = sids.iter().map(|sid| (*sid).to_owned()).collect();
        self.request(
            client,
            Request::Subscription(livekit::UpdateSubscription {
                track_sids,
                subscribe,
                ..Default::default()
            }),
        );
    }
}

pub(super) fn camera(cid: &str) -> livekit::AddTrackRequest {
    let layer = |quality, width, height| livekit::VideoLayer {
        quality,
        width,
        height,
        ..Default::default()
    };
    livekit::AddTrackRequest {
        cid: cid.to_owned(),
        r#type: livekit::TrackType::Video as i32,
        source: livekit::TrackSource::Camera as i32,
        width: 1280,
        height: 720,
        layers: vec![layer(0, 320, 180), layer(1, 640, 360), layer(2, 1280, 720)],
        simulcast_codecs: vec![livekit::SimulcastCodec {
            codec: "vp8".into(),
            cid: cid.to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(super) fn microphone(cid: &str) -> livekit::AddTrackRequest {
    livekit::AddTrackRequest {
        cid: cid.to_owned(),
        r#type: livekit::TrackType::Audio as i32,
        source: livekit::TrackSource::Microphone as i32,
        ..Default::default()
    }
}

/// All snapshots in a list of messages.
pub(super) fn updates(messages: &[Message]) -> Vec<livekit::ParticipantInfo> {
    let of = |message: &Message| match message {
        Message::Update(update) => update.participants.clone(),
        _ => Vec::new(),
    };
    messages.iter().flat_map(of).collect()
}

/// The one leave in a list of messages: action and reason.
pub(super) fn leave(
    messages: &[Message],
) -> Option<(livekit::leave_request::Action, livekit::DisconnectReason)> {
    messages.iter().find_map(|message| match message {
        Message::Leave(leave) => Some((leave.action(), leave.reason())),
        _ => None,
    })
}

/// Every answer to a request: reason and message.
pub(super) fn replies(messages: &[Message]) -> Vec<(livekit::request_response::Reason, String)> {
    let of = |message: &Message| match message {
        Message::RequestResponse(reply) => Some((reply.reason(), reply.message.clone())),
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

/// Who was asked of media to receive what.
pub(super) fn subscribed(commands: &[message::Command]) -> Vec<(PeerId, TrackKey)> {
    let of = |command: &message::Command| match command {
        message::Command::Subscribe { peer, track, .. } => Some((*peer, *track)),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

/// Who was asked of media not to receive what any more.
pub(super) fn unsubscribed(commands: &[message::Command]) -> Vec<(PeerId, TrackKey)> {
    let of = |command: &message::Command| match command {
        message::Command::Unsubscribe { peer, track } => Some((*peer, *track)),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

/// The last wish media was told of a subscription.
pub(super) fn wish(commands: &[message::Command], client: &Client) -> Option<message::Wish> {
    commands.iter().rev().find_map(|command| match command {
        message::Command::Subscribe { peer, wish, .. }
        | message::Command::SetWish { peer, wish, .. }
            if *peer == client.peer =>
        {
            Some(*wish)
        }
        _ => None,
    })
}
