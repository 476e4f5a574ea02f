//! Who is in a room, as log and counters see it: one line and one count for each step of a stay.
//!
//! Owns names and paths of the present for these lines. Decides nothing; the room told each step.
//! Called by `keeper`. (LK: server ops §10, §12)

use crate::ids::PeerId;
use crate::media::message::{Event, PathReport, PathTransport, Side};
use crate::metrics::{JoinState, Metrics};
use crate::room::command::{Command, Join};
use crate::room::effect::Count;
use crate::rooms::report::PersonReport;
use proto::livekit::{DisconnectReason, JoinResponse};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{Span, info, info_span};

/// One participant.
struct Person {
    identity: String,
    sid: String,
    protocol: i32,
    active: bool,
    /// The path of each connection that was ever up.
    paths: BTreeMap<Side, PathReport>,
    /// By what he is counted to come.
    counted: Option<PathTransport>,
}

impl Person {
    /// The selected pair of a connection as LiveKit prints it; empty if there is none.
    fn candidates(&self, side: Side) -> String {
        self.paths.get(&side).map(candidates).unwrap_or_default()
    }

    /// By what media comes; of two connections that of the publisher tells.
    fn way(&self) -> Option<PathTransport> {
        self.paths.values().next().map(|path| path.transport)
    }

    /// The same as LiveKit names it.
    fn connection_type(&self) -> &'static str {
        self.way().map_or("unknown", PathTransport::label)
    }

    fn count_way(&mut self, metrics: &Metrics) {
        let now = self.way();
        metrics.way_changed(self.counted, now);
        self.counted = now;
    }

    fn report(&self) -> PersonReport {
        PersonReport {
            sid: self.sid.clone(),
            state: if self.active { "ACTIVE" } else { "JOINED" },
            connection_type: self.connection_type(),
            publisher_candidates: self.candidates(Side::Publisher),
            subscriber_candidates: self.candidates(Side::Subscriber),
        }
    }

    fn span(&self) -> Span {
        info_span!("participant", participant = %self.identity, participantID = %self.sid)
    }
}

/// Somebody came or went, for those who are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The room's name.
    pub room: String,
    /// The participant.
    pub identity: String,
    /// Under which sid he is there now; `None`: nobody of this identity is any more.
    pub sid: Option<String>,
}

/// Changes of presence that may wait for whoever is told: all participants of a process come and go.
const PRESENCE_DEPTH: usize = 65_536;

/// Participants who have left that may wait to be told of: all of a process leave at once.
const DEPARTURES_DEPTH: usize = 65_536;

/// Who is told of participants that have come, or have left.
#[derive(Clone)]
pub struct Told {
    /// Of comings and goings; nobody if nobody wants to know.
    pub presence: Option<mpsc::Sender<Presence>>,
    /// Of the sid of each who has left for good: nobody resumes under it.
    pub departures: mpsc::Sender<String>,
}

impl Told {
    /// Both, and where each is heard.
    #[must_use]
    pub fn queues() -> (Self, mpsc::Receiver<Presence>, mpsc::Receiver<String>) {
        let (presence, comings) = mpsc::channel(PRESENCE_DEPTH);
        let (departures, gone) = mpsc::channel(DEPARTURES_DEPTH);
        let told = Self {
            presence: Some(presence),
            departures,
        };
        (told, comings, gone)
    }
}

/// The participants of one room; as many as the room has.
pub(super) struct People {
    room: String,
    metrics: Metrics,
    /// Who is told of them.
    told: Told,
    present: BTreeMap<PeerId, Person>,
    /// Whose join the room is deciding about.
    joining: Option<(PeerId, Person)>,
    /// Whose media was just taken away: the room counts the leave next.
    leaving: Option<Person>,
}

impl People {
    pub(super) const fn new(room: String, metrics: Metrics, told: Told) -> Self {
        Self {
            room,
            metrics,
            told,
            present: BTreeMap::new(),
            joining: None,
            leaving: None,
        }
    }

    /// The peer a command is about, noted before the room hears of it.
    pub(super) fn hear(&mut self, command: &Command) -> Option<PeerId> {
        self.joining = None;
        match command {
            Command::Join(join) => {
                self.joining = Some((join.peer, person(join)));
                Some(join.peer)
            }
            Command::Media(event) => {
                self.hear_media(event);
                Some(event.peer())
            }
            _ => None,
        }
    }

    fn hear_media(&mut self, event: &Event) {
        let (Event::Connected { peer, side, path } | Event::PathChanged { peer, side, path }) =
            event
        else {
            return;
        };
        let Some(person) = self.present.get_mut(peer) else {
            return;
        };
        let again = person.paths.insert(*side, *path).is_some();
        person.count_way(&self.metrics);
        if person.active {
            let what = if again {
                "ice reconnected or switched pair"
            } else {
                "second connection up"
            };
            let _participant = person.span().entered();
            info!(
                publisherCandidates = person.candidates(Side::Publisher),
                subscriberCandidates = person.candidates(Side::Subscriber),
                connectionType = person.connection_type(),
                "{what}"
            );
        }
    }

