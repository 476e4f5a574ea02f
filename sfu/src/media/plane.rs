//! All peers and tracks of one worker, and the fan-out between them: the pure half of a media thread.
//!
//! Commands, datagrams and time go in; datagrams (sealed into the arena) and events come out. It
//! only orders its parts: transport, ingest, forward and feedback each decide for themselves. The
//! worker calls it and does the waiting.

pub mod schedule;
pub mod tracks;

mod control;
mod fanout;
mod offers;
mod peers;
mod reports;
pub mod opened;
mod receive;
mod strays;
mod sightings;
mod witness;
mod data;

use crate::ids::PeerId;
use crate::media::counters::Counters;
use crate::media::demux::{Demux, Path};
use crate::media::forward::feedback::Resend;
use crate::media::message::{Command, Event};
use crate::media::pacer::{Arena, Run};
use crate::media::sighting::Sighting;
use crate::media::transport::candidates::{self, Candidate};
use crate::media::transport::dtls;
use data::Data;
use fanout::Cursor;
use peers::Peers;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schedule::Schedule;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strays::Strays;
use tracks::{TrackSettings, Tracks};
use witness::Witness;

/// Passes further apart than this mean that we were away: a thread with nothing to do makes one each
/// half second, and the shortest patience with a silent client is ten.
const ABSENCE: Duration = Duration::from_secs(2);

/// What a plane is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Certificate and handshake settings, one for the process: building them is slow.
    pub dtls: Arc<dtls::Shared>,
    /// Where clients are told to find us.
    pub advertised: Vec<Candidate>,
    /// Written into every ufrag.
    pub node: u8,
    /// Written into every ufrag: counts the processes of a node.
    pub process: u8,
    /// This plane's worker.
    pub worker: u8,
    /// How tracks are received.
    pub track: TrackSettings,
    /// Ask clients at which address they see us.
    pub inquiring: bool,
}

/// Is there more to send after what the arena holds?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything that was due is in the arena.
    Done,
    /// The arena is full: send it, call [`Plane::sent`] and go on.
    More,
}

/// How much lives on a plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Population {
    /// Peers.
    pub peers: u64,
    /// Published tracks with media.
    pub tracks: u64,
    /// Copies of them to subscribers.
    pub copies: u64,
}

/// Lists that are kept for their allocations.
#[derive(Default)]
struct Kept {
    /// What one NACK asks for again.
    resends: Vec<Resend>,
    /// What one upstream lost.
    lost: Vec<u16>,
}

/// One worker's media.
pub struct Plane {
    setup: Setup,
    /// What may be seen: names, numbers, phases.
    rng: StdRng,
    /// What must not: passwords.
    secrets: StdRng,
    chance: [u8; 32],
    demux: Demux,
    peers: Peers,
    tracks: Tracks,
    schedule: Schedule,
    /// Tracks with a batch to forward.
    touched: Vec<u32>,
    /// Peers whose deadlines may have moved closer.
    stirred: Vec<u32>,
    cursor: Cursor,
    data: Data,
    arena: Arena<Path>,
    events: VecDeque<Event>,
    sightings: VecDeque<Sighting>,
    counters: Counters,
    witness: Witness,
    strays: Strays,
    kept: Kept,
    /// When the last pass began.
    woke: Option<Instant>,
}

impl Plane {
    /// A plane without peers; `seed` drives all its chance, secrets included.
    #[must_use]
    pub fn new(setup: Setup, seed: [u8; 32]) -> Self {
        let mut secrets = StdRng::from_seed(seed);
        let chance = secrets.random();
        Self::with_chance(setup, secrets.random(), chance)
    }

    /// A plane whose names and numbers come from `chance`, as [`Self::chance`] of another tells, and
    /// whose secrets come from `seed`.
    #[must_use]
    pub fn with_chance(setup: Setup, seed: [u8; 32], chance: [u8; 32]) -> Self {
        Self {
            setup,
            rng: StdRng::from_seed(chance),
            secrets: StdRng::from_seed(seed),
            chance,
            demux: Demux::default(),
            peers: Peers::default(),
            tracks: Tracks::default(),
            schedule: Schedule::default(),
            touched: Vec::new(),
            stirred: Vec::new(),
            cursor: Cursor::default(),
            data: Data::default(),
            arena: Arena::default(),
            events: VecDeque::new(),
            sightings: VecDeque::new(),
            counters: Counters::default(),
            witness: Witness::default(),
            strays: Strays::default(),
            kept: Kept::default(),
            woke: None,
        }
    }

    /// What its names and numbers are drawn from. No secret: passwords are drawn apart.
    #[must_use]
    pub const fn chance(&self) -> [u8; 32] {
        self.chance
    }

    /// What it was started with.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A pass begins; told before anything else of it. If the last one began long ago (the machine
    /// was suspended, the thread stalled) nobody could be heard meanwhile, and whoever was alive
    /// before is given the time he had left. Returns how long we were away.
    pub fn handle_wake(&mut self, now: Instant) -> Option<Duration> {
        let last = self.woke.replace(now)?;
        let away = now.saturating_duration_since(last);
        if away < ABSENCE {
            return None;
        }
        self.excuse(away);
        Some(away)
    }

