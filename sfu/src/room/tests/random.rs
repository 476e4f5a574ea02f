//! Any order of commands: what must hold whatever happens.

use super::harness::{World, camera, grant, microphone};
use crate::config::codecs::Codec;
use crate::ids::{PeerId, SessionId, TrackKey};
use crate::media::message::{
    Command as Media, Event, NegotiatedLayer, PathReport, PathTransport, PeerFailure, ScoredStream,
    Side,
};
use crate::room::command::{Admin, Command, Resume};
use crate::room::effect::Effect;
use proptest::prelude::*;
use proto::livekit;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A peer that never is in the room.
const NOBODY: PeerId = PeerId {
    worker: 9,
    slot: 9,
    generation: 9,
};

const IDENTITIES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// One step, with small numbers that pick among what exists.
#[derive(Debug, Clone)]
enum Step {
    Join {
        who: usize,
        hidden: bool,
        auto: bool,
        adaptive: bool,
    },
    Resume {
        who: usize,
        right_sid: bool,
    },
    Lose {
        which: usize,
    },
    Request {
        which: usize,
        what: usize,
        pick: usize,
    },
    Event {
        what: usize,
        peer: usize,
        pick: usize,
    },
    Pass {
        ms: u64,
    },
    Shutdown,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize, prop::bool::weighted(0.1), any::<bool>(), any::<bool>())
            .prop_map(|(who, hidden, auto, adaptive)| Step::Join { who, hidden, auto, adaptive }),
        2 => (0..4_usize, prop::bool::weighted(0.8)).prop_map(|(who, right_sid)| Step::Resume { who, right_sid }),
        1 => (0..8_usize).prop_map(|which| Step::Lose { which }),
        12 => (0..8_usize, 0..14_usize, 0..8_usize).prop_map(|(which, what, pick)| Step::Request { which, what, pick }),
        12 => (0..11_usize, 0..8_usize, 0..8_usize).prop_map(|(what, peer, pick)| Step::Event { what, peer, pick }),
        6 => (0..20_000_u64).prop_map(|ms| Step::Pass { ms }),
        1 => prop::bool::weighted(0.05).prop_map(|end| if end { Step::Shutdown } else { Step::Pass { ms: 1 } }),
    ]
}

/// What an observer of the effects knows.
#[derive(Default)]
struct Observer {
    open: Vec<SessionId>,
    peers: Vec<PeerId>,
    owner: BTreeMap<SessionId, PeerId>,
    sids: BTreeMap<String, String>,
    announced: BTreeMap<TrackKey, String>,
    tracks: Vec<TrackKey>,
    /// Versions and tracks each session was told.
    versions: BTreeMap<(SessionId, String), u32>,
    named: BTreeSet<(SessionId, String)>,
    pending_publish: Option<String>,
    closed: bool,
}

impl Observer {
    fn learn(&mut self, session: SessionId, infos: &[livekit::ParticipantInfo]) {
        for info in infos {
            let last = self
                .versions
                .insert((session, info.sid.clone()), info.version);
            assert!(
                last.is_none_or(|last| last <= info.version),
                "version of {} went back",
                info.sid
            );
            for track in &info.tracks {
                self.named.insert((session, track.sid.clone()));
            }
        }
    }

    fn signal(&mut self, session: SessionId, message: &Message) {
        assert!(
            self.open.contains(&session),
            "unknown session told {message:?}"
        );
        match message {
            Message::Join(join) => {
                let own = join.participant.clone().expect("itself");
                self.sids.insert(own.identity.clone(), own.sid.clone());
                self.learn(session, &[own]);
                self.learn(session, &join.other_participants);
            }
            Message::Update(update) => self.learn(session, &update.participants),
            Message::TrackPublished(published) => {
                self.pending_publish = published.track.as_ref().map(|track| track.sid.clone());
            }
            _ => {}
        }
    }

