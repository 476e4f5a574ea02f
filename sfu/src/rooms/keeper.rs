//! The task that owns one room: hands it commands and time, applies its effects in order.
//!
//! Owns the room's mailbox and the senders to its sessions. Decides only what happens when a queue
//! behind the room is full. Run by `directory`.

use super::entry::{Entry, Said};
use super::people::People;
use super::report::RoomReport;
use super::surroundings::{Surroundings, unix_ms};
use crate::config::faults::Point;
use crate::ids::{PeerId, SessionId};
use crate::media::message::{self, Event, PeerFailure, Side};
use crate::room::Room;
use crate::room::command::Command;
use crate::room::effect::{Effect, JoinRefusal};
use crate::worker::Workers;
use proto::livekit::signal_response;
use proto::token::Claims;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{Instrument, info, info_span, warn};

/// Letters that may wait for a room. A room answers in microseconds; who finds it full waits.
pub(super) const MAILBOX_DEPTH: usize = 1024;

/// Media events that may wait for a room. Events tell changes only; a worker that finds no place
/// fails the peer, since a lost event would leave room and media in disagreement.
const EVENTS_DEPTH: usize = 4096;

/// Sessions of one room, replaced ones included until their socket is closed.
const MAX_SESSIONS: usize = 10_000;

/// A refresh token is good for this long at least, in seconds. (LK: signalling §2.4)
const REFRESH_MIN_S: u64 = 600;

/// A removal that found the worker's mailbox full is tried again this often, this many times.
const REMOVE_RETRY: Duration = Duration::from_millis(100);
const REMOVE_ATTEMPTS: usize = 600;

/// A room is made for somebody who enters at once; should he not, the room is told the time, so
/// that it knows when it has been empty for too long.
const FIRST_WAKE: Duration = Duration::from_secs(1);

/// What a room's task may be sent.
pub(super) enum Letter {
    /// A session enters.
    Enter {
        entry: Entry,
        outbox: mpsc::Sender<Said>,
        /// Dropped unanswered if the room is over before it reads the letter.
        verdict: oneshot::Sender<Verdict>,
    },
    /// Something happens.
    Tell(Box<Command>),
    /// Somebody wants to know who is here.
    Report(oneshot::Sender<RoomReport>),
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The room has heard of it and answers the session.
    Entered,
    /// The room is closing: try a fresh one.
    Closing,
    /// No place for another session.
    Full,
    /// Nobody of this identity is let in.
    Denied,
}

/// Owner of one room.
pub(super) struct Keeper {
    name: String,
    room: Room,
    surroundings: Surroundings,
    sessions: BTreeMap<SessionId, mpsc::Sender<Said>>,
    people: People,
    events: mpsc::Sender<Event>,
    wake: Option<Instant>,
    /// Commands that follow from applying effects.
    follow_ups: VecDeque<Command>,
    /// A session to which the room said that it is closing.
    turned_away: Option<SessionId>,
    closed: bool,
    started: Instant,
}