    /// The room let in whom it was asked about.
    pub(super) fn joined(&mut self, response: &JoinResponse) {
        let Some((peer, mut person)) = self.joining.take() else {
            return;
        };
        if let Some(info) = &response.participant {
            person.sid.clone_from(&info.sid);
        }
        let room = response.room.as_ref().map_or("", |room| room.sid.as_str());
        let participants = response.other_participants.len() + 1;
        person.span().in_scope(|| {
            info!(
                roomID = room,
                numParticipants = participants,
                "starting RTC session"
            );
        });
        self.metrics.peer_connection("started");
        self.present.insert(peer, person);
    }

    /// A peer's media was taken away.
    pub(super) fn removed(&mut self, peer: PeerId) {
        self.leaving = self.present.remove(&peer);
        if let Some(gone) = &self.leaving {
            self.metrics.way_changed(gone.counted, None);
        }
    }

    /// Everybody, by identity.
    pub(super) fn report(&self) -> BTreeMap<String, PersonReport> {
        let people = self.present.values();
        people
            .map(|person| (person.identity.clone(), person.report()))
            .collect()
    }

    /// A step the room counted while it handled a command about `peer`.
    pub(super) fn count(&mut self, peer: Option<PeerId>, count: &Count) {
        match count {
            Count::ParticipantActive { after_ms } => {
                let person = peer.and_then(|peer| self.present.get_mut(&peer));
                if let Some(person) = person {
                    person.active = true;
                    activated(&self.metrics, person, *after_ms);
                    let (identity, sid) = (person.identity.clone(), person.sid.clone());
                    self.tell(identity, Some(sid));
                }
            }
            Count::ParticipantLeft {
                reason, after_ms, ..
            } => {
                if let Some(person) = self.leaving.take() {
                    left(&self.metrics, &person, *reason, *after_ms);
                    self.tell_departed(&person);
                    self.tell_left(person, *reason);
                }
            }
            _ => {}
        }
    }

    /// He has gone, unless he is back under the same identity, or will be after our restart.
    fn tell_left(&mut self, person: Person, reason: DisconnectReason) {
        let same = |other: &Person| other.identity == person.identity;
        let joins = self.joining.as_ref().is_some_and(|(_, other)| same(other));
        let stays = matches!(
            reason,
            DisconnectReason::ServerShutdown | DisconnectReason::Migration
        );
        if !(stays || joins || self.present.values().any(same)) {
            self.tell(person.identity, None);
        }
    }

    fn tell_departed(&self, person: &Person) {
        let told = self.told.departures.try_send(person.sid.clone());
        if let Err(mpsc::error::TrySendError::Full(_)) = told {
            self.metrics.limit_reached("departures");
        }
    }

    fn tell(&self, identity: String, sid: Option<String>) {
        let Some(told) = &self.told.presence else {
            return;
        };
        let presence = Presence {
            room: self.room.clone(),
            identity,
            sid,
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = told.try_send(presence) {
            self.metrics.limit_reached("presence");
        }
    }
}

fn person(join: &Join) -> Person {
    Person {
        identity: join.claims.identity.clone(),
        sid: String::new(),
        protocol: join.client.protocol,
        active: false,
        paths: BTreeMap::new(),
        counted: None,
    }
}

fn activated(metrics: &Metrics, person: &Person, after_ms: u64) {
    // One event of media tells both: ICE has a pair and DTLS its keys.
    metrics.peer_connection("ice_connected");
    metrics.peer_connection("connected");
    metrics.join_state(JoinState::RtcConnected);
    metrics.start_time(person.protocol, ms(after_ms));
    let _participant = person.span().entered();
    info!(
        publisherCandidates = person.candidates(Side::Publisher),
        subscriberCandidates = person.candidates(Side::Subscriber),
        connectionType = person.connection_type(),
        connectTime = ?Duration::from_millis(after_ms),
        "participant active"
    );
}

fn left(metrics: &Metrics, person: &Person, reason: DisconnectReason, after_ms: u64) {
    metrics.session_duration(person.protocol, ms(after_ms));
    if !person.active {
        let failed = matches!(
            reason,
            DisconnectReason::JoinFailure
                | DisconnectReason::ConnectionTimeout
                | DisconnectReason::StateMismatch
        );
        metrics.join_state(if failed {
            JoinState::RtcFailure
        } else {
            JoinState::RtcCanceled
        });
    }
    let _participant = person.span().entered();
    info!(
        reason = reason.as_str_name(),
        sessionDuration = ?Duration::from_millis(after_ms),
        active = person.active,
        "participant closing"
    );
}

#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds of a stay are far below 2^52"
)]
const fn ms(ms: u64) -> f64 {
    ms as f64
}

/// The selected pair as LiveKit prints it.
fn candidates(path: &PathReport) -> String {
    // What comes through TURN comes as UDP, from a relayed address.
    let (transport, kind) = match path.transport {
        PathTransport::Turn => (PathTransport::Udp.label(), "relay"),
        direct => (direct.label(), "prflx"),
    };
    let network = |address: SocketAddr| {
        let family = if address.is_ipv4() { 4 } else { 6 };
        format!("{transport}{family}")
    };
    format!(
        "[local][selected:1] {} host {} [remote][selected:1] {} {kind} {}",
        network(path.local),
        path.local,
        network(path.remote),
        path.remote
    )
}