    fn media(&mut self, command: &Media) {
        match command {
            Media::AddPeer { peer, .. } => self.peers.push(*peer),
            Media::RemovePeer { peer } => {
                assert!(self.peers.contains(peer));
                self.peers.retain(|other| other != peer);
                self.tracks.retain(|track| track.peer != *peer);
            }
            Media::Publish { track, .. } => {
                if let Some(sid) = self.pending_publish.take() {
                    self.announced.insert(*track, sid);
                } else {
                    let told = |session: &SessionId| self.owner[session] == track.peer;
                    assert!(
                        !self.open.iter().any(told),
                        "the client was not told of its track first"
                    );
                }
                self.tracks.push(*track);
            }
            Media::Unpublish { track } => self.tracks.retain(|other| other != track),
            Media::Subscribe {
                peer, track, label, ..
            } => {
                assert_ne!(*peer, track.peer);
                assert!(
                    self.announced
                        .get(track)
                        .is_none_or(|sid| *sid == label.track_id)
                );
                let told = |session: &SessionId| {
                    self.owner[session] == *peer
                        && self.named.contains(&(*session, label.track_id.clone()))
                };
                assert!(
                    self.open.iter().any(told),
                    "{peer:?} gets a track it was not told of"
                );
            }
            _ => {}
        }
        if !matches!(command, Media::RemovePeer { .. }) {
            assert!(
                command.peers().iter().all(|peer| self.peers.contains(peer)),
                "command for a peer that is not there: {command:?}"
            );
        }
    }

    fn observe(&mut self, effects: Vec<Effect>) {
        self.pending_publish = None;
        for effect in effects {
            assert!(
                !self.closed
                    || matches!(
                        effect,
                        Effect::RefuseJoin { .. }
                            | Effect::Signal { .. }
                            | Effect::CloseSession { .. }
                    )
            );
            match effect {
                Effect::Signal { session, message } => self.signal(session, &message),
                Effect::RefreshToken { session, .. } => assert!(self.open.contains(&session)),
                Effect::CloseSession { session } | Effect::RefuseJoin { session, .. } => {
                    assert!(self.open.contains(&session));
                    self.open.retain(|other| *other != session);
                }
                Effect::Media(command) => self.media(&command),
                Effect::Closed => self.closed = true,
                Effect::WakeAt(_) | Effect::Count(_) | Effect::Prefer { .. } => {}
            }
        }
    }

    fn some_session(&self, pick: usize) -> Option<SessionId> {
        self.open.get(pick % self.open.len().max(1)).copied()
    }

    fn some_peer(&self, pick: usize) -> PeerId {
        self.peers
            .get(pick % self.peers.len().max(1))
            .copied()
            .unwrap_or(NOBODY)
    }

    fn some_track(&self, pick: usize) -> TrackKey {
        let none = TrackKey {
            peer: NOBODY,
            index: 0,
        };
        self.tracks
            .get(pick % self.tracks.len().max(1))
            .copied()
            .unwrap_or(none)
    }
}