impl Keeper {
    /// An owner of `room`, and where media's events for it are heard.
    pub(super) fn new(
        name: String,
        room: Room,
        surroundings: Surroundings,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events, heard) = mpsc::channel(EVENTS_DEPTH);
        let room_name = name.clone();
        let keeper = Self {
            name,
            room,
            people: People::new(
                room_name,
                surroundings.metrics.clone(),
                surroundings.told.clone(),
            ),
            surroundings,
            sessions: BTreeMap::new(),
            events,
            wake: Some(Instant::now() + FIRST_WAKE),
            follow_ups: VecDeque::new(),
            turned_away: None,
            closed: false,
            started: Instant::now(),
        };
        (keeper, heard)
    }

    /// Runs until the room is over, or until nobody is left who could write to it.
    pub(super) async fn run(self, letters: mpsc::Receiver<Letter>, events: mpsc::Receiver<Event>) {
        let room = info_span!("room", room = %self.name);
        self.keep(letters, events).instrument(room).await;
    }

    async fn keep(
        mut self,
        mut letters: mpsc::Receiver<Letter>,
        mut events: mpsc::Receiver<Event>,
    ) {
        self.surroundings.metrics.room_opened();
        while !self.closed {
            tokio::select! {
                letter = letters.recv() => match letter {
                    Some(letter) => self.open(letter),
                    None => break,
                },
                Some(event) = events.recv() => self.handle(Command::Media(event)),
                () = until(self.wake) => {
                    self.wake = None;
                    self.handle(Command::Wake);
                }
            }
        }
        let lasted = self.started.elapsed();
        info!(duration = ?lasted, "room closed");
        self.surroundings.metrics.room_closed(lasted.as_secs_f64());
    }

    fn open(&mut self, letter: Letter) {
        match letter {
            Letter::Tell(command) => self.handle(*command),
            Letter::Report(reply) => {
                // Whoever does not wait any more does not need it.
                let _ = reply.send(RoomReport::new(self.room.info(), self.people.report()));
            }
            Letter::Enter {
                entry,
                outbox,
                verdict,
            } => {
                // Nobody waits for the answer any more if this fails; the session's end tells the
                // room that it is lost.
                let _ = verdict.send(self.enter(entry, outbox));
            }
        }
    }

    fn enter(&mut self, mut entry: Entry, outbox: mpsc::Sender<Said>) -> Verdict {
        let session = entry.session();
        if self.surroundings.denied.holds(&self.name, entry.identity()) {
            return Verdict::Denied;
        }
        if self.sessions.len() >= MAX_SESSIONS {
            self.surroundings.metrics.limit_reached("room_sessions");
            return Verdict::Full;
        }
        self.sessions.insert(session, outbox);
        if let Entry::Join(join) = &mut entry {
            let preferences = &self.surroundings.preferences;
            join.ways.preference = preferences.of(&self.name, &join.claims.identity);
        }
        self.handle(entry.into());
        if self.turned_away.take() == Some(session) || self.closed {
            return Verdict::Closing;
        }
        Verdict::Entered
    }

    /// Hands the room a command and applies what it wants done, and what follows from that.
    fn handle(&mut self, command: Command) {
        self.follow_ups.push_back(command);
        while let Some(command) = self.follow_ups.pop_front() {
            if self.closed {
                self.follow_ups.clear();
                return;
            }
            let peer = self.people.hear(&command);
            for effect in self.room.handle(command, Instant::now().into_std()) {
                self.apply(effect, peer);
            }
        }
    }

    /// Applies what the room wants done after a command about `peer`.
    fn apply(&mut self, effect: Effect, peer: Option<PeerId>) {
        match effect {
            Effect::Signal { session, message } => {
                if let signal_response::Message::Join(response) = &*message {
                    self.people.joined(response);
                }
                self.say(session, Said::Message(message));
            }
            Effect::RefreshToken { session, claims } => self.refresh(session, &claims),
            Effect::CloseSession { session } => {
                self.sessions.remove(&session);
            }
            Effect::RefuseJoin { session, reason } => self.refuse(session, reason),
            Effect::Media(command) => self.tell_media(command),
            Effect::Prefer {
                identity,
                preference,
            } => {
                let Surroundings {
                    preferences,
                    metrics,
                    ..
                } = &self.surroundings;
                preferences.keep(&self.name, &identity, preference, metrics);
            }
            Effect::WakeAt(at) => self.wake = Some(at.into()),
            Effect::Count(count) => {
                self.surroundings.metrics.apply(&count);
                self.people.count(peer, &count);
            }
            Effect::Closed => self.closed = true,
        }
    }

    fn refuse(&mut self, session: SessionId, reason: JoinRefusal) {
        info!(?reason, "join refused");
        if reason == JoinRefusal::Closing {
            self.turned_away = Some(session);
        } else {
            self.say(session, Said::Refused(reason));
        }
        self.sessions.remove(&session);
    }

    fn refresh(&mut self, session: SessionId, claims: &Claims) {
        let now = unix_ms() / 1000;
        let left = claims.expires_at.saturating_sub(now);
        let valid_for = Duration::from_secs(left.max(REFRESH_MIN_S));
        match self.surroundings.keys.sign(claims, valid_for, now) {
            Ok(token) => {
                let message = signal_response::Message::RefreshToken(token);
                self.say(session, Said::Message(Box::new(message)));
            }
            Err(error) => warn!(%error, "cannot renew a token"),
        }
    }

    /// A session whose task does not keep up is given up; one that is gone says so itself.
    fn say(&mut self, session: SessionId, said: Said) {
        let Some(outbox) = self.sessions.get(&session) else {
            return;
        };
        let faults = &self.surroundings.faults;
        if faults.strike(Point::SessionMessagesFull)
            || matches!(
                outbox.try_send(said),
                Err(mpsc::error::TrySendError::Full(_))
            )
        {
            self.surroundings.metrics.limit_reached("session_messages");
            self.sessions.remove(&session);
            self.follow_ups.push_back(Command::SessionLost { session });
        }
    }

    fn tell_media(&mut self, command: message::Command) {
        let peers = command.peers().to_vec();
        let adds = matches!(command, message::Command::AddPeer { .. });
        let removes = matches!(command, message::Command::RemovePeer { .. });
        let data = match &command {
            message::Command::SendData { channel, .. } => Some(*channel),
            _ => None,
        };
        if let (true, Some(peer)) = (removes, peers.first()) {
            self.people.removed(*peer);
        }
        let events = adds.then(|| self.events.clone());
        if self.surroundings.workers.send(command, events).is_ok() {
            return;
        }
        self.surroundings.metrics.limit_reached("worker_commands");
        for peer in peers {
            if removes {
                tokio::spawn(remove_later(self.surroundings.workers.clone(), peer));
                continue;
            }
            let event = match data {
                None => Event::Failed {
                    peer,
                    side: Side::Publisher,
                    reason: PeerFailure::Overload,
                },
                // No resume brings a lost packet back.
                Some(message::Channel::Reliable) => Event::DataTooSlow { peer },
                // Lossy data may be lost.
                Some(_) => continue,
            };
            self.follow_ups.push_back(Command::Media(event));
        }
    }
}

/// A peer whose removal is lost would live on: it is asked for until the worker hears it.
async fn remove_later(workers: Workers, peer: PeerId) {
    for _ in 0..REMOVE_ATTEMPTS {
        sleep(REMOVE_RETRY).await;
        let command = message::Command::RemovePeer { peer };
        if workers.send(command, None).is_ok() {
            return;
        }
    }
    warn!(?peer, "a worker takes no commands");
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