    /// Nobody could be heard for so long: it is no one's silence.
    pub fn excuse(&mut self, away: Duration) {
        for peer in self.peers.iter_mut() {
            for (_, connection) in peer.connections.iter_mut() {
                connection.transport.excuse(away);
            }
        }
    }

    /// Applies a command.
    pub fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::AddPeer { peer, setup } => self.add_peer(peer, &setup, now),
            Command::RemovePeer { peer } => self.remove_peer(peer, now),
            Command::TellTcp { peer, only } => self.tell_tcp(peer, only),
            Command::LeavePath { peer, leaves } => self.leave_path(peer, leaves),
            Command::Offer { peer, id, sdp } => self.handle_offer(peer, id, &sdp, now),
            Command::Answer { peer, id, sdp } => self.handle_answer(peer, id, &sdp, now),
            Command::Negotiate { peer, restart } => self.negotiate(peer, restart, now),
            Command::Publish { track, spec } => self.publish(track, spec, now),
            Command::Unpublish { track } => self.unpublish(track, now),
            Command::MuteTrack { track, muted } => self.mute_track(track, muted, now),
            Command::ExpectLayers { track, max } => self.expect_layers(track, max, now),
            Command::Subscribe {
                peer,
                track,
                label,
                wish,
            } => self.subscribe(peer, track, label, wish, now),
            Command::Unsubscribe { peer, track } => self.unsubscribe(peer, track, now),
            Command::SendData {
                channel,
                bytes,
                peers,
            } => self.send_data(channel, &bytes, &peers, now),
            Command::SetWish { peer, track, wish } => self.set_wish(peer, track, wish, now),
        }
    }

    /// Takes one datagram; it is opened in place.
    pub fn handle_datagram(&mut self, path: Path, datagram: &mut [u8], now: Instant) {
        let opened = self.open(&path, datagram, now);
        self.take(&opened, path, datagram, now);
    }

    /// Nothing more is to be handed in before [`Self::fan_out`]: it would not be forwarded.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.cursor.full
    }

    /// Clients are told these from now on: in each description, and trickled with new credentials.
    /// Those who were described others and have not connected yet are told at once.
    pub fn handle_advertised(&mut self, candidates: Vec<Candidate>) {
        self.setup.advertised = candidates;
        for peer in self.peers.iter_mut() {
            control::tell_searching(peer, &self.setup.advertised, &mut self.events);
        }
    }

    /// What carried a path is gone: nothing comes or goes by it any more.
    pub fn handle_path_lost(&mut self, path: Path, now: Instant) {
        let Some(sender) = self.demux.forget(&path) else {
            return;
        };
        let Some(index) = self.peers.index(sender.peer) else {
            return;
        };
        if let Some(connection) = self.peers.connection_mut(index, sender.side) {
            connection.transport.handle_lost(path, now);
            self.tell_changes(index, now);
            self.reschedule(index, now);
        }
    }

    /// Has an authentic check or packet come by this path, from a peer that is still here?
    #[must_use]
    pub fn knows(&self, path: &Path) -> bool {
        self.sender_of(path).is_some()
    }

    /// Does what is due: retransmissions, reports, requests, consent.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin_data();
        self.note_pass();
        while let Some(index) = self.schedule.pop_due(now) {
            self.note_attended(index);
            self.attend(index, now);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called, or [`Self::poll_waiting`]. It may be early,
    /// never late.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = [self.schedule.next(), self.strays.poll_timeout()];
        own.into_iter().flatten().min()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing that a client's end of its path tells of ours.
    pub fn poll_sighting(&mut self) -> Option<Sighting> {
        self.sightings.pop_front()
    }

    /// What is to be sent now, in runs to one destination each.
    pub fn outgoing(&self) -> impl Iterator<Item = Run<'_, Path>> {
        self.arena.runs()
    }

    /// The runs have been sent: their room is free again.
    pub fn sent(&mut self) {
        self.arena.clear();
    }

    /// Totals since the start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What lives here now.
    #[must_use]
    pub fn population(&self) -> Population {
        Population {
            peers: self.peers.len() as u64,
            tracks: self.tracks.len() as u64,
            copies: self.tracks.copies(),
        }
    }

    /// Looks at a peer again when its next deadline comes.
    fn reschedule(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        peer.stirred = false;
        if let Some(at) = reports::next_deadline(peer, &self.tracks, now) {
            self.schedule.wake_by(index, at);
        }
    }

    /// A peer's deadlines may have moved closer; looked at after the batch.
    fn stir(&mut self, index: u32) {
        if let Some(peer) = self.peers.at_mut(index)
            && !peer.stirred
        {
            peer.stirred = true;
            self.stirred.push(index);
        }
    }

    fn index_of(&self, id: PeerId) -> Option<u32> {
        self.peers.index(id)
    }
}

#[cfg(test)]
mod tests;