fn request(observer: &Observer, what: usize, pick: usize) -> Request {
    let sid = observer
        .announced
        .values()
        .nth(pick)
        .cloned()
        .unwrap_or_else(|| format!("TR_{pick}"));
    let cid = format!("c{pick}");
    match what {
        0 => Request::AddTrack(camera(&cid)),
        1 => Request::AddTrack(microphone(&cid)),
        2 => Request::Mute(livekit::MuteTrackRequest {
            sid,
            muted: pick.is_multiple_of(2),
        }),
        3 => Request::Subscription(livekit::UpdateSubscription {
            track_sids: vec![sid],
            subscribe: true,
            ..Default::default()
        }),
        4 => Request::Subscription(livekit::UpdateSubscription {
            track_sids: vec![sid],
            subscribe: false,
            ..Default::default()
        }),
        5 => Request::TrackSetting(livekit::UpdateTrackSettings {
            track_sids: vec![sid],
            disabled: pick.is_multiple_of(2),
            quality: pick as i32,
            ..Default::default()
        }),
        6 => Request::TrackSetting(livekit::UpdateTrackSettings {
            track_sids: vec![sid],
            width: 100 * pick as u32,
            height: 100 * pick as u32,
            ..Default::default()
        }),
        7 => Request::SubscriptionPermission(livekit::SubscriptionPermission {
            all_participants: pick.is_multiple_of(2),
            ..Default::default()
        }),
        8 => Request::SyncState(livekit::SyncState {
            track_sids_disabled: vec![sid],
            ..Default::default()
        }),
        9 => Request::SyncState(livekit::SyncState {
            publish_tracks: vec![livekit::TrackPublishedResponse::default()],
            ..Default::default()
        }),
        10 if pick == 0 => Request::Leave(livekit::LeaveRequest::default()),
        11 => Request::Simulate(livekit::SimulateScenario {
            scenario: Some(livekit::simulate_scenario::Scenario::SpeakerUpdate(
                pick as i32 - 1,
            )),
        }),
        12 => Request::UpdateMetadata(livekit::UpdateParticipantMetadata {
            name: cid,
            ..Default::default()
        }),
        _ => Request::Offer(livekit::SessionDescription {
            r#type: "offer".into(),
            id: 1,
            ..Default::default()
        }),
    }
}

fn event(observer: &Observer, what: usize, peer: usize, pick: usize) -> Event {
    let address = "192.0.2.1:7882".parse().expect("an address");
    let path = PathReport {
        local: address,
        remote: address,
        transport: PathTransport::Udp,
    };
    let (peer, track) = (observer.some_peer(peer), observer.some_track(pick));
    let layers = (0..3)
        .map(|spatial| NegotiatedLayer {
            spatial,
            rid: String::new(),
        })
        .collect();
    match what {
        0 | 1 => Event::Connected {
            peer,
            side: Side::Publisher,
            path,
        },
        2 if pick == 0 => Event::Failed {
            peer,
            side: Side::Publisher,
            reason: PeerFailure::ConsentExpired,
        },
        3 if pick == 0 => Event::OfferRefused {
            peer,
            id: 1,
            reason: String::new(),
        },
        2..=4 => Event::TrackStarted {
            track,
            mid: "1".into(),
            codec: Codec::Vp8,
            layers,
        },
        5 => Event::TrackEnded { track },
        6 => Event::SubscriptionBound { peer, track },
        7 => Event::SubscriptionRefused { peer, track },
        8 => Event::Level {
            track,
            eighths: pick as u8,
            active: pick > 0,
        },
        9 => Event::HeavyLoss {
            peer,
            side: Side::Publisher,
            rtt: None,
        },
        _ => Event::Score {
            stream: if pick > 3 {
                ScoredStream::Published(track)
            } else {
                ScoredStream::Subscribed { peer, track }
            },
            score: pick as u8 * 14,
        },
    }
}

