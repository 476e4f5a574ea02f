//! Everything a room knows, and the few ways to reach it.
//!
//! Owns the parts, the tables that find them, and the effects collected so far. Decides nothing:
//! the modules below it in the layer order do, one for each kind of thing that happens.

use super::deadlines::Deadlines;
use super::effect::{Count, Effect};
use super::kept::Kept;
use super::participant::Participant;
use super::preference::Preference;
use super::publication::Publication;
use super::quality::Quality;
use super::roster::Roster;
use super::setup::{Facts, Setup};
use super::speakers::Speakers;
use crate::ice_servers::{IceServer, over_streams};
use crate::ids::{PeerId, SessionId, TrackKey};
use crate::media::message;
use proto::livekit;
use proto::livekit::signal_response::Message;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

/// The parts of a room.
#[derive(Debug)]
pub(super) struct State {
    pub(super) facts: Facts,
    pub(super) participants: BTreeMap<PeerId, Participant>,
    pub(super) index: Index,
    pub(super) roster: Roster,
    pub(super) speakers: Speakers,
    pub(super) quality: Quality,
    pub(super) deadlines: Deadlines,
    /// Data packets for those still joining.
    pub(super) kept: Kept,
    /// When the participant counts were last told.
    pub(super) counts_told: Option<Instant>,
    pub(super) rng: StdRng,
    pub(super) effects: Vec<Effect>,
    pub(super) closed: bool,
}

/// Finds participants and tracks by what the outside calls them.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) sessions: BTreeMap<SessionId, PeerId>,
    pub(super) identities: BTreeMap<String, PeerId>,
    /// Tracks with media only.
    pub(super) tracks: BTreeMap<String, TrackKey>,
}

impl State {
    pub(super) fn new(setup: Setup, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = StdRng::from_seed(seed);
        Self {
            facts: Facts::new(setup, &mut rng, now),
            participants: BTreeMap::new(),
            index: Index::default(),
            roster: Roster::default(),
            speakers: Speakers::default(),
            quality: Quality::default(),
            deadlines: Deadlines::default(),
            kept: Kept::default(),
            counts_told: None,
            rng,
            effects: Vec::new(),
            closed: false,
        }
    }

    /// Says something to a participant; nothing while its connection is lost, for whatever it
    /// missed follows from what a resume sends.
    pub(super) fn signal(&mut self, peer: PeerId, message: Message) {
        let session = self
            .participants
            .get(&peer)
            .and_then(|participant| participant.link.session);
        if let Some(session) = session {
            self.effects.push(Effect::Signal {
                session,
                message: Box::new(message),
            });
        }
    }

    /// Tells media.
    pub(super) fn media(&mut self, command: message::Command) {
        self.effects.push(Effect::Media(command));
    }

    /// Tells the counters.
    pub(super) fn count(&mut self, count: Count) {
        self.effects.push(Effect::Count(count));
    }

    /// Asks for a fresh token.
    pub(super) fn refresh_token(&mut self, peer: PeerId) {
        let Some(participant) = self.participants.get(&peer) else {
            return;
        };
        let Some(session) = participant.link.session else {
            return;
        };
        let claims = Box::new(participant.profile.claims.clone());
        self.effects.push(Effect::RefreshToken { session, claims });
    }

    /// STUN and TURN servers as a participant is told of them, with names of its own.
    pub(super) fn ice_servers(
        &self,
        peer: PeerId,
        servers: &[IceServer],
        now: Instant,
    ) -> Vec<livekit::IceServer> {
        let Some(participant) = self.participants.get(&peer) else {
            return Vec::new();
        };
        let (sid, unix_s) = (
            participant.profile.sid.as_str(),
            self.facts.unix_ms(now) / 1000,
        );
        let told = match participant.link.fallback.preference() {
            Preference::Relay => Cow::Owned(over_streams(servers)),
            Preference::Any | Preference::Tcp => Cow::Borrowed(servers),
        };
        let told = told.iter();
        told.map(|server| server.for_participant(sid, unix_s))
            .collect()
    }

    /// Everybody in the room, in a fixed order.
    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.participants.keys().copied().collect()
    }

    /// A published or announced track.
    pub(super) fn publication(&self, key: TrackKey) -> Option<&Publication> {
        self.participants.get(&key.peer)?.publications.find(key)
    }

    /// A published or announced track.
    pub(super) fn publication_mut(&mut self, key: TrackKey) -> Option<&mut Publication> {
        self.participants
            .get_mut(&key.peer)?
            .publications
            .find_mut(key)
    }

    /// The room as clients see it now.
    pub(super) fn room_info(&self) -> livekit::Room {
        let counted =
            |participant: &&Participant| !participant.is_dependent() && !participant.is_hidden();
        let publishers = self
            .participants
            .values()
            .filter(|participant| participant.presence.is_publisher);
        let total = self.participants.values().filter(counted).count();
        livekit::Room {
            num_participants: u32::try_from(total).unwrap_or(u32::MAX),
            num_publishers: u32::try_from(publishers.count()).unwrap_or(u32::MAX),
            active_recording: self.is_recorded(),
            ..self.facts.room()
        }
    }

    /// Is a recorder present?
    pub(super) fn is_recorded(&self) -> bool {
        self.participants
            .values()
            .any(|participant| participant.profile.claims.grant().recorder)
    }

    /// Everybody but dependents.
    pub(super) fn independent(&self) -> usize {
        self.participants
            .values()
            .filter(|participant| !participant.is_dependent())
            .count()
    }
}