fn command(world: &mut World, observer: &mut Observer, step: Step) -> Option<Command> {
    Some(match step {
        Step::Join {
            who,
            hidden,
            auto,
            adaptive,
        } => {
            let mut join = world.join_request(IDENTITIES[who]);
            grant(&mut join).hidden = hidden;
            (join.auto_subscribe, join.adaptive_stream) = (auto, adaptive);
            observer.open.push(join.session);
            observer.owner.insert(join.session, join.peer);
            Command::Join(Box::new(join))
        }
        Step::Resume { who, right_sid } => {
            let session = world.session();
            let known = observer
                .sids
                .get(IDENTITIES[who])
                .cloned()
                .unwrap_or_default();
            let sid = if right_sid {
                known
            } else {
                "PA_wrong".to_owned()
            };
            let peer = world
                .room
                .state
                .index
                .identities
                .get(IDENTITIES[who])
                .copied();
            observer.open.push(session);
            observer.owner.insert(session, peer.unwrap_or(NOBODY));
            Command::Resume(Box::new(Resume {
                session,
                identity: IDENTITIES[who].to_owned(),
                sid: Some(crate::ids::ParticipantSid::from_wire(&sid)),
                reason: livekit::ReconnectReason::RrUnknown,
                client: livekit::ClientInfo {
                    protocol: 17,
                    ..Default::default()
                },
                client_configuration: None,
                ice_servers: Vec::new(),
            }))
        }
        Step::Lose { which } => {
            let session = observer.some_session(which)?;
            observer.open.retain(|other| *other != session);
            Command::SessionLost { session }
        }
        Step::Request { which, what, pick } => Command::Request {
            session: observer.some_session(which)?,
            request: request(observer, what, pick),
        },
        Step::Event { what, peer, pick } => Command::Media(event(observer, what, peer, pick)),
        Step::Pass { ms } => {
            world.now += Duration::from_millis(ms);
            Command::Wake
        }
        Step::Shutdown => Command::Admin(Admin::Shutdown),
    })
}

fn check(world: &World, observer: &Observer) {
    let state = &world.room.state;
    let people = state.participants.len();
    let tracks: usize = state
        .participants
        .values()
        .map(|p| p.publications.len())
        .sum();
    let wishes: usize = state
        .participants
        .values()
        .map(|p| p.subscriptions.iter().count())
        .sum();
    assert!(
        state.deadlines.len() <= 6 + 6 * people + tracks + 2 * wishes,
        "deadlines grow"
    );
    assert!(
        state.deadlines.next().is_none_or(|at| at > world.now),
        "nothing due is left over"
    );
    assert_eq!(state.index.identities.len(), people);
    assert_eq!(observer.peers.len(), people);
    let live: usize = state
        .participants
        .values()
        .map(|p| p.publications.live().count())
        .sum();
    assert_eq!(state.index.tracks.len(), live);
    for (session, peer) in &state.index.sessions {
        assert_eq!(state.participants[peer].link.session, Some(*session));
        assert!(observer.open.contains(session));
    }
    for (peer, participant) in &state.participants {
        for (track, live) in participant.publications.live() {
            for subscriber in &live.subscribers {
                let entry = state.participants[subscriber]
                    .subscriptions
                    .find(track.sid.as_str());
                assert_eq!(entry.and_then(|entry| entry.key), Some(track.key));
            }
        }
        for key in participant.subscriptions.keys() {
            let live = state.publication(key).and_then(|track| track.live.as_ref());
            assert!(
                live.is_some_and(|live| live.subscribers.contains(peer)),
                "a subscription of nothing"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_commands_breaks_what_must_hold(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::unsteady();
        let mut observer = Observer::default();
        for step in steps {
            if observer.closed {
                break;
            }
            let Some(command) = command(&mut world, &mut observer, step) else { continue };
            let effects = world.room.handle(command, world.now);
            observer.observe(effects);
            check(&world, &observer);
        }
    }

    #[test]
    fn one_seed_and_the_same_commands_give_the_same_effects(steps in prop::collection::vec(step(), 1..60)) {
        let mut worlds = [World::unsteady(), World::unsteady()];
        let mut observers = [Observer::default(), Observer::default()];
        for step in steps {
            let mut said = Vec::new();
            for (world, observer) in worlds.iter_mut().zip(observers.iter_mut()) {
                let Some(command) = command(world, observer, step.clone()) else { continue };
                let effects = world.room.handle(command, world.now);
                let relative = |effect: &Effect| match effect {
                    Effect::WakeAt(at) => format!("wake after {:?}", at.duration_since(world.start)),
                    other => format!("{other:?}"),
                };
                said.push(effects.iter().map(relative).collect::<Vec<_>>());
                observer.observe(effects);
            }
            prop_assert!(said.windows(2).all(|pair| pair[0] == pair[1]));
            if observers[0].closed {
                break;
            }
        }
    }
}
